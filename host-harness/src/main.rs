//! The command line: events on standard output, everything for people on standard error.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use host_harness::check as connection;
use host_harness::compile::{self, Compiler};
use host_harness::config::{self, Config, Problem};
use host_harness::conformance;
use host_harness::contract::Reaction;
use host_harness::engine::Host;
use host_harness::feed::Clock;
use host_harness::feeds::{self, CheckError, Checked};
use host_harness::inspect::{self, Sheet};
use host_harness::limits::{self, Limits};
use host_harness::memory;
use host_harness::once::{self, OnceError, Output};
use host_harness::plugin::{self, Plugin};
use host_harness::record;
use host_harness::redact;
use host_harness::replay;
use host_harness::run::{self, RunError, Start};
use host_harness::simulator::assertion::Registered;
use host_harness::simulator::{Simulator, estate::Estate, scenario};
use host_harness::terminal::Colours;
use tokio::signal::unix::{SignalKind, signal};

/// Says something to people, who may not listen.
macro_rules! say {
    ($($words:tt)*) => {
        // Words of plugins and services are among them.
        let _ = writeln!(People, "{}", redact::plain_lines(&format!($($words)*)));
    };
}

/// Runs polling source plugins: recorded, simulated and live.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// A component in place of the built-in plugin.
    #[arg(long, global = true, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// How the log on standard error is written.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// How the log is written.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Polls several tenants of a simulated service; needs no Azure account.
    Demo,
    /// Shows what a plugin is, what it imports, and with a configuration what may leave.
    Inspect {
        /// The component; the built-in one without it.
        file: Option<PathBuf>,
        /// A configuration, or a folder of them, whose feeds to show.
        #[arg(short, value_name = "FILE")]
        config: Option<PathBuf>,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Tests the connection of each feed, step by step, and shows a sample event.
    Check {
        /// The configuration, or a folder of them.
        #[arg(short, value_name = "FILE")]
        config: PathBuf,
        /// Only this feed.
        #[arg(long, value_name = "ID")]
        feed: Option<String>,
        /// One JSON object a feed.
        #[arg(long)]
        json: bool,
    },
    /// Polls each scope of a feed once, and records what was answered, to be replayed.
    Record {
        /// The configuration, or a folder of them.
        #[arg(short, value_name = "FILE")]
        config: PathBuf,
        /// Which feed.
        #[arg(long, value_name = "ID")]
        feed: String,
        /// Where the recording goes; a file that is there is overwritten.
        #[arg(short, value_name = "FILE")]
        output: PathBuf,
        /// Puts stand-ins for the ids and names of subscriptions, too.
        #[arg(long)]
        redact_subscriptions: bool,
    },
    /// Polls each scope once, now.
    Poll {
        /// The configuration, or a folder of them.
        #[arg(short, value_name = "FILE")]
        config: PathBuf,
        /// Only this feed.
        #[arg(long, value_name = "ID")]
        feed: Option<String>,
        /// Compares with the state in this file, keeps the new one there, and delivers to the configured sinks.
        #[arg(long, value_name = "FILE")]
        state: Option<PathBuf>,
    },
    /// Collects day after day: schedules, state, sinks, metrics.
    Run {
        /// The configuration, or a folder of them.
        #[arg(short, value_name = "FILE")]
        config: PathBuf,
    },
    /// Runs the plugin on recorded responses and prints the events.
    Replay {
        /// The recordings.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Compares the events with those beside the recording.
        #[arg(long, conflicts_with = "update")]
        expect: bool,
        /// Writes the events beside the recording.
        #[arg(long)]
        update: bool,
    },
    /// Tries the contract's rules on a plugin.
    Conformance {
        /// The component; the built-in one without it.
        file: Option<PathBuf>,
        /// Recordings that give it settings and answers; the built-in one has its own.
        #[arg(long = "cassette", value_name = "FILE", num_args = 1..)]
        cassettes: Vec<PathBuf>,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Serves a simulated Entra ID and Azure Resource Manager until it is stopped.
    Simulate {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// What goes wrong; an unknown name lists all.
        #[arg(long)]
        scenario: Option<String>,
        /// How many tenants there are, in place of the four of the demo.
        #[arg(long, value_name = "COUNT")]
        tenants: Option<u32>,
        /// How many subscriptions each of them has.
        #[arg(long, value_name = "COUNT", default_value_t = 1, requires = "tenants")]
        subscriptions: u32,
        /// A certificate, in PEM, that is registered with every application; its key signs in then, too.
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// A file with a token of another identity provider that every application trusts.
        #[arg(long, value_name = "FILE")]
        federated_token: Option<PathBuf>,
        /// One line of JSON that says how to reach it.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    // Not for people: this program again, as the compiler of one plugin. It is to hold nothing but that.
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = words.collect();
    if words.first().is_some_and(|word| word == compile::COMMAND) {
        return ExitCode::from(compile::serve(&words[1..]));
    }
    memory::hold_little();
    let colours = Colours::of(|name| std::env::var_os(name));
    let arguments = arguments(colours);
    let level = if matches!(arguments.command, Command::Run { .. }) { "info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
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
    let status = status(runtime.block_on(command(arguments)));
    // A write to a pipe that nobody reads does not end by itself.
    runtime.shutdown_timeout(Duration::from_millis(100));
    status
}

/// Reads the command line; ends the program where it asks for help or is wrong.
fn arguments(colours: Colours) -> Arguments {
    let choice = match colours {
        Colours::Never => ColorChoice::Never,
        Colours::OnTerminals => ColorChoice::Auto,
        Colours::Always => ColorChoice::Always,
    };
    let matches = Arguments::command().color(choice).get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// What a command came to, as the exit status; errors are told.
fn status(result: anyhow::Result<u8>) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            if let Some(problems) = problems(&error) {
                for problem in problems {
                    say!("error: {problem}");
                }
                return ExitCode::from(2);
            }
            let closed = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
            if closed.into_iter().any(|error| error.kind() == io::ErrorKind::BrokenPipe) {
                return ExitCode::SUCCESS;
            }
            say!("error: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// Standard error, on which nothing depends: where nobody can write to it, the work goes on.
struct People;

impl Write for People {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is wrong with the configuration, if that is the error.
fn problems(error: &anyhow::Error) -> Option<&[Problem]> {
    match (error.downcast_ref(), error.downcast_ref(), error.downcast_ref()) {
        (Some(OnceError::Configuration(problems)), ..)
        | (_, Some(CheckError::Configuration(problems)), _)
        | (.., Some(RunError::Configuration(problems))) => Some(problems),
        _ => None,
    }
}

/// A mistake of the user.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

async fn command(Arguments { plugin, command, .. }: Arguments) -> anyhow::Result<u8> {
    match command {
        Command::Demo => demo(plugin.as_deref()).await,
        Command::Inspect { file, config, json } => inspect(file.or(plugin), config.as_deref(), json).await,
        Command::Check { config, feed, json } => {
            let output = Output { events: &mut io::stdout(), people: &mut People };
            let config = load(&config, feed.as_deref());
            Ok(connection::tell(&host()?, config, plugin.as_deref(), &clock(), json, output).await?)
        }
        Command::Record { config, feed, output, redact_subscriptions } => {
            let checked = check(&host()?, load(&config, Some(&feed)), plugin.as_deref()).await?;
            record(&checked, &output, redact_subscriptions).await
        }
        Command::Poll { config: file, feed, state } => {
            let config = load(&file, feed.as_deref());
            let host = host()?;
            let report = match state {
                None => poll(&host, config, plugin.as_deref()).await?,
                Some(state) => tick(&host, config, plugin.as_deref(), &state).await?,
            };
            Ok(report.status())
        }
        Command::Run { config } => {
            let environment = |name: &str| std::env::var(name).ok();
            run::run(Start { host: host()?, config, plugin, environment, clock: clock() }).await?;
            Ok(0)
        }
        Command::Replay { files, expect, update } => replay_all(&files, plugin.as_deref(), expect, update).await,
        Command::Conformance { file, cassettes, json } => conform(file.or(plugin), &cassettes, json).await,
        Command::Simulate { listen, scenario, tenants, subscriptions, certificate, federated_token, json } => {
            let estate = tenants.map_or_else(Estate::default, |tenants| Estate::sized(tenants, subscriptions));
            let trusted = Trusted::read(certificate.as_deref(), federated_token.as_deref())?;
            simulate(listen, scenario.as_deref(), estate, trusted, json).await
        }
    }
}

fn host() -> anyhow::Result<Host> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = cache.filter(|folder| folder.is_absolute()).or(home).map(|folder| folder.join("host-harness"));
    Host::with_compiler(cache, Compiler::this_program()).context("failed to start the engine")
}

fn clock() -> Clock {
    Arc::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        limits::milliseconds(now)
    })
}

fn load(file: &Path, only: Option<&str>) -> Config {
    config::load(file, only, &|name| std::env::var(name).ok())
}

/// Checks every feed, and tells what is odd.
async fn check(host: &Host, config: Config, plugin: Option<&Path>) -> Result<Checked, CheckError> {
    let checked = feeds::check(host, config, plugin, &clock()).await?;
    for warning in &checked.warnings {
        say!("warning: {warning}");
    }
    Ok(checked)
}

async fn poll(host: &Host, config: Config, plugin: Option<&Path>) -> anyhow::Result<once::Report> {
    let clock = clock();
    let feeds = once::open(&check(host, config, plugin).await?, &clock).await?;
    let output = Output { events: &mut io::stdout(), people: &mut People };
    Ok(once::poll(&feeds, &clock, output).await?)
}

/// Records the one feed of a configuration.
async fn record(checked: &Checked, output: &Path, redact_subscriptions: bool) -> anyhow::Result<u8> {
    let parked = checked.feeds.first().context("no feed was found")?;
    let recorded = record::record(parked, &checked.network, &clock(), redact_subscriptions).await?;
    let text = serde_json::to_string_pretty(&recorded.cassette)? + "\n";
    std::fs::write(output, text).with_context(|| format!("failed to write {}", output.display()))?;
    for (scope, failure) in &recorded.failures {
        let scope = scope.as_ref().map(|scope| format!("{scope}: ")).unwrap_or_default();
        let words = format!("{scope}{} ({}, {})", failure.cause, failure.code, failure.whose());
        let fix = failure.fix.as_deref().unwrap_or_else(|| once::usual_fix(failure));
        say!("error: {}", redact::redact(&format!("{words}\n  fix: {fix}"), parked.secrets()));
    }
    let exchanges = recorded.cassette.exchanges.len();
    say!("{}: {exchanges} exchanges, which replay to {} events", output.display(), recorded.events);
    Ok(match (recorded.good, recorded.failures.len()) {
        (_, 0) => 0,
        (0, _) => 1,
        _ => 3,
    })
}

/// One tick of the collector: what it cannot deliver in time stays in the outbox, and is a failure.
async fn tick(host: &Host, mut config: Config, plugin: Option<&Path>, state: &Path) -> anyhow::Result<once::Report> {
    let clock = clock();
    let sinks = std::mem::take(&mut config.sinks);
    let checked = check(host, config, plugin).await?;
    let keeper = run::keeper(state, &sinks, &checked.network, &clock).await?;
    let feeds = once::open(&checked, &clock).await?;
    let output = Output { events: &mut io::sink(), people: &mut People };
    let mut report = once::tick(&feeds, &keeper, output).await?;
    let delivered = tokio::time::timeout(limits::POLL_WAIT, keeper.deliveries.rest()).await;
    if let Some((kind, why)) = keeper.deliveries.closed() {
        return Err(io::Error::new(kind, why).into());
    }
    keeper.close().await;
    if delivered.is_err() {
        for ((sink, tenant), waiting) in keeper.deliveries.waiting() {
            say!(
                "error: sink {sink}: {} events of tenant {tenant} were not delivered within {} s (harness)\n  \
                 fix: they wait in {} and go with the next poll or `run` on it",
                waiting.events,
                limits::POLL_WAIT.as_secs(),
                state.display()
            );
            report.failed += 1;
        }
    }
    Ok(report)
}

async fn demo(plugin: Option<&Path>) -> anyhow::Result<u8> {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into(), Estate::default(), None).await?;
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, simulator.ca_pem()).context("failed to write the CA")?;
    let (text, variables) = simulator.configuration(&ca_file.to_string_lossy());
    let environment = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let file = Path::new("demo.toml");
    let config = config::parse(file, &text, None, &environment);
    say!("simulated Entra ID and Azure Resource Manager at {}", simulator.url());
    let report = poll(&host()?, config, plugin).await?;
    say!("\n{}\n{} events of {} subscriptions", once::table(&report, "secure-scores"), report.events, report.good);
    Ok(report.status())
}

async fn inspect(file: Option<PathBuf>, config: Option<&Path>, as_json: bool) -> anyhow::Result<u8> {
    let host = host()?;
    let mut out = io::stdout();
    let Some(config) = config else {
        let plugin = Plugin::load(&host, file.as_deref()).map_err(Usage)?;
        let (about, description) = (plugin.about(), plugin.description().await?);
        match as_json {
            true => writeln!(out, "{}", inspect::json(about, &description, None)?)?,
            false => out.write_all(redact::plain_lines(&inspect::text(about, &description, None)).as_bytes())?,
        }
        return Ok(0);
    };
    let checked = check(&host, load(config, None), file.as_deref()).await?;
    // Each plugin with the feeds that run it.
    let mut pages: Vec<(Plugin, Vec<Sheet>)> = Vec::new();
    for ready in once::open(&checked, &clock()).await? {
        let (plugin, sheet) = (ready.parked.plugin(), Sheet::of(&ready, &Limits::default()).await);
        match pages.iter_mut().find(|(known, _)| known.about().sha256 == plugin.about().sha256) {
            Some((_, sheets)) => sheets.push(sheet),
            None => pages.push((plugin.clone(), vec![sheet])),
        }
    }
    for (plugin, sheets) in &pages {
        let (about, description) = (plugin.about(), plugin.description().await?);
        match as_json {
            true => writeln!(out, "{}", inspect::json(about, &description, Some(sheets))?)?,
            false => {
                out.write_all(redact::plain_lines(&inspect::text(about, &description, Some(sheets))).as_bytes())?
            }
        }
    }
    Ok(0)
}

async fn replay_all(files: &[PathBuf], plugin: Option<&Path>, expect: bool, update: bool) -> anyhow::Result<u8> {
    let host = host()?;
    let plugin = Plugin::load(&host, plugin).map_err(Usage)?;
    let mut failed = 0;
    for file in files {
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
                    say!("{}: {} ({}, {})", file.display(), failure.cause, failure.code, failure.whose());
                    failed += usize::from(failure.reaction != Reaction::NoData);
                }
                io::stdout().write_all(&replayed.lines())?;
            }
            Err(error) => return Err(Usage(error.to_string()).into()),
        }
    }
    Ok(match failed {
        0 => 0,
        failed if failed == files.len() => 1,
        _ => 3,
    })
}

