//! The command line: events on standard output, everything for people on standard error.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use host_harness::built_in;
use host_harness::check as connection;
use host_harness::collector::once::Output;
use host_harness::config::admission::{self, Checked, LeftOut, LeftOutReason};
use host_harness::config::{self, Config, ConfigProblem, ReportedProblems, StartError};
use host_harness::environment;
use host_harness::limits;
use host_harness::run::{self, Start};
use host_harness::sink::Stdout;
use host_harness::store::postgres::schema;
use parking_lot::Mutex;
use source_host::clock;
use source_host::plugin::compiler::Compiler;
use source_host::plugin::engine::Host;
use source_host::progress::Progress;
use source_simulator::estate::Estate;
use tokio::task::block_in_place;

use crate::cli::arguments::{Arguments, Command};
use crate::cli::conformance::{conform, conform_host, write_probe};
use crate::cli::demo::demo;
use crate::cli::inspect::inspect;
use crate::cli::output::People;
use crate::cli::poll::{poll, tick};
use crate::cli::record::record;
use crate::cli::replay::{Purpose, replay_all, replay_bundled};
use crate::cli::simulate::{TrustedClients, simulate};

#[macro_use]
pub mod output;
pub mod arguments;
mod cache;
mod collectors;
mod conformance;
mod demo;
mod history;
mod inspect;
mod lines;
mod manual;
mod migrate;
mod outboxes;
mod poll;
mod record;
mod redeliver;
mod replay;
mod simulate;
mod status;

/// Runs a command and returns its exit status.
pub async fn command(Arguments { plugin, cache, command, .. }: Arguments) -> anyhow::Result<u8> {
    let host = || host(cache::folder(cache, environment::variable));
    match command {
        Command::Demo => demo(host()?, plugin.as_deref()).await,
        Command::Inspect { file, config, json } => inspect(&host()?, file.or(plugin), config.as_deref(), json).await,
        Command::Check { config, feed, json, strict } => {
            let output = Output { events: &mut io::stdout(), people: &mut People };
            let config = Config { strict, ..load(&config.path(), feed.as_deref()) };
            Ok(connection::tell(&host()?, config, plugin.as_deref(), &clock::system(), json, output).await?)
        }
        Command::Record { config, feed, output, redact_subscriptions } => {
            let checked = check(&host()?, load(&config.path(), Some(&feed)), plugin.as_deref()).await?;
            record(&checked, &output, redact_subscriptions).await
        }
        Command::Poll { config: file, feed, state, strict } => {
            let config = Config { strict, ..load(&file.path(), feed.as_deref()) };
            let host = host()?;
            let report = match state {
                None => poll(&host, config, plugin.as_deref()).await?,
                Some(state) => {
                    let (begun, state) = (Instant::now(), poll::state(&state, &config)?);
                    let report = tick(&host, config, plugin.as_deref(), &state, &clock::system(), stdout()).await?;
                    say!("{}", report.outcome(begun.elapsed()));
                    report
                }
            };
            Ok(report.status())
        }
        Command::Run { config, strict } => {
            let environment = environment::text;
            let config = config.path();
            run::run(Start { host: host()?, config, plugin, environment, clock: clock::system(), strict }).await?;
            Ok(0)
        }
        Command::Status { config, tenant, state, sort, page, json } => {
            let query = status::query(tenant, state, sort, page);
            let config = status::load(&config.path());
            // The reader of a state on a server waits for its answers.
            block_in_place(|| status::status(&config, &query, json, clock::system()()))
        }
        Command::History { config, scope, feed, days, json } => {
            let config = status::load(&config.path());
            block_in_place(|| history::history(&config, feed.as_deref(), &scope, days.into(), json, clock::system()()))
        }
        Command::Schema { role } => {
            let mut script = schema::script();
            if let Some(role) = role {
                script += &schema::grants(&role);
            }
            io::stdout().write_all(script.as_bytes()).context(STDOUT)?;
            Ok(0)
        }
        Command::Redeliver { config, sink, since, until, tenant, feed, dry_run, json } => {
            let (config, choice) =
                (load(&config.path(), None), redeliver::RedeliverOptions { sink, since, until, tenant, feed });
            redeliver::redeliver(&config, choice, dry_run, json, clock::system()()).await
        }
        Command::Migrate { config, from, to, json } => migrate::migrate(config.as_deref(), from, to, json).await,
        Command::Replay { files, json, .. } if files.is_empty() => {
            replay_bundled(&host()?, plugin.as_deref(), json).await
        }
        Command::Replay { files, expect, update, .. } => {
            let purpose = match (expect, update) {
                (true, _) => Purpose::Expect,
                (_, true) => Purpose::Update,
                _ => Purpose::Print,
            };
            replay_all(&host()?, &files, plugin.as_deref(), purpose).await
        }
        Command::Conformance { probe: Some(file), .. } => write_probe(&file),
        Command::Conformance { host: true, command, wait, json, .. } => conform_host(command, wait, json).await,
        Command::Conformance { file, cassettes, json, .. } => {
            conform(&host()?, file.or(plugin), &cassettes, json).await
        }
        Command::Simulate { list: true, json, .. } => simulate::list(json),
        Command::Simulate {
            listen,
            http,
            scenario,
            tenants,
            subscriptions,
            day,
            certificate,
            federated_token,
            json,
            list: false,
        } => {
            let estate = tenants.map_or_else(Estate::default, |tenants| Estate::sized(tenants, subscriptions));
            let trusted = TrustedClients::read(certificate.as_deref(), federated_token.as_deref())?;
            simulate((listen, http), scenario.as_deref(), (estate, day), trusted, json).await
        }
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { command } => manual::page(command.as_deref()),
    }
}

