//! The address of a PostgreSQL server, or of several that hold the same database, as a URL names it.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use source_host::credentials::certificates::Authorities;
use source_host::credentials::client_certificate::ClientCertificate;
use source_host::credentials::secret::Secret;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// The example in messages about an address.
pub const EXAMPLE: &str = "postgres://collector@db1.example,db2.example/collector";

/// A database, the servers that may hold it, and the identity that a collector shows them. The text of an address has
/// neither a password nor a key.
#[derive(Clone, PartialEq)]
pub struct ServerAddress {
    /// The servers, in the order in which they are tried.
    pub hosts: Vec<ServerHost>,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// Whether connections are encrypted; `None` means all but those that stay on this machine.
    pub encrypts: Option<bool>,
    /// Authorities that are trusted in addition to the system's.
    pub authorities: Authorities,
    /// The certificate that a server may ask for.
    pub identity: Option<ClientCertificate>,
}

/// One server of an address.
#[derive(Clone, PartialEq)]
pub struct ServerHost {
    /// A name, an address, or the folder of a socket.
    pub name: HostName,
    /// The port.
    pub port: u16,
    /// The password of the role there.
    pub password: Option<Secret>,
}

/// The way to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// A name or an address.
    Network(String),
    /// The folder of a socket of this machine.
    Folder(PathBuf),
}

impl HostName {
    /// Says whether a connection stays on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            HostName::Folder(_) => true,
            HostName::Network(name) => {
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

/// A part of an address that is not as expected. The text shows no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected {expected}")]
pub struct AddressFault {
    /// The part that was found.
    pub found: String,
    /// The expected part.
    pub expected: String,
}

fn fault(found: impl Into<String>, expected: impl Into<String>) -> AddressFault {
    AddressFault { found: found.into(), expected: expected.into() }
}

/// Says whether a text is meant as the address of a PostgreSQL server.
pub fn is_address(text: &str) -> bool {
    let lower = text.trim().to_ascii_lowercase();
    ["postgres:", "postgresql:"].iter().any(|scheme| lower.starts_with(scheme))
}

/// Parameters of a URL that programs with libpq take as files, with the key that takes their place here.
const FILES: &[(&str, &str)] = &[
    ("sslrootcert", "`state_ca_file`"),
    ("sslcert", "`state_client_certificate`"),
    ("sslkey", "`state_client_certificate`"),
    ("passfile", "the variable PGPASSFILE of the environment"),
];

/// Parameters that a URL may have.
const PARAMETERS: &[&str] = &["target_session_attrs", "sslmode", "host", "port", "user", "dbname", "password"];

/// Reads a URL. A password in it stands at each host.
pub fn parse(text: &str) -> Result<ServerAddress, AddressFault> {
    let text = text.trim();
    let (base, query) = text.split_once('?').unwrap_or((text, ""));
    let authority = base.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    let names_host = !authority.rsplit_once('@').map_or(authority, |(_, host)| host).is_empty();
    let (mut kept, mut encrypts) = (Vec::new(), None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if let Some((_, instead)) = FILES.iter().find(|(file, _)| *file == name) {
            return Err(fault(format!("the parameter {name}"), format!("{instead} in its place")));
        }
        if !PARAMETERS.contains(&name) {
            let known = "the parameters target_session_attrs, sslmode, host and port only";
            return Err(fault("a parameter that is not known here", known));
        }
        match (name, value) {
            ("sslmode", "verify-full") => encrypts = Some(true),
            ("sslmode", "disable") => encrypts = Some(false),
            ("sslmode", _) => {
                let expected =
                    "sslmode=verify-full, which checks the server's certificate and name, or sslmode=disable";
                return Err(fault("another sslmode", expected));
            }
            ("target_session_attrs", "read-write" | "primary") => {}
            ("target_session_attrs", _) => {
                return Err(fault("other target_session_attrs", "read-write: a collector writes"));
            }
            // They would add a host, or have no effect.
            ("host" | "port", _) if names_host => {
                let expected = format!("all hosts and ports before the database, as in {EXAMPLE}");
                return Err(fault(format!("the parameter {name} beside a host"), expected));
            }
            _ => kept.push(parameter),
        }
    }
    let url = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    // The words of the parser may repeat a password in the wrong place.
    let parsed: tokio_postgres::Config = url.parse().map_err(|_| {
        let expected = format!("one such as {EXAMPLE}, with %40 for an @ and %2F for a / in a name");
        fault("an address that cannot be read", expected)
    })?;
    debug_assert_eq!(
        (parsed.get_ssl_mode(), parsed.get_target_session_attrs()),
        (SslMode::Prefer, TargetSessionAttrs::Any)
    );
    let user = parsed.get_user().filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| fault("an address without a user", format!("one such as {EXAMPLE}")))?.to_owned();
    let database = parsed.get_dbname().filter(|name| !name.is_empty());
    let database = database.ok_or_else(|| fault("an address without a database", format!("one such as {EXAMPLE}")))?;
    let password = parsed.get_password().map(|bytes| Secret::new(String::from_utf8_lossy(bytes).into_owned()));
    let ports = parsed.get_ports();
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let hosts: Vec<ServerHost> = parsed
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let name = match host {
                Host::Tcp(name) => HostName::Network(name.trim_matches(['[', ']']).to_owned()),
                Host::Unix(folder) => HostName::Folder(folder.clone()),
            };
            ServerHost { name, port: port(index), password: password.clone() }
        })
        .collect();
    if hosts.is_empty() || hosts.iter().any(|host| host.name == HostName::Network(String::new())) {
        return Err(fault("an address without a host", format!("one such as {EXAMPLE}")));
    }
    let (database, authorities) = (database.to_owned(), Authorities::default());
    Ok(ServerAddress { hosts, user, database, encrypts, authorities, identity: None })
}

