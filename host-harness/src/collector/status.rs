//! The state of all scopes at one moment, for the status page.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use source_host::blame::Blame;
use source_host::contract::Failure;
use source_host::credentials::redact::Search;

use crate::admitted::AdmittedFeed;
use crate::collector::ScopeEntry;
use crate::collector::agenda::Job;
use crate::collector::log::cleaned;
use crate::fleet::keeper::FleetState;
use crate::overview::{Choice, Condition, ListedScope, counted};
use crate::sink::delivery::SinkRow;
use crate::store::{Points, Polling, ScopeRow};

/// The state of all scopes at one moment.
#[derive(Debug, Clone, Default)]
pub struct StatusSnapshot {
    /// Number of feeds.
    pub feeds: usize,
    /// Number of feeds whose scopes cannot be searched for.
    pub failing_feeds: usize,
    /// Number of scopes that are polled or were lost.
    pub scopes: usize,
    /// Number of scopes without data.
    pub failing_scopes: usize,
    /// Number of polls and searches in flight.
    pub in_flight: usize,
    /// Total number of rows: one for each scope, and one for each feed that fails.
    pub total: usize,
    /// The rows that were asked for, in the order of the choice.
    pub rows: Vec<SnapshotRow>,
    /// The choice of the rows. The rows of each tenant are a part of them.
    pub choice: Choice,
    /// The scopes, by the ids of their feed and of themselves, that count in the average of each tenant of the choice.
    pub members: Vec<Vec<(String, String)>>,
    /// Feeds that are left out: the first ones.
    pub left_out: Vec<LeftOutRow>,
    /// Number of feeds that are left out or keep their previous configuration.
    pub left_out_total: usize,
    /// Number of those that keep their previous configuration.
    pub going_on: usize,
    /// Feeds that are still being checked: the first ones.
    pub waiting: Vec<WaitingRow>,
    /// Number of feeds that are still being checked.
    pub waiting_total: usize,
    /// Credentials that end soon, the first ones first.
    pub expiring: Vec<ExpiringRow>,
    /// Number of credentials that end soon.
    pub expiring_total: usize,
    /// Problems that keep events from their sinks.
    pub sinks: Vec<SinkRow>,
    /// The problems of a configuration that was not taken, in sentences.
    pub refused: Vec<String>,
    /// Other problems, in sentences.
    pub notes: Vec<String>,
    /// The feed of each row.
    pub feeds_of_rows: FeedsOfRows,
    /// The collectors that share the store; `None` if no other can use it.
    pub fleet: Option<Arc<FleetState>>,
}

/// The feed of each row of a snapshot: texts that are read from the store later may contain its secrets.
#[derive(Clone, Default)]
pub struct FeedsOfRows(Vec<Arc<AdmittedFeed>>);

impl FeedsOfRows {
    /// Returns a search for the secrets of a row's feed.
    pub fn search(&self, row: usize) -> Search {
        Search::new(self.0.get(row).into_iter().flat_map(|admitted| admitted.secrets()))
    }
}

impl fmt::Debug for FeedsOfRows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} feeds", self.0.len())
    }
}

/// The snapshot before secrets are removed from texts of plugins and services.
pub struct StatusDraft {
    pub(super) snapshot: StatusSnapshot,
    /// The feed of each row.
    pub(super) feeds: Vec<Arc<AdmittedFeed>>,
}

impl StatusDraft {
    /// Removes the secrets. Plugins and services decide how long that takes.
    pub fn cleaned(self) -> StatusSnapshot {
        let StatusDraft { mut snapshot, feeds } = self;
        for (row, admitted) in snapshot.rows.iter_mut().zip(&feeds) {
            let search = Search::new(admitted.secrets());
            row.failure = row.failure.as_ref().map(|failure| cleaned(&search, failure));
            row.scope = row.scope.as_ref().map(|name| search.words(name));
        }
        snapshot.feeds_of_rows = FeedsOfRows(feeds);
        snapshot
    }
}

