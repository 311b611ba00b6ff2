//! Delivers events from the outbox to their sinks: in order within a partition, and in parallel between partitions, so
//! that a slow or broken one delays no other. An event leaves the outbox when its sink has it, or when it is in the
//! file of dead letters.

mod queue;
mod worker;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use source_host::clock::Clock;
use source_host::network::client::Network;
use tokio::sync::{Notify, Semaphore};

use crate::limits;
use crate::metrics::Metrics;
use crate::sink::disk::Disk;
use crate::sink::file::LineFile;
use crate::sink::http;
use crate::sink::ledger::{DeadLetters, Failing, Ledger};
#[cfg(feature = "nats")]
use crate::sink::nats::NatsClient;
use crate::sink::repeats::Summary;
use crate::sink::shares::DiskShares;
use crate::sink::{SinkClosed, SinkConfig, SinkError, SinkTrouble, Stdout};
use crate::store::shards::{Lease, Shards};
use crate::store::{Backlog, NewEvent, Outboxes, Partition, SharedStore, StoreError, StoreErrorKind, Waiting};

/// All sinks of a collector, and the deliveries to them. Cheap to clone.
#[derive(Clone)]
pub struct Deliveries {
    shared: Arc<SharedDeliveries>,
}

struct SharedDeliveries {
    store: SharedStore,
    shards: Shards,
    disk: Arc<dyn Disk>,
    stdout: Stdout,
    /// TLS settings, and the proxy of HTTP sinks.
    network: Mutex<Network>,
    metrics: Arc<Metrics>,
    clock: Clock,
    shares: DiskShares,
    inner: Mutex<Inner>,
    /// Notified when something was delivered, a partition came to rest, or a sink closed.
    moved: Notify,
    /// Notified when an outbox that was full has room, when sinks were replaced, or when one closed. Keeps one notice for
    /// the loop while that is busy.
    room: Notify,
    /// Notified when sinks were replaced.
    replaced: Notify,
}

#[derive(Default)]
struct Inner {
    sinks: BTreeMap<String, Arc<OpenSink>>,
    /// Partitions with a running worker.
    busy: HashMap<Partition, Work>,
    /// Per sink, the number of partitions that still deliver with its old configuration. New deliveries wait for them,
    /// so that no event is in flight twice.
    leaving: BTreeMap<String, usize>,
    waiting: HashMap<(String, String), Count>,
    /// Problems that keep events from their sinks.
    ledger: Ledger,
    /// Sinks outside the configuration for which the log mentioned waiting events.
    told_lost: BTreeSet<String>,
    /// Free bytes of the disks of sinks' files, when something was last written there.
    free: BTreeMap<String, u64>,
    /// The leases whose waiting events were counted: only these are delivered, so that each is counted once.
    counted: HashSet<Lease>,
    /// Whether the events of an earlier process were counted.
    resumed: bool,
    closed: Option<SinkClosed>,
}

/// A running worker of a partition.
struct Work {
    sink: Arc<OpenSink>,
    /// Whether further events arrived meanwhile.
    more: bool,
    /// Whether all its events wait for room on a disk.
    is_held: bool,
}

/// Waiting events, with a sign: a delivery may be counted before the insertion of its events.
#[derive(Default)]
struct Count {
    events: i64,
    bytes: i64,
}

impl Count {
    fn add(&mut self, events: i64, bytes: i64) {
        self.events += events;
        self.bytes += bytes;
    }

    fn waiting(&self) -> Waiting {
        let natural = |number: i64| u64::try_from(number).unwrap_or_default();
        Waiting { events: natural(self.events), bytes: natural(self.bytes) }
    }
}

/// A problem that keeps the events of one tenant, or of all tenants, from a sink, or that made the sink refuse some of
/// them permanently.
#[derive(Debug, Clone)]
pub struct SinkRow {
    /// Id of the sink.
    pub sink: String,
    /// Id of the tenant; `None` for all tenants of a sink that does not separate them.
    pub tenant: Option<String>,
    /// The events that wait.
    pub waiting: Waiting,
    /// The reason why nothing is delivered.
    pub failing: Option<Failing>,
    /// Since when the outbox is full, in Unix milliseconds.
    pub full_since: Option<u64>,
    /// The events that the sink refused permanently, and the file that holds them.
    pub dead_letters: Option<(DeadLetters, PathBuf)>,
    /// Whether the sink is configured.
    pub is_configured: bool,
}

