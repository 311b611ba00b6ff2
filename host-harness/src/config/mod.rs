//! The configuration: one language for all commands, in one TOML file or in a folder of them that are read as one. All
//! problems are found at once, each with file, line, key, what was found and what was expected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
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
mod event_files;
mod feeds;
mod near;
mod network;
mod pins;
mod proxy;
mod reader;
mod reference;
mod settings;
mod sinks;
mod start_error;
mod suggestion;
mod syntax;

pub use self::collector::CollectorConfig;
pub use self::network::{CaFile, NetworkConfig};
pub use self::pins::{Pin, Pins};
use self::reader::{ConfigFile, ConfigReader, Key, Table};
pub use self::start_error::StartError;

/// What an operator configured.
#[derive(Debug, Default)]
pub struct Config {
    /// The collector itself.
    pub collector: CollectorConfig,
    /// How requests leave.
    pub network: NetworkConfig,
    /// Where events go; standard output if none is named.
    pub sinks: Vec<SinkConfig>,
    /// Where data comes from.
    pub feeds: Vec<FeedConfig>,
    /// Every feed that has an id, also where it has a problem of its own.
    pub named: Vec<String>,
    /// Odd, and no reason to stop.
    pub warnings: Vec<ConfigProblem>,
    /// What is wrong; feeds with a problem of their own are not among `feeds`.
    pub problems: Vec<ConfigProblem>,
    /// Every file that was read; those that others name, as they were before.
    pub files: Vec<SeenFile>,
    /// Whether a feed that cannot be collected stops the others, too.
    pub strict: bool,
}

/// A file as it was at one moment: when its content or its permissions were last changed, and its size; nothing of one
/// that is not there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeenFile {
    /// Which file.
    pub path: PathBuf,
    met: Option<Met>,
}

/// Time of the last change of the content, of the file's other properties in seconds and nanoseconds, and the size.
type Met = (SystemTime, (i64, i64), u64);

impl SeenFile {
    /// The file as it is now.
    pub fn now(path: PathBuf) -> SeenFile {
        let met = std::fs::metadata(&path);
        let met = met.and_then(|met| Ok((met.modified()?, (met.ctime(), met.ctime_nsec()), met.len()))).ok();
        SeenFile { path, met }
    }
}

/// One `[[feed]]`, defaults applied.
#[derive(Debug)]
pub struct FeedConfig {
    /// Unique in the configuration.
    pub id: String,
    /// Whose data it is.
    pub tenant: String,
    /// None for the built-in plugin.
    pub plugin: Option<PathBuf>,
    /// Time between two polls of a scope; the plugin's own proposal without it.
    pub interval: Option<Interval>,
    /// Ids of the sinks that its events go to.
    pub sinks: Vec<String>,
    /// Whom to ask about it.
    pub contact: Option<String>,
    /// What its plugin and its plan must be.
    pub pins: Pins,
    /// Settings of the plugin, with the secrets read.
    pub settings: Settings,
    /// Where it stands, for problems that the plugin finds.
    pub place: SourcePlace,
    /// Settings that came from `{ env }` or `{ file }` and are therefore secrets.
    pub sealed: Vec<String>,
    /// Settings that came so too, and are to be plain values.
    pub opened: Vec<String>,
    /// Settings whose `{ env }` or `{ file }` cannot be read now, each with what was found there. Something else stands in
    /// their place, so that the other settings can be judged.
    pub unreadable: Vec<(String, ConfigProblem)>,
}

/// Time between two polls of a scope.
#[derive(Debug, Clone)]
pub struct Interval {
    /// The time.
    pub time: Duration,
    /// Where it stands, and as its message how it is spelled there.
    pub written: ConfigProblem,
}

impl Interval {
    /// A warning where it is far below the time after which the service has new data.
    pub fn oddity(&self, refresh: Duration) -> Option<ConfigProblem> {
        let message = format!("{} is short: the service has new data every {}", self.written.message, spelled(refresh));
        (self.time * MOST_POLLS_A_REFRESH < refresh).then(|| ConfigProblem { message, ..self.written.clone() })
    }
}