/// Returns a command's result as the exit status, and reports errors.
pub fn status(result: anyhow::Result<u8>) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            if let Some(problems) = problems(&error) {
                for problem in ReportedProblems::default().brief(problems) {
                    say!("error: {problem}");
                }
                return ExitCode::from(2);
            }
            let closed = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
            if closed.into_iter().any(|error| error.kind() == io::ErrorKind::BrokenPipe) {
                return ExitCode::SUCCESS;
            }
            say!("error: {error:#}");
            ExitCode::from(if is_usage(&error) { 2 } else { 1 })
        }
    }
}

/// Returns the problems of the configuration, if they are the error.
fn problems(error: &anyhow::Error) -> Option<&[ConfigProblem]> {
    match error.downcast_ref() {
        Some(StartError::Configuration(problems)) => Some(problems),
        _ => None,
    }
}

/// Says whether the error is one of the command line.
fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<UsageError>() || matches!(error.downcast_ref(), Some(StartError::Plugin(_)))
}

/// The work in progress. `run` logs it instead of showing it.
pub static PROGRESS: LazyLock<Progress> = LazyLock::new(|| {
    Progress::announcing(|words| match RUNS.load(Ordering::Relaxed) {
        true => tracing::info!("{words}"),
        false => say!("{words}"),
    })
});

/// Whether the command is `run`.
pub static RUNS: AtomicBool = AtomicBool::new(false);

/// Shows work that takes longer than a second, for as long as the program runs: each time on a terminal, from time to
/// time in a file or a pipe.
pub fn tell_what_lasts(pause: Duration) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(limits::PROGRESS_LOOK);
            if let Some(words) = PROGRESS.longer_than(limits::PROGRESS_AFTER) {
                say!("{words}");
                std::thread::sleep(pause);
            }
        }
    });
}

/// The message about standard output that cannot be written.
const STDOUT: &str = "failed to write to standard output";

/// An error of the user.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Makes the host that runs plugins and keeps their code in `cache`.
fn host(cache: Option<PathBuf>) -> anyhow::Result<Host> {
    if cache.is_none() {
        say!("no folder keeps compiled plugins, so each start compiles them again; name a folder with `--cache DIR`");
    }
    built_in::host_with(cache, Compiler::this_program(), PROGRESS.clone()).map_err(anyhow::Error::from)
}

fn stdout() -> Stdout {
    Arc::new(Mutex::new(io::stdout()))
}

fn load(file: &Path, only: Option<&str>) -> Config {
    config::load(file, only, &environment::text)
}

/// Checks every feed, and reports warnings and feeds that are left out. A plugin that fails is an error here, because
/// the user is present and can mend the configuration.
async fn check(host: &Host, config: Config, plugin: Option<&Path>) -> Result<Checked, StartError> {
    let checked = admission::check_each(host, config, plugin, &clock::system()).await?;
    if checked.left_out.iter().any(|out| out.why == LeftOutReason::Plugin) {
        let problems = checked.left_out.into_iter().flat_map(|out| out.problems);
        return Err(StartError::Configuration(problems.collect()));
    }
    for warning in ReportedProblems::default().brief(&checked.warnings) {
        say!("warning: {warning}");
    }
    tell_left_out(&checked.left_out);
    Ok(checked)
}

/// Reports the problems of a configuration, and returns whether it has any.
fn problems_of(config: &Config) -> bool {
    for problem in ReportedProblems::default().brief(&config.problems) {
        say!("error: {problem}");
    }
    !config.problems.is_empty()
}

/// Reports the feeds that are left out, each problem once.
fn tell_left_out(left_out: &[LeftOut]) {
    let mut reported = ReportedProblems::default();
    for out in left_out {
        let brief = LeftOut { problems: reported.brief(&out.problems), ..out.clone() };
        for words in brief.messages() {
            say!("error: a feed is left out: {words}");
        }
    }
}

#[cfg(test)]
mod tests {
    use host_harness::built_in::LoadError;
    use source_host::cause;
    use source_host::plugin::PluginError;

    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_and_none_of_them_twice() {
        let io = || io::Error::other("no room");
        let unread = LoadError::File { file: "a.wasm".into(), error: PluginError::Unreadable(io()).into() };
        assert_eq!(cause::chain(&unread), "a.wasm: cannot be read: no room");
        assert_eq!(format!("{:#}", anyhow::Error::from(unread)), "a.wasm: cannot be read: no room");
    }
}
