//! The configuration: one language for all commands, in one TOML file or in a folder of them that are read as one. All
//! problems are found at once, each with file, line, key, what was found and what was expected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use source_host::credentials::certificates::{self, Authorities};
use source_host::credentials::secret::{self, Secret, Zeroizing};
use source_host::credentials::settings::Settings;
use source_host::credentials::spelling::{self, Trimmed};
use source_host::limits;
use source_host::network::address::{self, Cidr};
use source_host::network::egress;
use source_host::network::proxy::Proxy;
use source_host::text::{self, Unread};

use crate::sink::SinkConfig;

pub mod admission;
pub(crate) mod astray;
mod feeds;
mod proxy;
mod reader;
mod sinks;
mod suggestion;
mod syntax;

use reader::{Node, Reader, Source, Table};

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
    pub named: Vec<Named>,
    /// Odd, and no reason to stop.
    pub warnings: Vec<Problem>,
    /// What is wrong; feeds with a problem of their own are not among `feeds`.
    pub problems: Vec<Problem>,
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

/// The table `[collector]`.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectorConfig {
    /// The file of the store.
    pub state: PathBuf,
    /// Where metrics, health and the status page are served; nowhere without it.
    pub listen: Option<SocketAddr>,
    /// What a reader of those must show.
    pub token: Option<Secret>,
    /// Polls in flight at the same time.
    pub polls: usize,
    /// Of those, polls of one tenant.
    pub polls_of_tenant: usize,
}

impl Default for CollectorConfig {
    fn default() -> CollectorConfig {
        CollectorConfig {
            state: PathBuf::from("collector.db"),
            listen: None,
            token: None,
            polls: limits::POLLS,
            polls_of_tenant: limits::POLLS_OF_TENANT,
        }
    }
}

/// The table `[network]`, and the proxy of the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Certificates that are trusted besides the system's.
    pub ca_file: Option<CaFile>,
    /// What requests go through.
    pub proxy: Proxy,
    /// Origins beyond those that the built-in plugin knows.
    pub allow: Vec<String>,
    /// Origins over http that requests may go to with credentials.
    pub credentials_over_http: Vec<String>,
    /// Addresses that may be dialled though they are not public.
    pub allow_addresses: Vec<Cidr>,
}

impl NetworkConfig {
    /// Whether credentials may go to an address of the operator's own choice: over https, to this machine itself, or where
    /// it is allowed over http.
    fn takes_credentials(&self, url: &url::Url) -> bool {
        let is_near = || url.host().is_some_and(|host| address::is_loopback(&host));
        url.scheme() == "https"
            || self.credentials_over_http.contains(&url.origin().ascii_serialization())
            || is_near() && self.proxy.address_for(url).is_none()
    }
}

/// A file of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFile {
    /// The certificates in it.
    pub authorities: Authorities,
    /// Where it is named, for problems with what is in it.
    pub place: Problem,
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
    pub unreadable: Vec<(String, Problem)>,
}

/// Time between two polls of a scope.
#[derive(Debug, Clone)]
pub struct Interval {
    /// The time.
    pub time: Duration,
    /// Where it stands, and as its message how it is spelled there.
    pub written: Problem,
}

