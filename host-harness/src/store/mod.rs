//! The collector's data: the state and due time of each scope, events until their sinks have them, waits that services
//! asked for, and the history of figures. The trait [`Store`] describes the store, by the shards of tenants that a
//! collector holds, so that several collectors can share one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use source_host::blame::Blame;
use source_host::cause::Cause;
use source_host::contract::{Failure, Measure, Scope};
use source_host::digest::ShortDigest;
use source_host::limits::milliseconds;

pub mod budget;
pub mod fleet;
pub mod moving;
pub mod postgres;
pub mod reading;
pub mod shards;
pub mod space;
pub mod sqlite;

use self::budget::{Budgets, Excess, StoredBytes};
use self::fleet::FleetStore;
use self::moving::MoveFault;
use self::postgres::fault::ServerFault;
use self::reading::StoreReader;
use self::shards::Lease;
use self::space::FreeSpace;

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

/// The place of a store. Its text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// A file of SQLite.
    File(PathBuf),
    /// A database of PostgreSQL, as its address without a password.
    Server(String),
}

impl fmt::Display for StorePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorePlace::File(file) => write!(formatter, "{}", file.display()),
            StorePlace::Server(address) => formatter.write_str(address),
        }
    }
}

/// A fault of the store, and its fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state in {place}: {what}")]
pub struct StoreError {
    /// The place of the store.
    pub place: StorePlace,
    /// Cause and fix.
    pub what: StoreErrorKind,
}

impl StoreError {
    /// Makes the fault of a file.
    pub fn of_file(file: impl Into<PathBuf>, what: StoreErrorKind) -> StoreError {
        StoreError { place: StorePlace::File(file.into()), what }
    }

    /// Says whether another collector took the shard since the work began. That is in order: it does the work again.
    pub fn is_of_lease(&self) -> bool {
        matches!(self.what, StoreErrorKind::Fenced { .. })
    }

    /// The party that can mend the error.
    pub fn blame(&self) -> Blame {
        match self.what {
            // The collector that took over does the work again.
            StoreErrorKind::Stopped | StoreErrorKind::Fenced { .. } => Blame::Harness,
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
    /// Another collector, or a command, uses the store.
    #[error(
        "another collector uses it{}, or a command such as `migrate`; stop that collector or wait until the command has \
         ended, or use another file",
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
         updates it, or `host-harness schema`, which the owner of a database runs where collectors may not make tables"
    )]
    Older {
        /// Version of its schema.
        found: u32,
        /// The version that this program reads.
        known: u32,
    },
    /// The store did not answer in time.
    #[error("it did not answer within {} s; see that the database runs and is not overloaded", _0.as_secs())]
    Silent(Duration),
    /// Another collector took the shard of the tenant since the work began.
    #[error("another collector has taken over the shard {shard} of the tenant; nothing was written")]
    Fenced {
        /// Number of the shard.
        shard: u16,
    },
    /// The state was moved, or is being moved.
    #[error(transparent)]
    Move(MoveFault),
    /// A server of the state, or the way there.
    #[error(transparent)]
    Server(ServerFault),
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

/// The standing of a scope between two polls. All times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// When the scope is polled next.
    pub due: u64,
    /// The time in the id of its last poll: when that poll was due, or later.
    pub id_time: u64,
    /// When its last poll ended.
    pub ended: u64,
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

impl Standing {
    /// Returns the time in the id of the next poll. The time never goes back: a clock that was ahead has planned times
    /// that come again, and another poll with the same id would repeat the uids of its events. A poll that is done again,
    /// because the store kept nothing of it, has the same time unless its due time was planned anew meanwhile.
    pub fn next_id_time(&self) -> u64 {
        self.due.max(self.id_time.saturating_add(1))
    }
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
    /// The lease under which the poll began.
    pub lease: Lease,
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
    /// The lease under which the event was read.
    pub lease: Lease,
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
    /// Time of the oldest of them, in Unix milliseconds.
    pub oldest: u64,
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

/// The rule by which a sink's delivered events are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The time of the delivery, in Unix milliseconds.
    pub now: u64,
    /// The time for which an event is kept.
    pub span: Duration,
    /// Bytes of one tenant's events that are kept; beyond that, the oldest are forgotten.
    pub bytes: u64,
}

impl Keep {
    /// The time until which an event is kept, in Unix milliseconds.
    pub fn until(self) -> u64 {
        self.now.saturating_add(milliseconds(self.span))
    }
}

/// A choice of kept events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveredQuery {
    /// Id of the sink.
    pub sink: String,
    /// Events delivered since this time, in Unix milliseconds.
    pub since: u64,
    /// Events delivered before this time, in Unix milliseconds.
    pub until: u64,
    /// Events of this tenant alone.
    pub tenant: Option<String>,
    /// Events of this feed alone.
    pub feed: Option<String>,
}

