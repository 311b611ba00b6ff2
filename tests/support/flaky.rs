//! A store that refuses writes when a test says so.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use host_harness::store::budget::StoredBytes;
use host_harness::store::space::FreeSpace;
use host_harness::store::sqlite::SqliteStore;
use host_harness::store::{
    Backlog, FeedRow, KeptRow, Partition, PollRecord, Queued, ScopeRow, Store, StoreError, StoreErrorKind, Throttle,
};

type StoreResult<T> = Result<T, StoreError>;

/// A store whose disk is full while `is_full`: it can be read but not written.
pub struct Flaky {
    pub store: SqliteStore,
    pub is_full: Arc<AtomicBool>,
    /// The number of writes, each a transaction.
    pub writes: Arc<AtomicUsize>,
}

impl Flaky {
    fn taking(&mut self) -> StoreResult<&mut SqliteStore> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        match self.is_full.load(Ordering::SeqCst) {
            true => Err(StoreError { file: PathBuf::from("collector.db"), what: StoreErrorKind::Full }),
            false => Ok(&mut self.store),
        }
    }
}

impl Store for Flaky {
    fn salt(&mut self) -> StoreResult<String> {
        self.store.salt()
    }

    fn feeds(&mut self) -> StoreResult<Vec<FeedRow>> {
        self.store.feeds()
    }

    fn keep_feed(&mut self, row: &FeedRow) -> StoreResult<()> {
        self.taking()?.keep_feed(row)
    }

    fn scopes(&mut self) -> StoreResult<Vec<ScopeRow>> {
        self.store.scopes()
    }

    fn state(&mut self, tenant: &str, feed: &str, scope: &str) -> StoreResult<Option<Vec<u8>>> {
        self.store.state(tenant, feed, scope)
    }

    fn commit_all(&mut self, polls: &[&PollRecord]) -> Vec<StoreResult<StoredBytes>> {
        match self.taking() {
            Ok(store) => store.commit_all(polls),
            Err(error) => polls.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn kept(&mut self) -> StoreResult<Vec<KeptRow>> {
        self.store.kept()
    }

    fn keep_scopes(&mut self, rows: &[ScopeRow]) -> StoreResult<()> {
        self.taking()?.keep_scopes(rows)
    }

    fn forget_scopes(&mut self, feed: &str, scopes: &[String]) -> StoreResult<()> {
        self.taking()?.forget_scopes(feed, scopes)
    }

    fn keep_throttle(&mut self, throttle: &Throttle) -> StoreResult<()> {
        self.taking()?.keep_throttle(throttle)
    }

    fn throttles(&mut self, now: u64) -> StoreResult<Vec<Throttle>> {
        self.store.throttles(now)
    }

    fn backlog(&mut self) -> StoreResult<Vec<Backlog>> {
        self.store.backlog()
    }

    fn queued(
        &mut self,
        partition: &Partition,
        without: &[String],
        events: usize,
        bytes: usize,
    ) -> StoreResult<Vec<Queued>> {
        self.store.queued(partition, without, events, bytes)
    }

    fn acknowledge(&mut self, numbers: &[i64]) -> StoreResult<()> {
        self.taking()?.acknowledge(numbers)
    }

    fn close(&mut self) -> StoreResult<()> {
        self.store.close()
    }

    fn prune(&mut self, before: u64, now: u64) -> StoreResult<()> {
        self.taking()?.prune(before, now)
    }

    fn space(&self) -> FreeSpace {
        self.store.space()
    }
}
