//! A store in memory that several collectors share, with the rules of a database: leases, epochs and fences, on a clock
//! of the test's.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use host_harness::limits;
use host_harness::store::budget::StoredBytes;
use host_harness::store::fleet::{Fleet, FleetMember, FleetStore, MemberId, SeenMember, SeenShard};
use host_harness::store::reading::StoreReader;
use host_harness::store::shards::{Lease, shard_of};
use host_harness::store::space::FreeSpace;
use host_harness::store::{
    Backlog, FeedRow, Keep, KeptRow, Partition, PollRecord, Queued, ScopeRow, SharedStore, Store, StoreError,
    StoreErrorKind, StorePlace, StoreResult, Throttle,
};
use parking_lot::Mutex;

use super::deliveries;

/// Number of shards.
pub const SHARDS: u16 = 16;

/// The database that collectors share.
pub struct Database {
    rows: SharedStore,
    now: Arc<AtomicU64>,
    fleet: Mutex<BTreeMap<MemberId, (FleetMember, u64)>>,
    shards: Mutex<Vec<SeenShard>>,
    /// The writes that were refused because their lease was over.
    pub fenced: Mutex<Vec<Lease>>,
    /// Whether no shard can be taken.
    pub refuses: AtomicBool,
    /// Whether no shard can be given back.
    pub refuses_back: AtomicBool,
    /// Whether no poll can be committed.
    pub refuses_polls: AtomicBool,
    /// Whether the next look at the waiting events panics.
    pub breaks: AtomicBool,
    /// Runs when a reader is opened.
    pub at_reading: Mutex<Arc<dyn Fn() + Send + Sync>>,
}

/// One collector's connection to the database.
pub struct Connection {
    pub database: Arc<Database>,
    pub id: MemberId,
}

impl Database {
    pub fn new(now: &Arc<AtomicU64>) -> Arc<Database> {
        let shard = |shard| SeenShard { lease: Lease { shard, epoch: 0 }, holder: None, since: 0 };
        Arc::new(Database {
            rows: deliveries::store(),
            now: Arc::clone(now),
            fleet: Mutex::default(),
            shards: Mutex::new((0..SHARDS).map(shard).collect()),
            fenced: Mutex::default(),
            refuses: AtomicBool::new(false),
            refuses_back: AtomicBool::new(false),
            refuses_polls: AtomicBool::new(false),
            breaks: AtomicBool::new(false),
            at_reading: Mutex::new(Arc::new(|| {})),
        })
    }

    /// The holder of a tenant's shard.
    pub fn holder(&self, tenant: &str) -> Option<MemberId> {
        self.shards.lock()[usize::from(shard_of(tenant, SHARDS))].holder.clone()
    }

    fn silent(&self, since: u64) -> Duration {
        Duration::from_millis(self.now.load(Ordering::SeqCst) - since)
    }

    fn is_alive(&self, id: &MemberId) -> bool {
        self.fleet.lock().get(id).is_some_and(|(_, seen)| self.silent(*seen) < limits::LEASE)
    }
}

impl Connection {
    fn holds(&self, lease: Lease) -> bool {
        let shards = self.database.shards.lock();
        let row = &shards[usize::from(lease.shard)];
        row.lease == lease && row.holder.as_ref() == Some(&self.id)
    }

    fn allowed(&self, refuses: &AtomicBool) -> StoreResult<()> {
        match refuses.load(Ordering::SeqCst) {
            true => Err(StoreError { place: self.place().clone(), what: StoreErrorKind::Busy }),
            false => Ok(()),
        }
    }

    fn fence(&self, lease: Lease) -> StoreResult<&SharedStore> {
        if self.holds(lease) {
            return Ok(&self.database.rows);
        }
        self.database.fenced.lock().push(lease);
        Err(StoreError { place: self.place().clone(), what: StoreErrorKind::Fenced { shard: lease.shard } })
    }
}

fn is_of(shards: &[Lease], tenant: &str) -> bool {
    shards.iter().any(|lease| lease.shard == shard_of(tenant, SHARDS))
}

#[async_trait]
impl FleetStore for Connection {
    fn shards(&self) -> u16 {
        SHARDS
    }

    async fn renew(&self, member: &FleetMember) -> StoreResult<Fleet> {
        assert_eq!(member.id, self.id);
        let now = self.database.now.load(Ordering::SeqCst);
        self.database.fleet.lock().insert(member.id.clone(), (member.clone(), now));
        let fleet = self.database.fleet.lock();
        let seen = fleet.values().map(|(member, seen)| SeenMember {
            member: member.clone(),
            started: 0,
            silent: self.database.silent(*seen),
        });
        Ok(Fleet { now, members: seen.collect(), shards: self.database.shards.lock().clone() })
    }

    async fn take(&self, member: &MemberId, shards: &[u16]) -> StoreResult<Vec<Lease>> {
        self.allowed(&self.database.refuses)?;
        let mut rows = self.database.shards.lock();
        let mut taken = Vec::new();
        for shard in shards {
            let row = &mut rows[usize::from(*shard)];
            if row.holder.as_ref().is_some_and(|holder| holder != member && self.database.is_alive(holder)) {
                continue;
            }
            (row.holder, row.lease.epoch) = (Some(member.clone()), row.lease.epoch + 1);
            row.since = self.database.now.load(Ordering::SeqCst);
            taken.push(row.lease);
        }
        Ok(taken)
    }