/// Kept events of one feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveredCount {
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// Number of events.
    pub events: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// The result of a question to a store.
pub type StoreResult<T> = Result<T, StoreError>;

/// A store that all parts of a collector use.
pub type SharedStore = Arc<dyn Store>;

/// All operations that the collector needs of its database. A question is about the shards of some leases; a store that
/// no other collector can use has all tenants in one shard. A write of a tenant's data names the lease under which its
/// work began, and writes nothing if another collector has held the shard since.
#[async_trait]
pub trait Store: Send + Sync {
    /// Returns a random text of this store, which salts digests of secrets.
    async fn salt(&self) -> StoreResult<String>;
    /// Returns all feeds of these shards that were ever collected.
    async fn feeds(&self, shards: &[Lease]) -> StoreResult<Vec<FeedRow>>;
    /// Writes a feed.
    async fn keep_feed(&self, lease: Lease, row: FeedRow) -> StoreResult<()>;
    /// Returns all scopes of these shards that were ever discovered, in the order in which they were.
    async fn scopes(&self, shards: &[Lease]) -> StoreResult<Vec<ScopeRow>>;
    /// Returns the plugin's state of a scope; `None` if the state is another tenant's. The answer may lack polls whose
    /// commits were not answered yet.
    async fn state(&self, tenant: &str, feed: &str, scope: &str) -> StoreResult<Option<Vec<u8>>>;
    /// Writes all data that a poll leaves, or nothing, in one transaction with other polls that ended at the same time.
    /// Returns the bytes that are then kept of the feed and its tenant.
    async fn commit(&self, poll: Arc<PollRecord>) -> StoreResult<StoredBytes>;
    /// Returns the bytes that are kept of each feed of these shards, without the outbox.
    async fn kept(&self, shards: &[Lease]) -> StoreResult<Vec<KeptRow>>;
    /// Writes the standing of scopes of one tenant, without a poll.
    async fn keep_scopes(&self, lease: Lease, rows: Vec<ScopeRow>) -> StoreResult<()>;
    /// Forgets these scopes of a feed, with their states and figures, except for scopes that are polled.
    async fn forget_scopes(&self, lease: Lease, feed: &str, scopes: Vec<String>) -> StoreResult<()>;
    /// Writes a wait that did not come with a poll.
    async fn keep_throttle(&self, throttle: Throttle) -> StoreResult<()>;
    /// Returns the waits that are not over. A wait of more than a day was written while the clock was wrong, and ends
    /// in a day.
    async fn throttles(&self, now: u64) -> StoreResult<Vec<Throttle>>;
    /// Returns the events of these shards that wait for each sink.
    async fn backlog(&self, shards: &[Lease]) -> StoreResult<Vec<Backlog>>;
    /// Returns the first events of a partition in these shards, at least one if there are any, but none of the tenants
    /// `without`.
    async fn queued(
        &self,
        shards: &[Lease],
        partition: &Partition,
        without: Vec<String>,
        events: usize,
        bytes: usize,
    ) -> StoreResult<Vec<Queued>>;
    /// Removes delivered events. Those whose lease is over stay, and are delivered again by the shard's new holder.
    async fn acknowledge(&self, events: &[Queued]) -> StoreResult<()>;
    /// Moves delivered events out of the outbox to those that are kept, and forgets those that were kept for long enough or
    /// have no room. Those whose lease is over stay in the outbox.
    async fn keep_delivered(&self, events: &[Queued], keep: Keep) -> StoreResult<()>;
    /// Closes the store for all who use it: its files are closed and its lock is free when the function returns. Later
    /// questions fail because the store has stopped.
    async fn close(&self) -> StoreResult<()>;
    /// Forgets older history and waits.
    async fn prune(&self, before: u64, now: u64) -> StoreResult<()>;
    /// Opens a reader beside the collector. Called where blocking is allowed.
    fn reader(&self) -> StoreResult<Box<dyn StoreReader>>;
    /// The check of the store's free space.
    fn space(&self) -> &FreeSpace;
    /// The store's place.
    fn place(&self) -> &StorePlace;
    /// The rows by which several collectors share the store; `None` if only one can use it.
    fn fleet(&self) -> Option<&dyn FleetStore> {
        None
    }
}
