//! The arguments of the command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use host_harness::config;
use host_harness::limits::HOST_TRIAL;
use host_harness::overview::{Condition, Order};
use host_harness::terminal::Colours;

/// The version and the commit on one line, for `-V`.
const SHORT_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("HOST_HARNESS_COMMIT"), ")");

/// The version, the commit that the program was built from, and the digest of its plugin.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit ",
    env!("HOST_HARNESS_COMMIT"),
    "\nplugin sha256:",
    env!("HOST_HARNESS_PLUGIN_SHA256"),
);

/// Runs polling source plugins: recorded, simulated and live.
#[derive(Parser)]
#[command(version = SHORT_VERSION, long_version = VERSION, about)]
#[command(
    after_help = "Examples:\n  host-harness demo               # needs no Azure account\n  host-harness check azure.toml   # tests each step; cause and fix where one fails\n  host-harness poll azure.toml    # events on standard output\n\nNO_COLOR, CLICOLOR_FORCE and TERM decide about colours, RUST_LOG about the log."
)]
pub struct Arguments {
    /// A component to use in place of the built-in plugin.
    #[arg(long, global = true, value_name = "FILE")]
    pub plugin: Option<PathBuf>,
    /// Folder for compiled plugins, which only this user can write. By default CACHE_DIRECTORY, which systemd sets, or
    /// `host-harness` in XDG_CACHE_HOME or in .cache below HOME.
    #[arg(long, global = true, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// The format of the log on standard error.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

/// The format of the log.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object on each line.
    Json,
}

