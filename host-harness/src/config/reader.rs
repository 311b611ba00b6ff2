//! TOML with its files and lines: returns values of the expected type, and collects a problem for each other value.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};
use source_host::text;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{ConfigPlace, ConfigProblem, FileLine, TABLES, suggestion, syntax};
use crate::files;

/// Bytes of a value that a message shows.
const SHOWN_BYTES: usize = 80;

/// Keys of a feed or a sink that may be written as tables of their own.
const PARTS: &[&str] = &["settings", "contact", "headers", "token", "url", "stream"];

/// One file of a configuration.
pub struct ConfigFile<'a> {
    pub file: &'a Path,
    text: &'a str,
    /// Offsets of the ends of lines.
    line_ends: Vec<usize>,
}

/// Collects problems and oddities.
#[derive(Default)]
pub struct ConfigReader {
    pub problems: Vec<ConfigProblem>,
    pub warnings: Vec<ConfigProblem>,
    /// Whether everything could be read, so that missing keys are really missing.
    pub complete: bool,
    /// Keys in the wrong table, which are therefore missing in their own.
    misplaced: BTreeSet<String>,
    /// Whole keys that are nearest to unknown ones: their absence only follows.
    nearest: BTreeSet<Key>,
    /// Tables with an unknown key.
    unsure: BTreeSet<Key>,
}

/// A key of the configuration: the id of its feed, if the feed has one, and the rest with dots. Without both, a whole
/// file.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub feed: Option<String>,
    pub dotted: Option<String>,
}

/// A value and its place.
#[derive(Clone)]
pub struct Node<'a> {
    /// Last part of the key; for a misspelled key, the intended one.
    pub name: String,
    /// Last part of the key as written.
    written: String,
    /// The whole key.
    pub key: Key,
    line: NonZeroUsize,
    pub source: &'a ConfigFile<'a>,
    value: &'a DeValue<'a>,
}

/// A table and its place.
#[derive(Clone)]
pub struct Table<'a> {
    pub key: Key,
    /// `None` for the table of a whole file.
    line: Option<NonZeroUsize>,
    pub source: &'a ConfigFile<'a>,
    /// The text between the table's key and those of its children.
    separator: &'static str,
    children: Vec<Node<'a>>,
}

impl<'a> ConfigFile<'a> {
    pub fn new(file: &'a Path, text: &'a str) -> ConfigFile<'a> {
        ConfigFile { file, text, line_ends: text.match_indices('\n').map(|(offset, _)| offset).collect() }
    }

    pub fn parse(&self, reader: &mut ConfigReader) -> Option<DeTable<'a>> {
        match DeTable::parse(self.text) {
            Ok(document) => Some(document.into_inner()),
            Err(error) => {
                let (line, message) = syntax::message(self.text, &error);
                reader.problems.push(self.place(Some(line), Key::default()).problem(message));
                None
            }
        }
    }

    fn place(&self, line: Option<NonZeroUsize>, key: Key) -> ConfigPlace {
        let Key { feed, dotted } = key;
        ConfigPlace { at: FileLine { file: self.file.to_owned(), line }, feed, key: dotted }
    }

    /// Resolves a path of the file relative to its folder.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    fn line(&self, offset: usize) -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(self.line_ends.partition_point(|end| *end < offset))
    }
}

impl ConfigReader {
    pub fn problem(&mut self, node: &Node<'_>, message: String) {
        self.problems.push(node.place().problem(message));
    }

    pub fn warning(&mut self, node: &Node<'_>, message: String) {
        self.warnings.push(node.place().problem(message));
    }

