//! What the collector keeps: the state of each scope and when it is due, events until their sinks have them, throttles,
//! and the history of figures. One small trait, so that another database can take the place of SQLite; it runs on a
//! thread of its own.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use serde::{Deserialize, Serialize};
use source_host::blame::Blame;
use source_host::cause::Cause;
use source_host::contract::{Failure, Measure, Scope};
use source_host::digest::ShortDigest;
use tokio::sync::oneshot;

pub mod budget;
pub mod space;
pub mod sqlite;

use self::budget::{Budgets, Excess, StoredBytes};

/// What waits for one sink from one tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Number of events.
    pub events: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// The outboxes by sink and tenant.
#[derive(Debug, Clone, Default)]
pub struct Outboxes {
    /// What waits in those that are not empty.
    pub waiting: Vec<((String, String), Waiting)>,
    /// Those that are full.
    pub full: Vec<(String, String)>,
}

/// What went wrong with the store, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state in {}: {what}", file.display())]
pub struct StoreError {
    /// Which file.
    pub file: PathBuf,
    /// Cause and fix.
    pub what: StoreErrorKind,
}

impl StoreError {
    /// Who can mend it.
    pub fn blame(&self) -> Blame {
        match self.what {
            StoreErrorKind::Stopped => Blame::Harness,
            // A disk, a permission, another program, or a budget.
            _ => Blame::Operator,
        }
    }
}

/// The kinds of fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreErrorKind {
    /// Nothing more can be written.
    #[error("the disk is full, nothing of the poll was written; make room, the poll is done again")]
    Full,
    /// The feed or its tenant would keep more than it may.
    #[error("{0}")]
    OverBudget(Excess),
    /// Another collector has it.
    #[error("another collector uses it{0}; stop that one, or give this one a file of its own")]
    Locked(String),
    /// Another program has it.
    #[error("another program is writing to it; let that end its transaction")]
    Busy,
    /// The collector's user may not write it.
    #[error("it cannot be written ({0}); give the collector's user write access to the file and its folder")]
    ReadOnly(String),
    /// It is no file, or one that the collector's user may not open.
    #[error("it cannot be opened ({0}); see that it is a file, and that the collector's user may read and write it")]
    Unopened(String),
    /// It cannot be read as what it was.
    #[error("it is damaged ({0}); restore it from a backup, or move it away to begin anew")]
    Damaged(String),
    /// It is no state of a collector.
    #[error("it is a database of something else; give the collector a file of its own")]
    Foreign,
    /// A later version wrote it.
    #[error("found schema {found}, which a later version wrote, expected at most {known}; use that version")]
    Newer {
        /// Its schema.
        found: u32,
        /// The last one that is known here.
        known: u32,
    },
    /// Anything else.
    #[error(transparent)]
    Other(Cause),
    /// The thread is gone: it panicked, or the collector stops.
    #[error("the store has stopped")]
    Stopped,
}

/// What is kept of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeedRow {
    /// Id of the feed.
    pub feed: String,
    /// Digest of its settings without credentials, as of the last search for scopes: a scope that is gone was lost if
    /// they are the same, and given up if they are not.
    pub searched_with: ShortDigest,
    /// Digest of its whole configuration as of its last use, salted.
    pub configured_as: ShortDigest,
}

/// What is kept of a scope besides the plugin's state.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeRow {
    /// Id of the feed.
    pub feed: String,
    /// Id of the tenant.
    pub tenant: String,
    /// The scope as it was last discovered.
    pub scope: Scope,
    /// How it stands.
    pub standing: Standing,
}

impl ScopeRow {
    /// The scope and how it stands.
    pub fn pair(&self) -> (Scope, Standing) {
        (self.scope.clone(), self.standing.clone())
    }
}

/// How a scope stands between two polls. All times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// When it is polled next.
    pub due: u64,
    /// Failures in a row.
    pub failures: u32,
    /// Whether only a person can mend it.
    pub waits_for_person: bool,
    /// Why there was no data at the last poll; none if there was.
    pub outcome: Option<Box<Failure>>,
    /// Since when the outcome is what it is.
    pub since: u64,
    /// When the service last refused it for want of a permission.
    pub refused: Option<u64>,
    /// When data was last collected.
    pub last_good: Option<u64>,
    /// Whether it is polled.
    pub watch: Polling,
}

/// Whether a scope is polled, as far as the last search for scopes says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Polling {
    /// It is.
    #[default]
    Polled,
    /// It is not: the search does not find it any more, or found that it cannot be polled.
    Lost,
    /// It is not: the settings do not ask for it.
    Unasked,
}

/// What one poll leaves: written whole or not at all.
#[derive(Debug, Clone)]
pub struct PollRecord {
    /// The scope as it stands after the poll.
    pub row: ScopeRow,
    /// The plugin's state; none keeps what there is.
    pub state: Option<Vec<u8>>,
    /// When the poll ended.
    pub time: u64,
    /// Figures.
    pub measures: Vec<Measure>,
    /// Events in their order.
    pub events: Vec<NewEvent>,
    /// Ids of the sinks that each event goes to.
    pub sinks: Vec<String>,
    /// A wait that others share: id of the credential, origin, until when.
    pub throttle: Option<Throttle>,
    /// The most that may be kept of the feed and its tenant.
    pub budgets: Budgets,
}

/// What is kept of one feed beside the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRow {
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// Bytes of its scopes, their states and figures.
    pub bytes: u64,
}

/// An event on its way into the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its `metadata.uid`.
    pub uid: String,
    /// Unix milliseconds.
    pub time: u64,
    /// One JSON object on one line.
    pub body: Vec<u8>,
}

