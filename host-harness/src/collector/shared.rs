//! Feeds of a store that several collectors share: those of leased shards are collected, the others wait for a lease.

use std::collections::HashSet;
use std::sync::Arc;

use source_host::digest::ShortDigest;
use source_host::limits::milliseconds;

use crate::admitted::AdmittedFeed;
use crate::collector::{Collector, FeedEntry, JobResult};
use crate::limits;
use crate::store::fleet::ShardWork;
use crate::store::shards::{Lease, shard_of};
use crate::store::{Backlog, FeedRow, KeptRow, ScopeRow, StoreError, Throttle};

/// A configured feed on whose tenant another collector may work.
pub(super) struct FeedElsewhere {
    pub(super) admitted: Arc<AdmittedFeed>,
    /// Digest of its whole configuration, salted.
    pub(super) configured_as: ShortDigest,
}

/// Sums up the work in each shard.
struct WorkSum(Vec<ShardWork>);

impl WorkSum {
    fn of(shards: u16) -> WorkSum {
        WorkSum(vec![ShardWork::default(); usize::from(shards)])
    }

    fn add(&mut self, shard: u16, admitted: &AdmittedFeed, scopes: usize) {
        let Some(work) = self.0.get_mut(usize::from(shard)) else { return };
        let each = milliseconds(limits::HOUR) / milliseconds(admitted.interval).max(1);
        let polls = u32::try_from(each.saturating_mul(scopes as u64)).unwrap_or(u32::MAX);
        *work = ShardWork {
            feeds: work.feeds.saturating_add(1),
            polls: work.polls.saturating_add(polls),
            // In any order the same.
            known: work.known ^ ShortDigest::of(&admitted.id).beginning(),
        };
    }
}

/// Returns the work in each of so many shards if every feed has one scope.
pub fn expected_work(feeds: &[Arc<AdmittedFeed>], shards: u16) -> Vec<ShardWork> {
    let mut work = WorkSum::of(shards);
    feeds.iter().for_each(|admitted| work.add(shard_of(&admitted.tenant, shards), admitted, 1));
    work.0
}

/// The rows of newly leased shards, and the waits that collectors share.
pub(super) struct SharedRows {
    leases: HashSet<Lease>,
    feeds: Vec<FeedRow>,
    scopes: Vec<ScopeRow>,
    kept: Vec<KeptRow>,
    backlog: Vec<Backlog>,
    throttles: Vec<Throttle>,
}

impl Collector {
    /// The lease of a tenant whose rows are loaded.
    pub(super) fn lease_of(&self, tenant: &str) -> Option<Lease> {
        self.pipeline.shards.lease_of(tenant).filter(|lease| self.loaded.contains(lease))
    }

    /// Says whether work on a feed may begin. If not, other collectors may have its shard.
    pub(super) fn may_work(&self, entry: &FeedEntry) -> bool {
        self.pipeline.shards.holds(entry.lease)
    }

    /// Ends the work on shards whose leases are over, and begins that on newly leased ones. Also takes up waits that other
    /// collectors met.
    pub fn reconcile(&mut self) {
        self.drop_lost();
        if self.loading.is_some_and(|job| self.running.contains_key(&job)) {
            return;
        }
        let held = self.pipeline.shards.held().into_iter();
        let leases: HashSet<Lease> = held.filter(|lease| !self.loaded.contains(lease)).collect();
        let (store, now) = (Arc::clone(&self.pipeline.store), (self.clock)());
        let load = async move {
            let throttles = store.throttles(now).await?;
            let mut rows = SharedRows {
                leases,
                feeds: Vec::new(),
                scopes: Vec::new(),
                kept: Vec::new(),
                backlog: Vec::new(),
                throttles,
            };
            if !rows.leases.is_empty() {
                let shards: Vec<Lease> = rows.leases.iter().copied().collect();
                rows.feeds = store.feeds(&shards).await?;
                rows.scopes = store.scopes(&shards).await?;
                rows.kept = store.kept(&shards).await?;
                rows.backlog = store.backlog(&shards).await?;
            }
            Ok(rows)
        };
        let job = Box::pin(async move { JobResult::Loaded(load.await) });
        self.loading = Some(self.start(None, None, job));
    }

