//! The faults of a PostgreSQL server and of the way there, each with what mends it.

use std::error::Error;
use std::io;

use source_host::cause::Cause;
use tokio_postgres::error::{DbError, SqlState};

use super::address::{ServerAddress, ServerHost};

/// The oldest version of PostgreSQL with everything that the store needs.
pub const OLDEST_VERSION: u32 = 13;

/// The schema that holds the tables, so that a collector can share a database.
pub const SCHEMA: &str = "host_harness";

/// A fault of a server, or of the way there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerFault {
    /// No connection.
    #[error(
        "{host} cannot be reached ({cause}); see that PostgreSQL runs there and that this machine may connect to it"
    )]
    Unreachable {
        /// The server.
        host: String,
        /// The reason.
        cause: Cause,
    },
    /// The connection ended, or took too long.
    #[error("the connection to {host} was lost ({cause}); the collector connects again")]
    Lost {
        /// The server.
        host: String,
        /// The reason.
        cause: Cause,
    },
    /// The server has no TLS.
    #[error(
        "{host} offers no TLS, expected `ssl = on` there; only where nobody else can read the network between, write \
         sslmode=disable in the address"
    )]
    NoTls {
        /// The server.
        host: String,
    },
    /// The server's certificate, or the collector's, is refused.
    #[error(
        "the TLS of {host} failed ({cause}), expected a certificate for that name of an authority that the system or \
         `state_ca_file` knows, and `state_client_certificate` where the server asks for one"
    )]
    Tls {
        /// The server.
        host: String,
        /// The reason.
        cause: Cause,
    },
    /// The server refused the role.
    #[error(
        "{host} refused the role {role} ({cause}); see to pg_hba.conf there, and to the role's password (`state_password`)"
    )]
    Refused {
        /// The server.
        host: String,
        /// The role.
        role: String,
        /// The server's words.
        cause: Cause,
    },
    /// The server asks for a password.
    #[error(
        "{host} asks for the password of the role {role}, and found none, expected `state_password`, or a line of the \
         password file (~/.pgpass, PGPASSFILE)"
    )]
    NoPassword {
        /// The server.
        host: String,
        /// The role.
        role: String,
    },
    /// The server lacks the database.
    #[error(
        "{host} has no database {database}; let a superuser run there: {}",
        new_database(&identifier(database), role)
    )]
    NoDatabase {
        /// The server.
        host: String,
        /// The database.
        database: String,
        /// The role.
        role: String,
    },
    /// Another program has a schema of the same name.
    #[error(
        "the schema {SCHEMA} of the database on {host} belongs to another program; give the collector a database of its own"
    )]
    Foreign {
        /// The server.
        host: String,
    },
    /// The server takes no writes.
    #[error("found {host} read-only, as a standby is, expected a server that takes writes")]
    Standby {
        /// The server.
        host: String,
    },
    /// The server has an early version.
    #[error("found PostgreSQL {found} on {host}, expected {OLDEST_VERSION} or later")]
    Old {
        /// The server.
        host: String,
        /// Its version.
        found: u32,
    },
    /// The database cannot hold every text.
    #[error(
        "found the encoding {found} of the database {database} on {host}, expected UTF8, which can store every name; let a \
         superuser make another database: {}",
        new_database("…", role)
    )]
    Encoding {
        /// The server.
        host: String,
        /// The database.
        database: String,
        /// The role.
        role: String,
        /// The database's encoding.
        found: String,
    },
    /// The tables hold rows of two states, or not all rows of one.
    #[error(
        "found {salts} rows in the table {SCHEMA}.salt, expected 1: a backup was restored over another state, or not \
         completely; stop all collectors, run DROP SCHEMA {SCHEMA} CASCADE there, and restore the backup as docs/scale.md says"
    )]
    Mixed {
        /// Number of the salts.
        salts: i64,
    },
    /// The server starts, stops, or has no connection to spare.
    #[error("{host} takes no connection at present ({cause}); if that lasts, see to max_connections there")]
    Crowded {
        /// The server.
        host: String,
        /// The server's words.
        cause: Cause,
    },
    /// The role lacks a right.
    #[error("the role {role} lacks a right ({cause}); let the owner of the database run: {grant}")]
    Denied {
        /// The role.
        role: String,
        /// The server's words.
        cause: Cause,
        /// The statements that mend this.
        grant: String,
    },
    /// A statement waited too long for others, or took too long.
    #[error("{host} took too long ({cause}); see to its load, and to long transactions of other programs")]
    Slow {
        /// The server.
        host: String,
        /// The server's words.
        cause: Cause,
    },
    /// No server of several can be used.
    #[error("no server can be used: {}", told(.0))]
    Each(Vec<ServerFault>),
}

