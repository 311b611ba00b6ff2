//! `replay`: the plugin on recordings.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use host_harness::built_in;
use host_harness::recording::replay;
use source_host::cause;
use source_host::contract::Reaction;
use source_host::plugin::engine::Host;

use crate::cli::UsageError;

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
                    say!("error: {difference}");
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
    Ok(match failed {
        0 => 0,
        failed if failed == files.len() => 1,
        _ => 3,
    })
}
