//! `replay`: the plugin on recordings.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use host_harness::built_in;
use host_harness::recording::bundled::{self, RECORDINGS};
use host_harness::recording::replay;
use source_host::cause;
use source_host::contract::Reaction;
use source_host::plugin::engine::Host;

use crate::cli::{STDOUT, UsageError};

/// Plays all recordings that the program carries. The result is a table for people, or one JSON object a line for programs.
pub async fn replay_bundled(host: &Host, plugin: Option<&Path>, as_json: bool) -> anyhow::Result<u8> {
    let plugin = built_in::load(host, plugin).map_err(|error| UsageError(cause::chain(&error)))?;
    let mut all = Vec::new();
    for (done, recording) in RECORDINGS.iter().enumerate() {
        let doing = format!("replaying {} of {}: {}", done + 1, RECORDINGS.len(), recording.name);
        let _doing = host.progress().begin(doing);
        all.push(recording.play(&plugin).await.context(recording.name)?);
    }
    let mut out = io::stdout();
    if as_json {
        for played in &all {
            writeln!(out, "{}", serde_json::to_string(played)?).context(STDOUT)?;
        }
    } else {
        write!(out, "{}", bundled::table(&all)).context(STDOUT)?;
    }
    out.flush().context(STDOUT)?;
    let different = all.iter().filter_map(|played| Some((played.recording, played.difference.as_ref()?)));
    let different: Vec<_> = different.collect();
    for (name, difference) in &different {
        say!("error: {name}: {difference}");
    }
    say!("{} of {} recordings give what is expected", all.len() - different.len(), all.len());
    Ok(status(different.len(), all.len()))
}

/// Returns the exit status if so many of all recordings failed.
fn status(failed: usize, all: usize) -> u8 {
    match failed {
        0 => 0,
        failed if failed == all => 1,
        _ => 3,
    }
}

pub async fn replay_all(
    host: &Host,
    files: &[PathBuf],
    plugin: Option<&Path>,
    expect: bool,
    update: bool,
) -> anyhow::Result<u8> {
    let plugin = built_in::load(host, plugin).map_err(|error| UsageError(cause::chain(&error)))?;
    let mut failed = 0;
    for (done, file) in files.iter().enumerate() {
        let _doing = host.progress().begin(format!("replaying {} of {}: {}", done + 1, files.len(), file.display()));
        match replay::replay(&plugin, file).await {
            Ok(replayed) if update => replayed.write_expected(file).context("failed to write what to expect")?,
            Ok(replayed) if expect => {
                if let Err(difference) = replayed.compare(file) {
                    say!("error: {}", cause::chain(&difference));
                    failed += 1;
                }
            }
            Ok(replayed) => {
                if let Some(failure) = &replayed.failure {
                    let blame = plugin.blame(failure);
                    say!("{}: {} ({}, {blame})", file.display(), failure.cause, failure.code);
                    failed += usize::from(failure.reaction != Reaction::NoData);
                }
                io::stdout().write_all(&replayed.lines())?;
            }
            Err(error) => return Err(UsageError(cause::chain(&error)).into()),
        }
    }
    Ok(status(failed, files.len()))
}
