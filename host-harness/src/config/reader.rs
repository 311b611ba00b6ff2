//! TOML with its files and lines: gives values of the expected type, and collects a problem for each other one.

use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Problem, syntax};

/// One file of a configuration.
pub struct Source<'a> {
    pub file: &'a Path,
    text: &'a str,
    /// Offsets of the line ends.
    line_ends: Vec<usize>,
}

/// Collects what is wrong and what is odd.
#[derive(Default)]
pub struct Reader {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    /// Whether everything could be read: what is missing then is missing.
    pub complete: bool,
}

/// A value and where it stands.
#[derive(Clone)]
pub struct Node<'a> {
    /// Last part of the key.
    pub name: String,
    /// The whole key, dotted.
    pub key: String,
    pub line: usize,
    pub source: &'a Source<'a>,
    value: &'a DeValue<'a>,
}

/// A table and where it stands.
#[derive(Clone)]
pub struct Table<'a> {
    pub key: String,
    pub line: usize,
    pub source: &'a Source<'a>,
    children: Vec<Node<'a>>,
}

impl<'a> Source<'a> {
    pub fn new(file: &'a Path, text: &'a str) -> Source<'a> {
        Source { file, text, line_ends: text.match_indices('\n').map(|(offset, _)| offset).collect() }
    }

    pub fn parse(&self, reader: &mut Reader) -> Option<DeTable<'a>> {
        match DeTable::parse(self.text) {
            Ok(document) => Some(document.into_inner()),
            Err(error) => {
                let (line, message) = syntax::told(self.text, &error);
                reader.problems.push(self.problem(line, "", message));
                None
            }
        }
    }

    pub fn problem(&self, line: usize, key: &str, message: String) -> Problem {
        Problem { file: self.file.to_owned(), line, key: key.to_owned(), message }
    }

    /// A path of the file, which is relative to its folder.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    fn line(&self, offset: usize) -> usize {
        self.line_ends.partition_point(|end| *end < offset) + 1
    }
}

impl Reader {
    pub fn problem(&mut self, node: &Node<'_>, message: String) {
        self.problems.push(node.source.problem(node.line, &node.key, message));
    }

    pub fn warning(&mut self, node: &Node<'_>, message: String) {
        self.warnings.push(node.source.problem(node.line, &node.key, message));
    }

    /// Every key must be one of these.
    pub fn known(&mut self, table: &Table<'_>, keys: &[&str]) {
        for node in table.children.iter().filter(|node| !keys.contains(&node.name.as_str())) {
            let nearest = nearest(&node.name, keys.iter().copied()).unwrap_or_default();
            self.problem(
                node,
                format!("unknown key; the nearest is `{nearest}`, all that can stand here: {}", keys.join(", ")),
            );
        }
    }

    pub fn missing(&mut self, table: &Table<'_>, key: &str, expected: &str) {
        if !self.complete {
            return;
        }
        let key = joined(&table.key, key);
        self.problems.push(table.source.problem(table.line, &key, format!("is missing, expected {expected}")));
    }

    pub fn required<'b>(&mut self, table: &Table<'b>, key: &str) -> Option<Node<'b>> {
        let node = table.child(key);
        if node.is_none() {
            self.missing(table, key, "a text");
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
        let text = match node.value {
            DeValue::String(text) => Some(text.to_string()),
            _ => None,
        };
        self.expected(node, text, expected)
    }

    /// A whole number from 1.
    pub fn count(&mut self, node: &Node<'_>, of_what: &str) -> Option<u64> {
        let count = node.json().as_u64().filter(|count| *count > 0);
        self.expected(node, count, &format!("a number of {of_what} from 1"))
    }

    pub fn truth(&mut self, node: &Node<'_>) -> Option<bool> {
        let truth = node.json().as_bool();
        self.expected(node, truth, "true or false")
    }

    pub fn list<'b>(&mut self, node: &Node<'b>) -> Vec<Node<'b>> {
        let items = match node.value {
            DeValue::Array(array) => {
                Some(array.iter().enumerate().map(|(index, value)| node.item(index, value)).collect())
            }
            _ => None,
        };
        self.expected(node, items, "a list").unwrap_or_default()
    }

    pub fn table<'b>(&mut self, node: &Node<'b>) -> Option<Table<'b>> {
        self.expected(node, node.as_table(), "a table")
    }

    /// An id of a feed, a tenant or a sink: it stands in paths, labels and metrics.
    pub fn id<'b>(&mut self, table: &Table<'b>, key: &str) -> Option<(String, Node<'b>)> {
        let node = self.required(table, key)?;
        let id = self.text(&node, "an id")?;
        let starts = id.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
        let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if starts && id.len() <= 64 && id.bytes().all(rest) {
            return Some((id, node));
        }
        self.problem(&node, format!("found {id:?}, expected [a-z0-9][a-z0-9._-]{{0,63}}"));
        None
    }
}

impl<'a> Node<'a> {
    pub fn as_table(&self) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(table) => Some(Table::new(&self.key, self.line, table, self.source)),
            _ => None,
        }
    }

    /// The value as JSON, numbers to the letter as far as TOML has them.
    pub fn json(&self) -> Value {
        json(self.value)
    }

    /// Where it stands, for a problem elsewhere.
    pub fn place(&self) -> String {
        format!("{}:{}", self.source.file.display(), self.line)
    }

    fn item(&self, index: usize, value: &'a Spanned<DeValue<'a>>) -> Node<'a> {
        Node {
            name: index.to_string(),
            key: format!("{}[{index}]", self.key),
            line: self.source.line(value.span().start),
            source: self.source,
            value: value.as_ref(),
        }
    }

    fn kind(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }
}

impl<'a> Table<'a> {
    /// The table that a whole file is.
    pub fn document(document: &'a DeTable<'a>, source: &'a Source<'a>) -> Table<'a> {
        Table::new("", 0, document, source)
    }

    fn new(key: &str, line: usize, table: &'a DeTable<'a>, source: &'a Source<'a>) -> Table<'a> {
        let children = table.iter().map(|(name, value)| Node {
            key: joined(key, name.as_ref()),
            name: name.as_ref().to_string(),
            line: source.line(name.span().start),
            source,
            value: value.as_ref(),
        });
        Table { children: children.collect(), key: key.to_owned(), line, source }
    }

    pub fn children(&self) -> impl Iterator<Item = &Node<'a>> {
        self.children.iter()
    }

    pub fn child(&self, name: &str) -> Option<Node<'a>> {
        self.children.iter().find(|node| node.name == name).cloned()
    }

    /// This table, and from `defaults` what it does not have.
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

/// The most similar of some names.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names.max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)))
}

fn joined(key: &str, name: &str) -> String {
    if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
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
