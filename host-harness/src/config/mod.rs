//! The configuration: one TOML file for all commands. All problems are found at once, each with file, line, key, what
//! was found and what was expected.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::address::Cidr;
use crate::egress;
use crate::plugin::BUILT_IN_NAME;
use crate::secret::Secret;
use crate::settings::Settings;

mod reader;

use reader::{Node, Reader, Table};

/// What an operator configured.
#[derive(Debug, Default)]
pub struct Config {
    /// How requests leave.
    pub network: NetworkConfig,
    /// Where data comes from.
    pub feeds: Vec<FeedConfig>,
    /// Odd, and no reason to stop.
    pub warnings: Vec<Problem>,
}

/// The table `[network]`.
#[derive(Debug, Default)]
pub struct NetworkConfig {
    /// A file of certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Origins beyond those that the built-in plugin knows.
    pub allow: Vec<String>,
    /// Addresses that may be dialled though they are not public.
    pub allow_addresses: Vec<Cidr>,
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
    /// Settings of the plugin, with the secrets read.
    pub settings: Settings,
    /// Line of each setting, for problems that the plugin finds.
    pub lines: BTreeMap<String, usize>,
    /// Settings that came from `{ env }` or `{ file }` and are therefore secrets.
    pub sealed: Vec<String>,
}

/// Something wrong or odd in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Variables of the environment, as an argument.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const TOP: &[&str] = &["collector", "network", "sink", "feed_defaults", "feed"];
const COLLECTOR: &[&str] = &["state", "listen"];
const NETWORK: &[&str] = &["ca_file", "proxy", "allow", "allow_addresses"];
const SINK: &[&str] = &["id", "type", "path", "url", "preset", "token"];
const FEED: &[&str] = &["id", "tenant", "plugin", "interval", "sinks", "contact", "settings"];
const CONTACT: &[&str] = &["name", "email"];
const REFERENCE: &[&str] = &["env", "file", "plain"];

/// The service recalculates every eight hours: polling much more often brings nothing.
const SHORT_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// Reads a configuration file; `only` leaves out all feeds but one, and their secrets.
pub fn load(file: &Path, only: Option<&str>, environment: Environment<'_>) -> Result<Config, Vec<Problem>> {
    let whole = |message| vec![Problem { file: file.to_owned(), line: 0, key: String::new(), message }];
    let text = std::fs::read_to_string(file).map_err(|error| whole(format!("cannot be read: {error}")))?;
    parse(file, &text, only, environment)
}

/// Reads the text of a configuration file. Paths in it are relative to its folder.
pub fn parse(
    file: &Path,
    text: &str,
    only: Option<&str>,
    environment: Environment<'_>,
) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader::new(file, text);
    let mut config = Config::default();
    if let Some(top) = reader.document() {
        reader.known(&top, TOP);
        collector(&mut reader, &top);
        config.network = network(&mut reader, &top);
        let sinks = sinks(&mut reader, &top);
        config.feeds = feeds(&mut reader, &top, &sinks, only, environment);
    }
    let Reader { problems, warnings, .. } = reader;
    config.warnings = warnings;
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

fn collector(reader: &mut Reader<'_>, top: &Table<'_>) {
    let Some(table) = top.child("collector").and_then(|node| reader.table(&node)) else { return };
    reader.known(&table, COLLECTOR);
    for key in COLLECTOR {
        if let Some(node) = table.child(key) {
            reader.text(&node, "a text");
        }
    }
}

fn network(reader: &mut Reader<'_>, top: &Table<'_>) -> NetworkConfig {
    let mut network = NetworkConfig::default();
    let Some(table) = top.child("network").and_then(|node| reader.table(&node)) else { return network };
    reader.known(&table, NETWORK);
    if let Some(node) = table.child("proxy") {
        reader.problem(&node, "this version connects directly and through no proxy".to_owned());
    }
    network.ca_file = table
        .child("ca_file")
        .and_then(|node| reader.text(&node, "the path of a PEM file"))
        .map(|path| reader.beside(&path));
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

/// Ids of the sinks.
fn sinks(reader: &mut Reader<'_>, top: &Table<'_>) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for node in top.child("sink").map(|node| reader.list(&node)).unwrap_or_default() {
        let Some(table) = reader.table(&node) else { continue };
        reader.known(&table, SINK);
        if let Some((id, node)) = reader.id(&table, "id") {
            if ids.contains(&id) {
                reader.problem(&node, format!("found {id:?} a second time, expected ids that differ"));
            }
            ids.push(id);
        }
        let Some(kind) = reader.required(&table, "type") else { continue };
        match reader.text(&kind, "a type of sink").as_deref() {
            Some("stdout") | None => {}
            Some("file") => drop(reader.required(&table, "path")),
            Some("http") => drop(reader.required(&table, "url")),
            Some(other) => {
                let message = format!("found {other:?}, expected \"stdout\", \"file\" or \"http\"");
                reader.problem(&kind, message);
            }
        }
    }
    ids
}

