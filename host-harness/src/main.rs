//! The program: its log, its runtime, and one command.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use host_harness::environment;
use host_harness::limits;
use host_harness::run::memory;
use host_harness::terminal::Colours;
use source_host::failpoint;
use source_host::plugin::{compiler, engine};
use source_host::privileges;
use tracing_subscriber::EnvFilter;

use crate::cli::arguments::{self, Command, LogFormat};
use crate::cli::output::{self, People};

#[macro_use]
mod cli;

fn main() -> ExitCode {
    // An internal use: this program is started again as the compiler of one plugin. That process must do nothing else.
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = words.collect();
    if words.first().is_some_and(|word| word == compiler::COMMAND) {
        return ExitCode::from(compiler::serve(&words[1..]));
    }
    memory::hold_little();
    // This comes before the first secret is read.
    engine::open_page_map();
    if let Err(error) = privileges::give_up().and_then(|()| privileges::hide_memory()) {
        say!("warning: the process keeps privileges that it does not need: {error}");
    }
    if let Some(chosen) = environment::text(failpoint::VARIABLE) {
        failpoint::choose(&chosen);
    }
    if let Some(safeguard) = environment::text(failpoint::WITHOUT)
        && failpoint::take_out(&safeguard)
    {
        say!("warning: {} takes out the safeguard {safeguard}: events may be lost", failpoint::WITHOUT);
    }
    let colours = Colours::of(environment::variable);
    let arguments = arguments::read(colours);
    if matches!(arguments.command, Command::Run { .. })
        && let Err(error) = output::wait_for_nobody()
    {
        say!("warning: the process waits whenever nobody reads its log: {error}");
    }
    let level = if matches!(arguments.command, Command::Run { .. }) { "info" } else { "warn" };
    let filter = environment::text(EnvFilter::DEFAULT_ENV).and_then(|wanted| EnvFilter::try_new(wanted).ok());
    // The client of NATS logs events of connections, which a delivery reports with their consequences.
    let filter = filter.unwrap_or_else(|| EnvFilter::new(format!("{level},async_nats=off")));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| People);
    match arguments.log_format {
        LogFormat::Text => log.with_ansi(colours.on(&io::stderr())).init(),
        LogFormat::Json => log.with_ansi(false).json().flatten_event(true).init(),
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say!("error: failed to start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match arguments.command {
        Command::Run { .. } => cli::RUNS.store(true, Ordering::Relaxed),
        Command::Simulate { .. } => {}
        _ if io::stderr().is_terminal() => cli::tell_what_lasts(limits::PROGRESS_LOOK),
        _ => cli::tell_what_lasts(limits::PROGRESS_PAUSE),
    }
    let status = cli::status(runtime.block_on(cli::command(arguments)));
    // A write to a pipe that nobody reads does not end by itself.
    runtime.shutdown_timeout(limits::LAST_WRITE);
    output::flush();
    status
}
