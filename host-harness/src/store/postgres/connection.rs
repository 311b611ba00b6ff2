//! One connection to the server of an address that takes writes, with the session's settings.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{join_all, maybe_done};
use futures_util::poll;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use source_host::cause::Cause;
use source_host::limits::milliseconds;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use super::Closing;
use super::address::{HostName, ServerAddress, ServerHost};
use super::fault::{Asked, OLDEST_VERSION, Peer, SCHEMA, ServerFault};
use super::tls::Tls;
use crate::limits;
use crate::store::StoreErrorKind;

/// The parameters of a statement.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A statement with its parameters.
pub(super) type SentStatement<'a> = (&'static str, Vec<&'a (dyn ToSql + Sync)>);

/// Whether a connection is for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkPurpose {
    /// Writing: only a server that takes writes will do.
    Writing,
    /// Reading: a standby will do where no other server is there.
    Reading,
}

/// A connection, and the statements that were prepared on it. The connection ends with the value.
pub(super) struct Connection {
    pub client: Client,
    peer: Peer,
    prepared: Mutex<HashMap<&'static str, Statement>>,
    /// Carries the messages of the client.
    carrier: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

/// The server that takes writes, as the renewals of the leases found it last. Connections to another one end: a server that
/// hangs would keep its users waiting though another took its place.
pub(super) type Primary = watch::Sender<Option<String>>;

/// Connects to the first server of an address that can be used. A server that does not answer keeps nobody from the next
/// one: each is asked a moment after the one before it, while that may still answer.
pub(super) async fn connect(
    address: &ServerAddress,
    purpose: LinkPurpose,
    primary: &Primary,
) -> Result<Connection, ServerFault> {
    let asked = address.hosts.iter().zip(0..).map(|(host, place)| async move {
        tokio::time::sleep(limits::STORE_NEXT_HOST * place).await;
        (place, host, connect_to(address, host, primary).await)
    });
    let mut answers: FuturesUnordered<_> = asked.collect();
    let (mut faults, mut standby) = (BTreeMap::new(), None);
    while let Some((place, host, answer)) = answers.next().await {
        match answer {
            Ok((connection, false)) => return Ok(connection),
            Ok((connection, true)) => {
                faults.insert(place, ServerFault::Standby { host: host.to_string() });
                standby.get_or_insert(connection);
            }
            Err(fault) => drop(faults.insert(place, fault)),
        }
    }
    match standby.filter(|_| purpose == LinkPurpose::Reading) {
        Some(connection) => Ok(connection),
        None => {
            let mut faults: Vec<ServerFault> = faults.into_values().collect();
            Err(if faults.len() == 1 { faults.remove(0) } else { ServerFault::Each(faults) })
        }
    }
}

/// Connects to one server. Returns also whether it takes no writes.
async fn connect_to(
    address: &ServerAddress,
    host: &ServerHost,
    primary: &Primary,
) -> Result<(Connection, bool), ServerFault> {
    let peer = Peer::new(address, host);
    let slow = |_| ServerFault::Unreachable {
        host: peer.host.clone(),
        cause: Cause::new(format!("no answer within {} s", limits::STORE_CONNECT.as_secs())),
    };
    tokio::time::timeout(limits::STORE_CONNECT, begin(address, host, &peer, primary)).await.map_err(slow)?
}

async fn begin(
    address: &ServerAddress,
    host: &ServerHost,
    peer: &Peer,
    primary: &Primary,
) -> Result<(Connection, bool), ServerFault> {
    let mut config = Config::new();
    match &host.name {
        HostName::Network(name) => config.host(name),
        HostName::Folder(folder) => config.host_path(folder),
    };
    config.port(host.port).user(&address.user).dbname(&address.database).application_name(limits::STORE_NAME);
    config.keepalives_idle(limits::STORE_KEEPALIVE).keepalives_interval(limits::STORE_KEEPALIVE).keepalives_retries(3);
    config.tcp_user_timeout(limits::STORE_SILENCE);
    if let Some(password) = &host.password {
        config.password(password.expose());
    }
    let failed = |error| peer.connecting(error, host.password.is_some());
    let replaced = replaced(primary.subscribe(), peer.host.clone());
    let (client, carrier) = if address.encrypts(host) {
        config.ssl_mode(SslMode::Require);
        let tls = Tls::new(address)
            .map_err(|error| ServerFault::Tls { host: peer.host.clone(), cause: Cause::new(error) })?;
        let (client, connection) = config.connect(tls).await.map_err(failed)?;
        (client, tokio::spawn(carried(connection, replaced)))
    } else {
        config.ssl_mode(SslMode::Disable);
        let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
        (client, tokio::spawn(carried(connection, replaced)))
    };
    let connection = Connection { client, peer: peer.clone(), prepared: Mutex::default(), carrier };
    let told = connection.client.query_one(
        "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,
             current_setting('server_version_num')::int / 10000, current_setting('synchronous_commit') IN ('off', 'local'),
             current_setting('fsync')::bool, current_setting('server_encoding')",
        &[],
    );
    let told = told.await.map_err(failed)?;
    let (is_standby, version, is_lax, syncs): (bool, i32, bool, bool) =
        (told.get(0), told.get(1), told.get(2), told.get(3));
    let encoding: String = told.get(4);
    if version < OLDEST_VERSION as i32 {
        return Err(ServerFault::Old { host: peer.host.clone(), found: version as u32 });
    }
    // The last one takes bytes as they come, and these are UTF-8.
    if !["UTF8", "SQL_ASCII"].contains(&encoding.as_str()) {
        let Peer { host, role, database } = peer.clone();
        return Err(ServerFault::Encoding { host, database, role, found: encoding });
    }
    if !syncs {
        tracing::warn!(
            fault = "operator",
            "{} has fsync = off: a power failure there loses what it acknowledged",
            peer.host
        );
    }
    connection.client.batch_execute(&settings(is_lax)).await.map_err(failed)?;
    Ok((connection, is_standby))
}

/// Returns when another server than this one is found to take writes.
async fn replaced(mut primary: watch::Receiver<Option<String>>, host: String) {
    let is_other = |primary: &Option<String>| primary.as_ref().is_some_and(|primary| *primary != host);
    while primary.changed().await.is_ok() {
        if is_other(&primary.borrow_and_update()) {
            return;
        }
    }
    std::future::pending().await
}

async fn carried<S, T>(connection: tokio_postgres::Connection<S, T>, replaced: impl Future<Output = ()>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // Whoever asks next learns of the loss, and tells it.
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection of the state ended");
            }
        }
        () = replaced => tracing::debug!("a connection of the state ends: another server took the place of its server"),
    }
}