/// An event that waits for its sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Its number in the outbox; grows.
    pub number: i64,
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// Id of the scope.
    pub scope: String,
    /// Its `metadata.uid`.
    pub uid: String,
    /// Unix milliseconds.
    pub time: u64,
    /// One JSON object on one line.
    pub body: Vec<u8>,
}

/// Which events of a sink go one way: all of them, those of a tenant, those of a feed, or those of a feed while it
/// belonged to a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// Id of the sink.
    pub sink: String,
    /// Only those of this tenant.
    pub tenant: Option<String>,
    /// Only those of this feed.
    pub feed: Option<String>,
}

/// How much waits for a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// Id of the sink.
    pub sink: String,
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// Number of events.
    pub events: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// A wait that all share who use a credential at an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttle {
    /// Names the credential without giving it away.
    pub credential: ShortDigest,
    /// Scheme, host and port.
    pub origin: String,
    /// Unix milliseconds.
    pub until: u64,
}

type StoreResult<T> = Result<T, StoreError>;

/// The whole of what the collector asks of its database.
pub trait Store: Send {
    /// A random text that belongs to this store: digests of secrets are made with it.
    fn salt(&mut self) -> StoreResult<String>;
    /// All feeds that were ever collected.
    fn feeds(&mut self) -> StoreResult<Vec<FeedRow>>;
    /// Keeps a feed.
    fn keep_feed(&mut self, row: &FeedRow) -> StoreResult<()>;
    /// All scopes that were ever discovered.
    fn scopes(&mut self) -> StoreResult<Vec<ScopeRow>>;
    /// The plugin's state of a scope; none where it is another tenant's.
    fn state(&mut self, tenant: &str, feed: &str, scope: &str) -> StoreResult<Option<Vec<u8>>>;
    /// Writes all that a poll leaves, or nothing. Gives what is kept of the feed and its tenant then.
    fn commit(&mut self, poll: &PollRecord) -> StoreResult<StoredBytes>;
    /// What is kept of each feed beside the outbox.
    fn kept(&mut self) -> StoreResult<Vec<KeptRow>>;
    /// Keeps how scopes stand, without a poll.
    fn keep_scopes(&mut self, rows: &[ScopeRow]) -> StoreResult<()>;
    /// Forgets these scopes of a feed, with their states and figures, those that are polled left out.
    fn forget_scopes(&mut self, feed: &str, scopes: &[String]) -> StoreResult<()>;
    /// Keeps a wait that did not come with a poll.
    fn keep_throttle(&mut self, throttle: &Throttle) -> StoreResult<()>;
    /// Waits that are not over. One of more than a day was meant by a clock that was wrong, and ends in a day.
    fn throttles(&mut self, now: u64) -> StoreResult<Vec<Throttle>>;
    /// How much waits for each sink.
    fn backlog(&mut self) -> StoreResult<Vec<Backlog>>;
    /// The first events of a partition, at least one if there is any.
    fn queued(&mut self, partition: &Partition, events: usize, bytes: usize) -> StoreResult<Vec<Queued>>;
    /// Takes delivered events out.
    fn acknowledge(&mut self, numbers: &[i64]) -> StoreResult<()>;
    /// Leaves the file whole by itself. Nothing is asked after this.
    fn close(&mut self) -> StoreResult<()>;
    /// Forgets history and throttles from before.
    fn prune(&mut self, before: u64, now: u64) -> StoreResult<()>;
}

type StoreJob = Box<dyn FnOnce(&mut dyn Store) + Send>;

/// What the thread of a store is asked for.
enum StoreTask {
    Job(StoreJob),
    /// Close the store, and say that it is closed.
    Close(oneshot::Sender<StoreResult<()>>),
}

/// The store on its thread. Cheap to clone; the thread ends when it is told to close, or with the last clone.
#[derive(Clone)]
pub struct StoreHandle {
    tasks: mpsc::Sender<StoreTask>,
    file: PathBuf,
}

impl StoreHandle {
    /// Moves a store to a thread of its own.
    pub fn start(mut store: impl Store + 'static, file: PathBuf) -> std::io::Result<StoreHandle> {
        let (tasks, waiting) = mpsc::channel();
        thread::Builder::new().name("store".to_owned()).spawn(move || {
            while let Ok(task) = waiting.recv() {
                match task {
                    StoreTask::Job(job) => job(&mut store),
                    StoreTask::Close(answer) => {
                        let closed = store.close();
                        // The database closes its files, and the lock is free, before anybody is told.
                        drop(store);
                        // Whoever waits for an answer gets none.
                        drop(waiting);
                        drop(answer.send(closed));
                        return;
                    }
                }
            }
        })?;
        Ok(StoreHandle { tasks, file })
    }

    /// Asks the store for something and waits for it.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn Store) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (answer, waiting) = oneshot::channel();
        self.give(StoreTask::Job(Box::new(move |store| drop(answer.send(question(store))))), waiting).await
    }

    /// Where the store is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Closes the store for all who hold it: its files are closed and its lock is free when this comes back. Later
    /// questions find that it has stopped.
    pub async fn close(&self) -> StoreResult<()> {
        let (answer, waiting) = oneshot::channel();
        self.give(StoreTask::Close(answer), waiting).await
    }

    async fn give<T>(&self, task: StoreTask, waiting: oneshot::Receiver<StoreResult<T>>) -> StoreResult<T> {
        let stopped = || StoreError { file: self.file.clone(), what: StoreErrorKind::Stopped };
        self.tasks.send(task).map_err(|_| stopped())?;
        waiting.await.unwrap_or_else(|_| Err(stopped()))
    }
}
