//! The configuration: one language for all commands, in one TOML file or in a folder of files that are read as one. All
//! problems are found at once, each with file, line, key, the value that was found and the value that was expected.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use source_host::cause;
use source_host::credentials::settings::Settings;
use source_host::text;

use crate::sink::SinkConfig;

pub mod admission;
pub(crate) mod astray;
mod collector;
pub mod event_files;
mod feeds;
mod near;
mod network;
mod pins;
mod problem;
mod proxy;
mod reader;
mod reference;
mod settings;
mod sinks;
mod start_error;
mod suggestion;
mod syntax;

pub use self::collector::{CollectorConfig, StateConfig, place};
pub use self::near::nearest;
pub use self::network::{CaFile, NetworkConfig};
pub use self::pins::{Pin, Pins};
pub(crate) use self::problem::once_each;
pub use self::problem::{ConfigPlace, ConfigProblem, FileLine, ReportedProblems};
use self::reader::{ConfigFile, ConfigReader, Table};
pub use self::start_error::StartError;

/// An operator's configuration.
#[derive(Debug, Default)]
pub struct Config {
    /// The collector itself.
    pub collector: CollectorConfig,
    /// The network of requests.
    pub network: NetworkConfig,
    /// The sinks of events; standard output if none is named.
    pub sinks: Vec<SinkConfig>,
    /// The sources of data.
    pub feeds: Vec<FeedConfig>,
    /// Ids of every feed that has one, also of feeds with problems of their own.
    pub named: Vec<String>,
    /// Oddities that are no reason to stop.
    pub warnings: Vec<ConfigProblem>,
    /// The problems; feeds with problems of their own are not among `feeds`.
    pub problems: Vec<ConfigProblem>,
    /// Every file that was read, as it was before. This includes files to which others refer.
    pub files: Vec<SeenFile>,
    /// Certificates of sinks, which may expire.
    pub certificates: Vec<CaFile>,
    /// Ends of the JWTs of sinks' credentials, in Unix milliseconds, with the places of these.
    pub ends: Vec<(ConfigPlace, u64)>,
    /// Whether a feed that cannot be collected also stops the others.
    pub strict: bool,
}

/// A file's properties at one moment: when its content or its permissions last changed, and its size; none if the file
/// did not exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeenFile {
    /// The path.
    pub path: PathBuf,
    met: Option<Met>,
}

/// Time of the last change of the content, time of the last change of other properties in seconds and nanoseconds, and
/// the size.
type Met = (SystemTime, (i64, i64), u64);

impl SeenFile {
    /// Reads the file's present properties.
    pub fn now(path: PathBuf) -> SeenFile {
        let met = std::fs::metadata(&path);
        let met = met.and_then(|met| Ok((met.modified()?, (met.ctime(), met.ctime_nsec()), met.len()))).ok();
        SeenFile { path, met }
    }
}

/// One `[[feed]]`, defaults applied.
#[derive(Debug)]
pub struct FeedConfig {
    /// Id of the feed, unique in the configuration.
    pub id: String,
    /// Id of the tenant whose data the feed polls.
    pub tenant: String,
    /// The plugin's file; `None` for the built-in plugin.
    pub plugin: Option<PathBuf>,
    /// Time between two polls of a scope; without it, the plugin's proposal applies.
    pub interval: Option<Interval>,
    /// Ids of the sinks that get the feed's events.
    pub sinks: Vec<String>,
    /// The person or address to ask about the feed.
    pub contact: Option<String>,
    /// The pinned digests of plugin and plan.
    pub pins: Pins,
    /// Settings of the plugin, with their secrets.
    pub settings: Settings,
    /// The feed's place in the configuration, for problems that the plugin finds.
    pub place: SourcePlace,
    /// Settings from `{ env }` or `{ file }`, which are therefore secrets.
    pub sealed: Vec<String>,
    /// Settings from `{ env }` or `{ file }` that are declared to be plain values.
    pub opened: Vec<String>,
    /// Settings whose `{ env }` or `{ file }` cannot be read now, each with the problem. A substitute takes the place
    /// of each value, so that the other settings can be judged.
    pub unreadable: Vec<(String, ConfigProblem)>,
}

/// Time between two polls of a scope.
#[derive(Debug, Clone)]
pub struct Interval {
    /// The clock.
    pub time: Duration,
    /// The text in the configuration.
    pub written: String,
    /// The interval's place in the configuration.
    pub place: ConfigPlace,
}