/// The settings of a session, whatever the server's, the database's and the role's are.
fn settings(is_lax: bool) -> String {
    let milliseconds = |name: &str, time| format!("SET {name} = {};\n", milliseconds(time));
    let mut settings = format!(
        "SET search_path = {SCHEMA};
         SET default_transaction_isolation = 'read committed';
         SET client_min_messages = warning;
         SET jit = off;
         SET extra_float_digits = 1;\n"
    );
    settings += &milliseconds("statement_timeout", limits::STORE_STATEMENT);
    settings += &milliseconds("lock_timeout", limits::STORE_LOCK);
    settings += &milliseconds("idle_in_transaction_session_timeout", limits::STORE_IDLE_TRANSACTION);
    if is_lax {
        // Otherwise a power failure of the server would lose polls that were reported as committed.
        settings += "SET synchronous_commit = on;\n";
    }
    settings
}

impl Connection {
    /// The name of the server.
    pub fn host(&self) -> &str {
        &self.peer.host
    }

    /// Says whether the connection ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Prepares a statement, or finds it prepared.
    async fn statement(&self, text: &'static str) -> Result<Statement, StoreErrorKind> {
        let known = self.prepared.lock().get(text).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(text).await.map_err(|error| self.sorted(error))?;
        self.prepared.lock().insert(text, statement.clone());
        Ok(statement)
    }

    /// Asks, and returns the rows.
    pub async fn rows(&self, text: &'static str, parameters: Parameters<'_>) -> Result<Vec<Row>, StoreErrorKind> {
        let statement = self.statement(text).await?;
        self.client.query(&statement, parameters).await.map_err(|error| self.sorted(error))
    }

    /// Asks, and returns the first row.
    pub async fn row(&self, text: &'static str, parameters: Parameters<'_>) -> Result<Option<Row>, StoreErrorKind> {
        Ok(self.rows(text, parameters).await?.into_iter().next())
    }

    /// Sends the statements of a transaction one after the other without waiting, and returns the rows of each. After an
    /// error, the server refuses the other statements of the transaction, and turns a commit into a rollback. A statement
    /// that cannot be sent is one that the server knows nothing of: no later one is sent, and the transaction is rolled
    /// back.
    pub async fn pipeline(&self, steps: &[SentStatement<'_>]) -> Result<Vec<Vec<Row>>, StoreErrorKind> {
        let mut statements = Vec::new();
        for (text, _) in steps {
            match self.statement(text).await {
                Ok(statement) => statements.push(statement),
                Err(error) => {
                    self.roll_back().await;
                    return Err(error);
                }
            }
        }
        let questions = statements.iter().zip(steps);
        let questions = questions.map(|(statement, (_, parameters))| self.client.query(statement, parameters));
        match in_order(questions).await {
            InOrder::All(answers) => answers.map_err(|error| self.sorted(error)),
            InOrder::Part(error) => {
                self.roll_back().await;
                Err(self.sorted(error))
            }
        }
    }

    /// If the connection is lost, the server rolls back by itself.
    pub async fn roll_back(&self) {
        let _ = self.run("ROLLBACK").await;
    }

    /// Runs statements without parameters.
    pub async fn run(&self, text: &str) -> Result<(), StoreErrorKind> {
        self.client.batch_execute(text).await.map_err(|error| self.sorted(error))
    }

    /// Sorts an error of this connection.
    pub fn sorted(&self, error: tokio_postgres::Error) -> StoreErrorKind {
        match self.peer.asking(error) {
            Asked::Server(fault) => StoreErrorKind::Server(fault),
            Asked::Full => StoreErrorKind::Full,
            Asked::Other(cause) => StoreErrorKind::Other(cause),
        }
    }
}

/// The fate of questions that are sent one after the other.
#[derive(Debug, PartialEq)]
enum InOrder<T, E> {
    /// All were sent. The first error, or all answers.
    All(Result<Vec<T>, E>),
    /// One failed at once, and those after it were not sent.
    Part(E),
}

/// Asks questions in their order. Each is sent when it is polled first; its parameters may turn out not to fit.
async fn in_order<T, E, F>(questions: impl Iterator<Item = F>) -> InOrder<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut asked: Vec<_> = questions.map(|question| Box::pin(maybe_done(question))).collect();
    for question in &mut asked {
        let _ = poll!(question.as_mut());
        let has_failed = matches!(question.as_mut().output_mut(), Some(Err(_)));
        if has_failed && let Some(Err(error)) = question.as_mut().take_output() {
            return InOrder::Part(error);
        }
    }
    let answers = join_all(asked.iter_mut().map(|question| async {
        question.as_mut().await;
        question.as_mut().take_output()
    }));
    InOrder::All(answers.await.into_iter().flatten().collect())
}