fn feeds(
    reader: &mut Reader<'_>,
    top: &Table<'_>,
    sinks: &[String],
    only: Option<&str>,
    environment: Environment<'_>,
) -> Vec<FeedConfig> {
    let defaults = top.child("feed_defaults").and_then(|node| reader.table(&node));
    if let Some(defaults) = &defaults {
        reader.known(defaults, FEED);
        if let Some(node) = defaults.child("id") {
            reader.problem(&node, "an id belongs to one feed, not to the defaults".to_owned());
        }
    }
    let mut ids: Vec<String> = Vec::new();
    let mut feeds = Vec::new();
    for node in top.child("feed").map(|node| reader.list(&node)).unwrap_or_default() {
        let Some(table) = reader.table(&node) else { continue };
        reader.known(&table, FEED);
        let merged = table.over(defaults.as_ref());
        let id = reader.id(&table, "id");
        let tenant = reader.id(&merged, "tenant");
        if let Some((id, node)) = &id {
            if ids.contains(id) {
                reader.problem(node, format!("found {id:?} a second time, expected ids that differ"));
            }
            ids.push(id.clone());
        }
        schedule(reader, &merged, sinks);
        let Some((id, _)) = id else { continue };
        if only.is_some_and(|only| only != id) {
            continue;
        }
        let plugin = merged.child("plugin").and_then(|node| reader.text(&node, "the name or the path of a plugin"));
        let plugin = plugin.filter(|plugin| plugin != BUILT_IN_NAME).map(|path| reader.beside(&path));
        let mut feed = FeedConfig {
            id,
            tenant: tenant.map(|(tenant, _)| tenant).unwrap_or_default(),
            plugin,
            settings: Settings::default(),
            lines: BTreeMap::new(),
            sealed: Vec::new(),
        };
        settings(reader, &table, defaults.as_ref(), &mut feed, environment);
        feeds.push(feed);
    }
    if ids.is_empty() {
        reader.whole("found no [[feed]], expected at least one");
    } else if let Some(only) = only.filter(|only| !ids.iter().any(|id| id == only)) {
        reader.whole(&format!("found no feed {only:?}, expected one of: {}", ids.join(", ")));
    }
    feeds
}

fn schedule(reader: &mut Reader<'_>, feed: &Table<'_>, sinks: &[String]) {
    if let Some(node) = feed.child("interval")
        && let Some(text) = reader.text(&node, "a duration such as \"1h\"")
    {
        match duration(&text) {
            None => reader.problem(&node, format!("found {text:?}, expected a duration from \"1s\", such as \"1h\"")),
            Some(interval) if interval < SHORT_INTERVAL => {
                reader.warning(&node, format!("{text} is short: the service recalculates every 8 hours"));
            }
            Some(_) => {}
        }
    }
    for node in feed.child("sinks").map(|node| reader.list(&node)).unwrap_or_default() {
        if let Some(sink) = reader.text(&node, "the id of a sink")
            && !sinks.contains(&sink)
        {
            reader.problem(&node, format!("found {sink:?}, expected the id of a [[sink]]"));
        }
    }
    if let Some(table) = feed.child("contact").and_then(|node| reader.table(&node)) {
        reader.known(&table, CONTACT);
        for key in CONTACT {
            if let Some(node) = table.child(key) {
                reader.text(&node, "a text");
            }
        }
    }
}

fn settings(
    reader: &mut Reader<'_>,
    feed: &Table<'_>,
    defaults: Option<&Table<'_>>,
    config: &mut FeedConfig,
    environment: Environment<'_>,
) {
    let own = feed.child("settings").and_then(|node| reader.table(&node));
    let shared = defaults.and_then(|defaults| defaults.child("settings")).and_then(|node| reader.table(&node));
    let Some(table) = own.or_else(|| shared.clone()).map(|table| table.over(shared.as_ref())) else {
        reader.missing(feed, "settings", "the table [feed.settings]");
        return;
    };
    let (mut plain, mut secrets) = (Map::new(), BTreeMap::new());
    for node in table.children() {
        config.lines.insert(node.name.clone(), node.line);
        let Some(reference) = node.as_table().filter(|table| table.child("env").or(table.child("file")).is_some())
        else {
            plain.insert(node.name.clone(), node.json());
            continue;
        };
        reader.known(&reference, REFERENCE);
        let Some(value) = referenced(reader, &node, &reference, environment) else { continue };
        if reference.child("plain").is_some_and(|node| node.json() == Value::Bool(true)) {
            plain.insert(node.name.clone(), Value::from(value.trim()));
            continue;
        }
        if value.trim() != value.trim_end_matches(['\r', '\n']) {
            reader.warning(&node, "white space around the secret was removed".to_owned());
        }
        config.sealed.push(node.name.clone());
        secrets.insert(node.name.clone(), Secret::new(value.trim()));
    }
    config.settings = Settings::new(plain, secrets);
}

/// The value behind `{ env = … }` or `{ file = … }`.
fn referenced(
    reader: &mut Reader<'_>,
    node: &Node<'_>,
    reference: &Table<'_>,
    environment: Environment<'_>,
) -> Option<String> {
    match (reference.child("env"), reference.child("file")) {
        (Some(variable), None) => {
            let name = reader.text(&variable, "the name of a variable of the environment")?;
            let value = environment(&name);
            if value.is_none() {
                reader.problem(node, format!("found no variable {name} in the environment, expected the secret there"));
            }
            value
        }
        (None, Some(file)) => {
            let path = reader.text(&file, "the path of a file")?;
            let path = reader.beside(&path);
            let read = std::fs::read_to_string(&path);
            read.map_err(|error| reader.problem(node, format!("cannot read {}: {error}", path.display()))).ok()
        }
        _ => {
            reader.problem(node, "found both `env` and `file`, expected one of them".to_owned());
            None
        }
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
