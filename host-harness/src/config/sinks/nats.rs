//! A `[[sink]]` of type `nats`.

use std::time::Duration;

use source_host::credentials::secret::Secret;
use source_host::network::address;
use time::OffsetDateTime;

use super::super::reader::{ConfigReader, Node, Table};
use super::super::reference::secret;
use super::super::{duration, suggestion};
use super::{References, authorities, has_foreign_placeholder, identity};
use crate::limits;
use crate::sink::nats::{self, NatsAuth, NatsConfig, NatsStream, NatsSubject, StreamSettings};

/// The keys of `stream`.
const STREAM: &[&str] = &[
    "name",
    "subjects",
    "replicas",
    "storage",
    "duplicate_window",
    "max_bytes",
    "max_age",
    "max_messages",
    "max_message_bytes",
    "discard",
];

/// Reads the sink, whose common keys are read elsewhere.
pub(super) fn read(
    reader: &mut ConfigReader,
    table: &Table<'_>,
    references: &mut References<'_>,
) -> Option<NatsConfig> {
    let auth = auth(reader, table, references);
    let authorities = table.child("ca_file").and_then(|node| authorities(reader, &node, references));
    let identity = table.child("client_certificate").and_then(|node| identity(reader, &node, references));
    let stream = match table.child("stream") {
        Some(node) => stream(reader, &node),
        None => {
            reader.missing(table, "stream", "the name of a stream, or a table with its settings");
            None
        }
    };
    let subject = reader.required(table, "subject").and_then(|node| subject(reader, &node));
    if let (Some(subject), Some(NatsStream { made: Some(settings), .. })) = (&subject, &stream)
        && !settings.subjects.is_empty()
        && !settings.subjects.iter().any(|filter| nats::takes(filter, &subject.pattern()))
        && let Some(node) = table.child("stream").and_then(|node| node.as_table()?.child("subjects"))
    {
        let message =
            format!("found {:?}, expected one that takes {}, the `subject`", settings.subjects, subject.pattern());
        reader.problem(&node, message);
        return None;
    }
    let url = reader.required(table, "url")?;
    let servers = servers(reader, &url)?;
    let is_open = servers.iter().any(|server| server.starts_with("nats:"));
    let of_tls = ["ca_file", "client_certificate"].into_iter().filter_map(|name| table.child(name));
    for own in of_tls.filter(|_| is_open) {
        reader.problem(&own, "found beside a `url` with nats://, which may go without TLS, expected tls://".to_owned());
    }
    if let Some(NatsAuth::Token(_) | NatsAuth::Password { .. }) = auth
        && servers.iter().any(|server| !hides(server))
    {
        let message = "its credentials would be sent over nats://, where anyone on the way can read them, expected \
                       tls://; or write `nkey` or `credentials`, of which no secret is sent";
        reader.problem(&url, message.to_owned());
        return None;
    }
    let (auth, authorities) = (auth?, authorities.unwrap_or_default());
    Some(NatsConfig { servers, subject: subject?, stream: stream?, auth, authorities, identity })
}

/// Says whether nobody on the way to a server reads what is sent.
fn hides(server: &str) -> bool {
    // The parser knows no addresses in a URL with such a scheme.
    let host = url::Url::parse(server).ok().and_then(|url| url::Host::parse(url.host_str()?).ok());
    let is_near = host.is_some_and(|host| match host {
        url::Host::Domain(name) => address::is_loopback(&url::Host::Domain(&*name)),
        url::Host::Ipv4(ip) => address::is_loopback(&url::Host::Ipv4(ip)),
        url::Host::Ipv6(ip) => address::is_loopback(&url::Host::Ipv6(ip)),
    });
    server.starts_with("tls:") || is_near
}

