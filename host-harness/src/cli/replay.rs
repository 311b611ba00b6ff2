//! `replay`: the plugin on recordings.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use host_harness::collector::once;
use host_harness::recording::bundled::{self, RECORDINGS};
use host_harness::recording::cassette::CassetteError;
use host_harness::recording::replay::{self, ReplayError, Replayed};
use host_harness::{built_in, environment, terminal};
use source_host::cause;
use source_host::contract::{Failure, Reaction};
use source_host::plugin::Plugin;
use source_host::plugin::engine::Host;

use crate::cli::{STDOUT, UsageError};

/// Plays all recordings that the program carries. The result is a table for people, or one JSON object a line for programs.
pub async fn replay_bundled(host: &Host, plugin: Option<&Path>, as_json: bool) -> anyhow::Result<u8> {
    let plugin = built_in::load(host, plugin).map_err(|error| UsageError(cause::chain(&error)))?;
    let mut all = Vec::new();
    for (done, recording) in RECORDINGS.iter().enumerate() {
        let doing = format!("replaying {} of {}: {}", done + 1, RECORDINGS.len(), recording.name);
        let _doing = host.progress().begin(doing);
        all.push(recording.play(&plugin).await);
    }
    let mut out = io::stdout();
    if as_json {
        for played in &all {
            writeln!(out, "{}", serde_json::to_string(played)?).context(STDOUT)?;
        }
    } else {
        let width = terminal::width(environment::variable("COLUMNS")).unwrap_or(usize::MAX);
        write!(out, "{}", bundled::table(&all, width)).context(STDOUT)?;
    }
    out.flush().context(STDOUT)?;
    for played in &all {
        for difference in &played.differences {
            say!("error: {}: {difference}", played.recording);
        }
    }
    let different = all.iter().filter(|played| !played.ok).count();
    Ok(verdict(different, all.len()))
}

/// Says how many recordings give what is expected, and returns the exit status.
fn verdict(different: usize, all: usize) -> u8 {
    let give = if all == 1 { "recording gives" } else { "recordings give" };
    say!("{} of {all} {give} what is expected", all - different);
    status(different, all)
}

/// Returns the exit status if so many of all recordings failed.
fn status(failed: usize, all: usize) -> u8 {
    match failed {
        0 => 0,
        failed if failed == all => 1,
        _ => 3,
    }
}

/// Whether a recording is to be compared or renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The events are printed.
    Print,
    /// The events are compared with the document beside the recording.
    Expect,
    /// The document beside the recording is written.
    Update,
}

/// Plays these files, each of them whatever becomes of the others.
pub async fn replay_all(host: &Host, files: &[PathBuf], plugin: Option<&Path>, purpose: Purpose) -> anyhow::Result<u8> {
    let is_built_in = plugin.is_none();
    let plugin = built_in::load(host, plugin).map_err(|error| UsageError(cause::chain(&error)))?;
    let (mut failed, mut parts, mut wrong, mut foreign) = (0, 0, 0, false);
    // A pattern such as `*.json` also names the documents beside the recordings.
    let is_document = |file: &&PathBuf| replay::cassette_of(file).is_some_and(|cassette| files.contains(&cassette));
    let files: Vec<&PathBuf> = files.iter().filter(|file| !is_document(file)).collect();
    for (done, file) in files.iter().enumerate() {
        let _doing = host.progress().begin(format!("replaying {} of {}: {}", done + 1, files.len(), file.display()));
        let played = replay::replay(&plugin, file).await;
        let compared = match purpose {
            Purpose::Expect => {
                played.as_ref().map_or_else(|_| replay::expected(file).map(drop), |one| one.compare(file))
            }
            Purpose::Print | Purpose::Update => Ok(()),
        };
        let findings = played.as_ref().err().into_iter().chain(compared.as_ref().err());
        let is_wrong = findings.clone().any(ReplayError::is_of_file);
        foreign |= findings.clone().any(|one| matches!(one.error, CassetteError::Refused(_)));
        for finding in findings.clone().flat_map(ReplayError::findings) {
            say!("error: {finding}");
        }
        let differs = findings.count() > 0;
        let is_bad = match (purpose, &played) {
            (Purpose::Print, Ok(played)) => {
                let is_failed = print(&plugin, file, played)?;
                parts += usize::from(is_failed && played.collected > 0);
                is_failed && played.collected == 0
            }
            (Purpose::Update, Ok(played)) => update(file, played),
            _ => differs,
        };
        wrong += usize::from(is_wrong);
        failed += usize::from(is_bad);
    }
    if foreign && is_built_in {
        say!(
            "  these settings were read by the built-in plugin: to play recordings of another plugin, name it by `--plugin FILE`"
        );
    }
    let status = match purpose {
        Purpose::Expect => verdict(failed, files.len()),
        Purpose::Print if failed == 0 && parts > 0 => 3,
        Purpose::Print | Purpose::Update => status(failed, files.len()),
    };
    Ok(if wrong > 0 { 2 } else { status })
}

/// Prints the events, and on standard error everything else that the poll gave. Returns whether a scope failed.
fn print(plugin: &Plugin, file: &Path, played: &Replayed) -> anyhow::Result<bool> {
    let mut out = io::stdout();
    out.write_all(&played.lines()).and_then(|()| out.flush()).context(STDOUT)?;
    let tell = |level: &str, scope: Option<&str>, failure: &Failure| {
        let scope = scope.map(|scope| format!("{scope}: ")).unwrap_or_default();
        let (cause, code, blame) = (&failure.cause, &failure.code, plugin.blame(failure));
        let fix = failure.fix.as_deref().unwrap_or_else(|| once::usual_fix(failure));
        say!("{level}: {}: {scope}{cause} ({code}, {blame})\n  fix: {fix}", file.display());
    };
    let mut failed = false;
    for one in &played.failures {
        let is_failure = one.failure.reaction != Reaction::NoData;
        failed |= is_failure;
        tell(if is_failure { "error" } else { "warning" }, one.scope.as_deref(), &one.failure);
    }
    for skipped in &played.skipped {
        tell("warning", Some(&skipped.scope.id), &skipped.reason);
    }
    let is_told = |code: &str| played.failures.iter().any(|one| one.failure.code == code);
    for notice in played.notices.iter().filter(|notice| !is_told(&notice.code)) {
        say!("warning: {}: {} ({})", file.display(), notice.message, notice.code);
    }
    Ok(failed)
}

/// Writes the document beside a recording, and says so. Returns whether the document could not be written.
fn update(file: &Path, played: &Replayed) -> bool {
    let document = replay::expected_file(file);
    let events = played.events.len();
    match played.write_expected(file) {
        Ok(true) => say!("{}: written, with {events} events", document.display()),
        Ok(false) => say!("{}: unchanged, with {events} events", document.display()),
        Err(error) => {
            say!("error: {}: failed to write: {error}", document.display());
            return true;
        }
    }
    false
}
