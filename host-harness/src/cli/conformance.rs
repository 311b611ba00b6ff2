//! `conformance`: the contract's rules on any plugin, and the duties of any host.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use host_harness::audit::{conformance, duties};
use host_harness::built_in;
use host_harness::recording::cassette::Cassette;
use host_harness::recording::{bundled, replay};
use source_host::cause;
use source_host::limits;
use source_host::plugin;
use source_host::plugin::engine::Host;

use crate::cli::UsageError;

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
    let mut out = io::stdout();
    if as_json {
        writeln!(out, "{}", serde_json::to_value(&report)?)?;
    } else {
        write!(out, "{}", report.table())?;
    }
    // A rule that was not run counts as not followed.
    Ok(match (report.ok, report.is_complete()) {
        (true, true) => 0,
        (true, false) => 3,
        (false, _) => 1,
    })
}

/// Runs a host's command, and tells which duties it keeps.
pub fn conform_host(command: &[OsString], wait_seconds: u64, as_json: bool) -> anyhow::Result<u8> {
    let report = duties::examine_host(command, Duration::from_secs(wait_seconds)).map_err(|error| match error {
        duties::TrialError::Command(..) => UsageError(cause::chain(&error)).into(),
        error => anyhow::Error::from(error),
    })?;
    let mut out = io::stdout();
    if as_json {
        writeln!(out, "{}", serde_json::to_value(&report)?)?;
    } else {
        write!(out, "{}", report.table())?;
    }
    // A duty that was not seen counts as not kept.
    Ok(match (report.ok, report.is_complete()) {
        (true, true) => 0,
        (true, false) => 3,
        (false, _) => 1,
    })
}

/// Writes the plugin that `--host` runs to a file.
pub fn write_probe(file: &Path) -> anyhow::Result<u8> {
    std::fs::write(file, duties::PROBE).with_context(|| format!("failed to write {}", file.display()))?;
    Ok(0)
}
