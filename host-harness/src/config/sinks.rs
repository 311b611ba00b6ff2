//! The tables `[[sink]]`.

#[cfg(feature = "nats")]
mod nats;

use std::collections::BTreeMap;
use std::time::Duration;

use source_host::credentials::certificates::Authorities;
use source_host::credentials::client_certificate::ClientCertificate;
use source_host::credentials::secret::Secret;
use source_host::credentials::spelling;
use source_host::text;

use super::reader::{ConfigReader, Node, Table};
use super::reference::{secret, token};
use super::{
    CaFile, Config, ConfigPlace, Environment, FileLine, NetworkConfig, SeenFile, duration, network, suggestion,
};
use crate::limits;
#[cfg(feature = "otlp")]
use crate::sink::Encoding;
use crate::sink::{FileConfig, HttpConfig, Preset, SinkConfig, SinkKind, Template};

pub const COMMON: &[&str] =
    &["id", "type", "max_outbox_bytes", "dead_letters", "keep_delivered", "max_delivered_bytes"];
pub const FILE: &[&str] = &["path", "rotate_bytes", "rotate_every", "keep_files"];
pub const HTTP: &[&str] =
    &["url", "preset", "token", "headers", "gzip", "index", "sourcetype", "source", "ca_file", "client_certificate"];

pub const OTLP: &[&str] = &["url", "encoding", "token", "headers", "gzip", "ca_file", "client_certificate"];

pub const NATS: &[&str] =
    &["url", "subject", "stream", "credentials", "nkey", "token", "user", "password", "ca_file", "client_certificate"];

/// The types of sinks.
const TYPES: [&str; 5] = ["stdout", "file", "http", "otlp", "nats"];

/// Members of Splunk's envelope.
const ENVELOPE: [&str; 3] = ["index", "sourcetype", "source"];

/// Other names of types, with the type that each means and further advice.
const OTHER_NAMES: &[(&[&str], &str)] = &[
    (&["console", "stderr", "terminal"], "\"stdout\""),
    (&["files", "ndjson", "json", "jsonl", "log"], "\"file\""),
    (&["https", "webhook", "post"], "\"http\""),
    (&["vector"], "\"http\", with preset = \"vector\""),
    (&["fluentbit", "fluentd", "forward"], "\"http\", with preset = \"fluent-bit\""),
    (&["splunk", "splunkhec", "hec", "splunkhechttp"], "\"http\", with preset = \"splunk-hec\""),
    (&["otel", "otlphttp", "otlpgrpc", "opentelemetry"], "\"otlp\", which speaks OTLP/HTTP"),
    (&["jetstream", "natsjetstream"], "\"nats\""),
];

/// A sink and its place.
pub struct ReadSink {
    /// The id as written, even if the sink has a problem, so that feeds may refer to it.
    pub id: Option<String>,
    /// The sink; `None` if it has a problem.
    pub config: Option<SinkConfig>,
    pub place: ConfigPlace,
}

/// The files and variables to which tables refer.
pub(super) struct References<'a> {
    pub environment: Environment<'a>,
    pub files: &'a mut Vec<SeenFile>,
    pub certificates: &'a mut Vec<CaFile>,
    pub ends: &'a mut Vec<(ConfigPlace, u64)>,
}