impl ServerAddress {
    /// Says whether the connection to a host is encrypted.
    pub fn encrypts(&self, host: &ServerHost) -> bool {
        // A socket has no TLS.
        let is_socket = matches!(host.name, HostName::Folder(_));
        !is_socket && self.encrypts.unwrap_or(!host.name.is_local())
    }

    /// The hosts that others than this machine may reach, and whose connections are not encrypted.
    pub fn plain_hosts(&self) -> impl Iterator<Item = &ServerHost> {
        self.hosts.iter().filter(|host| !host.name.is_local() && !self.encrypts(host))
    }
}

impl fmt::Display for ServerHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            HostName::Network(name) if name.contains(':') => write!(formatter, "[{name}]")?,
            HostName::Network(name) => formatter.write_str(name)?,
            HostName::Folder(folder) => write!(formatter, "{}", folder.display())?,
        }
        if self.port == 5432 { Ok(()) } else { write!(formatter, ":{}", self.port) }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        write!(formatter, "postgres://{}@{}/{}", self.user, hosts.join(","), self.database)
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// Returns the password of a file in the format of libpq's password file, `host:port:database:user:password` with `*`
/// for anything and `\` before a `:` or `\` that is part of a value. The first line that fits counts.
pub fn password_of_file(text: &str, address: &ServerAddress, host: &ServerHost) -> Option<Secret> {
    let name = match &host.name {
        HostName::Network(name) => name.clone(),
        // A folder that nobody named is written as localhost.
        HostName::Folder(folder) if is_default(folder) => "localhost".to_owned(),
        HostName::Folder(folder) => folder.to_string_lossy().into_owned(),
    };
    let port = host.port.to_string();
    let expected = [&name, &port, &address.database, &address.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [ref places @ .., ref password] = fields[..] else { return None };
        let fits = places.len() == expected.len()
            && places
                .iter()
                .zip(expected)
                .all(|((field, is_plain), value)| field == value || field == "*" && *is_plain);
        fits.then(|| Secret::new(password.0.clone()))
    })
}

fn is_default(folder: &Path) -> bool {
    folder == Path::new("/var/run/postgresql") || folder == Path::new("/run/postgresql")
}