/// Reads the addresses of the servers: one, or a list.
fn servers(reader: &mut ConfigReader, node: &Node<'_>) -> Option<Vec<String>> {
    const EXPECTED: &str = "expected an address such as \"tls://host.example:4222\", or a list of them";
    let nodes = node.as_list().unwrap_or_else(|| vec![node.clone()]);
    if nodes.is_empty() {
        reader.problem(node, format!("found an empty list, {EXPECTED}"));
    }
    let mut servers = Vec::new();
    let mut is_good = !nodes.is_empty();
    for node in nodes {
        let Some(text) = reader.hidden_text(&node, "an address") else {
            is_good = false;
            continue;
        };
        match server(&text) {
            Ok(server) => servers.push(server),
            Err(found) => {
                reader.problem(&node, format!("found {found}, {EXPECTED}"));
                is_good = false;
            }
        }
    }
    is_good.then_some(servers)
}

/// Returns the address of a server, or the words for what is found in place of one.
fn server(text: &str) -> Result<String, String> {
    let shown = || if text.contains(['@', '?']) { "something else".to_owned() } else { format!("{text:?}") };
    if text.contains(|found: char| found.is_whitespace() || found.is_control()) {
        return Err(shown());
    }
    let url = url::Url::parse(text).map_err(|_| shown())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user or a password in the address, which belong into `user` and `password`".to_owned());
    }
    match url.scheme() {
        "nats" | "tls" if url.has_host() && matches!(url.path(), "" | "/") && url.query().is_none() => {
            // The parser writes the scheme in small letters.
            let after = text.get(url.scheme().len()..).unwrap_or_default();
            Ok(format!("{}{}", url.scheme(), after.trim_end_matches('/')))
        }
        "ws" | "wss" => Err(format!("{} over WebSocket, which this sink does not speak", shown())),
        _ => Err(shown()),
    }
}

fn subject(reader: &mut ConfigReader, node: &Node<'_>) -> Option<NatsSubject> {
    let text = reader.text(node, "a subject such as \"findings.{tenant}.{feed}\"")?;
    if has_foreign_placeholder(reader, node, &text) {
        return None;
    }
    NatsSubject::new(&text).map_err(|error| reader.problem(node, error.to_string())).ok()
}

/// Reads the one way in which the collector says who it is. `None` if it has a problem.
fn auth(reader: &mut ConfigReader, table: &Table<'_>, references: &mut References<'_>) -> Option<NatsAuth> {
    let ways: Vec<Node<'_>> =
        ["credentials", "nkey", "token", "user"].into_iter().filter_map(|name| table.child(name)).collect();
    if let [first, second, ..] = ways.as_slice() {
        let message = format!(
            "found beside `{}`, expected one of `credentials`, `nkey`, `token`, or `user` with `password`",
            first.name
        );
        reader.problem(second, message);
        return None;
    }
    let password = table.child("password");
    let Some(way) = ways.first() else {
        if password.is_some() {
            reader.missing(table, "user", "the user whose `password` is given");
            return None;
        }
        return Some(NatsAuth::None);
    };
    let References { environment, files, .. } = references;
    if way.name == "user" {
        let user = reader.text(way, "the name of a user");
        let Some(node) = password else {
            reader.missing(table, "password", "{ env = \"…\" } or { file = \"…\" }");
            return None;
        };
        let password = secret(reader, &node, files, *environment);
        return Some(NatsAuth::Password { user: user?, password: password? });
    }
    if let Some(node) = password {
        reader.problem(&node, format!("found beside `{}`, expected it beside `user` alone", way.name));
        return None;
    }
    let given = secret(reader, way, files, *environment)?;
    // The client looks for the end of the last line.
    let given = if way.name == "credentials" { Secret::new(format!("{}\n", given.expose())) } else { given };
    match way.name.as_str() {
        "credentials" if async_nats::ConnectOptions::with_credentials(given.expose()).is_err() => {
            let message =
                "found something else, expected a file of credentials, which has a user's JWT and the seed of its key";
            reader.problem(way, message.to_owned());
            None
        }
        "credentials" => {
            let auth = NatsAuth::Credentials(given);
            references.ends.extend(auth.end().map(|end| (way.place(), milliseconds_of(end))));
            Some(auth)
        }
        "nkey" if !is_seed(&given) => {
            reader.problem(
                way,
                "found something else, expected the seed of a user's key, which begins with SU".to_owned(),
            );
            None
        }
        "nkey" => Some(NatsAuth::Nkey(given)),
        _ => Some(NatsAuth::Token(given)),
    }
}

