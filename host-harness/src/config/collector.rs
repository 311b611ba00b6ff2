//! The table `[collector]`.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use source_host::credentials::secret::{self, Secret};
use source_host::limits::LOG_BYTES_A_MINUTE;

use super::network::authorities;
use super::reader::{ConfigFile, ConfigReader, Node, Table};
use super::reference::{secret, token};
use super::sinks::{References, identity};
use super::{CaFile, Environment, SeenFile};
use crate::files;
use crate::limits;
use crate::store::budget::{Budgets, KEY_OF_FEED, KEY_OF_TENANT};
use crate::store::postgres::address::{self, EXAMPLE, ServerAddress};
use crate::store::space::KEY_OF_FLOOR;

pub(super) const COLLECTOR: &[&str] = &[
    "state",
    PASSWORD,
    AUTHORITIES,
    CERTIFICATE,
    "listen",
    "token",
    "max_polls",
    "max_polls_per_tenant",
    LOG_KEY,
    KEY_OF_FEED,
    KEY_OF_TENANT,
    KEY_OF_FLOOR,
];

/// The key that limits the bytes that a feed writes to the log.
const LOG_KEY: &str = "max_log_bytes_per_minute";

/// The keys of a state on a server.
const PASSWORD: &str = "state_password";
const AUTHORITIES: &str = "state_ca_file";
const CERTIFICATE: &str = "state_client_certificate";

/// The place of the state.
#[derive(Debug, Clone, PartialEq)]
pub enum StateConfig {
    /// A file of SQLite.
    File(PathBuf),
    /// A database of PostgreSQL.
    Server(Box<ServerAddress>),
}

impl StateConfig {
    /// The file, if the state is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            StateConfig::File(file) => Some(file),
            StateConfig::Server(_) => None,
        }
    }
}

impl fmt::Display for StateConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateConfig::File(file) => write!(formatter, "{}", file.display()),
            StateConfig::Server(address) => address.fmt(formatter),
        }
    }
}

/// Reads the place of a state outside a configuration: the path of a file, or the address of a server, whose password may
/// be in the password file of PostgreSQL's programs. The messages of errors show no password.
pub fn place(text: &str, environment: Environment<'_>) -> Result<StateConfig, String> {
    if !address::is_address(text) {
        return match address_like(text) {
            Some(found) => Err(format!("found {found}, expected the path of a file, or an address such as {EXAMPLE}")),
            None => Ok(StateConfig::File(PathBuf::from(text))),
        };
    }
    let mut address = address::parse(text).map_err(|fault| fault.to_string())?;
    if let Some(path) = password_file(environment) {
        let text = secret::read(&path).map_err(|error| format!("the password file: {}", error.of(&path)))?;
        take_passwords(&mut address, &text);
    }
    Ok(StateConfig::Server(Box::new(address)))
}

/// The table `[collector]`.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectorConfig {
    /// The place of the store.
    pub state: StateConfig,
    /// The folder of dead letters: that of the state's file, or that of the configuration.
    pub folder: PathBuf,
    /// The address of metrics, health and status page; without it, they are not served.
    pub listen: Option<SocketAddr>,
    /// The token that a reader of these pages must present.
    pub token: Option<Secret>,
    /// Number of polls in flight at the same time.
    pub polls: usize,
    /// Number of polls of one tenant in flight at the same time.
    pub polls_of_tenant: usize,
    /// Bytes that each feed may write to the log in a minute.
    pub log_bytes_a_minute: u64,
    /// Limits of the data that is kept of each feed and tenant, without the outbox.
    pub budgets: Budgets,
}

impl Default for CollectorConfig {
    fn default() -> CollectorConfig {
        CollectorConfig {
            state: StateConfig::File(PathBuf::from("collector.db")),
            folder: PathBuf::new(),
            listen: None,
            token: None,
            polls: limits::POLLS,
            polls_of_tenant: limits::POLLS_OF_TENANT,
            log_bytes_a_minute: LOG_BYTES_A_MINUTE,
            budgets: Budgets::default(),
        }
    }
}

