//! The command line as it is written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use host_harness::config;
use host_harness::terminal::Colours;

/// Runs polling source plugins: recorded, simulated and live.
#[derive(Parser)]
#[command(version, about)]
pub struct Arguments {
    /// A component in place of the built-in plugin.
    #[arg(long, global = true, value_name = "FILE")]
    pub plugin: Option<PathBuf>,
    /// How the log on standard error is written.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

/// How the log is written.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand)]
pub enum Command {
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
        /// Refuses the configuration where the credentials of one feed cannot be read, which else leaves out that feed.
        #[arg(long)]
        strict: bool,
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
        /// Refuses the configuration where the credentials of one feed cannot be read, which else leaves out that feed.
        #[arg(long)]
        strict: bool,
    },
    /// Collects day after day: schedules, state, sinks, metrics.
    Run {
        /// The configuration, or a folder of them.
        #[arg(short, value_name = "FILE")]
        config: PathBuf,
        /// Collects every configured feed or none: a feed whose credentials cannot be read, or whose plugin breaks down, is
        /// not left out but refused.
        #[arg(long)]
        strict: bool,
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
        /// Lets a day pass: morning, noon and evening last this long each, 1m unless it is said; then it stays evening.
        #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "1m", value_parser = duration)]
        day: Option<Duration>,
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

/// A duration as the configuration has them.
fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text).ok_or_else(|| "expected a whole number and a unit, such as 30s, 5m or 1h".to_owned())
}

/// Reads the command line; ends the program where it asks for help or is wrong.
pub fn read(colours: Colours) -> Arguments {
    let choice = match colours {
        Colours::Never => ColorChoice::Never,
        Colours::OnTerminals => ColorChoice::Auto,
        Colours::Always => ColorChoice::Always,
    };
    let matches = Arguments::command().color(choice).get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}
