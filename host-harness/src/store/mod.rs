//! The collector's data: the state and due time of each scope, events until their sinks have them, waits that services
//! asked for, and the history of figures. One small trait describes the store, so that another database can replace
//! SQLite; it runs on a separate thread.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
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
use self::space::FreeSpace;
use crate::limits;

/// The events of one tenant that wait for one sink.
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
    /// The waiting events of outboxes that are not empty.
    pub waiting: Vec<((String, String), Waiting)>,
    /// The full outboxes.
    pub full: Vec<(String, String)>,
    /// The free bytes of the disk of a sink's files, when the sink last wrote there.
    pub free: BTreeMap<String, u64>,
}

/// A fault of the store, and its fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state in {}: {what}", file.display())]
pub struct StoreError {
    /// The path.
    pub file: PathBuf,
    /// Cause and fix.
    pub what: StoreErrorKind,
}

impl StoreError {
    /// The party that can mend the error.
    pub fn blame(&self) -> Blame {
        match self.what {
            StoreErrorKind::Stopped => Blame::Harness,
            // A disk, a permission, another program, or a budget is the cause.
            _ => Blame::Operator,
        }
    }
}

/// The kinds of fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreErrorKind {
    /// The disk is full.
    #[error("the disk is full, no part of the poll was written; make room, and the poll is repeated")]
    Full,
    /// The feed or its tenant would keep more than it may.
    #[error("{0}")]
    OverBudget(Excess),
    /// Another collector uses the store.
    #[error(
        "another collector uses it{}; stop that one, or give this one a file of its own",
        process.map_or(String::new(), |process| format!(" (process {process})"))
    )]
    Locked {
        /// The number of its process, where its lock file tells.
        process: Option<u64>,
    },
    /// Another program uses the store.
    #[error("another program is writing to it; let that end its transaction")]
    Busy,
    /// The collector's user may not write the store.
    #[error("it cannot be written ({0}); give the collector's user write access to the file and its folder")]
    ReadOnly(Cause),
    /// The path is not a file, or the collector's user may not open it.
    #[error("it cannot be opened ({0}); see that it is a file, and that the collector's user may read and write it")]
    Unopened(Cause),
    /// The file is damaged.
    #[error("it is damaged ({0}); restore it from a backup, or move it away to start afresh")]
    Damaged(Cause),
    /// The file is not the state of a collector.
    #[error("it is the database of another program; give the collector a file of its own")]
    Foreign,
    /// A later version wrote the file.
    #[error("found schema {found}, which a later version wrote, expected at most {known}; use that version")]
    Newer {
        /// Version of its schema.
        found: u32,
        /// The last version that this program knows.
        known: u32,
    },
    /// An earlier version wrote the file, and only a collector updates it.
    #[error(
        "found schema {found}, which an earlier version wrote, expected {known}; `run` or `poll --state` of this version \
         updates it"
    )]
    Older {
        /// Version of its schema.
        found: u32,
        /// The version that this program reads.
        known: u32,
    },
    /// Any other error.
    #[error(transparent)]
    Other(Cause),
    /// The store's thread is gone: it panicked, or the collector stops.
    #[error("the store has stopped")]
    Stopped,
}

/// The stored data of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeedRow {
    /// Id of the feed.
    pub feed: String,
    /// Digest of the settings, without credentials, of the last search for scopes: a scope that is gone was lost if the
    /// settings are the same, and given up if they are not.
    pub searched_with: ShortDigest,
    /// Digest of the feed's whole configuration at its last use, salted.
    pub configured_as: ShortDigest,
}

/// The stored data of a scope, without the plugin's state.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeRow {
    /// Id of the feed.
    pub feed: String,
    /// Id of the tenant.
    pub tenant: String,
    /// The scope as it was last discovered.
    pub scope: Scope,
    /// The scope's standing.
    pub standing: Standing,
}

impl ScopeRow {
    /// Returns the scope and its standing.
    pub fn pair(&self) -> (Scope, Standing) {
        (self.scope.clone(), self.standing.clone())
    }
}

/// The standing of a scope between two polls. All times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// When the scope is polled next.
    pub due: u64,
    /// Failures in a row.
    pub failures: u32,
    /// Whether only a person can mend the failure.
    pub waits_for_person: bool,
    /// The reason why the last poll gave no data; `None` if it gave data.
    pub outcome: Option<Box<Failure>>,
    /// Since when the outcome has been the same.
    pub since: u64,
    /// When the service last refused the scope for lack of a permission.
    pub refused: Option<u64>,
    /// When data was last collected.
    pub last_good: Option<u64>,
    /// Whether the scope is polled.
    pub watch: Polling,
    /// Its figure at the last poll that gave one.
    pub figure: Option<Points>,
}

/// A figure, its largest possible value, and its weight in an average over scopes. All three are finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Points {
    /// The figure.
    pub value: f64,
    /// The largest possible value; 0 if nothing was measured.
    pub maximum: f64,
    /// The weight.
    pub weight: f64,
}