    async fn give_back(&self, member: &MemberId, leases: &[Lease]) -> StoreResult<()> {
        self.allowed(&self.database.refuses_back)?;
        let mut rows = self.database.shards.lock();
        let own = rows.iter_mut().filter(|row| row.holder.as_ref() == Some(member) && leases.contains(&row.lease));
        own.for_each(|row| row.holder = None);
        Ok(())
    }

    async fn leave(&self, member: &MemberId) -> StoreResult<()> {
        let leases: Vec<Lease> = self.database.shards.lock().iter().map(|row| row.lease).collect();
        self.give_back(member, &leases).await?;
        self.database.fleet.lock().remove(member);
        Ok(())
    }
}

#[async_trait]
impl Store for Connection {
    async fn salt(&self) -> StoreResult<String> {
        self.database.rows.salt().await
    }

    async fn feeds(&self, _shards: &[Lease]) -> StoreResult<Vec<FeedRow>> {
        // Those of other shards are not asked about.
        self.database.rows.feeds(&[Lease::SOLE]).await
    }

    async fn keep_feed(&self, lease: Lease, row: FeedRow) -> StoreResult<()> {
        self.fence(lease)?.keep_feed(lease, row).await
    }

    async fn scopes(&self, shards: &[Lease]) -> StoreResult<Vec<ScopeRow>> {
        let mut rows = self.database.rows.scopes(&[Lease::SOLE]).await?;
        rows.retain(|row| is_of(shards, &row.tenant));
        Ok(rows)
    }

    async fn state(&self, tenant: &str, feed: &str, scope: &str) -> StoreResult<Option<Vec<u8>>> {
        self.database.rows.state(tenant, feed, scope).await
    }

    async fn commit(&self, poll: Arc<PollRecord>) -> StoreResult<StoredBytes> {
        assert_eq!(poll.lease.shard, shard_of(&poll.row.tenant, SHARDS));
        self.allowed(&self.database.refuses_polls)?;
        self.fence(poll.lease)?.commit(poll).await
    }

    async fn kept(&self, shards: &[Lease]) -> StoreResult<Vec<KeptRow>> {
        let mut rows = self.database.rows.kept(&[Lease::SOLE]).await?;
        rows.retain(|row| is_of(shards, &row.tenant));
        Ok(rows)
    }

    async fn keep_scopes(&self, lease: Lease, rows: Vec<ScopeRow>) -> StoreResult<()> {
        self.fence(lease)?.keep_scopes(lease, rows).await
    }

    async fn forget_scopes(&self, lease: Lease, feed: &str, scopes: Vec<String>) -> StoreResult<()> {
        self.fence(lease)?.forget_scopes(lease, feed, scopes).await
    }

    async fn keep_throttle(&self, throttle: Throttle) -> StoreResult<()> {
        self.database.rows.keep_throttle(throttle).await
    }

    async fn throttles(&self, now: u64) -> StoreResult<Vec<Throttle>> {
        self.database.rows.throttles(now).await
    }

    async fn backlog(&self, shards: &[Lease]) -> StoreResult<Vec<Backlog>> {
        assert!(!self.database.breaks.swap(false, Ordering::SeqCst), "a test wants this panic");
        let mut rows = self.database.rows.backlog(&[Lease::SOLE]).await?;
        rows.retain(|row| is_of(shards, &row.tenant));
        Ok(rows)
    }

    async fn queued(
        &self,
        shards: &[Lease],
        partition: &Partition,
        mut without: Vec<String>,
        events: usize,
        bytes: usize,
    ) -> StoreResult<Vec<Queued>> {
        let backlog = self.database.rows.backlog(&[Lease::SOLE]).await?;
        let others = backlog.into_iter().map(|row| row.tenant).filter(|tenant| !is_of(shards, tenant));
        without.extend(others.collect::<HashSet<_>>());
        let mut queued = self.database.rows.queued(&[Lease::SOLE], partition, without, events, bytes).await?;
        for event in &mut queued {
            let shard = shard_of(&event.tenant, SHARDS);
            event.lease = *shards.iter().find(|lease| lease.shard == shard).unwrap();
        }
        Ok(queued)
    }

    async fn acknowledge(&self, events: &[Queued]) -> StoreResult<()> {
        let own: Vec<Queued> = events.iter().filter(|event| self.holds(event.lease)).cloned().collect();
        self.database.rows.acknowledge(&own).await
    }

    async fn keep_delivered(&self, events: &[Queued], keep: Keep) -> StoreResult<()> {
        let own: Vec<Queued> = events.iter().filter(|event| self.holds(event.lease)).cloned().collect();
        self.database.rows.keep_delivered(&own, keep).await
    }

    async fn close(&self) -> StoreResult<()> {
        Ok(())
    }

    async fn prune(&self, before: u64, now: u64) -> StoreResult<()> {
        self.database.rows.prune(before, now).await
    }

    fn reader(&self) -> StoreResult<Box<dyn StoreReader>> {
        let at_reading = Arc::clone(&self.database.at_reading.lock());
        at_reading();
        self.database.rows.reader()
    }

    fn space(&self) -> &FreeSpace {
        self.database.rows.space()
    }

    fn place(&self) -> &StorePlace {
        self.database.rows.place()
    }

    fn fleet(&self) -> Option<&dyn FleetStore> {
        Some(self)
    }
}
