//! How everything stands at one moment, for the status page.

use std::sync::Arc;
use std::time::Duration;

use source_host::blame::Blame;
use source_host::contract::Failure;
use source_host::feed::admitted::AdmittedFeed;

use crate::collector::ScopeEntry;
use crate::collector::agenda::Job;
use crate::collector::log::redacted;
use crate::sink::delivery::SinkRow;
use crate::store::{Polling, ScopeRow};

/// How everything stands at one moment.
#[derive(Debug, Clone, Default)]
pub struct StatusSnapshot {
    /// Number of feeds.
    pub feeds: usize,
    /// Of those, the ones whose scopes cannot be searched for.
    pub failing_feeds: usize,
    /// Number of scopes that are polled or were lost.
    pub scopes: usize,
    /// Of those, the ones without data.
    pub failing_scopes: usize,
    /// Polls and searches in flight.
    pub in_flight: usize,
    /// Number of rows there are: one for each scope, and one for each feed that fails.
    pub total: usize,
    /// Those that need somebody first.
    pub rows: Vec<SnapshotRow>,
    /// Feeds that are left out.
    pub left_out: Vec<LeftOutRow>,
    /// Feeds that are still being checked.
    pub waiting: Vec<WaitingRow>,
    /// What keeps events from their sinks.
    pub sinks: Vec<SinkRow>,
    /// What is wrong beside all that, in sentences.
    pub notes: Vec<String>,
}

/// The same while it has words of plugins and services as they came.
pub struct StatusDraft {
    pub(super) snapshot: StatusSnapshot,
    /// The feed of each row.
    pub(super) feeds: Vec<Arc<AdmittedFeed>>,
}

impl StatusDraft {
    /// Takes the secrets out. How long that takes, plugins and services choose.
    pub fn cleaned(self) -> StatusSnapshot {
        let StatusDraft { mut snapshot, feeds } = self;
        for (row, admitted) in snapshot.rows.iter_mut().zip(feeds) {
            row.failure = row.failure.as_ref().map(|failure| redacted(&admitted, failure));
        }
        snapshot
    }
}

/// Where a row comes from.
#[derive(Clone, Copy)]
pub(super) enum RowSource<'a> {
    /// A feed that fails as a whole, and the item that is tried next for it.
    Feed(&'a Failure, Option<Job>),
    /// A scope by its number.
    Scope(u32, &'a ScopeEntry),
    /// A scope that is not polled now.
    Stored(&'a ScopeRow),
}

impl RowSource<'_> {
    pub(super) fn scope(self) -> Option<String> {
        match self {
            RowSource::Feed(..) => None,
            RowSource::Scope(_, entry) => Some(entry.scope.called()),
            RowSource::Stored(row) => Some(row.scope.called()),
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

/// How one scope, or a whole feed, stands.
#[derive(Debug, Clone)]
pub struct SnapshotRow {
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// The scope as people call it; none for the feed itself.
    pub scope: Option<String>,
    /// Whom to ask.
    pub contact: Option<String>,
    /// Why there is no data.
    pub failure: Option<Failure>,
    /// Who can mend that.
    pub blame: Option<Blame>,
    /// Since when the failure is what it is, in Unix milliseconds.
    pub since: Option<u64>,
    /// When it is tried next, if it is.
    pub next: Option<NextAttempt>,
    /// Time between two polls.
    pub interval: Duration,
    /// When data was last collected, in Unix milliseconds.
    pub last_good: Option<u64>,
    /// Value and maximum of its first figure.
    pub figure: Option<(f64, f64)>,
}

/// When something is tried next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextAttempt {
    /// At this time, in Unix milliseconds.
    At(u64),
    /// It is being tried.
    InFlight,
    /// When the scopes of its feed are found.
    AfterSearch,
    /// When this sink takes events: its outbox is full.
    WhenThereIsRoom(String),
}

/// A feed that cannot be collected now.
#[derive(Debug, Clone)]
pub struct LeftOutRow {
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// Why, for programs.
    pub code: &'static str,
    /// Why, in one sentence for each trouble.
    pub words: Vec<String>,
    /// Since when, in Unix milliseconds.
    pub since: u64,
    /// Whether it goes on as it was, since it ran before.
    pub goes_on: bool,
}

/// A feed that is still being checked: its plugin is compiled, or asked about its settings.
#[derive(Debug, Clone)]
pub struct WaitingRow {
    /// Id of the tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// Since when, in Unix milliseconds.
    pub since: u64,
    /// Whether it goes on as it was, since it ran before.
    pub goes_on: bool,
}

/// Rows as they are drafted: their failures have secrets in them.
impl SnapshotRow {
    pub(super) fn of_feed(admitted: &AdmittedFeed, failure: Option<&Failure>) -> SnapshotRow {
        SnapshotRow {
            tenant: admitted.tenant.to_string(),
            feed: admitted.id.to_string(),
            scope: None,
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
        let ScopeEntry { scope, standing, figure, trouble, .. } = entry;
        let told = standing.outcome.is_some() && trouble.is_none();
        SnapshotRow {
            scope: Some(scope.called()),
            since: told.then_some(standing.since),
            next: Some(next),
            last_good: standing.last_good,
            figure: *figure,
            ..SnapshotRow::of_feed(admitted, entry.failure())
        }
    }

    pub(super) fn of_stored(admitted: &AdmittedFeed, row: &ScopeRow) -> SnapshotRow {
        let ScopeRow { scope, standing, .. } = row;
        SnapshotRow {
            scope: Some(scope.called()),
            since: standing.outcome.is_some().then_some(standing.since),
            next: (standing.watch == Polling::Polled).then_some(NextAttempt::AfterSearch),
            last_good: standing.last_good,
            ..SnapshotRow::of_feed(admitted, standing.outcome.as_deref())
        }
    }
}