impl Points {
    /// Returns the numbers of a measure; `None` if one of them is not finite.
    pub fn of(measure: &Measure) -> Option<Points> {
        let Measure { value, maximum, weight, .. } = *measure;
        [value, maximum, weight].iter().all(|number| number.is_finite()).then_some(Points { value, maximum, weight })
    }
}

/// Returns the measure that stands for the whole scope: the first one. Several measures that all come from one kind of
/// event are the parts of a figure that was not collected.
pub fn of_whole(measures: &[Measure]) -> Option<&Measure> {
    let (first, others) = measures.split_first()?;
    let are_parts = !others.is_empty() && others.iter().all(|other| other.kind == first.kind);
    (!are_parts && Points::of(first).is_some()).then_some(first)
}

/// Whether a scope is polled, by the last search for scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Polling {
    /// The scope is polled.
    #[default]
    Polled,
    /// The scope is not polled: the search did not find it any more, or found that it cannot be polled.
    Lost,
    /// The scope is not polled: the settings do not ask for it.
    Unasked,
}

/// The data that one poll leaves, which is written completely or not at all.
#[derive(Debug, Clone)]
pub struct PollRecord {
    /// The scope's row after the poll.
    pub row: ScopeRow,
    /// The plugin's state; `None` keeps the stored one.
    pub state: Option<Vec<u8>>,
    /// When the poll ended, in Unix milliseconds.
    pub time: u64,
    /// Figures.
    pub measures: Vec<Measure>,
    /// Events in their order.
    pub events: Vec<NewEvent>,
    /// Ids of the sinks that get each event.
    pub sinks: Vec<String>,
    /// A wait that other feeds with the credential share.
    pub throttle: Option<Throttle>,
    /// The budgets of the feed and its tenant.
    pub budgets: Budgets,
}

/// The size of a feed's stored data, without the outbox.
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
    /// The event's `metadata.uid`.
    pub uid: String,
    /// Time of the event, in Unix milliseconds.
    pub time: u64,
    /// One JSON object on one line.
    pub body: Vec<u8>,
}

/// An event that waits for its sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The event's number in the outbox, which increases.
    pub number: i64,
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// Id of the scope.
    pub scope: String,
    /// The event's `metadata.uid`.
    pub uid: String,
    /// Time of the event, in Unix milliseconds.
    pub time: u64,
    /// One JSON object on one line.
    pub body: Vec<u8>,
}

/// A sink's events that are delivered in order: all of them, those of a tenant, those of a feed, or those of a feed
/// while it belonged to a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// Id of the sink.
    pub sink: String,
    /// Id of the tenant, if only its events belong to the partition.
    pub tenant: Option<String>,
    /// Id of the feed, if only its events belong to the partition.
    pub feed: Option<String>,
}

/// The events of one feed that wait for a sink.
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

/// A wait at an origin that all feeds with a credential share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttle {
    /// Digest that identifies the credential without revealing it.
    pub credential: ShortDigest,
    /// Scheme, host and port.
    pub origin: String,
    /// End of the wait, in Unix milliseconds.
    pub until: u64,
}

type StoreResult<T> = Result<T, StoreError>;

/// All operations that the collector needs of its database.
pub trait Store: Send {
    /// Returns a random text of this store, which salts digests of secrets.
    fn salt(&mut self) -> StoreResult<String>;
    /// Returns all feeds that were ever collected.
    fn feeds(&mut self) -> StoreResult<Vec<FeedRow>>;
    /// Writes a feed.
    fn keep_feed(&mut self, row: &FeedRow) -> StoreResult<()>;
    /// Returns all scopes that were ever discovered.
    fn scopes(&mut self) -> StoreResult<Vec<ScopeRow>>;
    /// Returns the plugin's state of a scope; `None` if the state is another tenant's.
    fn state(&mut self, tenant: &str, feed: &str, scope: &str) -> StoreResult<Option<Vec<u8>>>;
    /// Writes all data that a poll leaves, or nothing. Returns the bytes that are then kept of the feed and its tenant.
    fn commit(&mut self, poll: &PollRecord) -> StoreResult<StoredBytes> {
        self.commit_all(&[poll]).remove(0)
    }
    /// Commits several polls at once; of each one, all data is written or nothing. The results are in the order of the
    /// polls.
    fn commit_all(&mut self, polls: &[&PollRecord]) -> Vec<StoreResult<StoredBytes>>;
    /// Returns the bytes that are kept of each feed, without the outbox.
    fn kept(&mut self) -> StoreResult<Vec<KeptRow>>;
    /// Writes the standing of scopes, without a poll.
    fn keep_scopes(&mut self, rows: &[ScopeRow]) -> StoreResult<()>;
    /// Forgets these scopes of a feed, with their states and figures, except for scopes that are polled.
    fn forget_scopes(&mut self, feed: &str, scopes: &[String]) -> StoreResult<()>;
    /// Writes a wait that did not come with a poll.
    fn keep_throttle(&mut self, throttle: &Throttle) -> StoreResult<()>;
    /// Returns the waits that are not over. A wait of more than a day was written while the clock was wrong, and ends
    /// in a day.
    fn throttles(&mut self, now: u64) -> StoreResult<Vec<Throttle>>;
    /// Returns the events that wait for each sink.
    fn backlog(&mut self) -> StoreResult<Vec<Backlog>>;
    /// Returns the first events of a partition, at least one if there are any, but none of the tenants `without`.
    fn queued(
        &mut self,
        partition: &Partition,
        without: &[String],
        events: usize,
        bytes: usize,
    ) -> StoreResult<Vec<Queued>>;
    /// Removes delivered events.
    fn acknowledge(&mut self, numbers: &[i64]) -> StoreResult<()>;
    /// Completes the file, so that it needs no log beside it. The store is not used after this call.
    fn close(&mut self) -> StoreResult<()>;
    /// Forgets older history and waits.
    fn prune(&mut self, before: u64, now: u64) -> StoreResult<()>;
    /// Returns the check of the store's free space.
    fn space(&self) -> FreeSpace;
}