/// A connection that all share, made anew when it was lost. Statements of several users follow each other on the way to
/// the server without waiting for answers.
pub(super) struct Link {
    address: Arc<ServerAddress>,
    purpose: LinkPurpose,
    primary: Primary,
    current: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

impl Link {
    pub fn new(address: Arc<ServerAddress>, purpose: LinkPurpose, primary: Primary) -> Link {
        Link { address, purpose, primary, current: tokio::sync::Mutex::new(None) }
    }

    /// Tells all links which server this one uses: it takes writes.
    pub async fn tell_primary(&self) {
        let Some(host) = self.current.lock().await.as_ref().map(|connection| connection.host().to_owned()) else {
            return;
        };
        self.primary.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(&host);
            *known = Some(host);
            is_new
        });
    }

    /// Returns a connection that was not lost so far.
    pub async fn connection(&self) -> Result<Arc<Connection>, StoreErrorKind> {
        let mut current = self.current.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(Arc::clone(connection));
        }
        let made = connect(&self.address, self.purpose, &self.primary).await.map_err(StoreErrorKind::Server)?;
        let made = Arc::new(made);
        *current = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Asks a question that may be repeated, until a server answers or the `patience` ends.
    pub async fn rows(
        &self,
        text: &'static str,
        parameters: Parameters<'_>,
        closing: &Closing,
        patience: Duration,
    ) -> Result<Vec<Row>, StoreErrorKind> {
        let (begun, mut pause) = (Instant::now(), limits::STORE_PAUSE);
        loop {
            if closing.is_closed() {
                return Err(StoreErrorKind::Stopped);
            }
            let error = match self.connection().await {
                Err(error) => error,
                Ok(connection) => match connection.rows(text, parameters).await {
                    Ok(rows) => return Ok(rows),
                    Err(error) => {
                        if matches!(&error, StoreErrorKind::Server(fault) if fault.asks_to_connect()) {
                            self.part(&connection).await;
                        }
                        error
                    }
                },
            };
            let may_pass = matches!(&error, StoreErrorKind::Server(fault) if fault.may_pass());
            if !may_pass || begun.elapsed() >= patience || !closing.pause(pause).await {
                return Err(error);
            }
            pause = (pause * 2).min(limits::STORE_LONGEST_PAUSE);
        }
    }

    /// Ends the connection.
    pub async fn end(&self) {
        *self.current.lock().await = None;
    }

    /// Lets a connection go that its user does not trust any more: the server became a standby, or did not answer.
    pub async fn part(&self, with: &Arc<Connection>) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|connection| Arc::ptr_eq(connection, with)) {
            *current = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn nothing_is_sent_after_a_statement_that_cannot_be_sent() {
        let sent = RefCell::new(Vec::new());
        let question = |name: &'static str, fits: bool, answer: Result<u8, &'static str>| {
            let sent = &sent;
            async move {
                if !fits {
                    return Err("does not fit");
                }
                sent.borrow_mut().push(name);
                tokio::task::yield_now().await;
                answer
            }
        };
        let transaction =
            |fits| [question("first", true, Ok(1)), question("second", fits, Ok(2)), question("COMMIT", true, Ok(3))];
        assert_eq!(in_order(transaction(false).into_iter()).await, InOrder::Part("does not fit"));
        assert_eq!(sent.take(), ["first"]);
        assert_eq!(in_order(transaction(true).into_iter()).await, InOrder::All(Ok(vec![1, 2, 3])));
        assert_eq!(sent.take(), ["first", "second", "COMMIT"]);
        // The server has all of them, and answers the commit with a rollback.
        let refused = [question("first", true, Err("refused")), question("COMMIT", true, Ok(3))];
        assert_eq!(in_order(refused.into_iter()).await, InOrder::All(Err("refused")));
        assert_eq!(sent.take(), ["first", "COMMIT"]);
    }
}