/// Reads the sinks, including those with problems. Adds to the configuration's files, and its certificates.
pub fn read(
    reader: &mut ConfigReader,
    tops: &[Table<'_>],
    config: &mut Config,
    environment: Environment<'_>,
) -> Vec<ReadSink> {
    let Config { collector, network, files, certificates, ends, .. } = config;
    let mut references = References { environment, files, certificates, ends };
    let mut ids: BTreeMap<String, FileLine> = BTreeMap::new();
    let mut sinks: Vec<ReadSink> = Vec::new();
    let lists = tops.iter().filter_map(|top| top.child("sink")).collect::<Vec<_>>();
    for table in lists.iter().flat_map(|node| reader.tables(node)).collect::<Vec<_>>() {
        let written = table.child("id").and_then(|node| node.as_text());
        let mut table = table.by_id("sink", &ids);
        // The allowed keys depend on the type, and the type may depend on the keys.
        let kind = kind(reader, &mut table, network, &mut references);
        let id = reader.own_id(&table, &mut ids);
        let outbox = table.child("max_outbox_bytes").and_then(|node| reader.count(&node, "bytes"));
        let keep_delivered = keep_delivered(reader, &table);
        let dead_letters = table.child("dead_letters").map(|node| reader.path_of_file(&node));
        let place = table.place();
        let (Some((id, is_second)), Some(kind)) = (id, kind) else {
            sinks.push(ReadSink { id: written, config: None, place });
            continue;
        };
        let beside = || Some(collector.folder.join(format!("dead-letters-{id}.ndjson")));
        // The files of a second sink with the same id would clash with those of the first, which only follows from the
        // id.
        let Some(dead_letters) = dead_letters.unwrap_or_else(beside).filter(|_| !is_second) else {
            sinks.push(ReadSink { id: written, config: None, place });
            continue;
        };
        let others = sinks.iter().filter_map(|sink| sink.config.as_ref());
        if let Some(other) = others.into_iter().find(|other| other.kind.clashes(&kind)) {
            let message = format!("has the destination of the sink {:?}, expected a destination of its own", other.id);
            reader.problems.push(place.problem(message));
            sinks.push(ReadSink { id: written, config: None, place });
            continue;
        }
        let max_outbox_bytes = outbox.unwrap_or(limits::OUTBOX_BYTES);
        let min_free_bytes = collector.budgets.min_free_bytes;
        let id = id.clone();
        let config = Some(SinkConfig { id, kind, max_outbox_bytes, dead_letters, min_free_bytes, keep_delivered });
        sinks.push(ReadSink { id: written, config, place });
    }
    sinks
}

/// Reads how long delivered events are kept, and how many bytes of them.
fn keep_delivered(reader: &mut ConfigReader, table: &Table<'_>) -> Option<(Duration, u64)> {
    let bytes = table.child("max_delivered_bytes");
    let most = bytes.as_ref().and_then(|node| reader.count(node, "bytes"));
    let Some(node) = table.child("keep_delivered") else {
        if let Some(node) = bytes {
            reader.problem(&node, "found without `keep_delivered`, expected it beside that".to_owned());
        }
        return None;
    };
    let range = limits::LEAST_ROTATION..=limits::LONGEST_INTERVAL;
    let span = node.as_text().and_then(|text| duration(&text)).filter(|span| range.contains(span));
    if span.is_none() {
        let expected = "expected a duration from \"1m\" to \"31d\", such as \"24h\"";
        reader.problem(&node, format!("found {}, {expected}", node.shown()));
    }
    Some((span?, most.unwrap_or(limits::DELIVERED_BYTES)))
}

fn kind(
    reader: &mut ConfigReader,
    table: &mut Table<'_>,
    network: &NetworkConfig,
    references: &mut References<'_>,
) -> Option<SinkKind> {
    let all = [COMMON, FILE, HTTP, OTLP, NATS].concat();
    // A misspelled key is reported with the others.
    let node = table.child("type").or_else(|| {
        reader.known(table, &all);
        reader.required(table, "type")
    })?;
    let kind = reader.text(&node, "a type of sink");
    let own: &[&str] = match kind.as_deref() {
        Some("stdout") => &[],
        Some("file") => FILE,
        Some("http") => HTTP,
        #[cfg(feature = "otlp")]
        Some("otlp") => OTLP,
        #[cfg(feature = "nats")]
        Some("nats") => NATS,
        _ => {
            reader.known(table, &all);
            if let Some(other) = kind {
                reader.problem(&node, no_type(&other));
            }
            return None;
        }
    };
    reader.known(table, &[COMMON, own].concat());
    match kind.as_deref() {
        Some("file") => file(reader, table).map(SinkKind::File),
        Some("http") => {
            let chosen = table.child("preset").map(|node| preset(reader, &node));
            let preset = chosen.flatten().unwrap_or_default();
            let envelope = match chosen {
                // The sink may be meant for Splunk.
                Some(None) => Vec::new(),
                _ => envelope(reader, table, preset),
            };
            let config = http(reader, table, network, references)?;
            Some(SinkKind::Http(HttpConfig { preset, envelope, ..config }))
        }
        #[cfg(feature = "otlp")]
        Some("otlp") => {
            let encoding = table.child("encoding").and_then(|node| encoding(reader, &node)).unwrap_or_default();
            let config = http(reader, table, network, references)?;
            if let Some(node) = table.child("url")
                && let Ok(url) = url::Url::parse(&config.url.filled("tenant", "feed"))
            {
                warn_of_otlp(reader, &node, &url);
            }
            Some(SinkKind::Http(HttpConfig { preset: Preset::Otlp(encoding), ..config }))
        }
        #[cfg(feature = "nats")]
        Some("nats") => nats::read(reader, table, references).map(SinkKind::Nats),
        _ => Some(SinkKind::Stdout),
    }
}

/// The message about an unknown type.
fn no_type(other: &str) -> String {
    const EXPECTED: &str = "expected \"stdout\", \"file\", \"http\", \"otlp\" or \"nats\"";
    const WAY: &str = "through Vector: type = \"http\", preset = \"vector\", to its source `http_server`, and on to a sink of its own";
    if other.trim().is_empty() {
        return format!("found nothing, {EXPECTED}");
    }
    let bare: String = other.chars().filter(|character| character.is_alphanumeric()).collect::<String>().to_lowercase();
    if let "otlp" | "nats" = other {
        return format!(
            "found {other:?}, which this program was built without: build it with the cargo feature `{other}`"
        );
    }
    let meant = suggestion::name(other, TYPES.into_iter()).map(|name| format!("{name:?}"));
    let meant = meant.or_else(|| {
        let (_, meant) = OTHER_NAMES.iter().find(|(names, _)| names.contains(&bare.as_str()))?;
        Some((*meant).to_owned())
    });
    if let Some(meant) = meant {
        return format!("found {other:?}, {EXPECTED}; write {meant}");
    }
    format!("found {other:?}, {EXPECTED}; events get to other systems {WAY}")
}

fn file(reader: &mut ConfigReader, table: &Table<'_>) -> Option<FileConfig> {
    let node = reader.required(table, "path")?;
    if node.as_text().is_some_and(|text| has_foreign_placeholder(reader, &node, &text)) {
        return None;
    }
    reader.path(&node, "the path of a file")?;
    let text = reader.text(&node, "the path of a file")?;
    let path = template(reader, &node, &text)?;
    let rotate = table.child("rotate_bytes").and_then(|node| reader.count(&node, "bytes"));
    let rotate_every = table.child("rotate_every").and_then(|node| rotate_every(reader, &node));
    let keep_files = table.child("keep_files").and_then(|node| reader.count(&node, "files"));
    Some(FileConfig {
        path: path.under(&table.source.beside("")),
        rotate_bytes: rotate.unwrap_or(limits::ROTATE_BYTES),
        rotate_every,
        keep_files,
    })
}

/// Reads the period of a file of events.
fn rotate_every(reader: &mut ConfigReader, node: &Node<'_>) -> Option<Duration> {
    let range = limits::LEAST_ROTATION..=limits::LONGEST_INTERVAL;
    let bounded = |text: &str| duration(text).filter(|every| range.contains(every));
    let text = node.as_text().unwrap_or_else(|| node.shown());
    let every = node.as_text().and_then(|text| bounded(&text));
    if every.is_none() {
        let meant = suggestion::duration(&text).filter(|meant| bounded(meant).is_some());
        let meant = meant.map(|meant| format!("; write {meant:?}")).unwrap_or_default();
        let expected = "expected a duration from \"1m\" to \"31d\", such as \"1d\"";
        reader.problem(node, format!("found {}, {expected}{meant}", node.shown()));
    }
    every
}

fn http(
    reader: &mut ConfigReader,
    table: &Table<'_>,
    network: &NetworkConfig,
    references: &mut References<'_>,
) -> Option<HttpConfig> {
    let References { environment, files, .. } = references;
    let token = table.child("token").and_then(|node| token(reader, &node, files, *environment));
    let gzip = table.child("gzip").and_then(|node| reader.truth(&node)).unwrap_or(true);
    let Headers { named, credentials } = headers(reader, table, files, *environment);
    let authorities = table.child("ca_file").and_then(|node| authorities(reader, &node, references));
    let identity = table.child("client_certificate").and_then(|node| identity(reader, &node, references));
    let node = reader.required(table, "url")?;
    let url = address(reader, &node, references.files, references.environment)?;
    let authorities = authorities.unwrap_or_default();
    let (preset, envelope) = (Preset::default(), Vec::new());
    let is_url_secret = node.as_table().is_some();
    let config = HttpConfig {
        url,
        is_url_secret,
        preset,
        token,
        headers: named,
        credentials,
        gzip,
        envelope,
        authorities,
        identity,
    };
    let parsed = url::Url::parse(&config.url.filled("tenant", "feed")).ok()?;
    let of_tls = ["ca_file", "client_certificate"].into_iter().filter_map(|name| table.child(name));
    for own in of_tls.filter(|_| parsed.scheme() == "http") {
        reader.problem(&own, "found beside a `url` over http, which has no certificates, expected https://".to_owned());
    }
    if config.has_credentials() && !network.takes_credentials(&parsed) {
        let line = format!("allow_credentials_over_http = [{:?}]", parsed.origin().ascii_serialization());
        let message = format!(
            "its credentials would be sent over http, where anyone on the way can read them, expected https://; only \
             where nobody else can read the network between, write `{line}` in [network]"
        );
        reader.problem(&node, message);
        return None;
    }
    Some(config)
}

/// Reads the encoding of OTLP's messages.
#[cfg(feature = "otlp")]
fn encoding(reader: &mut ConfigReader, node: &Node<'_>) -> Option<Encoding> {
    let name = reader.text(node, "the name of an encoding")?;
    match name.as_str() {
        "protobuf" => Some(Encoding::Protobuf),
        "json" => Some(Encoding::Json),
        _ => {
            let meant = suggestion::name(&name, ["protobuf", "json"].into_iter());
            let meant = meant.map(|meant| format!("; write {meant:?}")).unwrap_or_default();
            reader.problem(node, format!("found {name:?}, expected \"protobuf\" or \"json\"{meant}"));
            None
        }
    }
}

/// Warns of an address at which hardly any receiver takes logs over OTLP/HTTP.
#[cfg(feature = "otlp")]
fn warn_of_otlp(reader: &mut ConfigReader, node: &Node<'_>, url: &url::Url) {
    if url.port() == Some(4317) {
        let message = "has the port of OTLP/gRPC, and this sink speaks OTLP/HTTP, whose port is usually 4318";
        reader.warning(node, message.to_owned());
    }
    if url.path() == "/" {
        reader.warning(node, "has no path: receivers usually take logs at /v1/logs".to_owned());
    }
}

/// Reads the members of Splunk's envelope.
fn envelope(reader: &mut ConfigReader, table: &Table<'_>, preset: Preset) -> Vec<(&'static str, Template)> {
    let mut envelope = Vec::new();
    for (name, node) in ENVELOPE.into_iter().filter_map(|name| Some((name, table.child(name)?))) {
        if preset != Preset::SplunkHec {
            let message = "found without preset = \"splunk-hec\", expected it with this preset alone".to_owned();
            reader.problem(&node, message);
            continue;
        }
        let text = reader.text(&node, "a string");
        envelope.extend(text.and_then(|text| template(reader, &node, &text)).map(|value| (name, value)));
    }
    envelope
}

/// Reads the authorities that a sink trusts in addition to all others.
fn authorities(reader: &mut ConfigReader, node: &Node<'_>, references: &mut References<'_>) -> Option<Authorities> {
    let file = network::authorities(reader, node, references.files)?;
    let authorities = file.authorities.clone();
    references.certificates.push(file);
    Some(authorities)
}

/// Reads the certificate that a sink shows, with its private key.
pub(super) fn identity(
    reader: &mut ConfigReader,
    node: &Node<'_>,
    references: &mut References<'_>,
) -> Option<ClientCertificate> {
    let pem = secret(reader, node, references.files, references.environment)?;
    match ClientCertificate::read(pem.expose()) {
        Ok(identity) => {
            let authorities = Authorities { roots: vec![identity.own.clone()], has_key: false };
            references.certificates.push(CaFile { authorities, place: node.place() });
            Some(identity)
        }
        Err(found) => {
            let file = node.as_table().and_then(|table| table.child("file")).and_then(|file| file.as_text());
            let place = file.map(|file| format!(" in {}", node.source.beside(&file).display())).unwrap_or_default();
            let expected = "expected PEM of a private key, without a passphrase, and its certificate";
            reader.problem(node, format!("found {found}{place}, {expected}"));
            None
        }
    }
}

fn preset(reader: &mut ConfigReader, node: &Node<'_>) -> Option<Preset> {
    const NAMES: [&str; 3] = ["vector", "fluent-bit", "splunk-hec"];
    let name = reader.text(node, "the name of a preset")?;
    let preset = Preset::named(&name);
    if preset.is_none() {
        let short = name.to_lowercase();
        let meant = suggestion::name(&name, NAMES.into_iter())
            .or_else(|| NAMES.into_iter().find(|known| known.split('-').any(|part| part == short)));
        let meant = meant.map(|meant| format!("; write {meant:?}")).unwrap_or_default();
        let expected = "expected \"vector\", \"fluent-bit\" or \"splunk-hec\"";
        reader.problem(node, format!("found {name:?}, {expected}{meant}"));
    }
    preset
}

/// Headers of a sink, with secret values kept apart.
#[derive(Default)]
struct Headers {
    named: Vec<(http::HeaderName, Template)>,
    credentials: Vec<(http::HeaderName, Secret)>,
}

fn headers(
    reader: &mut ConfigReader,
    table: &Table<'_>,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) -> Headers {
    let mut headers = Headers::default();
    let table = table.child("headers").and_then(|node| reader.table(&node, "a table: { \"x-name\" = \"value\" }"));
    for node in table.iter().flat_map(Table::children) {
        let name = http::HeaderName::from_bytes(node.name.as_bytes());
        let fits = |text: &str| http::HeaderValue::from_str(text).is_ok();
        let expected = format!("found {:?}, expected a header's name and a string for it", node.name);
        if node.as_table().is_some() {
            match (name, secret(reader, node, files, environment)) {
                (Ok(name), Some(value)) if fits(value.expose()) => headers.credentials.push((name, value)),
                (_, None) => {}
                _ => reader.problem(node, expected),
            }
            continue;
        }
        // The value may be a secret.
        let value = reader.hidden_text(node, "a string").and_then(|text| template(reader, node, &text));
        match (name, value) {
            (Ok(name), Some(value)) if fits(value.text()) => {
                let is_credential = spelling::is_credential(name.as_str(), value.text());
                if is_credential {
                    reader.warning(node, spelling::in_the_open(name.as_str(), name.as_str()));
                }
                match is_credential && value.is_fixed() {
                    true => headers.credentials.push((name, Secret::new(value.text()))),
                    false => headers.named.push((name, value)),
                }
            }
            (_, None) => {}
            _ => reader.problem(node, expected),
        }
    }
    headers
}

/// Reads the address to which a sink posts. Its query may hold a credential, and so may a text that is not an address.
fn address(
    reader: &mut ConfigReader,
    node: &Node<'_>,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) -> Option<Template> {
    const EXPECTED: &str = "expected an address such as \"https://host.example/events\"";
    let is_open = node.as_table().is_none();
    let text = match is_open {
        true => reader.hidden_text(node, "an address")?,
        false => secret(reader, node, files, environment)?.expose().to_owned(),
    };
    let is_shown = is_open && !text.contains(['@', '?']);
    if has_foreign_placeholder(reader, node, &text) {
        return None;
    }
    let url = match Template::new(&text) {
        Ok(url) => url,
        Err(_) if !is_shown => {
            reader.problem(node, "found braces with something else between them than {tenant} or {feed}".to_owned());
            return None;
        }
        Err(_) => return template(reader, node, &text),
    };
    let parsed = url::Url::parse(&url.filled("tenant", "feed"));
    match parsed {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            let way = "headers = { authorization = { env = \"…\" } }";
            reader.problem(node, format!("found a user name or a password in the address, expected them in `{way}`"));
            return None;
        }
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => {
            let secret = parsed.query_pairs().find(|(name, value)| spelling::is_credential(name, value));
            if let Some((name, _)) = secret.filter(|_| is_open) {
                let open = spelling::in_the_open("url", "sink url");
                reader.warning(node, format!("its query has `{}`: {open}", text::cut(&text::plain(&name), 64)));
            }
        }
        _ => {
            let found = if is_shown { format!("{text:?}") } else { "something else".to_owned() };
            reader.problem(node, format!("found {found}, {EXPECTED}"));
            return None;
        }
    }
    Some(url)
}