    /// Checks that every key is one of these. A misspelled key is reported and then read as the intended one, so that
    /// no other problem follows from it.
    pub fn known(&mut self, table: &mut Table<'_>, keys: &[&str]) {
        // Children that are part of another one, and do not stand alone.
        let mut parts = BTreeSet::new();
        for index in 0..table.children.len() {
            let node = table.children[index].clone();
            if keys.contains(&node.name.as_str()) || parts.contains(&index) {
                continue;
            }
            let Some(meant) = self.unknown(table, &node, keys) else { continue };
            let others = table.children.iter().enumerate().filter(|(other, _)| !parts.contains(other));
            let namesake = others.into_iter().find(|(_, other)| other.name == meant);
            match namesake.map(|(other, child)| (other, child.value.is_table())) {
                // `[[feeds]]` above `[feed.settings]`: the second is part of the first.
                Some((part, true)) if node.value.is_array() => {
                    parts.insert(part);
                    self.misplaced.insert("settings".to_owned());
                }
                Some(_) => continue,
                None => {}
            }
            table.children[index].name = meant.to_owned();
        }
        let mut index = 0..;
        table.children.retain(|_| index.next().is_none_or(|index| !parts.contains(&index)));
    }

    /// Reports a key that is none of these, and returns the key that is meant by it, if that is certain enough to read it so.
    fn unknown<'k>(&mut self, table: &Table<'_>, node: &Node<'_>, keys: &[&'k str]) -> Option<&'k str> {
        let name = &node.name;
        let is_meant_table = node.is_tables() && suggestion::name(name, keys.iter().copied()).is_some();
        if let Some(place) = place_of(node, is_meant_table) {
            self.problem(node, format!("unknown key; it belongs to {place}"));
            self.misplaced.insert(name.clone());
            return None;
        }
        let nearest = suggestion::nearest(name, keys.iter().copied());
        let meant = nearest.filter(|nearest| suggestion::key(name, [*nearest].into_iter()).is_some());
        let is_table = keys.contains(&"feed") && matches!(nearest, Some("feed" | "sink"));
        let nearest_spelled = match nearest {
            Some(nearest) if is_table => format!("; the nearest is [[{nearest}]]"),
            Some(nearest) => format!("; the nearest is `{nearest}`"),
            None => String::new(),
        };
        // A table such as `[feeds.settings]` below its `[[feed]]`.
        let is_part = is_table && node.is_only_settings();
        if let Some(meant) = meant.filter(|meant| is_part && table.child(meant).is_some()) {
            self.problem(node, format!("found [{name}.settings], expected [{meant}.settings]"));
            self.misplaced.insert("settings".to_owned());
            return None;
        }
        // An unknown key in a feed may be a setting of the plugin, and does not mean that the feed itself lacks a key.
        let of_feed = keys.contains(&"settings");
        if let Some(nearest) = nearest.filter(|_| !of_feed) {
            self.nearest.insert(table.path(nearest));
        }
        self.unsure.insert(table.key.clone());
        let more = match of_feed && meant.is_none() {
            true => "; the settings of the plugin belong to [feed.settings]",
            false => "",
        };
        let message = format!("unknown key{nearest_spelled}; known keys here: {}{more}", keys.join(", "));
        self.problem(node, message);
        meant
    }

    /// Reports that a key is in the wrong table.
    pub fn misplaced(&mut self, node: &Node<'_>, message: &str) {
        self.problem(node, message.to_owned());
        self.misplaced.insert(node.name.clone());
    }

    /// Says whether the table has an unknown key, which is reported: a missing key may be meant by it.
    pub fn is_unsure(&self, table: &Table<'_>) -> bool {
        self.unsure.contains(&table.key)
    }

    pub fn missing(&mut self, table: &Table<'_>, key: &str, expected: &str) {
        if !self.complete || self.misplaced.contains(key) {
            return;
        }
        if self.nearest.contains(&table.path(key)) {
            return;
        }
        self.problems.push(table.place_of(key).problem(format!("is missing, expected {expected}")));
    }

    pub fn required<'b>(&mut self, table: &Table<'b>, key: &str) -> Option<Node<'b>> {
        let node = table.child(key);
        if node.is_none() {
            self.missing(table, key, "a string");
        }
        node
    }

    fn expected<T>(&mut self, node: &Node<'_>, value: Option<T>, expected: &str) -> Option<T> {
        if value.is_none() {
            self.problem(node, format!("found {}, expected {expected}", node.kind()));
        }
        value
    }

    pub fn text(&mut self, node: &Node<'_>, expected: &str) -> Option<String> {
        if let DeValue::Integer(_) | DeValue::Float(_) = node.value {
            let shown = node.shown();
            self.problem(node, format!("found {shown}, expected {expected}; write a string in quotes: \"{shown}\""));
            return None;
        }
        self.expected(node, node.as_text(), expected)
    }

    /// Reads a text that may be a secret: messages do not show the value.
    pub fn hidden_text(&mut self, node: &Node<'_>, expected: &str) -> Option<String> {
        self.expected(node, node.as_text(), expected)
    }

    /// Reads a whole number from 1.
    pub fn count(&mut self, node: &Node<'_>, of_what: &str) -> Option<u64> {
        let count = node.json().as_u64().filter(|count| *count > 0);
        if count.is_none() {
            let meant = node.as_text().and_then(|text| suggestion::number(&text));
            let meant = meant.map(|number| format!("; write {number}")).unwrap_or_default();
            self.problem(node, format!("found {}, expected a number of {of_what} from 1{meant}", node.shown()));
        }
        count
    }

    pub fn truth(&mut self, node: &Node<'_>) -> Option<bool> {
        let truth = node.json().as_bool();
        if truth.is_none() {
            let quoted = node.as_text().is_some_and(|text| ["true", "false"].contains(&text.as_str()));
            let quoted = if quoted { ", without quotes" } else { "" };
            self.problem(node, format!("found {}, expected true or false{quoted}", node.shown()));
        }
        truth
    }

    pub fn is_false(&self, node: &Node<'_>) -> bool {
        node.json().as_bool() == Some(false)
    }

    /// Reads a list. A single value is reported, and read as a list of one.
    pub fn list<'b>(&mut self, node: &Node<'b>) -> Vec<Node<'b>> {
        match node.value {
            DeValue::Array(array) => array.iter().enumerate().map(|(index, value)| node.item(index, value)).collect(),
            DeValue::String(text) => {
                let parts: Vec<String> = text.split(',').map(|part| format!("{:?}", part.trim())).collect();
                self.problem(node, format!("found {text:?}, expected a list; write [{}]", parts.join(", ")));
                // A text with several values is not split.
                if parts.len() == 1 { vec![node.clone()] } else { Vec::new() }
            }
            _ => {
                self.problem(node, format!("found {}, expected a list", node.shown()));
                Vec::new()
            }
        }
    }

    /// Reads the tables of a list such as `[[feed]]`. A single table is reported, and read as one of the list.
    pub fn tables<'b>(&mut self, node: &Node<'b>) -> Vec<Table<'b>> {
        let name = &node.name;
        let items = match node.value {
            DeValue::Array(_) => self.list(node),
            DeValue::Table(_) if node.is_only_settings() => {
                self.problem(node, format!("found [{name}.settings] without its [[{name}]] above it"));
                Vec::new()
            }
            // `[feed.contoso-prod]` or `[[feed.contoso-prod]]`: each table has a name in place of an id.
            DeValue::Table(table)
                if !table.is_empty()
                    && node.as_table().is_some_and(|table| {
                        let is_part = |name: &str| suggestion::name(name, PARTS.iter().copied()).is_some();
                        table.children.iter().all(|child| child.is_tables() && !is_part(&child.name))
                    }) =>
            {
                let children: Vec<Node<'b>> = node.as_table().into_iter().flat_map(|table| table.children).collect();
                let named = |child: &Node<'b>| match child.as_list() {
                    Some(items) => items.into_iter().map(|item| Node { name: child.name.clone(), ..item }).collect(),
                    None => vec![child.clone()],
                };
                let items: Vec<Node<'b>> = children.iter().flat_map(named).collect();
                let more = match items.len() {
                    0 | 1 => "",
                    _ => ", and the same for each of the others",
                };
                if let Some(first) = children.first() {
                    let id = suggestion::id(&first.name).unwrap_or_default();
                    let path = format!("{name}.{}", first.name);
                    let found = if first.as_list().is_some() { format!("[[{path}]]") } else { format!("[{path}]") };
                    let message = format!("found {found}, expected [[{name}]] with `id = \"{id}\"` below it{more}");
                    self.problem(first, message);
                }
                self.misplaced.insert("id".to_owned());
                items
            }
            DeValue::Table(_) => {
                // The message about a wrong name already shows the brackets.
                if node.written == *name {
                    self.problem(node, format!("found the table [{name}], expected [[{name}]]"));
                }
                vec![node.clone()]
            }
            _ => {
                self.problem(node, format!("found {}, expected tables: [[{name}]]", node.kind()));
                Vec::new()
            }
        };
        items.iter().filter_map(|item| self.table(item, "a table")).collect()
    }

    pub fn table<'b>(&mut self, node: &Node<'b>, expected: &str) -> Option<Table<'b>> {
        self.expected(node, node.as_table(), expected)
    }

    /// Reads a path, relative to the folder of the file that contains it.
    pub fn path(&mut self, node: &Node<'_>, expected: &str) -> Option<PathBuf> {
        let text = self.text(node, expected)?;
        if let Some(path) = text.strip_prefix("file:") {
            // `file:///x`, `file://localhost/x`, `file:/x`.
            let path = path.strip_prefix("//localhost").or_else(|| path.strip_prefix("//")).unwrap_or(path);
            self.problem(node, format!("found an address (file:), expected {expected}; write {path:?}"));
            return None;
        }
        let odd = if text.trim().is_empty() {
            "nothing"
        } else if text.chars().any(char::is_control) {
            // `"C:\new"` contains a line break. The message does not show the path, which may be the content that
            // belongs into the file.
            "a path with a tab, a line break or another control character: in double quotes \\ begins an escape"
        } else if text == "~" || text.starts_with("~/") || text.starts_with('$') {
            "a path that only a shell expands"
        } else {
            return Some(node.source.beside(&text));
        };
        self.problem(node, format!("found {odd}, expected {expected}"));
        None
    }

    /// Reads the path of a file that is written.
    pub fn path_of_file(&mut self, node: &Node<'_>) -> Option<PathBuf> {
        let path = self.path(node, "the path of a file")?;
        if path.is_dir() || node.as_text().is_some_and(|text| text.ends_with('/')) {
            self.problem(node, format!("found {}, which is a folder, expected the path of a file", node.shown()));
            return None;
        }
        if let Some(kind) = std::fs::metadata(&path).ok().and_then(|met| special(met.file_type())) {
            self.problem(node, format!("found {}, which is {kind}, expected the path of a file", node.shown()));
            return None;
        }
        if let Some(link) = files::link(&path) {
            self.problem(node, format!("found {}, which is {link}", node.shown()));
            return None;
        }
        Some(path)
    }

    /// Reads the id of a feed or of a sink, and says whether another has the same id. `ids` keeps the first place of
    /// each id.
    pub fn own_id(&mut self, table: &Table<'_>, ids: &mut BTreeMap<String, FileLine>) -> Option<(String, bool)> {
        let (id, node) = self.id(table, "id")?;
        let first = ids.get(&id).cloned();
        match &first {
            Some(first) => {
                let message = format!("found {id:?} a second time, the first is at {first}, expected ids that differ");
                self.problem(&node, message);
            }
            None => drop(ids.insert(id.clone(), node.at())),
        }
        Some((id, first.is_some()))
    }

    /// Reads the id of a feed, a tenant or a sink, which appears in paths, labels and metrics.
    pub fn id<'b>(&mut self, table: &Table<'b>, key: &str) -> Option<(String, Node<'b>)> {
        let node = self.required(table, key)?;
        let id = self.text(&node, "an id")?;
        let starts = id.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
        let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if starts && id.len() <= 64 && id.bytes().all(rest) {
            return Some((id, node));
        }
        let such = suggestion::id(&id).map(|id| format!(", such as {id:?}")).unwrap_or_default();
        self.problem(&node, format!("found {id:?}, expected [a-z0-9][a-z0-9._-]{{0,63}}{such}"));
        None
    }
}

