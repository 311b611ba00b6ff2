//! How everything stands at one moment, for the status page.

use crate::collector::ScopeEntry;
use crate::collector::log::redacted;
use crate::contract::Failure;
use crate::feeds::Parked;
use crate::store::{ScopeRow, Watch};

/// How everything stands at one moment.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// Number of feeds.
    pub feeds: usize,
    /// Polls and searches in flight.
    pub in_flight: usize,
    /// Number of rows there are.
    pub total: usize,
    /// Of those, the ones with a failure.
    pub failing: usize,
    /// Those that need somebody first.
    pub rows: Vec<BoardRow>,
    /// What is wrong beside scopes, in sentences.
    pub notes: Vec<String>,
}

/// How one scope, or a whole feed, stands.
#[derive(Debug, Clone)]
pub struct BoardRow {
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
    /// When it is polled next, in Unix milliseconds.
    pub due: Option<u64>,
    /// When data was last collected, in Unix milliseconds.
    pub last_good: Option<u64>,
    /// Value and maximum of its first figure.
    pub figure: Option<(f64, f64)>,
}

impl BoardRow {
    pub(super) fn of_feed(parked: &Parked, failure: Option<&Failure>) -> BoardRow {
        BoardRow {
            tenant: parked.tenant.to_string(),
            feed: parked.id.to_string(),
            scope: None,
            contact: parked.contact.clone(),
            failure: failure.map(|failure| redacted(parked, failure)),
            due: None,
            last_good: None,
            figure: None,
        }
    }

    pub(super) fn of_scope(parked: &Parked, entry: &ScopeEntry) -> BoardRow {
        let ScopeEntry { scope, standing, figure, .. } = entry;
        BoardRow {
            scope: Some(scope.called()),
            due: Some(standing.due),
            last_good: standing.last_good,
            figure: *figure,
            ..BoardRow::of_feed(parked, standing.outcome.as_deref())
        }
    }

    pub(super) fn of_stored(parked: &Parked, row: &ScopeRow) -> BoardRow {
        let ScopeRow { scope, standing, .. } = row;
        BoardRow {
            scope: Some(scope.called()),
            due: (standing.watch == Watch::Polled).then_some(standing.due),
            last_good: standing.last_good,
            ..BoardRow::of_feed(parked, standing.outcome.as_deref())
        }
    }
}
