//! TOML with its lines: gives values of the expected type, and collects a problem for each other one.

use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use super::Problem;

/// Reads one document.
pub struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// A value and where it stands.
#[derive(Clone)]
pub struct Node<'a> {
    /// Last part of the key.
    pub name: String,
    /// The whole key, dotted.
    pub key: String,
    pub line: usize,
    value: toml::Spanned<DeValue<'a>>,
    text: &'a str,
}

/// A table and where it stands.
#[derive(Clone)]
pub struct Table<'a> {
    key: String,
    line: usize,
    children: Vec<Node<'a>>,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a Path, text: &'a str) -> Reader<'a> {
        Reader { file, text, problems: Vec::new(), warnings: Vec::new() }
    }

    pub fn document(&mut self) -> Option<Table<'a>> {
        match DeTable::parse(self.text) {
            Ok(document) => Some(Table::new(String::new(), 0, document.into_inner(), self.text)),
            Err(error) => {
                let line = error.span().map_or(0, |span| line(self.text, span.start));
                let message = format!("is no TOML: {}", error.message());
                self.problems.push(Problem { file: self.file.to_owned(), line, key: String::new(), message });
                None
            }
        }
    }

    pub fn problem(&mut self, node: &Node<'_>, message: String) {
        self.problems.push(self.at(node.line, &node.key, message));
    }

    pub fn warning(&mut self, node: &Node<'_>, message: String) {
        self.warnings.push(self.at(node.line, &node.key, message));
    }

    pub fn whole(&mut self, message: &str) {
        self.problems.push(self.at(0, "", message.to_owned()));
    }

    fn at(&self, line: usize, key: &str, message: String) -> Problem {
        Problem { file: self.file.to_owned(), line, key: key.to_owned(), message }
    }

    /// A path of the document, which is relative to its folder.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Every key must be one of these.
    pub fn known(&mut self, table: &Table<'_>, keys: &[&str]) {
        for node in table.children.iter().filter(|node| !keys.contains(&node.name.as_str())) {
            let nearest = keys
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, &node.name).total_cmp(&strsim::jaro_winkler(b, &node.name)));
            let nearest = nearest.copied().unwrap_or_default();
            self.problem(
                node,
                format!("unknown key; the nearest is `{nearest}`, all that can stand here: {}", keys.join(", ")),
            );
        }
    }

    pub fn missing(&mut self, table: &Table<'_>, key: &str, expected: &str) {
        let key = joined(&table.key, key);
        self.problems.push(self.at(table.line, &key, format!("is missing, expected {expected}")));
    }

    pub fn required<'b>(&mut self, table: &Table<'b>, key: &str) -> Option<Node<'b>> {
        let node = table.child(key);
        if node.is_none() {
            self.missing(table, key, "a text");
        }
        node
    }

    pub fn text(&mut self, node: &Node<'_>, expected: &str) -> Option<String> {
        match node.value.as_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => {
                self.problem(node, format!("found {}, expected {expected}", node.kind()));
                None
            }
        }
    }

    pub fn list<'b>(&mut self, node: &Node<'b>) -> Vec<Node<'b>> {
        match node.value.as_ref() {
            DeValue::Array(array) => {
                let items = array.iter().enumerate();
                items.map(|(index, value)| node.item(index, value.clone())).collect()
            }
            _ => {
                self.problem(node, format!("found {}, expected a list", node.kind()));
                Vec::new()
            }
        }
    }

    pub fn table<'b>(&mut self, node: &Node<'b>) -> Option<Table<'b>> {
        let table = node.as_table();
        if table.is_none() {
            self.problem(node, format!("found {}, expected a table", node.kind()));
        }
        table
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
        match self.value.as_ref() {
            DeValue::Table(table) => Some(Table::new(self.key.clone(), self.line, table.clone(), self.text)),
            _ => None,
        }
    }

    /// The value as JSON, numbers to the letter as far as TOML has them.
    pub fn json(&self) -> Value {
        json(self.value.as_ref())
    }

    fn item(&self, index: usize, value: toml::Spanned<DeValue<'a>>) -> Node<'a> {
        let line = line(self.text, value.span().start);
        Node { name: index.to_string(), key: format!("{}[{index}]", self.key), line, value, text: self.text }
    }

    fn kind(&self) -> &'static str {
        match self.value.as_ref() {
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
    fn new(key: String, line_of_table: usize, table: DeTable<'a>, text: &'a str) -> Table<'a> {
        let children = table.into_iter().map(|(name, value)| {
            let line = line(text, name.span().start);
            let name = name.into_inner().to_string();
            Node { key: joined(&key, &name), name, line, value, text }
        });
        Table { children: children.collect(), key, line: line_of_table }
    }

    pub fn children(&self) -> impl Iterator<Item = Node<'a>> {
        self.children.clone().into_iter()
    }

    pub fn child(&self, name: &str) -> Option<Node<'a>> {
        self.children.iter().find(|node| node.name == name).cloned()
    }

    /// This table, and from `defaults` what it does not have.
    pub fn over(&self, defaults: Option<&Table<'a>>) -> Table<'a> {
        let mut merged = self.clone();
        for node in defaults.into_iter().flat_map(Table::children) {
            if self.child(&node.name).is_none() {
                merged.children.push(node);
            }
        }
        merged
    }
}

fn joined(key: &str, name: &str) -> String {
    if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
}

fn line(text: &str, offset: usize) -> usize {
    text[..offset.min(text.len())].matches('\n').count() + 1
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