/// Splits a line of a password file into five fields, each with whether nothing in it was escaped.
fn fields(line: &str) -> Vec<(String, bool)> {
    let mut fields = vec![(String::new(), true)];
    let mut characters = line.trim_end_matches('\r').chars();
    while let Some(character) = characters.next() {
        let count = fields.len();
        let Some((field, is_plain)) = fields.last_mut() else { break };
        match character {
            '\\' => {
                field.extend(characters.next());
                *is_plain = false;
            }
            ':' if count < 5 => fields.push((String::new(), true)),
            other => field.push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_hosts_ports_role_and_database_and_never_a_password() {
        let address = parse("postgres://me:hunter2@db1,db2:6432/state?target_session_attrs=read-write").unwrap();
        assert_eq!(address.to_string(), "postgres://me@db1,db2:6432/state");
        assert_eq!(format!("{address:?}"), "postgres://me@db1,db2:6432/state");
        assert_eq!(address.hosts[1].password, Some(Secret::new("hunter2")));
        assert_eq!(parse("postgresql://me@[::1]/state").unwrap().to_string(), "postgres://me@[::1]/state");
        let socket = parse("postgres://me@/state?host=/run/postgresql").unwrap();
        assert_eq!(socket.to_string(), "postgres://me@/run/postgresql/state");
        let other = parse("postgres://me@/state?host=db1&port=6432").unwrap();
        assert_eq!(other.to_string(), "postgres://me@db1:6432/state");
        assert_eq!(parse("postgres://me@%2Frun%2Fpg/state").unwrap().to_string(), "postgres://me@/run/pg/state");
    }

    #[test]
    fn connections_that_leave_the_machine_are_encrypted_unless_the_address_says_no() {
        let encrypts = |text: &str| {
            let address = parse(text).unwrap();
            let encrypts: Vec<bool> = address.hosts.iter().map(|host| address.encrypts(host)).collect();
            (encrypts, address.plain_hosts().count())
        };
        assert_eq!(encrypts("postgres://me@db,localhost,127.0.0.1,%2Frun/state"), (vec![true, false, false, false], 0));
        assert_eq!(encrypts("postgres://me@db,localhost,%2Frun/s?sslmode=verify-full"), (vec![true, true, false], 0));
        assert_eq!(encrypts("postgres://me@db,localhost/state?sslmode=disable"), (vec![false, false], 1));
    }

    #[test]
    fn a_wrong_address_is_refused_without_its_password() {
        for (text, found) in [
            ("postgres://me:hunter2@db/state?sslmode=require", "another sslmode, expected sslmode=verify-full"),
            ("postgres://me:hunter2@db/state?sslmode=hunter2", "another sslmode"),
            (
                "postgres://me:hunter2@db/state?target_session_attrs=any",
                "other target_session_attrs, expected read-write",
            ),
            (
                "postgres://me:hunter2@db/state?sslrootcert=ca.pem",
                "the parameter sslrootcert, expected `state_ca_file`",
            ),
            (
                "postgres://me:hunter2@db/state?port=6432",
                "the parameter port beside a host, expected all hosts and ports",
            ),
            ("postgres://me:hunter2@db:1/state?host=db2", "the parameter host beside a host"),
            ("postgres://me:hunter2@db/state?hunter2=1", "a parameter that is not known here"),
            ("postgres://me:hunter2@db", "an address without a database"),
            ("postgres://db/state", "an address without a user"),
            ("postgres:///state?user=me", "an address without a host"),
            ("postgres://me:hunter2@db:x/state", "an address that cannot be read"),
            ("postgres:hunter2", "an address that cannot be read"),
        ] {
            let fault = parse(text).unwrap_err().to_string();
            assert!(fault.starts_with(&format!("found {found}")), "{text}: {fault}");
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn a_password_file_is_read_as_libpq_reads_it() {
        let password = |file: &str, address: &str| {
            let address = parse(address).unwrap();
            password_of_file(file, &address, &address.hosts[0]).map(|secret| secret.expose().to_owned())
        };
        let file = "# db:5432:state:me:no\nother:5432:state:me:a\ndb:*:state:me:b\\:c\\\\d:e\n*:*:*:you:f\nlocalhost:*:*:*:g\n";
        assert_eq!(password(file, "postgres://me@db/state").as_deref(), Some("b:c\\d:e"));
        assert_eq!(password(file, "postgres://me@other/state").as_deref(), Some("a"));
        assert_eq!(password(file, "postgres://me@other:1/state"), None);
        assert_eq!(password(file, "postgres://you@anywhere/any").as_deref(), Some("f"));
        assert_eq!(password(file, "postgres://me@%2Frun%2Fpostgresql/state").as_deref(), Some("g"));
        assert_eq!(password("\\*:*:*:*:no", "postgres://me@db/state"), None);
        assert_eq!(password("too:few:fields", "postgres://me@db/state"), None);
    }
}