impl Interval {
    /// A warning where it is far below the time after which the service has new data.
    pub fn oddity(&self, refresh: Duration) -> Option<Problem> {
        let message = format!("{} is short: the service has new data every {}", self.written.message, spelled(refresh));
        (self.time * MOST_POLLS_A_REFRESH < refresh).then(|| Problem { message, ..self.written.clone() })
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

/// A feed that has an id, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its file.
    pub file: PathBuf,
    /// Its key there, with which those of its problems begin.
    pub key: String,
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
pub struct Problem {
    /// Which file.
    pub file: PathBuf,
    /// Counted from 1; 0 for the whole file.
    pub line: usize,
    /// Which key, dotted.
    pub key: String,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if self.line > 0 {
            write!(formatter, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(formatter, ": {}", self.key)?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// Variables of the environment, as an argument; what is no UTF-8 in a value comes as U+FFFD.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of this process.
pub fn variable(name: &str) -> Option<String> {
    Some(std::env::var_os(name)?.to_string_lossy().into_owned())
}

/// The value of a variable as text.
fn text_of(name: &str, value: &str) -> Result<String, String> {
    if value.contains(char::REPLACEMENT_CHARACTER) {
        return Err(format!(
            "found a value that is no UTF-8 in the variable {name}, expected UTF-8; if it is in the encoding of Windows: \
             export {name}=\"$(printf %s \"${name}\" | iconv -f WINDOWS-1252 -t UTF-8)\""
        ));
    }
    Ok(value.to_owned())
}

const TOP: &[&str] = &["collector", "network", "sink", "feed_defaults", "feed"];
const COLLECTOR: &[&str] = &["state", "listen", "token", "max_polls", "max_polls_per_tenant"];
const NETWORK: &[&str] = &["ca_file", "proxy", "allow", "allow_addresses", "allow_credentials_over_http"];
const REFERENCE: &[&str] = &["env", "file", "plain"];

/// The keys of each table, for those that stand in another one.
const TABLES: &[(&str, &[&str])] = &[
    ("[collector]", COLLECTOR),
    ("[network]", NETWORK),
    ("[[sink]]", sinks::COMMON),
    ("a [[sink]] of type \"file\"", sinks::FILE),
    ("a [[sink]] of type \"http\"", sinks::HTTP),
    ("[[feed]]", &["id"]),
    ("[[feed]] or [feed_defaults]", feeds::SHARED),
];

/// Reads a configuration file, or all `*.toml` of a folder; `only` leaves out all feeds but one, and their secrets. What
/// is wrong stands in the configuration itself, so that a check of the rest can add to it.
pub fn load(path: &Path, only: Option<&str>, environment: Environment<'_>) -> Config {
    let whole = |file: &Path, message| Problem { file: file.to_owned(), line: 0, key: String::new(), message };
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
            Err(error) => unreadable.push(whole(&file, error.to_string())),
        }
    }
    let mut config = parse_all(&read, unreadable.is_empty(), only, environment);
    config.problems.splice(0..0, unreadable);
    config
}

/// The configuration files of a folder, by name.
fn folder(path: &Path) -> std::io::Result<Vec<PathBuf>> {
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
    let mut reader = Reader::default();
    let sources: Vec<Source<'_>> = files.iter().map(|(file, text)| Source::new(file, text)).collect();
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
    config.collector = collector(&mut reader, table, sources.first(), &mut config.files, environment);
    let mut table = one_table(&mut reader, &tops, "network");
    config.network = network(&mut reader, table.as_mut(), &mut config.files);
    let first = sources.first().map_or(Path::new(""), |source| source.file);
    config.network.proxy = proxy::read(&mut reader, table.as_ref(), first, &mut config.files, environment);
    let sinks =
        sinks::read(&mut reader, &tops, &config.collector.state, &config.network, &mut config.files, environment);
    let mut defaults = one_table(&mut reader, &tops, "feed_defaults");
    let whole = sources.first().map(|source| source.file);
    let state = &config.collector.state;
    let parts = feeds::Parts { tops: &tops, sinks: &sinks, state, whole, only, environment };
    (config.feeds, config.named) = feeds::read(&mut reader, &parts, defaults.as_mut(), &mut config.files);
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
fn tell_of_foreign(reader: &mut Reader, foreign: &[Table<'_>]) {
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
    reader.problems.push(first.source.problem(0, "", message));
}

/// More files of another program than this are counted.
const FOREIGN_SHOWN: usize = 4;

impl Problem {
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
pub struct Told {
    /// SourcePlace of the first problem with this message.
    places: BTreeMap<String, String>,
}

impl Told {
    /// The same problems, where a message that was told before gives way to the place where it was told of.
    pub fn brief(&mut self, problems: &[Problem]) -> Vec<Problem> {
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
pub(crate) fn once_each(problems: Vec<Problem>) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    problems.into_iter().filter(|problem| seen.insert(problem.clone())).collect()
}

/// A table that may stand in one file of a folder only.
fn one_table<'a>(reader: &mut Reader, tops: &[Table<'a>], name: &str) -> Option<Table<'a>> {
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

fn collector(
    reader: &mut Reader,
    table: Option<Table<'_>>,
    first: Option<&Source<'_>>,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) -> CollectorConfig {
    let mut collector = CollectorConfig::default();
    if let Some(source) = first {
        collector.state = source.beside("collector.db");
    }
    let Some(mut table) = table else { return collector };
    reader.known(&mut table, COLLECTOR);
    if let Some(path) = table.child("state").and_then(|node| state(reader, &node)) {
        collector.state = path;
    }
    collector.token = table.child("token").and_then(|node| token(reader, &node, files, environment));
    if let Some(node) = table.child("listen") {
        match node.as_text().and_then(|text| text.parse::<SocketAddr>().ok()) {
            None => {
                let expected = "an address and a port such as \"127.0.0.1:9464\"";
                let meant = listening(&node).map(|meant| format!("; write {meant:?}")).unwrap_or_default();
                reader.problem(&node, format!("found {}, expected {expected}{meant}", node.shown()));
            }
            Some(address) if !address.ip().is_loopback() && table.child("token").is_none() => reader.problem(
                &node,
                format!(
                    "found {}, which others can reach, expected a loopback address, or a `token` beside it",
                    node.shown()
                ),
            ),
            Some(address) => collector.listen = Some(address),
        }
    }
    let mut polls = |key: &str, default: usize| {
        let count = table.child(key).and_then(|node| reader.count(&node, "polls"));
        count.map_or(default, |count| usize::try_from(count).unwrap_or(default))
    };
    collector.polls = polls("max_polls", collector.polls);
    collector.polls_of_tenant = polls("max_polls_per_tenant", collector.polls_of_tenant);
    collector
}

/// The file of the store.
fn state(reader: &mut Reader, node: &Node<'_>) -> Option<PathBuf> {
    let text = reader.text(node, "the path of a file")?;
    let lower = text.trim().to_lowercase();
    // The rest of it may be a password.
    let found = if ["postgres:", "postgresql:"].iter().any(|scheme| lower.starts_with(scheme)) {
        "the address of a database server, which is not there yet"
    } else if lower == ":memory:" || lower.starts_with("file:") && lower.contains("mode=memory") {
        "a database in memory, which loses everything when the collector ends"
    } else if lower.contains("://") || ["file:", "sqlite:", "mysql:", "redis:"].iter().any(|it| lower.starts_with(it)) {
        "an address (URL)"
    } else {
        return reader.path_of_file(node);
    };
    reader.problem(node, format!("found {found}, expected the path of a file, such as \"collector.db\""));
    None
}

/// An address to listen at that is meant, where the host or the port is missing, or the host is a name.
fn listening(node: &Node<'_>) -> Option<String> {
    let text = node.as_text().unwrap_or_else(|| node.shown());
    let text = text.trim().trim_start_matches("http://").trim_start_matches("https://").trim_end_matches('/');
    // `::1:9464` is an address of its own, and meant with a port.
    let with_port = text.rsplit_once(':').filter(|(host, port)| {
        host.parse::<std::net::Ipv6Addr>().is_ok() && port.len() > 3 && port.parse::<u16>().is_ok()
    });
    let (host, port) = match text.parse::<std::net::IpAddr>() {
        Ok(_) => with_port.unwrap_or((text, "9464")),
        Err(_) => {
            text.rsplit_once(':').unwrap_or(if text.parse::<u16>().is_ok() { ("", text) } else { (text, "9464") })
        }
    };
    let host = match host.trim_matches(['[', ']']) {
        "" | "localhost" => "127.0.0.1",
        "*" => "0.0.0.0",
        other => other,
    };
    let address = std::net::SocketAddr::new(host.parse().ok()?, port.parse().ok()?);
    Some(address.to_string())
}

fn network(reader: &mut Reader, table: Option<&mut Table<'_>>, files: &mut Vec<SeenFile>) -> NetworkConfig {
    let mut network = NetworkConfig::default();
    let Some(table) = table else { return network };
    reader.known(table, NETWORK);
    if let Some(node) = table.child("ca_file")
        && let Some(path) = reader.path(&node, "the path of a PEM file")
    {
        files.push(SeenFile::now(path.clone()));
        let read = text::bytes(&path).map_err(|error| match path.is_dir() {
            true => format!("found {}, which is a folder, expected the path of a PEM file", node.shown()),
            false => format!("cannot read {}: {error}", path.display()),
        });
        match read.and_then(|bytes| certificates::authorities(&bytes, &path)) {
            Ok(authorities) => {
                let place = node.source.problem(node.line, &node.key, String::new());
                network.ca_file = Some(CaFile { authorities, place });
            }
            Err(message) => reader.problem(&node, message),
        }
    }
    for node in table.child("allow").map(|node| reader.list(&node)).unwrap_or_default() {
        let Some(origin) = reader.text(&node, "an origin") else { continue };
        match egress::canonical(&origin) {
            Some(origin) => network.allow.push(origin),
            None => reader.problem(
                &node,
                format!("found {origin:?}, expected an origin such as \"https://host.example:8443\", without a path"),
            ),
        }
    }
    for node in table.child("allow_credentials_over_http").map(|node| reader.list(&node)).unwrap_or_default() {
        let Some(text) = reader.text(&node, "an origin") else { continue };
        match egress::canonical(&text).filter(|origin| origin.starts_with("http://")) {
            Some(origin) => network.credentials_over_http.push(origin),
            None => reader.problem(
                &node,
                format!(
                    "found {text:?}, expected an origin such as \"http://host.example:8080\", without a path; one over \
                     https belongs into `allow`"
                ),
            ),
        }
    }
    for node in table.child("allow_addresses").map(|node| reader.list(&node)).unwrap_or_default() {
        let Some(range) = reader.text(&node, "a range of addresses") else { continue };
        match range.parse() {
            Ok(range) => network.allow_addresses.push(range),
            Err(_) => reader.problem(
                &node,
                format!("found {range:?}, expected an address or a range of addresses such as \"127.0.0.0/8\""),
            ),
        }
    }
    network
}

/// A secret of the host itself: `{ env = … }` or `{ file = … }`, and never the value in the open.
fn secret(
    reader: &mut Reader,
    node: &Node<'_>,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) -> Option<Secret> {
    let Some(mut table) = node.as_table() else {
        reader.problem(node, "found the value itself, expected { env = \"…\" } or { file = \"…\" }".to_owned());
        return None;
    };
    reader.known(&mut table, &["env", "file"]);
    match referenced(reader, node, &table, files, environment)? {
        Ok(value) => {
            let Trimmed { text, remark } = spelling::trimmed(&value);
            remark.into_iter().for_each(|remark| reader.warning(node, remark));
            Some(Secret::new(text))
        }
        Err(message) => {
            reader.problem(node, message);
            None
        }
    }
}

/// The same for a token, which goes into a header as it is: what is odd about it is told.
fn token(
    reader: &mut Reader,
    node: &Node<'_>,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) -> Option<Secret> {
    let token = secret(reader, node, files, environment)?;
    for oddity in spelling::oddities(token.expose()) {
        reader.warning(node, oddity);
    }
    if http::HeaderValue::from_str(token.expose()).is_err() {
        reader.problem(node, "has characters that no header may have, expected the token alone".to_owned());
        return None;
    }
    Some(token)
}

/// The value behind `{ env = … }` or `{ file = … }`, or why there is none now; none where the reference itself is wrong,
/// which is told.
fn referenced(
    reader: &mut Reader,
    node: &Node<'_>,
    reference: &Table<'_>,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) -> Option<Result<Zeroizing<String>, String>> {
    match (reference.child("env"), reference.child("file")) {
        (Some(variable), None) => {
            let name = reader.text(&variable, "the name of a variable of the environment")?;
            Some(match environment(&name) {
                None => Err(no_variable(&name)),
                Some(value) => {
                    text_of(&name, &value).and_then(|value| match spelling::trimmed(&value).text.is_empty() {
                        true => Err(format!(
                            "found nothing in the variable {name} of the environment, expected the secret there"
                        )),
                        false => Ok(Zeroizing::new(value)),
                    })
                }
            })
        }
        (None, Some(file)) => {
            let path = reader.path(&file, "the path of a file")?;
            let named = file.as_text().unwrap_or_default();
            // Looked at first: who writes it while it is read has changed it.
            files.push(SeenFile::now(path.clone()));
            Some(match secret::read(&path) {
                Err(Unread::Io(error)) if spelling::may_be_secret(&named) => Err(format!(
                    "cannot read the file that `file` names: {error}; a secret itself does not belong there"
                )),
                Err(error) => Err(error.of(&path)),
                Ok(value) if spelling::trimmed(&value).text.is_empty() => {
                    Err(format!("found nothing in {}, expected the secret there", path.display()))
                }
                Ok(value) => Ok(Zeroizing::new(spelling::without_line_end(&value).to_owned())),
            })
        }
        (Some(_), Some(_)) => {
            reader.problem(node, "found both `env` and `file`, expected one of them".to_owned());
            None
        }
        (None, None) if reader.is_unsure(reference) => None,
        (None, None) => {
            reader.problem(node, "found neither `env` nor `file`, expected one of them".to_owned());
            None
        }
    }
}

/// What is said of a variable that is not there. Whoever put the secret itself in place of the name does not see it again.
fn no_variable(name: &str) -> String {
    let bare = name.trim_matches(['$', '{', '}', '%', '!']);
    let bare = ["env:", "ENV:", "env."].iter().find_map(|begin| bare.strip_prefix(begin)).unwrap_or(bare);
    if name.trim().is_empty() {
        return "found nothing, expected the name of a variable".to_owned();
    }
    if !spelling::is_variable(bare) || spelling::may_be_secret(bare) {
        return "found no name of a variable, expected one such as CONTOSO_SECRET; a secret itself does not belong there"
            .to_owned();
    }
    match bare == name {
        true => format!("found no variable {name} in the environment, expected the secret there"),
        false => format!("found no variable {name} in the environment, expected the name alone, {bare}"),
    }
}

/// A whole number of seconds, minutes, hours or days: `90s`, `1h`.
pub fn duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().ok().filter(|number| *number > 0)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests;
