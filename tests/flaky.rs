//! A store that takes nothing while a test says so.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use host_harness::store::sqlite::SqliteStore;
use host_harness::store::{Backlog, Fault, FeedRow, Lane, PollRecord, Queued, ScopeRow, Store, StoreError, Throttle};

type Answer<T> = Result<T, StoreError>;

/// A store whose disk is full while `is_full`: it can be read, and takes nothing.
pub struct Flaky {
    pub store: SqliteStore,
    pub is_full: Arc<AtomicBool>,
}

impl Flaky {
    fn taking(&mut self) -> Answer<&mut SqliteStore> {
        match self.is_full.load(Ordering::SeqCst) {
            true => Err(StoreError { file: PathBuf::from("collector.db"), what: Fault::Full }),
            false => Ok(&mut self.store),
        }
    }
}

impl Store for Flaky {
    fn salt(&mut self) -> Answer<String> {
        self.store.salt()
    }

    fn feeds(&mut self) -> Answer<Vec<FeedRow>> {
        self.store.feeds()
    }

    fn keep_feed(&mut self, row: &FeedRow) -> Answer<()> {
        self.taking()?.keep_feed(row)
    }

    fn scopes(&mut self) -> Answer<Vec<ScopeRow>> {
        self.store.scopes()
    }

    fn state(&mut self, tenant: &str, feed: &str, scope: &str) -> Answer<Option<Vec<u8>>> {
        self.store.state(tenant, feed, scope)
    }

    fn commit(&mut self, poll: &PollRecord) -> Answer<()> {
        self.taking()?.commit(poll)
    }

    fn keep_scopes(&mut self, rows: &[ScopeRow]) -> Answer<()> {
        self.taking()?.keep_scopes(rows)
    }

    fn keep_throttle(&mut self, throttle: &Throttle) -> Answer<()> {
        self.taking()?.keep_throttle(throttle)
    }

    fn throttles(&mut self, now: u64) -> Answer<Vec<Throttle>> {
        self.store.throttles(now)
    }

    fn backlog(&mut self) -> Answer<Vec<Backlog>> {
        self.store.backlog()
    }

    fn queued(&mut self, lane: &Lane, events: usize, bytes: usize) -> Answer<Vec<Queued>> {
        self.store.queued(lane, events, bytes)
    }

    fn acknowledge(&mut self, numbers: &[i64]) -> Answer<()> {
        self.taking()?.acknowledge(numbers)
    }

    fn close(&mut self) -> Answer<()> {
        self.store.close()
    }

    fn prune(&mut self, before: u64, now: u64) -> Answer<()> {
        self.taking()?.prune(before, now)
    }
}
