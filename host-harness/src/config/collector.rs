//! The table `[collector]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use source_host::credentials::secret::Secret;
use source_host::limits::LOG_BYTES_A_MINUTE;

use super::reader::{ConfigFile, ConfigReader, Node, Table};
use super::reference::token;
use super::{Environment, SeenFile};
use crate::limits;
use crate::store::budget::{Budgets, KEY_OF_FEED, KEY_OF_TENANT};
use crate::store::space::KEY_OF_FLOOR;

pub(super) const COLLECTOR: &[&str] = &[
    "state",
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

/// The table `[collector]`.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectorConfig {
    /// The file of the store.
    pub state: PathBuf,
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
            state: PathBuf::from("collector.db"),
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

/// Reads the file of the store.
fn state(reader: &mut ConfigReader, node: &Node<'_>) -> Option<PathBuf> {
    let text = reader.text(node, "the path of a file")?;
    let lower = text.trim().to_lowercase();
    // The rest of the address may be a password.
    let found = if ["postgres:", "postgresql:"].iter().any(|scheme| lower.starts_with(scheme)) {
        "the address of a database server, which is not supported yet"
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