/// Returns a time in Unix milliseconds.
fn milliseconds_of(time: OffsetDateTime) -> u64 {
    u64::try_from(time.unix_timestamp()).unwrap_or_default().saturating_mul(1_000)
}

/// Says whether a secret is the seed of a user's key.
fn is_seed(secret: &Secret) -> bool {
    secret.expose().starts_with("SU") && nkeys::KeyPair::from_seed(secret.expose()).is_ok()
}

/// Reads the stream: the name of one that others make, or a table with the settings of one that the sink makes.
fn stream(reader: &mut ConfigReader, node: &Node<'_>) -> Option<NatsStream> {
    let Some(mut table) = node.as_table() else {
        let name = reader.text(node, "the name of a stream, or a table with its settings")?;
        return named(reader, node, name).map(|name| NatsStream { name, made: None });
    };
    reader.known(&mut table, STREAM);
    let before = reader.problems.len();
    let name = reader.required(&table, "name").and_then(|node| {
        let name = reader.text(&node, "the name of a stream")?;
        named(reader, &node, name)
    });
    let settings = settings(reader, &table);
    if reader.problems.len() > before {
        return None;
    }
    Some(NatsStream { name: name?, made: Some(settings) })
}

/// Checks the name of a stream, which is a token of subjects.
fn named(reader: &mut ConfigReader, node: &Node<'_>, name: String) -> Option<String> {
    let is_good = !name.is_empty()
        && !name.contains(|found: char| found.is_whitespace() || found.is_control() || ".*>/\\".contains(found));
    if !is_good {
        reader.problem(node, format!("found {name:?}, expected a name without spaces and the characters . * > / \\"));
    }
    is_good.then_some(name)
}

fn settings(reader: &mut ConfigReader, table: &Table<'_>) -> StreamSettings {
    let mut count = |key: &str, of_what: &str| table.child(key).and_then(|node| reader.count(&node, of_what));
    let (max_bytes, max_message_bytes) = (count("max_bytes", "bytes"), count("max_message_bytes", "bytes"));
    let (max_messages, replicas) = (count("max_messages", "messages"), count("replicas", "replicas"));
    if let Some(found) = replicas.filter(|replicas| *replicas > 5)
        && let Some(node) = table.child("replicas")
    {
        reader.problem(&node, format!("found {found}, expected a number of replicas from 1 to 5"));
    }
    let mut either = |key: &str, no: &str, yes: &str| {
        let node = table.child(key)?;
        let text = reader.text(&node, &format!("{no:?} or {yes:?}"))?;
        if text != no && text != yes {
            let meant = suggestion::name(&text, [no, yes].into_iter());
            let meant = meant.map(|meant| format!("; write {meant:?}")).unwrap_or_default();
            reader.problem(&node, format!("found {text:?}, expected {no:?} or {yes:?}{meant}"));
        }
        Some(text == yes)
    };
    let (in_memory, drops_oldest) = (either("storage", "file", "memory"), either("discard", "new", "old"));
    let mut span = |key: &str| {
        let node = table.child(key)?;
        let found = node.as_text().and_then(|text| duration(&text));
        let found = found.filter(|found| (limits::LEAST_STREAM_SPAN..=limits::LONGEST_STREAM_SPAN).contains(found));
        if found.is_none() {
            let message =
                format!("found {}, expected a duration from \"1s\" to \"3650d\", such as \"2m\"", node.shown());
            reader.problem(&node, message);
        }
        found
    };
    let (duplicate_window, max_age): (Option<Duration>, _) = (span("duplicate_window"), span("max_age"));
    let mut subjects = Vec::new();
    for node in table.child("subjects").map(|node| reader.list(&node)).unwrap_or_default() {
        let Some(text) = reader.text(&node, "a subject") else { continue };
        match text.split('.').any(str::is_empty) || text.contains(char::is_whitespace) {
            true => reader.problem(&node, format!("found {text:?}, expected a subject such as \"findings.>\"")),
            false => subjects.push(text),
        }
    }
    StreamSettings {
        subjects,
        replicas,
        in_memory,
        duplicate_window,
        max_bytes,
        max_age,
        max_messages,
        max_message_bytes,
        drops_oldest,
    }
}