/// Whom the simulated Entra ID trusts besides who knows a secret.
#[derive(Default)]
struct Trusted {
    certificate: Option<Registered>,
    token: Option<String>,
}

impl Trusted {
    fn read(certificate: Option<&Path>, token: Option<&Path>) -> Result<Trusted, Usage> {
        let read = |file: &Path| {
            std::fs::read_to_string(file).map_err(|error| Usage(format!("cannot read {}: {error}", file.display())))
        };
        let certificate = certificate.map(|file| {
            let registered = Registered::read(&read(file)?);
            registered
                .ok_or_else(|| Usage(format!("found no certificate in {}, expected PEM with one", file.display())))
        });
        let token = token.map(read).transpose()?.map(|text| text.trim().to_owned());
        Ok(Trusted { certificate: certificate.transpose()?, token })
    }
}

async fn conform(file: Option<PathBuf>, cassettes: &[PathBuf], as_json: bool) -> anyhow::Result<u8> {
    let bytes = match &file {
        Some(file) => plugin::read(file).map_err(|error| Usage(format!("{}: {error}", file.display())))?,
        None => plugin::BUILT_IN.to_vec(),
    };
    let read = cassettes.iter().map(|file| replay::read(file).map_err(|error| Usage(error.to_string())));
    let mut recorded = read.collect::<Result<Vec<_>, _>>()?;
    if recorded.is_empty() && bytes == plugin::BUILT_IN {
        recorded
            .push(serde_json::from_str(conformance::BUILT_IN).context("failed to read the cassette that is built in")?);
    }
    let report = conformance::examine(&host()?, &bytes, &recorded, &limits::Limits::default()).await;
    let mut out = io::stdout();
    if as_json {
        writeln!(out, "{}", serde_json::to_value(&report)?)?;
    } else {
        write!(out, "{}", report.table())?;
    }
    // A rule that was not run is not kept yet.
    Ok(match (report.ok, report.is_complete()) {
        (true, true) => 0,
        (true, false) => 3,
        (false, _) => 1,
    })
}