#[derive(Subcommand)]
pub enum Command {
    /// Polls several tenants of a simulated service; needs no Azure account.
    #[command(
        after_help = "Examples:\n  host-harness demo\n  host-harness demo > findings.ndjson  # all events, as NDJSON"
    )]
    Demo,
    /// Shows a plugin and its imports, and with a configuration the requests that it may send.
    #[command(
        after_help = "Examples:\n  host-harness inspect                # the built-in plugin\n  host-harness inspect -c azure.toml  # the requests that may leave"
    )]
    Inspect {
        /// The component; without it, the built-in plugin.
        file: Option<PathBuf>,
        /// A configuration, or a folder of configuration files, whose feeds are shown.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Tests the connection of each feed, step by step, and shows a sample event.
    #[command(
        after_help = "Examples:\n  host-harness check azure.toml                                # each step, and a sample event\n  host-harness check -c azure.toml --feed contoso-prod --json  # for programs"
    )]
    Check {
        #[command(flatten)]
        config: Configuration,
        /// Checks only this feed.
        #[arg(long, value_name = "ID")]
        feed: Option<String>,
        /// Prints one JSON object for each feed.
        #[arg(long)]
        json: bool,
        /// Refuses the whole configuration if a feed's credentials cannot be read. By default, only that feed is left
        /// out.
        #[arg(long)]
        strict: bool,
    },
    /// Polls each scope of a feed once, and records the requests and answers for `replay`.
    #[command(after_help = "Example:\n  host-harness record azure.toml --feed contoso-prod -o contoso.json")]
    Record {
        #[command(flatten)]
        config: Configuration,
        /// The feed to record.
        #[arg(long, value_name = "ID")]
        feed: String,
        /// The file of the recording; an existing file is overwritten.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Replaces the ids and names of subscriptions by placeholders, too.
        #[arg(long)]
        redact_subscriptions: bool,
    },
    /// Polls each scope once, now.
    #[command(
        after_help = "Examples:\n  host-harness poll azure.toml > findings.ndjson    # the events of everything\n  host-harness poll -c azure.toml --state azure.db  # what changed since the last time"
    )]
    Poll {
        #[command(flatten)]
        config: Configuration,
        /// Polls only this feed.
        #[arg(long, value_name = "ID")]
        feed: Option<String>,
        /// Compares with the state in this file or database, keeps the new state there, and delivers to the configured sinks.
        /// The address of the configuration's database is used with its password and certificates.
        #[arg(long, value_name = "PLACE")]
        state: Option<String>,
        /// Refuses the whole configuration if a feed's credentials cannot be read. By default, only that feed is left
        /// out.
        #[arg(long)]
        strict: bool,
    },
    /// Collects day after day, with schedules, state, sinks and metrics.
    #[command(after_help = "Example:\n  host-harness run azure.toml")]
    Run {
        #[command(flatten)]
        config: Configuration,
        /// Collects every configured feed or none. By default, a feed whose credentials cannot be read, or whose plugin
        /// crashes, is left out.
        #[arg(long)]
        strict: bool,
    },
    /// Shows the state of all scopes, also while `run` collects them.
    #[command(
        after_help = "Examples:\n  host-harness status azure.toml                         # what needs a person, then tenants and scopes\n  host-harness status -c azure.toml --tenant contoso     # all scopes of a tenant\n  host-harness status -c azure.toml --json               # for programs: one object for each tenant and sink"
    )]
    Status {
        #[command(flatten)]
        config: Configuration,
        /// Shows only this tenant, with up to a hundred scopes on a page.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Shows only scopes in this state.
        #[arg(long, value_name = "STATE", value_parser = state, conflicts_with = "json")]
        state: Option<Condition>,
        /// The order: attention, score, name or size.
        #[arg(long, value_name = "ORDER", value_parser = order, default_value = "attention")]
        sort: Order,
        /// The page to show.
        #[arg(long, value_name = "NUMBER", default_value_t = 1)]
        page: usize,
        /// Prints one JSON object for each tenant with all its scopes, and one for each sink.
        #[arg(long, conflicts_with = "tenant")]
        json: bool,
    },
    /// Draws the score of a scope over time, and lists its controls and its last changes.
    #[command(
        after_help = "Examples:\n  host-harness history azure.toml --scope \"contoso production\"\n  host-harness history -c azure.toml --scope 20ff7fc3 --days 365"
    )]
    History {
        #[command(flatten)]
        config: Configuration,
        /// The id of the scope, or a part of its id or name that no other scope has.
        #[arg(long, value_name = "SCOPE")]
        scope: String,
        /// The feed of the scope, where several feeds have it.
        #[arg(long, value_name = "ID")]
        feed: Option<String>,
        /// The number of days to draw; the history has 400.
        #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=400))]
        days: u16,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Puts delivered events that a sink keeps (`keep_delivered`) back into the outbox, while `run` is stopped.
    #[command(
        after_help = "Examples:\n  host-harness redeliver azure.toml --sink nats --since 2h --dry-run\n  host-harness redeliver -c azure.toml --sink nats --since 2026-11-28T06:00:00Z --tenant contoso"
    )]
    Redeliver {
        #[command(flatten)]
        config: Configuration,
        /// The sink that gets the events again.
        #[arg(long, value_name = "ID")]
        sink: String,
        /// Takes events that were delivered since this time, or within this duration: 2026-11-28T06:00:00Z, 2h.
        #[arg(long, value_name = "TIME")]
        since: String,
        /// Takes events that were delivered before this time, or this duration ago.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Takes events of one tenant alone.
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Takes events of one feed alone.
        #[arg(long, value_name = "ID")]
        feed: Option<String>,
        /// Counts the events and changes nothing.
        #[arg(long)]
        dry_run: bool,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Moves a state from a file into a PostgreSQL database or back, while no collector uses it. A move that was
    /// interrupted goes on with the same command.
    #[command(
        after_help = "Examples:\n  host-harness migrate -c azure.toml --from collector.db    # into the database that the configuration names\n  host-harness migrate -c azure.toml --to collector.db      # out of it again\n  host-harness migrate --from collector.db --to postgres://collector@db.example/collector"
    )]
    Migrate {
        /// The configuration of the place that is not given; it also has the password and the certificates of a database.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The state to move: a file, or the address of a database, with its password in ~/.pgpass or PGPASSFILE.
        #[arg(long, value_name = "PLACE")]
        from: Option<String>,
        /// The new place of the state: a new file, or the address of a database without a state.
        #[arg(long, value_name = "PLACE")]
        to: Option<String>,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Runs the plugin on recorded responses and prints the events.
    #[command(
        after_help = "Examples:\n  host-harness replay                                  # every recording of the program, as a table\n  host-harness replay contoso.json                     # the events of a recording\n  host-harness replay --expect tests/cassettes/*.json  # whether the events are still the same"
    )]
    Replay {
        /// The recordings; without any, the program plays those that it carries, and prints a table.
        files: Vec<PathBuf>,
        /// Compares the result with the document beside the recording, to the byte, and prints every difference.
        #[arg(long, conflicts_with = "update")]
        expect: bool,
        /// Writes the result to the document beside the recording.
        #[arg(long, requires = "files")]
        update: bool,
        /// Prints one JSON object for each recording in place of the table.
        #[arg(long, conflicts_with = "files")]
        json: bool,
    },
    /// Tries the contract's rules on a plugin.
    #[command(
        after_help = "Examples:\n  host-harness conformance                                       # the built-in plugin\n  host-harness conformance plugin.wasm --cassette recorded.json  # another one\n  host-harness conformance --host -- node host.js                # a host"
    )]
    Conformance {
        /// The component; without it, the built-in plugin.
        #[arg(conflicts_with = "host")]
        file: Option<PathBuf>,
        /// Tests a host: runs COMMAND PLUGIN SETTINGS SECRETS ORIGIN, with a plugin that tries what a host must stop. The
        /// command polls every scope once and prints the events.
        #[arg(long, conflicts_with = "cassettes")]
        host: bool,
        /// Writes that plugin to a file, and tests nothing.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "host", "cassettes", "json"])]
        probe: Option<PathBuf>,
        /// Seconds to wait for the next request of the host, or for its end; then it is killed.
        #[arg(long, value_name = "SECONDS", requires = "host", default_value_t = HOST_TRIAL.as_secs(),
              value_parser = clap::value_parser!(u64).range(1..))]
        wait: u64,
        /// The host's command; the four arguments are added to it, and are also in the variables PROBE_PLUGIN,
        /// PROBE_SETTINGS, PROBE_SECRETS and PROBE_ORIGIN.
        #[arg(last = true, requires = "host", required_if_eq("host", "true"))]
        command: Vec<OsString>,
        /// Recordings with settings and answers for the plugin; the built-in one has its own.
        #[arg(long = "cassette", value_name = "FILE", num_args = 1..)]
        cassettes: Vec<PathBuf>,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Prints the statements that make or update the tables of a state in PostgreSQL.
    #[command(
        after_help = "Example:\n  host-harness schema --role collector | psql -v ON_ERROR_STOP=1 -d collector    # as the owner of the database"
    )]
    Schema {
        /// Also gives this role the rights that a collector needs, and no others.
        #[arg(long)]
        role: Option<String>,
    },
    /// Serves a simulated Entra ID and Azure Resource Manager until it is stopped.
    #[command(
        after_help = "Examples:\n  host-harness simulate > simulated.toml      # a configuration for it, on standard output\n  host-harness simulate --scenario throttled  # a fault; --list shows all\n  host-harness simulate --day 10m             # a day in ten minutes\n  host-harness simulate --json                # for programs"
    )]
    Simulate {
        /// The address to listen on.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Serves without TLS, on loopback only, for clients that cannot add a CA.
        #[arg(long)]
        http: bool,
        /// The scenario to play: the failure that the service simulates.
        #[arg(long, value_name = "NAME")]
        scenario: Option<String>,
        /// Lists all scenarios with their effects, and serves nothing.
        #[arg(long, conflicts_with = "scenario")]
        list: bool,
        /// The number of tenants, in place of the four of the demo.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        tenants: Option<u32>,
        /// The number of subscriptions of each tenant.
        #[arg(long, value_name = "COUNT", default_value_t = 1, requires = "tenants")]
        subscriptions: u32,
        /// Simulates a day: morning, noon and evening last this long each, by default 1m; then it stays evening.
        #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "1m", value_parser = duration)]
        day: Option<Duration>,
        /// A certificate in PEM that is registered with every application, so that its key signs in, too.
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// A file with a token of another identity provider that every application trusts.
        #[arg(long, value_name = "FILE")]
        federated_token: Option<PathBuf>,
        /// Prints the addresses and credentials as one line of JSON; with --list, one line for each scenario.
        #[arg(long)]
        json: bool,
    },
    /// Prints a script that completes command lines in a shell.
    #[command(
        after_help = "Examples:\n  host-harness completions bash > ~/.local/share/bash-completion/completions/host-harness\n  host-harness completions zsh > \"${fpath[1]}/_host-harness\""
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Prints the manual page of the program, or of a command.
    #[command(after_help = "Examples:\n  host-harness man | man -l -\n  host-harness man poll > host-harness-poll.1")]
    Man {
        /// The command.
        command: Option<String>,
    },
}