pub(super) fn read(
    reader: &mut ConfigReader,
    table: Option<Table<'_>>,
    first: Option<&ConfigFile<'_>>,
    files: &mut Vec<SeenFile>,
    certificates: &mut Vec<CaFile>,
    environment: Environment<'_>,
) -> CollectorConfig {
    let mut collector = CollectorConfig::default();
    if let Some(source) = first {
        let file = source.beside("collector.db");
        collector.folder = files::folder(&file).to_owned();
        collector.state = StateConfig::File(file);
    }
    let Some(mut table) = table else { return collector };
    reader.known(&mut table, COLLECTOR);
    match table.child("state") {
        Some(node) if node.as_text().is_some_and(|text| address::is_address(&text)) => {
            // The keys of the server are read even if its address is wrong, so that all problems are told.
            let address = server(reader, &node);
            let mut references = References { files, certificates, ends: &mut Vec::new(), environment };
            if let Some(address) = identified(reader, &table, &node, address, &mut references) {
                collector.state = StateConfig::Server(Box::new(address));
            }
        }
        node => {
            if let Some(path) = node.and_then(|node| state(reader, &node)) {
                collector.folder = files::folder(&path).to_owned();
                collector.state = StateConfig::File(path);
            }
            for own in [PASSWORD, AUTHORITIES, CERTIFICATE].iter().filter_map(|key| table.child(key)) {
                let message = format!(
                    "found beside a `state` that is a file, expected the address of a server, such as {EXAMPLE:?}"
                );
                reader.problem(&own, message);
            }
        }
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
    for (key, bytes) in [
        (LOG_KEY, &mut collector.log_bytes_a_minute),
        (KEY_OF_FEED, &mut collector.budgets.feed_bytes),
        (KEY_OF_TENANT, &mut collector.budgets.tenant_bytes),
    ] {
        if let Some(count) = table.child(key).and_then(|node| reader.count(&node, "bytes")) {
            *bytes = count;
        }
    }
    let floor = table.child(KEY_OF_FLOOR).and_then(|node| reader.count(&node, "bytes"));
    collector.budgets.min_free_bytes = floor;
    collector
}

/// Reads the address of a server. Messages do not show it: a part of it may be a password.
fn server(reader: &mut ConfigReader, node: &Node<'_>) -> Option<ServerAddress> {
    match address::parse(&node.as_text()?) {
        Ok(address) => {
            if address.hosts.iter().any(|host| host.password.is_some()) {
                let message =
                    format!("has a password in plain text; write {PASSWORD} = {{ env = \"…\" }} or {{ file = \"…\" }}");
                reader.warning(node, message);
            }
            for host in address.plain_hosts() {
                reader.warning(node, format!("connections to {host} are not encrypted; leave sslmode=disable out"));
            }
            Some(address)
        }
        Err(fault) => {
            reader.problem(node, fault.to_string());
            None
        }
    }
}

/// Adds the password, the certificates and the key that the table or a password file has for a server.
fn identified(
    reader: &mut ConfigReader,
    table: &Table<'_>,
    node: &Node<'_>,
    address: Option<ServerAddress>,
    references: &mut References<'_>,
) -> Option<ServerAddress> {
    let password = table.child(PASSWORD).map(|node| secret(reader, &node, references.files, references.environment));
    let trusted = table.child(AUTHORITIES).map(|node| authorities(reader, &node, references.files));
    let identity = table.child(CERTIFICATE).map(|node| identity(reader, &node, references));
    let mut address = address?;
    if let Some(authorities) = trusted.flatten() {
        address.authorities = authorities.authorities.clone();
        references.certificates.push(authorities);
    }
    address.identity = identity.flatten();
    match password {
        Some(password) => {
            for host in &mut address.hosts {
                host.password.clone_from(&password);
            }
        }
        None => from_file(reader, node, &mut address, references),
    }
    Some(address)
}

/// Takes the passwords that are missing from the password file of PostgreSQL's programs.
fn from_file(reader: &mut ConfigReader, node: &Node<'_>, address: &mut ServerAddress, references: &mut References<'_>) {
    let Some(path) = password_file(references.environment) else { return };
    if let Some(words) = files::too_open(&path) {
        reader.warning(node, format!("the password file {}: {words}", path.display()));
    }
    references.files.push(SeenFile::now(path.clone()));
    match secret::read(&path) {
        Ok(text) => take_passwords(address, &text),
        Err(error) => reader.warning(node, format!("cannot read the password file: {}", error.of(&path))),
    }
}

/// The password file of PostgreSQL's programs, if it is there.
fn password_file(environment: Environment<'_>) -> Option<PathBuf> {
    let own = environment("PGPASSFILE").map(PathBuf::from);
    let of_home = || Some(Path::new(&environment("HOME")?).join(".pgpass"));
    own.or_else(of_home).filter(|path| path.is_file())
}

/// Takes the passwords that are missing from the text of a password file.
fn take_passwords(address: &mut ServerAddress, text: &str) {
    let found: Vec<Option<Secret>> =
        address.hosts.iter().map(|host| address::password_of_file(text, address, host)).collect();
    for (host, password) in address.hosts.iter_mut().zip(found) {
        host.password = host.password.take().or(password);
    }
}

/// Returns the kind of a text that no file has as its path; the text itself may have a password.
fn address_like(text: &str) -> Option<&'static str> {
    let lower = text.trim().to_lowercase();
    if lower == ":memory:" || lower.starts_with("file:") && lower.contains("mode=memory") {
        return Some("a database in memory, which loses everything when the collector ends");
    }
    let schemes = ["file:", "sqlite:", "mysql:", "redis:"];
    let is_address = lower.contains("://") || schemes.iter().any(|scheme| lower.starts_with(scheme));
    is_address.then_some("an address (URL)")
}

/// Reads the file of the store.
fn state(reader: &mut ConfigReader, node: &Node<'_>) -> Option<PathBuf> {
    let text = reader.text(node, "the path of a file")?;
    let Some(found) = address_like(&text) else { return reader.path_of_file(node) };
    let expected = format!("expected the path of a file, such as \"collector.db\", or an address such as {EXAMPLE}");
    reader.problem(node, format!("found {found}, {expected}"));
    None
}

/// Suggests an address to listen on, if the host or the port is missing, or the host is a name.
fn listening(node: &Node<'_>) -> Option<String> {
    let text = node.as_text().unwrap_or_else(|| node.shown());
    let text = text.trim().trim_start_matches("http://").trim_start_matches("https://").trim_end_matches('/');
    // `::1:9464` is a valid address by itself, but is meant with a port.
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