/// Names a file that is neither a regular file nor a folder.
fn special(kind: std::fs::FileType) -> Option<&'static str> {
    match kind {
        _ if kind.is_char_device() || kind.is_block_device() => Some("a device"),
        _ if kind.is_fifo() => Some("a pipe"),
        _ if kind.is_socket() => Some("a socket"),
        _ => None,
    }
}

/// Returns the place of a key that is in the wrong table. A table with a misspelled name is not taken for a key with
/// that name elsewhere.
fn place_of(node: &Node<'_>, is_meant_table: bool) -> Option<String> {
    match node.name.as_str() {
        name @ ("feed" | "sink") if node.is_tables() => Some(format!("the top: [[{name}]]")),
        name @ ("collector" | "network" | "feed_defaults") if node.is_tables() => Some(format!("the top: [{name}]")),
        "settings" => Some("a feed: [feed.settings] below its [[feed]]".to_owned()),
        _ if is_meant_table => None,
        name => places(name),
    }
}

/// The tables to which a key belongs.
pub fn places(name: &str) -> Option<String> {
    let places: Vec<&str> = TABLES.iter().filter(|(_, keys)| keys.contains(&name)).map(|(place, _)| *place).collect();
    (!places.is_empty()).then(|| places.join(" or "))
}

impl<'a> Node<'a> {
    pub fn as_table(&self) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(table) => Some(Table::new(&self.key, Some(self.line), table, self.source)),
            _ => None,
        }
    }

    /// The value as JSON, with numbers as exact as TOML has them.
    pub fn json(&self) -> Value {
        json(self.value)
    }

    pub fn as_text(&self) -> Option<String> {
        match self.value {
            DeValue::String(text) => Some(text.to_string()),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<Vec<Node<'a>>> {
        let array = self.value.as_array()?;
        Some(array.iter().enumerate().map(|(index, value)| self.item(index, value)).collect())
    }

    /// Says whether the value is a table whose only key is `settings`.
    fn is_only_settings(&self) -> bool {
        self.value.as_table().is_some_and(|table| table.len() == 1 && table.contains_key("settings"))
    }

    /// Says whether the value is a table or a list of tables.
    fn is_tables(&self) -> bool {
        let all = |items: &DeArray<'_>| items.iter().all(|item| item.as_ref().is_table());
        self.value.is_table() || self.value.as_array().is_some_and(all)
    }

    /// The value in the form that messages show; not for values that may be secret.
    pub fn shown(&self) -> String {
        match self.value {
            DeValue::String(text) => format!("{:?}", text::cut(text, SHOWN_BYTES)),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(truth) => truth.to_string(),
            DeValue::Datetime(date) => date.to_string(),
            DeValue::Array(_) | DeValue::Table(_) => self.kind().to_owned(),
        }
    }

    /// The value's place, for a problem elsewhere.
    pub fn at(&self) -> FileLine {
        self.place().at
    }

    /// The place, for a problem of its own.
    pub fn place(&self) -> ConfigPlace {
        self.source.place(Some(self.line), self.key.clone())
    }

    fn item(&self, index: usize, value: &'a Spanned<DeValue<'a>>) -> Node<'a> {
        Node {
            name: index.to_string(),
            written: index.to_string(),
            key: Key {
                dotted: Some(format!("{}[{index}]", self.key.dotted.as_deref().unwrap_or_default())),
                ..self.key.clone()
            },
            line: self.source.line(value.span().start),
            source: self.source,
            value: value.as_ref(),
        }
    }

    fn kind(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }
}

