//! The tables `[[sink]]`.

use std::collections::BTreeMap;
use std::path::Path;

use super::reader::{Node, Reader, Table};
use super::{Environment, Seen, secret};
use crate::limits;
use crate::sink::{FileConfig, HttpConfig, Kind, Preset, SinkConfig, Template};

const COMMON: &[&str] = &["id", "type", "max_outbox_bytes", "dead_letters"];
const FILE: &[&str] = &["path", "rotate_bytes", "keep_files"];
const HTTP: &[&str] = &["url", "preset", "token", "headers", "gzip"];

/// A sink and where it stands.
pub struct ReadSink<'a> {
    pub id: String,
    /// None where something is wrong with it.
    pub config: Option<SinkConfig>,
    pub node: Node<'a>,
}

/// The sinks, also those with which something is wrong: feeds that name them are right.
pub fn read<'a>(
    reader: &mut Reader,
    tops: &[Table<'a>],
    state: &Path,
    files: &mut Vec<Seen>,
    environment: Environment<'_>,
) -> Vec<ReadSink<'a>> {
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    let mut sinks: Vec<ReadSink<'a>> = Vec::new();
    let lists = tops.iter().filter_map(|top| top.child("sink")).collect::<Vec<_>>();
    for node in lists.iter().flat_map(|node| reader.list(node)).collect::<Vec<_>>() {
        let Some(table) = reader.table(&node) else { continue };
        let id = reader.id(&table, "id");
        if let Some((id, node)) = &id {
            if let Some(first) = ids.get(id) {
                let message = format!("found {id:?} a second time, the first is at {first}, expected ids that differ");
                reader.problem(node, message);
            }
            ids.entry(id.clone()).or_insert_with(|| node.place());
        }
        let kind = kind(reader, &table, files, environment);
        let outbox = table.child("max_outbox_bytes").and_then(|node| reader.count(&node, "bytes"));
        let dead_letters = table.child("dead_letters").and_then(|node| reader.text(&node, "the path of a file"));
        let Some((id, _)) = id else { continue };
        let Some(kind) = kind else {
            sinks.push(ReadSink { id, config: None, node });
            continue;
        };
        let dead_letters = match dead_letters {
            Some(path) => table.source.beside(&path),
            None => state.with_file_name(format!("dead-letters-{id}.ndjson")),
        };
        let others = sinks.iter().filter_map(|sink| sink.config.as_ref());
        if let Some(other) = others.into_iter().find(|other| other.kind.clashes(&kind)) {
            let message = format!("goes where the sink {:?} goes, expected a place of its own", other.id);
            reader.problem(&node, message);
        }
        let max_outbox_bytes = outbox.unwrap_or(limits::OUTBOX_BYTES);
        let config = Some(SinkConfig { id: id.clone(), kind, max_outbox_bytes, dead_letters });
        sinks.push(ReadSink { id, config, node });
    }
    sinks
}

fn kind(reader: &mut Reader, table: &Table<'_>, files: &mut Vec<Seen>, environment: Environment<'_>) -> Option<Kind> {
    let all = || [COMMON, FILE, HTTP].concat();
    let Some(node) = reader.required(table, "type") else {
        reader.known(table, &all());
        return None;
    };
    let kind = reader.text(&node, "a type of sink");
    let own: &[&str] = match kind.as_deref() {
        Some("stdout") => &[],
        Some("file") => FILE,
        Some("http") => HTTP,
        _ => {
            reader.known(table, &all());
            if let Some(other) = kind {
                let message = format!("found {other:?}, expected \"stdout\", \"file\" or \"http\"");
                reader.problem(&node, message);
            }
            return None;
        }
    };
    reader.known(table, &[COMMON, own].concat());
    match kind.as_deref() {
        Some("file") => file(reader, table).map(Kind::File),
        Some("http") => http(reader, table, files, environment).map(Kind::Http),
        _ => Some(Kind::Stdout),
    }
}

fn file(reader: &mut Reader, table: &Table<'_>) -> Option<FileConfig> {
    let node = reader.required(table, "path")?;
    let path = template(reader, &node)?;
    let rotate = table.child("rotate_bytes").and_then(|node| reader.count(&node, "bytes"));
    let keep_files = table.child("keep_files").and_then(|node| reader.count(&node, "files"));
    Some(FileConfig {
        path: path.under(&table.source.beside("")),
        rotate_bytes: rotate.unwrap_or(limits::ROTATE_BYTES),
        keep_files,
    })
}

fn http(
    reader: &mut Reader,
    table: &Table<'_>,
    files: &mut Vec<Seen>,
    environment: Environment<'_>,
) -> Option<HttpConfig> {
    let preset = table.child("preset").and_then(|node| {
        let name = reader.text(&node, "the name of a preset")?;
        let preset = Preset::named(&name);
        if preset.is_none() {
            let message = format!("found {name:?}, expected \"vector\", \"fluent-bit\" or \"splunk-hec\"");
            reader.problem(&node, message);
        }
        preset
    });
    let token = table.child("token").and_then(|node| secret(reader, &node, files, environment));
    let gzip = table.child("gzip").and_then(|node| reader.truth(&node)).unwrap_or(true);
    let headers = table.child("headers").and_then(|node| reader.table(&node));
    let mut named = Vec::new();
    for node in headers.iter().flat_map(Table::children) {
        let name = http::HeaderName::from_bytes(node.name.as_bytes());
        match (name, template(reader, node)) {
            (Ok(name), Some(value)) if http::HeaderValue::from_str(value.text()).is_ok() => named.push((name, value)),
            (_, None) => {}
            _ => reader.problem(node, format!("found {:?}, expected a header's name and a text for it", node.name)),
        }
    }
    let node = reader.required(table, "url")?;
    let url = template(reader, &node)?;
    let sample = url.filled("tenant", "feed");
    let good = url::Url::parse(&sample).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    });
    if !good {
        reader.problem(
            &node,
            format!("found {:?}, expected an address such as \"https://host.example/events\"", url.text()),
        );
        return None;
    }
    Some(HttpConfig { url, preset: preset.unwrap_or_default(), token, headers: named, gzip })
}

fn template(reader: &mut Reader, node: &Node<'_>) -> Option<Template> {
    let text = reader.text(node, "a text")?;
    match Template::new(&text) {
        Ok(template) => Some(template),
        Err(unknown) => {
            reader.problem(node, format!("found {unknown:?}, expected {{tenant}} or {{feed}} between braces"));
            None
        }
    }
}