/// More polls in the time in which the service computes its data once bring nothing.
const MOST_POLLS_A_REFRESH: u32 = 32;

fn spelled(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// Where a feed's settings stand.
#[derive(Debug, Clone, Default)]
pub struct SourcePlace {
    /// The file of the feed.
    pub file: PathBuf,
    /// The line of the feed.
    pub line: usize,
    /// File and line of each setting, which may be among the defaults.
    pub settings: BTreeMap<String, (PathBuf, usize)>,
}

/// Something wrong or odd in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigProblem {
    /// Which file.
    pub file: PathBuf,
    /// Counted from 1; 0 for the whole file.
    pub line: usize,
    /// Which feed it is of. None where it is of the whole configuration, of what several feeds share, or of a feed
    /// without an id of its own.
    pub feed: Option<String>,
    /// Which key, dotted; of a feed's problem from the feed on.
    pub key: String,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if self.line > 0 {
            write!(formatter, ":{}", self.line)?;
        }
        if let Some(feed) = &self.feed {
            write!(formatter, ": feed {feed}")?;
        }
        if !self.key.is_empty() {
            write!(formatter, ": {}", self.key)?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// Variables of the environment, as an argument; what is no UTF-8 in a value comes as U+FFFD.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const TOP: &[&str] = &["collector", "network", "sink", "feed_defaults", "feed"];

/// The keys of each table, for those that stand in another one.
const TABLES: &[(&str, &[&str])] = &[
    ("[collector]", collector::COLLECTOR),
    ("[network]", network::NETWORK),
    ("[[sink]]", sinks::COMMON),
    ("a [[sink]] of type \"file\"", sinks::FILE),
    ("a [[sink]] of type \"http\"", sinks::HTTP),
    ("[[feed]]", &["id", pins::PLAN]),
    ("[[feed]] or [feed_defaults]", feeds::SHARED),
];

/// Reads a configuration file, or all `*.toml` of a folder; `only` leaves out all feeds but one, and their secrets. What
/// is wrong stands in the configuration itself, so that a check of the rest can add to it.
pub fn load(path: &Path, only: Option<&str>, environment: Environment<'_>) -> Config {
    let whole = |file: &Path, message| ConfigProblem {
        file: file.to_owned(),
        line: 0,
        feed: None,
        key: String::new(),
        message,
    };
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

/// The configuration files of a folder, by name; hidden ones are none.
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

/// Reads the texts of some configuration files as one configuration. Where they are not `complete`, what seems to be
/// missing may stand in another file.
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
        // That no feed is there only follows.
        reader.complete &= foreign.is_empty() || !own.is_empty();
        tops = own;
    }
    for top in &mut tops {
        reader.known(top, TOP);
    }
    let table = one_table(&mut reader, &tops, "collector");
    config.collector = collector::read(&mut reader, table, sources.first(), &mut config.files, environment);
    let mut table = one_table(&mut reader, &tops, "network");
    config.network = network::read(&mut reader, table.as_mut(), &mut config.files);
    let first = sources.first().map_or(Path::new(""), |source| source.file);
    config.network.proxy = proxy::read(&mut reader, table.as_ref(), first, &mut config.files, environment);
    let sinks =
        sinks::read(&mut reader, &tops, &config.collector.state, &config.network, &mut config.files, environment);
    let mut defaults = one_table(&mut reader, &tops, "feed_defaults");
    let whole = sources.first().map(|source| source.file);
    let state = &config.collector.state;
    let context = feeds::FeedContext { tops: &tops, sinks: &sinks, state, whole, only, environment };
    (config.feeds, config.named) = feeds::read(&mut reader, &context, defaults.as_mut(), &mut config.files);
    config.sinks = sinks.into_iter().filter_map(|sink| sink.config).collect();
    if config.sinks.is_empty() {
        let stdout = SinkConfig::stdout(&config.collector.state);
        for feed in &mut config.feeds {
            feed.sinks = vec![stdout.id.clone()];
        }
        config.sinks.push(stdout);
    }
    config.warnings = once_each(reader.warnings);
    config.problems = once_each(reader.problems);
    if !reader.complete {
        // The defaults or the sinks may stand where nothing could be read: the plugins would find fault with that.
        for feed in config.feeds.drain(..) {
            config.problems.extend(feed.unreadable.into_iter().map(|(_, problem)| problem));
        }
    }
    config
}

/// Whether a file of a folder belongs to another program: nothing in it is of a configuration, or meant to be.
fn is_foreign(top: &Table<'_>) -> bool {
    let is_own = |name: &str| suggestion::key(name, TOP.iter().copied()).is_some() || reader::places(name).is_some();
    let mut names = top.children().map(|node| node.name.as_str()).peekable();
    names.peek().is_some() && !names.any(is_own)
}

/// One message for all of them.
fn tell_of_foreign(reader: &mut ConfigReader, foreign: &[Table<'_>]) {
    let Some((first, others)) = foreign.split_first() else { return };
    const EXPECTED: &str = "expected [[feed]] and the like; a configuration has a folder of its own";
    let name = |top: &Table<'_>| top.source.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let shown: Vec<String> = others.iter().take(FOREIGN_SHOWN).map(name).collect();
    let more = others.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = match others {
        [] => format!("has no table of a configuration, {EXPECTED}"),
        _ => format!("has no table of a configuration, nor have {}{more}, {EXPECTED}", shown.join(", ")),
    };
    reader.problems.push(first.source.problem(0, &Key::default(), message));
}

/// More files of another program than this are counted.
const FOREIGN_SHOWN: usize = 4;

impl ConfigProblem {
    /// File and line.
    pub fn place(&self) -> String {
        match self.line {
            0 => self.file.display().to_string(),
            line => format!("{}:{line}", self.file.display()),
        }
    }
}

/// What was said already: thirty feeds with one fault are one fault to whoever reads of it.
#[derive(Debug, Default)]
pub struct ReportedProblems {
    /// Place of the first problem with this message.
    places: BTreeMap<String, String>,
}

impl ReportedProblems {
    /// The same problems, where a message that was told before gives way to the place where it was told of.
    pub fn brief(&mut self, problems: &[ConfigProblem]) -> Vec<ConfigProblem> {
        let mut brief = problems.to_vec();
        for problem in &mut brief {
            match self.places.get(&problem.message) {
                Some(place) => problem.message = format!("the same as of {place}"),
                None => drop(self.places.insert(problem.message.clone(), problem.place())),
            }
        }
        brief
    }
}

/// What stands among the defaults is found again with each feed.
pub(crate) fn once_each(problems: Vec<ConfigProblem>) -> Vec<ConfigProblem> {
    let mut seen = BTreeSet::new();
    problems.into_iter().filter(|problem| seen.insert(problem.clone())).collect()
}

/// A table that may stand in one file of a folder only.
fn one_table<'a>(reader: &mut ConfigReader, tops: &[Table<'a>], name: &str) -> Option<Table<'a>> {
    let mut nodes = tops.iter().filter_map(|top| top.child(name));
    let first = nodes.next()?;
    for other in nodes {
        let message = format!("stands at {} too, expected in one file of the folder", first.place());
        reader.problem(&other, message);
    }
    // `[[network]]`, of which there is one.
    if let Some([only]) = first.as_list().as_deref()
        && only.as_table().is_some()
    {
        reader.problem(&first, format!("found [[{name}]], expected [{name}]"));
        return only.as_table();
    }
    reader.table(&first, &format!("the table [{name}]"))
}

/// The largest number that a duration has, whatever its unit: nine digits, which no calculation with times overflows.
const MAX_DURATION_NUMBER: u64 = 999_999_999;

/// A duration such as `90s` or `1h`: `[1-9][0-9]{0,8}[smhd]`. The built-in plugin reads its own durations by the same grammar.
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