type StoreJob = Box<dyn FnOnce(&mut dyn Store) + Send>;

/// A task for the thread of a store.
enum StoreTask {
    Job(StoreJob),
    /// A question that changes nothing, and is about nothing that waits to be committed.
    Reading(StoreJob),
    Commit(PollToCommit),
    /// Closes the store, and answers when it is closed.
    Close(oneshot::Sender<StoreResult<()>>),
}

/// A poll that ended, and its recipient's place.
struct PollToCommit {
    record: Arc<PollRecord>,
    answer: oneshot::Sender<StoreResult<StoredBytes>>,
}

/// Does the tasks of a store until it is told to close.
fn serve(mut store: impl Store, tasks: mpsc::Receiver<StoreTask>) {
    let mut next = None;
    while let Some(task) = next.take().or_else(|| tasks.recv().ok()) {
        match task {
            StoreTask::Job(job) | StoreTask::Reading(job) => job(&mut store),
            StoreTask::Commit(first) => next = commit(&mut store, first, &tasks),
            StoreTask::Close(answer) => {
                let closed = store.close();
                // The database closes its files and frees the lock before the answer.
                drop(store);
                // Tasks that still wait get no answer.
                drop(tasks);
                drop(answer.send(closed));
                return;
            }
        }
    }
}

/// Commits a poll together with those that wait behind it: a sync of the disk takes longer than all their statements.
/// Returns the first task that has to wait for the commit.
fn commit(store: &mut dyn Store, first: PollToCommit, tasks: &mpsc::Receiver<StoreTask>) -> Option<StoreTask> {
    let (mut polls, mut next) = (vec![first], None);
    while polls.len() < limits::COMMITS_AT_ONCE {
        match tasks.try_recv() {
            Ok(StoreTask::Commit(poll)) => polls.push(poll),
            Ok(StoreTask::Reading(job)) => job(store),
            other => {
                next = other.ok();
                break;
            }
        }
    }
    let records: Vec<&PollRecord> = polls.iter().map(|poll| &*poll.record).collect();
    let committed = store.commit_all(&records);
    for (poll, kept) in polls.into_iter().zip(committed) {
        drop(poll.answer.send(kept));
    }
    next
}

/// The handle of a store on its thread. Cheap to clone; the thread ends when it is told to close, or with the last
/// clone.
#[derive(Clone)]
pub struct StoreHandle {
    tasks: mpsc::Sender<StoreTask>,
    file: PathBuf,
    space: FreeSpace,
}

impl StoreHandle {
    /// Moves a store to its own thread.
    pub fn start(store: impl Store + 'static, file: PathBuf) -> std::io::Result<StoreHandle> {
        let space = store.space();
        let (tasks, waiting) = mpsc::channel();
        thread::Builder::new().name("store".to_owned()).spawn(move || serve(store, waiting))?;
        Ok(StoreHandle { tasks, file, space })
    }

    /// Runs a question on the store, and waits for its answer.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn Store) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (answer, waiting) = oneshot::channel();
        self.give(StoreTask::Job(Box::new(move |store| drop(answer.send(question(store))))), waiting).await
    }

    /// Runs a question that changes nothing. The answer may lack polls whose commits were not answered yet.
    pub async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn Store) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (answer, waiting) = oneshot::channel();
        self.give(StoreTask::Reading(Box::new(move |store| drop(answer.send(question(store))))), waiting).await
    }

    /// Commits a poll, in one transaction with others that ended at the same time.
    pub async fn commit(&self, record: Arc<PollRecord>) -> StoreResult<StoredBytes> {
        let (answer, waiting) = oneshot::channel();
        self.give(StoreTask::Commit(PollToCommit { record, answer }), waiting).await
    }

    /// The store's file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The check of the store's free space.
    pub fn space(&self) -> &FreeSpace {
        &self.space
    }

    /// Closes the store for all its handles: its files are closed and its lock is free when the function returns. Later
    /// questions fail because the store has stopped.
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