/// Placeholders of other programs for an id, with `NAME` in place of its name. Longer ones come first.
const PLACEHOLDERS: &[&str] = &[
    "${{NAME}}",
    "${NAME_id}",
    "${NAME}",
    "{{NAME_id}}",
    "{{NAME}}",
    "{{ NAME }}",
    "{{ .NAME }}",
    "{{.NAME}}",
    "{NAME_id}",
    "{NAMEid}",
    "{NAME-id}",
    "%{NAME}",
    "#{NAME}",
    "%NAME%",
    "$NAME",
    "<NAME>",
];

/// Reports a placeholder that is written as in other programs.
fn has_foreign_placeholder(reader: &mut ConfigReader, node: &Node<'_>, text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let found = ["tenant", "feed"].into_iter().find_map(|name| {
        let written = PLACEHOLDERS.iter().map(|written| written.replace("NAME", name));
        // Our own placeholder in another case.
        let own = format!("{{{name}}}");
        let mut written = written.chain([own.clone()]);
        let (at, written) = written.find_map(|written| {
            let at = lower.find(&written)?;
            let found = &text[at..at + written.len()];
            (found != own).then(|| (at, found.to_owned()))
        })?;
        Some((at, written, own))
    });
    let Some((_, written, own)) = found else { return false };
    reader.problem(node, format!("found {written:?}, expected {{tenant}} or {{feed}} between braces; write {own:?}"));
    true
}

fn template(reader: &mut ConfigReader, node: &Node<'_>, text: &str) -> Option<Template> {
    if has_foreign_placeholder(reader, node, text) {
        return None;
    }
    match Template::new(text) {
        Ok(template) => Some(template),
        Err(unknown) => {
            reader.problem(node, format!("found {:?}, expected {{tenant}} or {{feed}} between braces", unknown.0));
            None
        }
    }
}