impl<'a> Table<'a> {
    /// The table of a whole file.
    pub fn document(document: &'a DeTable<'a>, source: &'a ConfigFile<'a>) -> Table<'a> {
        Table::new(&Key::default(), None, document, source)
    }

    fn new(key: &Key, line: Option<NonZeroUsize>, table: &'a DeTable<'a>, source: &'a ConfigFile<'a>) -> Table<'a> {
        let children = table.iter().map(|(name, value)| Node {
            key: key.joined(".", name.as_ref()),
            name: name.as_ref().to_string(),
            written: name.as_ref().to_string(),
            line: source.line(name.span().start),
            source,
            value: value.as_ref(),
        });
        Table { children: children.collect(), key: key.clone(), line, source, separator: "." }
    }

    /// Names the table by its id instead of its number: messages about it begin with `feed contoso-prod: `. A table
    /// without an id, or with the id of another, keeps its number.
    pub fn by_id(mut self, what: &str, others: &BTreeMap<String, FileLine>) -> Table<'a> {
        let id = self.child("id").and_then(|node| node.as_text());
        let is_good = |id: &String| !id.is_empty() && id.len() <= SHOWN_BYTES && !id.contains(char::is_control);
        if let Some(id) = id.filter(|id| is_good(id) && !others.contains_key(id)) {
            (self.key, self.separator) = match what {
                "feed" => (Key { feed: Some(id), dotted: None }, "."),
                _ => (Key { feed: None, dotted: Some(format!("{what} {id}")) }, ": "),
            };
            for node in &mut self.children {
                node.key = self.key.joined(self.separator, &node.written);
            }
        }
        self
    }

    /// The line.
    pub fn at(&self) -> FileLine {
        self.place().at
    }

    /// The place, for a problem of the table.
    pub fn place(&self) -> ConfigPlace {
        self.source.place(self.line, self.key.clone())
    }

    /// The place, for a problem of a key that belongs into the table.
    pub fn place_of(&self, name: &str) -> ConfigPlace {
        self.source.place(self.line, self.path(name))
    }

    /// The key of a child.
    fn path(&self, name: &str) -> Key {
        self.key.joined(self.separator, name)
    }

    pub fn children(&self) -> impl Iterator<Item = &Node<'a>> {
        self.children.iter()
    }

    pub fn child(&self, name: &str) -> Option<Node<'a>> {
        self.children.iter().find(|node| node.name == name).cloned()
    }

    /// This table, with the keys of `defaults` that it lacks.
    pub fn over(&self, defaults: Option<&Table<'a>>) -> Table<'a> {
        let mut merged = self.clone();
        for node in defaults.into_iter().flat_map(Table::children) {
            if !self.children.iter().any(|own| own.name == node.name) {
                merged.children.push(node.clone());
            }
        }
        merged
    }
}

impl Key {
    fn joined(&self, separator: &str, name: &str) -> Key {
        let dotted = match &self.dotted {
            None => name.to_owned(),
            Some(before) => format!("{before}{separator}{name}"),
        };
        Key { feed: self.feed.clone(), dotted: Some(dotted) }
    }
}

fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => {
            number.as_str().parse().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
        }
        DeValue::Boolean(truth) => Value::from(*truth),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(array) => array.iter().map(|value| json(value.as_ref())).collect(),
        DeValue::Table(table) => {
            let members = table.iter().map(|(name, value)| (name.as_ref().to_string(), json(value.as_ref())));
            Value::Object(members.collect::<Map<_, _>>())
        }
    }
}
