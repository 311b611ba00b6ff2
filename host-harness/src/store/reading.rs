//! Reads a store beside the collector that writes it: the status page and the commands `status` and `history` read
//! figures in this way. A reader blocks its thread.

use super::fleet::Fleet;
use super::{Backlog, Points, ScopeRow, StoreResult};

/// A figure, and the time since which it has been the same, in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The time.
    pub time: u64,
    /// The figure.
    pub points: Points,
}

/// The figures of one subject of a scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The subject: uid of a finding.
    pub subject: String,
    /// Its last name for people.
    pub title: String,
    /// The figures in the order of their times. The first may have been the same for longer than was asked for.
    pub samples: Vec<Sample>,
}

/// A store that is only read.
pub trait StoreReader: Send {
    /// Returns the rows of all scopes, in the order of their first sight.
    fn scopes(&self) -> StoreResult<Vec<ScopeRow>>;
    /// Returns the events that wait for each sink.
    fn backlog(&self) -> StoreResult<Vec<Backlog>>;
    /// Returns the figure that stands for a whole scope, as it was since a time; `None` if there is none.
    fn figure(&self, feed: &str, scope: &str, since: u64) -> StoreResult<Option<Series>>;
    /// Returns the figures of the parts of a scope, as they were since a time.
    fn parts(&self, feed: &str, scope: &str, since: u64) -> StoreResult<Vec<Series>>;
    /// Returns the collectors that share the store; `None` if only one can use it.
    fn fleet(&self) -> StoreResult<Option<Fleet>> {
        Ok(None)
    }
}