fn told(faults: &[ServerFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl ServerFault {
    /// Says whether a new connection, to this server or another one, may succeed.
    pub fn asks_to_connect(&self) -> bool {
        matches!(self, ServerFault::Lost { .. } | ServerFault::Standby { .. })
    }

    /// Says whether the same question may succeed a little later.
    pub fn may_pass(&self) -> bool {
        match self {
            ServerFault::Unreachable { .. }
            | ServerFault::Lost { .. }
            | ServerFault::Standby { .. }
            | ServerFault::Crowded { .. }
            | ServerFault::Slow { .. } => true,
            ServerFault::Each(faults) => faults.iter().any(ServerFault::may_pass),
            _ => false,
        }
    }
}

/// The parts of a connection that messages name.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub host: String,
    pub role: String,
    pub database: String,
}

impl Peer {
    pub fn new(address: &ServerAddress, host: &ServerHost) -> Peer {
        Peer { host: host.to_string(), role: address.user.clone(), database: address.database.clone() }
    }

    /// Sorts an error of a connection that is being made.
    pub fn connecting(&self, error: tokio_postgres::Error, has_password: bool) -> ServerFault {
        let Peer { host, role, database } = self.clone();
        if let Some(told) = error.as_db_error() {
            let cause = words(told);
            return match told.code().code() {
                "28P01" if !has_password => ServerFault::NoPassword { host, role },
                "28P01" | "28000" => ServerFault::Refused { host, role, cause },
                "3D000" => ServerFault::NoDatabase { host, database, role },
                "53300" | "57P03" => ServerFault::Crowded { host, cause },
                "42501" => {
                    let grant = format!("GRANT CONNECT ON DATABASE {} TO {}", identifier(&database), identifier(&role));
                    ServerFault::Denied { role, cause, grant }
                }
                _ => ServerFault::Unreachable { host, cause },
            };
        }
        let text = chain(&error);
        // The library has no kinds of its own: its words tell a missing password, and a server without TLS.
        if text.contains("password missing") {
            return ServerFault::NoPassword { host, role };
        }
        if text.contains("server does not support TLS") {
            return ServerFault::NoTls { host };
        }
        let cause = Cause::new(text);
        match is_of_tls(&error) {
            true => ServerFault::Tls { host, cause },
            false => ServerFault::Unreachable { host, cause },
        }
    }

    /// Sorts an error of a connection that works.
    pub fn asking(&self, error: tokio_postgres::Error) -> Asked {
        let host = self.host.clone();
        let Some(told) = error.as_db_error() else {
            let cause = Cause::new(chain(&error));
            return match error.is_closed() {
                true => Asked::Server(ServerFault::Lost { host, cause }),
                false => Asked::Other(cause),
            };
        };
        let cause = words(told);
        let code = told.code();
        if *code == SqlState::DISK_FULL {
            return Asked::Full;
        }
        Asked::Server(match code.code() {
            // An administrator, a crash, a timeout of the session.
            "57P01" | "57P02" | "57P03" | "25P03" | "57P05" => ServerFault::Lost { host, cause },
            "25006" => ServerFault::Standby { host },
            "42501" => self.denied(cause),
            // Statement, lock and deadlock.
            "57014" | "55P03" | "40P01" | "40001" => ServerFault::Slow { host, cause },
            code if code.starts_with("08") => ServerFault::Lost { host, cause },
            _ => return Asked::Other(cause),
        })
    }

    fn denied(&self, cause: Cause) -> ServerFault {
        let role = self.role.clone();
        let (quoted, database) = (word(&role), word(&self.database));
        let grant = format!("host-harness schema --role {quoted} | psql -v ON_ERROR_STOP=1 -d {database}");
        ServerFault::Denied { role, cause, grant }
    }
}

/// The statement that makes a database for every text, whatever the server's own locale is.
fn new_database(name: &str, role: &str) -> String {
    format!("CREATE DATABASE {name} OWNER {} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0", identifier(role))
}

/// A name in a statement.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name as one word of a shell's command.
fn word(name: &str) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || "_.-".contains(character);
    match !name.is_empty() && name.chars().all(is_plain) {
        true => name.to_owned(),
        false => format!("'{}'", name.replace('\'', "'\\''")),
    }
}

/// The fault of a question to a server.
pub(super) enum Asked {
    Server(ServerFault),
    Full,
    Other(Cause),
}

fn words(told: &DbError) -> Cause {
    let detail = told.detail().map(|detail| format!(", {detail}")).unwrap_or_default();
    Cause::new(format!("{}{detail}, code {}", told.message(), told.code().code()))
}

/// The words of an error and its causes, each once.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let own = error.to_string();
        if !words.contains(&own) {
            words = format!("{words}: {own}");
        }
        cause = error.source();
    }
    words
}

fn is_of_tls(error: &tokio_postgres::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<rustls::Error>() || within.is_some_and(|within| within.is::<rustls::Error>()) {
            return true;
        }
        cause = error.source();
    }
    error.to_string().contains("TLS")
}
