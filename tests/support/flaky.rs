//! A store that refuses writes when a test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use host_harness::store::budget::StoredBytes;
use host_harness::store::reading::StoreReader;
use host_harness::store::shards::Lease;
use host_harness::store::space::FreeSpace;
use host_harness::store::{
    Backlog, FeedRow, Keep, KeptRow, Partition, PollRecord, Queued, ScopeRow, SharedStore, Store, StoreError,
    StoreErrorKind, StorePlace, StoreResult, Throttle,
};

/// A store whose disk is full while `is_full`: it can be read but not written.
pub struct Flaky {
    pub store: SharedStore,
    pub is_full: Arc<AtomicBool>,
    /// The number of writes.
    pub writes: Arc<AtomicUsize>,
    /// Whether the next look for events of a partition panics.
    pub breaks: Arc<AtomicBool>,
}

impl Flaky {
    fn taking(&self) -> StoreResult<&SharedStore> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        match self.is_full.load(Ordering::SeqCst) {
            true => Err(StoreError { place: self.place().clone(), what: StoreErrorKind::Full }),
            false => Ok(&self.store),
        }
    }
}

#[async_trait]
impl Store for Flaky {
    async fn salt(&self) -> StoreResult<String> {
        self.store.salt().await
    }

    async fn feeds(&self, shards: &[Lease]) -> StoreResult<Vec<FeedRow>> {
        self.store.feeds(shards).await
    }

    async fn keep_feed(&self, lease: Lease, row: FeedRow) -> StoreResult<()> {
        self.taking()?.keep_feed(lease, row).await
    }

    async fn scopes(&self, shards: &[Lease]) -> StoreResult<Vec<ScopeRow>> {
        self.store.scopes(shards).await
    }

    async fn state(&self, tenant: &str, feed: &str, scope: &str) -> StoreResult<Option<Vec<u8>>> {
        self.store.state(tenant, feed, scope).await
    }

    async fn commit(&self, poll: Arc<PollRecord>) -> StoreResult<StoredBytes> {
        self.taking()?.commit(poll).await
    }

    async fn kept(&self, shards: &[Lease]) -> StoreResult<Vec<KeptRow>> {
        self.store.kept(shards).await
    }

    async fn keep_scopes(&self, lease: Lease, rows: Vec<ScopeRow>) -> StoreResult<()> {
        self.taking()?.keep_scopes(lease, rows).await
    }

    async fn forget_scopes(&self, lease: Lease, feed: &str, scopes: Vec<String>) -> StoreResult<()> {
        self.taking()?.forget_scopes(lease, feed, scopes).await
    }

    async fn keep_throttle(&self, throttle: Throttle) -> StoreResult<()> {
        self.taking()?.keep_throttle(throttle).await
    }

    async fn throttles(&self, now: u64) -> StoreResult<Vec<Throttle>> {
        self.store.throttles(now).await
    }

    async fn backlog(&self, shards: &[Lease]) -> StoreResult<Vec<Backlog>> {
        self.store.backlog(shards).await
    }

    async fn queued(
        &self,
        shards: &[Lease],
        partition: &Partition,
        without: Vec<String>,
        events: usize,
        bytes: usize,
    ) -> StoreResult<Vec<Queued>> {
        assert!(!self.breaks.swap(false, Ordering::SeqCst), "a test wants this panic");
        self.store.queued(shards, partition, without, events, bytes).await
    }

    async fn acknowledge(&self, events: &[Queued]) -> StoreResult<()> {
        self.taking()?.acknowledge(events).await
    }

    async fn keep_delivered(&self, events: &[Queued], keep: Keep) -> StoreResult<()> {
        self.taking()?.keep_delivered(events, keep).await
    }

    async fn close(&self) -> StoreResult<()> {
        self.store.close().await
    }

    async fn prune(&self, before: u64, now: u64) -> StoreResult<()> {
        self.taking()?.prune(before, now).await
    }

    fn reader(&self) -> StoreResult<Box<dyn StoreReader>> {
        self.store.reader()
    }

    fn space(&self) -> &FreeSpace {
        self.store.space()
    }

    fn place(&self) -> &StorePlace {
        self.store.place()
    }
}