/// The place of the configuration: as an option, or as the file alone.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Configuration {
    /// The configuration file, or a folder of them.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same as an option.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Configuration {
    /// The file or folder.
    pub fn path(self) -> PathBuf {
        self.file.or(self.config).unwrap_or_default()
    }
}

/// Parses a duration as the configuration does.
fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text).ok_or_else(|| "expected a whole number and a unit, such as 30s, 5m or 1h".to_owned())
}

/// Parses the state of scopes.
fn state(text: &str) -> Result<Condition, String> {
    let words = Condition::ALL.map(Condition::word).join(", ");
    Condition::ALL.into_iter().find(|state| state.word() == text).ok_or_else(|| format!("expected one of {words}"))
}

/// Parses an order.
fn order(text: &str) -> Result<Order, String> {
    let words = Order::ALL.map(Order::word).join(", ");
    Order::ALL.into_iter().find(|order| order.word() == text).ok_or_else(|| format!("expected one of {words}"))
}

/// Reads the command line. Ends the program if the command line asks for help or is wrong.
pub fn read(colours: Colours) -> Arguments {
    let choice = match colours {
        Colours::Never => ColorChoice::Never,
        Colours::OnTerminals => ColorChoice::Auto,
        Colours::Always => ColorChoice::Always,
    };
    let matches = Arguments::command().color(choice).get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}