/// The source of a row.
#[derive(Clone, Copy)]
pub(super) enum RowSource<'a> {
    /// A feed that fails as a whole, and the job that is tried next for it.
    Feed(&'a Failure, Option<Job>),
    /// A scope, with its number.
    Scope(u32, &'a ScopeEntry),
    /// A scope that is not polled now.
    Stored(&'a ScopeRow),
}

impl<'a> RowSource<'a> {
    /// The source as a candidate for an answer.
    pub(super) fn candidate(self, admitted: &'a AdmittedFeed) -> ListedScope<'a> {
        let (scope, standing, failure) = match self {
            RowSource::Feed(failure, _) => (None, None, Some(failure)),
            RowSource::Scope(_, entry) => (Some(&entry.scope), Some(&entry.standing), entry.failure()),
            RowSource::Stored(row) => (Some(&row.scope), Some(&row.standing), row.standing.outcome.as_deref()),
        };
        ListedScope {
            tenant: &admitted.tenant,
            feed: &admitted.id,
            scope: scope.map(|scope| scope.id.as_str()),
            name: scope.and_then(|scope| scope.name.as_deref()),
            state: Condition::of(failure),
            figure: counted(standing.and_then(|standing| standing.figure), failure),
        }
    }

    pub(super) fn fails(self) -> bool {
        match self {
            RowSource::Feed(..) => true,
            RowSource::Scope(_, entry) => entry.failure().is_some(),
            RowSource::Stored(row) => row.standing.outcome.is_some(),
        }
    }
}

/// The state of one scope, or of a whole feed.
#[derive(Debug, Clone)]
pub struct SnapshotRow {
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// Name of the scope for people; `None` for the feed itself.
    pub scope: Option<String>,
    /// Id of the scope; `None` for the feed itself.
    pub id: Option<String>,
    /// The person or address to ask.
    pub contact: Option<String>,
    /// The reason why there is no data.
    pub failure: Option<Failure>,
    /// The party that can mend the failure.
    pub blame: Option<Blame>,
    /// Since when the failure has been the same, in Unix milliseconds.
    pub since: Option<u64>,
    /// When the scope or feed is tried next.
    pub next: Option<NextAttempt>,
    /// Time between two polls.
    pub interval: Duration,
    /// When data was last collected, in Unix milliseconds.
    pub last_good: Option<u64>,
    /// Its figure at the last poll that gave one.
    pub figure: Option<Points>,
}

/// A credential that ends soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiringRow {
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// The person or address to ask.
    pub contact: Option<String>,
    /// Name of the setting.
    pub setting: String,
    /// When the credential ends, in Unix milliseconds.
    pub end: u64,
}

/// When a scope or feed is tried next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextAttempt {
    /// At this time, in Unix milliseconds.
    At(u64),
    /// It is in flight.
    InFlight,
    /// After its feed's scopes are found.
    AfterSearch,
    /// When this sink, whose outbox is full, takes events.
    WhenThereIsRoom(String),
}

/// A feed that cannot be collected now.
#[derive(Debug, Clone)]
pub struct LeftOutRow {
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// Code of the reason, for programs.
    pub code: &'static str,
    /// The problems, one sentence each.
    pub words: Vec<String>,
    /// Since when, in Unix milliseconds.
    pub since: u64,
    /// Whether the feed ran before and continues as it was.
    pub goes_on: bool,
    /// Whether the problem may be over without a change of any file.
    pub may_pass: bool,
}

/// A feed that is still being checked: its plugin is being compiled, or asked about its settings.
#[derive(Debug, Clone)]
pub struct WaitingRow {
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// Since when, in Unix milliseconds.
    pub since: u64,
    /// Whether the feed ran before and continues as it was.
    pub goes_on: bool,
}

impl SnapshotRow {
    /// The ids of the row's feed and scope; `None` for a feed.
    pub fn key(&self) -> Option<(&str, &str)> {
        Some((&self.feed, self.id.as_deref()?))
    }

    /// The name of the scope without its id.
    pub fn own_name(&self) -> &str {
        let Some(name) = self.scope.as_deref() else { return "the whole feed" };
        let id = self.id.as_ref().map(|id| format!(" ({id})"));
        id.and_then(|id| name.strip_suffix(id.as_str())).unwrap_or(name)
    }
}

/// Rows of a draft: their failures may contain secrets.
impl SnapshotRow {
    /// The row among those of which a question chooses.
    pub fn listed(&self) -> ListedScope<'_> {
        ListedScope {
            tenant: &self.tenant,
            feed: &self.feed,
            scope: self.id.as_deref(),
            name: self.scope.as_deref(),
            state: Condition::of(self.failure.as_ref()),
            figure: counted(self.figure, self.failure.as_ref()),
        }
    }

    pub(super) fn of_feed(admitted: &AdmittedFeed, failure: Option<&Failure>) -> SnapshotRow {
        SnapshotRow {
            tenant: admitted.tenant.to_string(),
            feed: admitted.id.to_string(),
            scope: None,
            id: None,
            contact: admitted.contact.clone(),
            failure: failure.cloned(),
            blame: failure.map(|failure| admitted.plugin.blame(failure)),
            since: None,
            next: None,
            interval: admitted.interval,
            last_good: None,
            figure: None,
        }
    }

    pub(super) fn of_scope(admitted: &AdmittedFeed, entry: &ScopeEntry, next: NextAttempt) -> SnapshotRow {
        let ScopeEntry { scope, standing, trouble, .. } = entry;
        let told = standing.outcome.is_some() && trouble.is_none();
        SnapshotRow {
            scope: Some(scope.called()),
            id: Some(scope.id.clone()),
            since: told.then_some(standing.since),
            next: Some(next),
            last_good: standing.last_good,
            figure: standing.figure,
            ..SnapshotRow::of_feed(admitted, entry.failure())
        }
    }

    pub(super) fn of_stored(admitted: &AdmittedFeed, row: &ScopeRow) -> SnapshotRow {
        let ScopeRow { scope, standing, .. } = row;
        SnapshotRow {
            scope: Some(scope.called()),
            id: Some(scope.id.clone()),
            since: standing.outcome.is_some().then_some(standing.since),
            next: (standing.watch == Polling::Polled).then_some(NextAttempt::AfterSearch),
            last_good: standing.last_good,
            figure: standing.figure,
            ..SnapshotRow::of_feed(admitted, standing.outcome.as_deref())
        }
    }
}