impl Interval {
    /// Returns a warning if the interval is far shorter than the time after which the service has new data.
    pub fn oddity(&self, refresh: Duration) -> Option<ConfigProblem> {
        let message = || format!("{} is short: the service has new data every {}", self.written, spelled(refresh));
        (self.time * MOST_POLLS_A_REFRESH < refresh).then(|| self.place.problem(message()))
    }
}

/// Number of polls during one recomputation of the service's data beyond which polls bring no new data.
const MOST_POLLS_A_REFRESH: u32 = 32;

fn spelled(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// The place of a feed and of its settings.
#[derive(Debug, Clone, Default)]
pub struct SourcePlace {
    /// The place of the feed's table.
    pub table: FileLine,
    /// The place of each setting, which may be among the defaults.
    pub settings: BTreeMap<String, FileLine>,
}

/// Variables of the environment, as an argument. Invalid UTF-8 in a value becomes U+FFFD.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const TOP: &[&str] = &["collector", "network", "sink", "feed_defaults", "feed"];

/// The keys of each table, to recognise keys in the wrong table, and for the reference.
pub const TABLES: &[(&str, &[&str])] = &[
    ("[collector]", collector::COLLECTOR),
    ("[network]", network::NETWORK),
    ("[[sink]]", sinks::COMMON),
    ("a [[sink]] of type \"file\"", sinks::FILE),
    ("a [[sink]] of type \"http\"", sinks::HTTP),
    ("a [[sink]] of type \"otlp\"", sinks::OTLP),
    ("a [[sink]] of type \"nats\"", sinks::NATS),
    ("[[feed]]", &["id", pins::PLAN]),
    ("[[feed]] or [feed_defaults]", feeds::SHARED),
];

/// Reads a configuration file, or all `*.toml` of a folder. `only` leaves out all feeds but one, and their secrets.
/// Problems are part of the result, so that a check of the rest can add to them.
pub fn load(path: &Path, only: Option<&str>, environment: Environment<'_>) -> Config {
    let whole = |file: &Path, message| ConfigPlace::whole(file).problem(message);
    let of = |problem| Config { problems: vec![problem], ..Config::default() };
    let files = if path.is_dir() {
        match folder(path) {
            Ok(found) if found.is_empty() => {
                return of(whole(path, "found no file *.toml in the folder, expected at least one".to_owned()));
            }
            Ok(found) => found,
            Err(error) => return of(whole(path, format!("cannot be read: {error}"))),
        }
    } else {
        vec![path.to_owned()]
    };
    let (mut read, mut unreadable) = (Vec::new(), Vec::new());
    for file in files {
        match text::read(&file) {
            Ok(text) => read.push((file, text)),
            Err(error) => unreadable.push(whole(&file, cause::chain(&error))),
        }
    }
    let mut config = parse_all(&read, unreadable.is_empty(), only, environment);
    config.problems.splice(0..0, unreadable);
    config
}

/// Returns the configuration files of a folder, by name, without hidden files.
pub(crate) fn folder(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if file.extension().is_some_and(|extension| extension == "toml") && !hidden {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads the text of one configuration file. Paths in it are relative to its folder.
pub fn parse(file: &Path, text: &str, only: Option<&str>, environment: Environment<'_>) -> Config {
    parse_all(&[(file.to_owned(), text.to_owned())], true, only, environment)
}

/// Reads the texts of some configuration files as one configuration. If the files are not `complete`, a part that seems
/// to be missing may be in another file.
fn parse_all(files: &[(PathBuf, String)], complete: bool, only: Option<&str>, environment: Environment<'_>) -> Config {
    let mut reader = ConfigReader::default();
    let sources: Vec<ConfigFile<'_>> = files.iter().map(|(file, text)| ConfigFile::new(file, text)).collect();
    let documents: Vec<_> = sources.iter().map(|source| source.parse(&mut reader)).collect();
    reader.complete = complete && documents.iter().all(Option::is_some);
    let documents = sources.iter().zip(&documents);
    let mut tops: Vec<Table<'_>> =
        documents.filter_map(|(source, document)| Some(Table::document(document.as_ref()?, source))).collect();
    let mut config =
        Config { files: files.iter().map(|(file, _)| SeenFile::now(file.clone())).collect(), ..Config::default() };
    if files.len() > 1 {
        let (own, foreign): (Vec<_>, Vec<_>) = tops.into_iter().partition(|top| !is_foreign(top));
        tell_of_foreign(&mut reader, &foreign);
        // A missing feed would only follow from the foreign files.
        reader.complete &= foreign.is_empty() || !own.is_empty();
        tops = own;
    }
    for top in &mut tops {
        reader.known(top, TOP);
    }
    let table = one_table(&mut reader, &tops, "collector");
    config.collector =
        collector::read(&mut reader, table, sources.first(), &mut config.files, &mut config.certificates, environment);
    let mut table = one_table(&mut reader, &tops, "network");
    config.network = network::read(&mut reader, table.as_mut(), &mut config.files);
    if let (StateConfig::Server(address), Some(ca_file)) = (&mut config.collector.state, &config.network.ca_file) {
        address.authorities.roots.extend(ca_file.authorities.roots.iter().cloned());
    }
    let first = sources.first().map_or(Path::new(""), |source| source.file);
    config.network.proxy = proxy::read(&mut reader, table.as_ref(), first, &mut config.files, environment);
    let sinks = sinks::read(&mut reader, &tops, &mut config, environment);
    let mut defaults = one_table(&mut reader, &tops, "feed_defaults");
    let whole = sources.first().map(|source| source.file);
    let state = config.collector.state.file();
    let context = feeds::FeedContext { tops: &tops, sinks: &sinks, state, whole, only, environment };
    (config.feeds, config.named) = feeds::read(&mut reader, &context, defaults.as_mut(), &mut config.files);
    config.sinks = sinks.into_iter().filter_map(|sink| sink.config).collect();
    if config.sinks.is_empty() {
        let stdout = SinkConfig::stdout(&config.collector.folder);
        for feed in &mut config.feeds {
            feed.sinks = vec![stdout.id.clone()];
        }
        config.sinks.push(stdout);
    }
    config.warnings = once_each(reader.warnings);
    config.problems = once_each(reader.problems);
    if !reader.complete {
        // The defaults or the sinks may be in a file that could not be read; the plugins would report them as missing.
        for feed in config.feeds.drain(..) {
            config.problems.extend(feed.unreadable.into_iter().map(|(_, problem)| problem));
        }
    }
    config
}

/// Says whether a file of a folder belongs to another program: it has no key that is or resembles one of a
/// configuration.
fn is_foreign(top: &Table<'_>) -> bool {
    let is_own = |name: &str| suggestion::key(name, TOP.iter().copied()).is_some() || reader::places(name).is_some();
    let mut names = top.children().map(|node| node.name.as_str()).peekable();
    names.peek().is_some() && !names.any(is_own)
}

/// Reports all foreign files in one message.
fn tell_of_foreign(reader: &mut ConfigReader, foreign: &[Table<'_>]) {
    let Some((first, others)) = foreign.split_first() else { return };
    const EXPECTED: &str = "expected tables such as [[feed]]; keep the configuration in a folder of its own";
    let name = |top: &Table<'_>| top.source.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let shown: Vec<String> = others.iter().take(FOREIGN_SHOWN).map(name).collect();
    let more = others.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = match others {
        [] => format!("has no table of a configuration, {EXPECTED}"),
        _ => format!("has no table of a configuration, nor have {}{more}, {EXPECTED}", shown.join(", ")),
    };
    reader.problems.push(ConfigPlace::whole(first.source.file).problem(message));
}

/// Number of foreign files that the message names; further ones are counted.
const FOREIGN_SHOWN: usize = 4;

/// Returns a table that only one file of a folder may have.
fn one_table<'a>(reader: &mut ConfigReader, tops: &[Table<'a>], name: &str) -> Option<Table<'a>> {
    let mut nodes = tops.iter().filter_map(|top| top.child(name));
    let first = nodes.next()?;
    for other in nodes {
        let message = format!("is also at {}, expected in only one file of the folder", first.at());
        reader.problem(&other, message);
    }
    // A list such as `[[network]]` with one table.
    if let Some([only]) = first.as_list().as_deref()
        && only.as_table().is_some()
    {
        reader.problem(&first, format!("found [[{name}]], expected [{name}]"));
        return only.as_table();
    }
    reader.table(&first, &format!("the table [{name}]"))
}

/// The largest number in a duration, with any unit: nine digits, which overflow no calculation with times.
const MAX_DURATION_NUMBER: u64 = 999_999_999;

/// Parses a duration such as `90s` or `1h`: `[1-9][0-9]{0,8}[smhd]`. The built-in plugin parses its own durations by
/// the same grammar.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let is_plain = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|number| is_plain && *number <= MAX_DURATION_NUMBER)?;
    Some(Duration::from_secs(number * unit))
}

#[cfg(test)]
mod tests;