struct OpenSink {
    config: SinkConfig,
    /// The client that all partitions share, if the sink does not separate tenants.
    client: Option<http::Client>,
    dead_letters: Arc<Mutex<LineFile>>,
    /// The connection of a sink of type `nats` that does not separate tenants.
    #[cfg(feature = "nats")]
    nats: Option<NatsClient>,
    /// Limits the sink's deliveries, which would otherwise take all sockets and threads. Each sink has its own limit,
    /// so that sinks do not wait for each other.
    places: Semaphore,
    /// Limits the deliveries of partitions whose last two deliveries failed, so that they do not wait in front of others.
    retries: Semaphore,
}

/// The resources that deliveries need.
pub struct Surroundings {
    /// The store with the outbox.
    pub store: SharedStore,
    /// The shards whose events are delivered.
    pub shards: Shards,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The output of the sink `stdout`.
    pub stdout: Stdout,
    /// TLS settings, and the proxy of HTTP sinks.
    pub network: Network,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The clock.
    pub clock: Clock,
}

impl Deliveries {
    /// Makes deliveries without sinks.
    pub fn new(surroundings: Surroundings) -> Deliveries {
        let Surroundings { store, shards, disk, stdout, network, metrics, clock } = surroundings;
        let (inner, moved, room, replaced) = (Mutex::default(), Notify::new(), Notify::new(), Notify::new());
        let (network, shares) = (Mutex::new(network), DiskShares::default());
        let shared = SharedDeliveries {
            store,
            shards,
            disk,
            stdout,
            network,
            metrics,
            clock,
            shares,
            inner,
            moved,
            room,
            replaced,
        };
        Deliveries { shared: Arc::new(shared) }
    }

    /// Changes the TLS settings and the proxy of sinks that are opened from now on.
    pub fn trust(&self, network: &Network) {
        *self.shared.network.lock() = network.clone();
        self.shared.inner.lock().sinks.retain(|_, sink| !sink.config.kind.uses_network());
    }