    /// Handles the rows that were loaded.
    pub(super) fn loaded(&mut self, loaded: Result<SharedRows, StoreError>) {
        let rows = match loaded {
            Ok(rows) => rows,
            // The next renewal of the leases loads again.
            Err(error) => return self.tell_unkept(&error),
        };
        rows.throttles.iter().for_each(|throttle| self.share(Some(throttle.clone())));
        let shards = self.pipeline.shards.clone();
        // Leases may be over already.
        let leases: HashSet<Lease> = rows.leases.into_iter().filter(|lease| shards.holds(*lease)).collect();
        if leases.is_empty() {
            return;
        }
        let is_new = |tenant: &str| shards.lease_of(tenant).is_some_and(|lease| leases.contains(&lease));
        for row in &rows.feeds {
            self.left.remove(row.feed.as_str());
        }
        let scopes = rows.scopes.into_iter().filter(|row| is_new(&row.tenant)).collect();
        self.remember(rows.feeds, scopes);
        self.loaded.extend(&leases);
        // Before any poll of these tenants adds to the counts.
        let backlog: Vec<Backlog> = rows.backlog.into_iter().filter(|row| is_new(&row.tenant)).collect();
        self.pipeline.deliveries.take_over(&leases, is_new, &backlog);
        let coming: Vec<Arc<AdmittedFeed>> =
            self.elsewhere.extract_if(|_, feed| is_new(&feed.admitted.tenant)).map(|(_, feed)| feed.admitted).collect();
        let (now, count) = ((self.clock)(), coming.len());
        for (rank, admitted) in coming.into_iter().enumerate() {
            self.pipeline.metrics.take_up(None, admitted.counted_as());
            self.add(admitted, now, rank as u64);
        }
        for row in rows.kept.iter().filter(|row| is_new(&row.tenant)) {
            self.pipeline.metrics.feed(&row.tenant, &row.feed, |counts| counts.state_bytes = row.bytes);
        }
        tracing::info!("works on {} more shards with {count} feeds", leases.len());
    }

    /// Ends the work on feeds whose leases are over. Their polls in flight end, and the store takes nothing of them.
    fn drop_lost(&mut self) {
        let shards = self.pipeline.shards.clone();
        let before = self.loaded.len();
        self.loaded.retain(|lease| shards.holds(*lease));
        if self.loaded.len() == before {
            return;
        }
        let lost = self.feeds.iter().filter(|(_, entry)| !shards.holds(entry.lease));
        let of = |entry: &FeedEntry| FeedElsewhere {
            admitted: Arc::clone(&entry.admitted),
            configured_as: entry.digests.configured_as,
        };
        let lost: Vec<(u32, FeedElsewhere)> = lost.map(|(number, entry)| (*number, of(entry))).collect();
        let count = lost.len();
        for (number, gone) in lost {
            let admitted = Arc::clone(&gone.admitted);
            let (tenant, feed, _) = admitted.counted();
            self.pipeline.metrics.forget(tenant, feed);
            self.by_id.remove(&admitted.id);
            self.remove(number);
            // The next holder changes its rows.
            self.left.remove(&admitted.id);
            self.elsewhere.insert(Arc::clone(&admitted.id), gone);
        }
        let is_lost = |tenant: &str| shards.lease_of(tenant).is_none();
        self.left.retain(|_, left| !left.stored.values().any(|row| is_lost(&row.tenant)));
        self.pipeline.deliveries.give_up(is_lost);
        tracing::info!("works on {} shards less, with {count} feeds", before - self.loaded.len());
    }

    /// Returns the work in each of so many shards, as far as this collector knows.
    pub fn work(&self, shards: u16) -> Vec<ShardWork> {
        let mut work = WorkSum::of(shards);
        for entry in self.feeds.values() {
            work.add(entry.lease.shard, &entry.admitted, entry.scopes.len().max(1));
        }
        for FeedElsewhere { admitted, .. } in self.elsewhere.values() {
            work.add(shard_of(&admitted.tenant, shards), admitted, 1);
        }
        work.0
    }

    /// Digest of the configuration of all feeds, with their intervals and sinks, which is the same for collectors that have
    /// the same feeds.
    pub fn configuration(&self) -> ShortDigest {
        let own = self.feeds.values().map(|entry| (&entry.admitted, entry.digests.configured_as));
        let elsewhere = self.elsewhere.values().map(|feed| (&feed.admitted, feed.configured_as));
        let line = |(feed, digest): (&Arc<AdmittedFeed>, ShortDigest)| {
            format!("{} {digest} {:?} {:?}\n", feed.id, feed.interval, feed.sinks)
        };
        let mut lines: Vec<String> = own.chain(elsewhere).map(line).collect();
        lines.sort_unstable();
        ShortDigest::of(&lines.concat())
    }
}
