//! Shares the store with other collectors, if it is one that several can use.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use source_host::digest::ShortDigest;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::RunLoop;
use crate::admitted::AdmittedFeed;
use crate::collector::{Collector, expected_work};
use crate::fleet::keeper::{FleetState, FleetWatch, Keeper};
use crate::limits;
use crate::store::fleet::{FleetMember, MemberId, ShardWork};
use crate::store::shards::{Shards, SteadyClock, shard_of};
use crate::store::{SharedStore, StoreError};

/// This collector among those that share a store.
pub struct Sharing {
    /// The leases, at which all parts of the collector look.
    pub shards: Shards,
    /// The number of shards; `None` if no other collector can use the store.
    count: Option<u16>,
    member: Arc<Mutex<FleetMember>>,
    keeper: Option<Keeper>,
    watch: FleetWatch,
    task: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// When the work of this collector was last described.
    described: Instant,
}

impl Sharing {
    /// Joins the collectors of a store, if it has any, and takes a part of the shards.
    pub async fn join(store: &SharedStore, feeds: &[Arc<AdmittedFeed>], listen: Option<String>) -> Sharing {
        let work = |count| expected_work(feeds, count);
        Sharing::begin(store, listen, work, None).await
    }

    /// Joins the collectors of a store, if it has any, for one poll of these feeds: takes those shards of their tenants that
    /// nobody holds. The others do not count on this collector.
    pub async fn join_once(store: &SharedStore, feeds: &[Arc<AdmittedFeed>]) -> Sharing {
        let shards = |count| feeds.iter().map(|feed| shard_of(&feed.tenant, count)).collect();
        Sharing::begin(store, None, |_| Vec::new(), Some(&shards)).await
    }

    async fn begin(
        store: &SharedStore,
        listen: Option<String>,
        work: impl Fn(u16) -> Vec<ShardWork>,
        once: Option<&(dyn Fn(u16) -> BTreeSet<u16> + Sync)>,
    ) -> Sharing {
        let clock: SteadyClock = Arc::new(Instant::now);
        let count = store.fleet().map(|fleet| fleet.shards());
        let shards = count.map_or_else(Shards::sole, |count| Shards::none_of(count, Arc::clone(&clock)));
        let system = rustix::system::uname();
        let member = FleetMember {
            id: MemberId(Uuid::new_v4().simple().to_string()),
            name: format!(
                "{} (process {}{})",
                system.nodename().to_string_lossy(),
                std::process::id(),
                if once.is_some() { ", one poll" } else { "" }
            ),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: ShortDigest::default(),
            listen,
            work: work(count.unwrap_or_default()),
        };
        let member = Arc::new(Mutex::new(member));
        let (mut keeper, watch) = Keeper::new(Arc::clone(store), shards.clone(), clock, Arc::clone(&member));
        if let Some(count) = count {
            if let Some(needed) = once {
                keeper = keeper.of_one_poll(needed(count));
            }
            keeper.turn().await;
        }
        let keeper = Some(keeper);
        Sharing { shards, count, member, keeper, watch, task: None, described: Instant::now() }
    }

    /// Returns the error of the last renewal, after which shards may be missing.
    pub fn joined(&self) -> Result<(), StoreError> {
        self.watch.state().trouble.clone().map_or(Ok(()), Err)
    }

    /// Renews the leases from now on.
    pub fn keep(&mut self) {
        if let Some(keeper) = self.keeper.take().filter(|_| self.count.is_some()) {
            let (stop, stopped) = oneshot::channel();
            self.task = Some((stop, tokio::spawn(keeper.keep(stopped))));
        }
    }

    /// Gives all leases back.
    pub async fn leave(mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.leave().await;
        }
        if let Some((stop, task)) = self.task.take() {
            drop(stop);
            let _ = timeout(limits::RENEWAL_PATIENCE, task).await;
        }
    }

    /// Passes a result on; after an error, gives all leases back.
    pub async fn or_leave<T, E>(self, result: Result<T, E>) -> Result<(Sharing, T), E> {
        match result {
            Ok(value) => Ok((self, value)),
            Err(error) => {
                self.leave().await;
                Err(error)
            }
        }
    }

    /// The fleet as this collector last saw it; `None` if no other collector can use the store.
    pub fn state(&self) -> Option<Arc<FleetState>> {
        self.count.map(|_| self.watch.state())
    }

    /// Describes the work and the configuration of this collector to the others.
    fn describe(&mut self, collector: &Collector, sinks: &[String]) {
        if self.count.is_some() {
            let configuration = ShortDigest::of(&format!("{}\n{sinks:?}", collector.configuration()));
            self.member.lock().configuration = configuration;
        }
        self.describe_work(collector);
    }

    /// Describes the work of this collector to the others.
    fn describe_work(&mut self, collector: &Collector) {
        let Some(count) = self.count else { return };
        let work = collector.work(count);
        self.member.lock().work = work;
        self.described = Instant::now();
    }
}

impl RunLoop {
    /// Describes this collector to the others, after a change of its feeds or sinks.
    pub(super) fn describe(&mut self) {
        self.sharing.describe(&self.collector, &self.sinks);
    }

    /// Takes up a change of the fleet.
    pub(super) fn take_fleet(&mut self) {
        self.collector.reconcile();
        if let Some(state) = self.sharing.state() {
            self.collector.pipeline().metrics.share(&state.fleet, state.held.len());
            let living = state.fleet.members.iter().filter(|seen| seen.is_alive()).count();
            self.collector.tenants().share_among(living);
        }
        // The scopes of newly leased shards are found one by one, and late feeds come one by one.
        if self.sharing.described.elapsed() >= limits::WORK_DESCRIBED {
            self.sharing.describe_work(&self.collector);
        }
    }
}

/// Returns when the fleet may have changed; waits for ever if no other collector can use the store.
pub(super) async fn changed(sharing: &mut Sharing) {
    sharing.watch.changed().await;
}