    /// Replaces the sinks. A partition whose sink changed ends after its current batch, and its other events go to the
    /// new sink. Events that waited for a sink which is configured again are delivered.
    pub fn replace(&self, configs: &[SinkConfig]) -> Result<(), SinkError> {
        let mut inner = self.shared.inner.lock();
        let mut sinks = BTreeMap::new();
        for config in configs {
            let same = inner.sinks.get(&config.id).filter(|before| before.config == *config).map(Arc::clone);
            let sink = same.map_or_else(|| self.shared.opened(config).map(Arc::new), Ok)?;
            sinks.insert(config.id.clone(), sink);
        }
        let before = std::mem::replace(&mut inner.sinks, sinks);
        let Inner { sinks, ledger, free, .. } = &mut *inner;
        free.retain(|sink, _| sinks.contains_key(sink));
        let leads = |sink: &str| match (before.get(sink), sinks.get(sink)) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            _ => false,
        };
        ledger.replaced(|sink| !leads(sink), |sink| !sinks.contains_key(sink));
        let mut leaving: BTreeMap<String, usize> = BTreeMap::new();
        for (partition, work) in inner.busy.iter().filter(|(_, work)| !inner.leads(&work.sink)) {
            debug_assert_eq!(partition.sink, work.sink.config.id);
            *leaving.entry(partition.sink.clone()).or_default() += 1;
        }
        inner.leaving = leaving;
        let resumed = inner.resumed;
        drop(inner);
        self.shared.replaced.notify_waiters();
        self.shared.room.notify_one();
        self.shared.check_outboxes();
        if resumed {
            self.take_up(None);
        }
        Ok(())
    }

    /// Delivers the events that an earlier process left in the outbox. Logs and returns the ids of sinks outside the
    /// configuration, with the number of events that wait for them.
    pub async fn resume(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let shards = self.shared.shards.held();
        let backlog = self.shared.store.backlog(&shards).await?;
        let mut inner = self.shared.inner.lock();
        inner.resumed = true;
        inner.counted = shards.into_iter().collect();
        inner.waiting.clear();
        for row in &backlog {
            let count = inner.waiting.entry((row.sink.clone(), row.tenant.clone())).or_default();
            count.add(signed(row.events), signed(row.bytes));
        }
        let lost = inner.lost(&backlog);
        inner.tell_all_lost(&lost);
        drop(inner);
        self.shared.check_outboxes();
        for row in backlog {
            self.wake(&row.sink, &row.tenant, &row.feed);
        }
        Ok(lost)
    }

    /// Returns the leases whose events are delivered.
    pub fn counted(&self) -> Vec<Lease> {
        self.shared.counted()
    }

    /// Takes over tenants of newly leased shards: counts their waiting events, and delivers them.
    pub fn take_over(&self, leases: &HashSet<Lease>, is_new: impl Fn(&str) -> bool, backlog: &[Backlog]) {
        let mut inner = self.shared.inner.lock();
        inner.counted.retain(|lease| self.shared.shards.holds(*lease));
        inner.counted.extend(leases);
        // Counts from an earlier lease say nothing any more.
        inner.waiting.retain(|(_, tenant), _| !is_new(tenant));
        for row in backlog {
            let count = inner.waiting.entry((row.sink.clone(), row.tenant.clone())).or_default();
            count.add(signed(row.events), signed(row.bytes));
        }
        let lost = inner.lost(backlog);
        inner.tell_lost(&lost);
        drop(inner);
        self.shared.check_outboxes();
        for row in backlog {
            self.wake(&row.sink, &row.tenant, &row.feed);
        }
    }

    /// Forgets tenants on which other collectors may work.
    pub fn give_up(&self, is_lost: impl Fn(&str) -> bool) {
        let mut inner = self.shared.inner.lock();
        inner.waiting.retain(|(_, tenant), _| !is_lost(tenant));
        inner.ledger.give_up(is_lost);
    }

    /// Returns the first of these sinks whose outbox is full for a tenant, with the events that wait there.
    pub fn full(&self, sinks: &[String], tenant: &str) -> Option<(String, Waiting)> {
        let inner = self.shared.inner.lock();
        sinks.iter().find_map(|sink| {
            let waiting = inner.waiting.get(&(sink.clone(), tenant.to_owned()))?.waiting();
            let most = inner.sinks.get(sink)?.config.max_outbox_bytes;
            (waiting.bytes >= most).then(|| (sink.clone(), waiting))
        })
    }

    /// Counts events of a feed that entered the outbox, and starts their delivery.
    pub fn queued(&self, sinks: &[String], tenant: &str, feed: &str, events: &[NewEvent]) {
        if events.is_empty() {
            return;
        }
        let bytes: u64 = events.iter().map(|event| event.body.len() as u64).sum();
        for sink in sinks {
            let mut inner = self.shared.inner.lock();
            let count = inner.waiting.entry((sink.clone(), tenant.to_owned())).or_default();
            count.add(signed(events.len() as u64), signed(bytes));
            drop(inner);
            self.shared.check_outbox(sink, tenant);
            self.wake(sink, tenant, feed);
        }
    }

    /// Returns the waiting events, by sink and tenant.
    pub fn waiting(&self) -> Vec<((String, String), Waiting)> {
        let inner = self.shared.inner.lock();
        let mut waiting: Vec<_> = inner.waiting.iter().map(|(key, count)| (key.clone(), count.waiting())).collect();
        waiting.retain(|(_, waiting)| waiting.events > 0);
        waiting.sort_by(|left, right| left.0.cmp(&right.0));
        waiting
    }

    /// Returns waiting events and full outboxes, for the metrics.
    pub fn outboxes(&self) -> Outboxes {
        let inner = self.shared.inner.lock();
        let (full, free) = (inner.ledger.full().keys().cloned().collect(), inner.free.clone());
        drop(inner);
        Outboxes { waiting: self.waiting(), full, free }
    }

    /// Returns the problems that keep events from their sinks, or kept them permanently, by sink and tenant.
    pub fn rows(&self) -> Vec<SinkRow> {
        self.shared.inner.lock().rows()
    }

    /// Returns the reason why a tenant's events do not reach a sink at the moment.
    pub fn trouble(&self, sink: &str, tenant: &str) -> Option<SinkTrouble> {
        self.shared.inner.lock().trouble(sink, tenant).cloned()
    }

    /// Logs how often each repeated failure occurred that was not logged each time; once an hour for each kind.
    pub fn tell_repeats(&self) {
        let summaries = self.shared.inner.lock().ledger.summaries((self.shared.clock)());
        for Summary { subject, code, blame, count, minutes, last, lasts } in summaries {
            let (fault, lasts) = (blame.word(), if lasts { ", and still occurring" } else { "" });
            tracing::warn!(sink = subject, code, fault, count, last, "repeated {count} times in {minutes} min{lasts}");
        }
    }

    /// Returns the reason why no further delivery is possible, if there is one.
    pub fn closed(&self) -> Option<SinkClosed> {
        self.shared.inner.lock().closed.clone()
    }

    /// Returns when polls that wait for room in an outbox may go on, or when a sink closed.
    pub async fn room(&self) {
        self.shared.room.notified().await;
    }

    /// Returns when something was delivered, a partition came to rest, or a sink closed.
    pub async fn moved(&self) {
        self.shared.moved.notified().await;
    }

    /// Returns when no partition is busy any more.
    pub async fn rest(&self) {
        loop {
            let moved = self.shared.moved.notified();
            if self.shared.inner.lock().busy.is_empty() || self.closed().is_some() {
                return;
            }
            moved.await;
        }
    }

    /// Returns when every partition is at rest or failing.
    pub async fn flushed(&self) {
        loop {
            let moved = self.shared.moved.notified();
            if self.shared.inner.lock().is_flushed() {
                return;
            }
            moved.await;
        }
    }

    /// Starts a worker for a partition unless one is running.
    fn wake(&self, sink: &str, tenant: &str, feed: &str) {
        let mut inner = self.shared.inner.lock();
        let Some(open) = inner.sinks.get(sink).cloned() else { return };
        if inner.leaving.contains_key(sink) {
            return;
        }
        let partition = open.config.partition(tenant, feed);
        if let Some(work) = inner.busy.get_mut(&partition) {
            work.more = true;
            return;
        }
        inner.busy.insert(partition.clone(), Work { sink: Arc::clone(&open), more: false, is_held: false });
        drop(inner);
        let (deliveries, tenant) = (self.clone(), tenant.to_owned());
        tokio::spawn(async move {
            if deliveries.shared.work(&open, &partition, &tenant).await {
                deliveries.take_up(Some(partition.sink));
            }
            deliveries.shared.moved.notify_waiters();
        });
    }

    /// Starts workers for all waiting events, of all sinks or of one.
    fn take_up(&self, only: Option<String>) {
        let deliveries = self.clone();
        tokio::spawn(async move {
            let mut failures = 0;
            let backlog = loop {
                match deliveries.shared.backlog().await {
                    Ok(backlog) => break backlog,
                    Err(error) if error.what == StoreErrorKind::Stopped => return,
                    Err(error) => {
                        failures += 1;
                        let fault = error.blame().word();
                        if failures == 1 {
                            tracing::warn!(fault, "cannot read the waiting events, and keeps trying: {error}");
                        } else {
                            tracing::debug!(fault, "cannot read the waiting events, and keeps trying: {error}");
                        }
                        tokio::time::sleep(backoff(failures)).await;
                    }
                }
            };
            if only.is_none() {
                let mut inner = deliveries.shared.inner.lock();
                let lost = inner.lost(&backlog);
                inner.tell_all_lost(&lost);
            }
            for row in backlog.iter().filter(|row| only.as_ref().is_none_or(|only| *only == row.sink)) {
                deliveries.wake(&row.sink, &row.tenant, &row.feed);
            }
        });
    }
}

/// Converts a number of events or bytes to one with a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns the wait after this many failures in a row, doubled with each.
fn backoff(failures: u32) -> Duration {
    let doubled = limits::LEAST_DELIVERY_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(limits::MOST_DELIVERY_BACKOFF)
}
