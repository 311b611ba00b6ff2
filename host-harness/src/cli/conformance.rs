//! `conformance`: the contract's rules on any plugin, and the duties of any host.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use host_harness::audit::{conformance, duties};
use host_harness::recording::cassette::Cassette;
use host_harness::recording::{bundled, replay};
use host_harness::{built_in, files};
use serde::Serialize;
use source_host::cause;
use source_host::limits;
use source_host::plugin;
use source_host::plugin::engine::Host;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{STDOUT, UsageError};

pub async fn conform(host: &Host, file: Option<PathBuf>, cassettes: &[PathBuf], as_json: bool) -> anyhow::Result<u8> {
    let bytes = match &file {
        Some(file) => plugin::read(file).map_err(|error| UsageError(format!("{}: {error}", file.display())))?,
        None => built_in::COMPONENT.to_vec(),
    };
    let read = cassettes.iter().map(|file| replay::read(file).map_err(|error| UsageError(cause::chain(&error))));
    let mut recorded = read.collect::<Result<Vec<_>, _>>()?;
    if recorded.is_empty() && bytes == built_in::COMPONENT {
        let bundled = bundled::named(conformance::BUILT_IN).context("the program carries no recording")?;
        let read = Cassette::read(bundled.cassette);
        recorded.push(read.with_context(|| format!("failed to read the built-in recording {}", bundled.name))?);
    }
    let report = conformance::examine(host, &bytes, &recorded, &limits::Limits::default()).await;
    print(&report, &report.table(), as_json)?;
    // A rule that was not run counts as not followed.
    Ok(verdict(report.ok, report.is_complete()))
}

/// Runs a host's command, and tells which duties it keeps. A signal that ends this process also ends the command.
pub async fn conform_host(command: Vec<OsString>, wait_seconds: u64, as_json: bool) -> anyhow::Result<u8> {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [mut interrupt, mut terminate, mut hang_up] = [signal(kinds[0])?, signal(kinds[1])?, signal(kinds[2])?];
    let stop = Arc::new(AtomicBool::new(false));
    let (patience, is_stopped) = (Duration::from_secs(wait_seconds), Arc::clone(&stop));
    let mut trial = tokio::task::spawn_blocking(move || duties::examine_host(&command, patience, &is_stopped));
    let kind = tokio::select! {
        report = &mut trial => return told(report?, as_json),
        _ = interrupt.recv() => kinds[0],
        _ = terminate.recv() => kinds[1],
        _ = hang_up.recv() => kinds[2],
    };
    // The trial ends when the command is dead.
    stop.store(true, Ordering::Relaxed);
    drop(trial.await?);
    Ok(SIGNALLED + u8::try_from(kind.as_raw_value())?)
}

fn told(report: Result<duties::HostReport, duties::TrialError>, as_json: bool) -> anyhow::Result<u8> {
    let report = report.map_err(|error| match error {
        duties::TrialError::Command(..) => UsageError(cause::chain(&error)).into(),
        error => anyhow::Error::from(error),
    })?;
    print(&report, &report.table(), as_json)?;
    // A duty that was not seen counts as not kept.
    Ok(verdict(report.ok, report.is_complete()))
}

/// The exit status after a signal is the signal's number and this, as in a shell.
const SIGNALLED: u8 = 128;

/// Prints a report for people, or for programs.
fn print(report: &impl Serialize, table: &str, as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout();
    match as_json {
        true => writeln!(out, "{}", serde_json::to_value(report)?),
        false => write!(out, "{table}"),
    }
    .context(STDOUT)
}

/// The exit status of a report.
fn verdict(is_good: bool, is_complete: bool) -> u8 {
    match (is_good, is_complete) {
        (true, true) => 0,
        (true, false) => 3,
        (false, _) => 1,
    }
}

/// Writes the plugin that `--host` runs to a file.
pub fn write_probe(file: &Path) -> anyhow::Result<u8> {
    files::write(file, duties::PROBE).with_context(|| format!("failed to write {}", file.display()))?;
    Ok(0)
}