async fn simulate(
    listen: SocketAddr,
    scenario_name: Option<&str>,
    estate: Estate,
    trusted: Trusted,
    as_json: bool,
) -> anyhow::Result<u8> {
    let scenario = match scenario_name {
        None => None,
        Some(name) => match scenario::named(name) {
            Some(known) => Some(known),
            None => {
                let names: Vec<&str> = scenario::names().collect();
                bail!(Usage(format!("found the scenario {name:?}, expected one of: {}", names.join(", "))));
            }
        },
    };
    let simulator = Simulator::start(listen, estate, scenario).await.context("failed to listen")?;
    simulator.with(|world| {
        world.certificates.extend(trusted.certificate);
        world.federated.extend(trusted.token);
    });
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, simulator.ca_pem()).context("failed to write the CA")?;
    let ca_file = ca_file.to_string_lossy();
    let mut out = io::stdout();
    if as_json {
        writeln!(out, "{}", simulator.about(&ca_file))?;
    } else {
        let (text, variables) = simulator.configuration(&ca_file);
        say!("# serving at {}; a configuration for it:", simulator.url());
        writeln!(out, "{text}")?;
        for (name, value) in variables {
            writeln!(out, "# export {name}={value}")?;
        }
    }
    out.flush()?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        () = simulator.serve() => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
        _ = terminated.recv() => {}
    }
    Ok(0)
}
