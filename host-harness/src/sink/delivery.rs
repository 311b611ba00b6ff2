//! Brings events from the outbox to their sinks: each partition in order, partitions beside each other, a slow or broken one in
//! nobody's way. An event leaves the outbox when its sink has it, or when it stands among the dead letters.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use source_host::blame::{Blame, FILE_UNWRITABLE, OUTBOX_FULL, REQUEST_UNUSABLE};
use source_host::failpoint;
use source_host::feed::Clock;
use source_host::limits::{self, milliseconds};
use source_host::network::proxy::Proxy;
use tokio::sync::{Notify, Semaphore};

use super::disk::Disk;
use super::file::{FileWriter, LineFile};
use super::http::{self, HttpWriter};
use super::ledger::{DeadLetters, Failing, Ledger};
use super::{Lines, Refusal, SinkConfig, SinkKind, SinkTrouble, Stdout, Writer};
use crate::metrics::Metrics;
use crate::sink::repeats::Summary;
use crate::store::{Backlog, NewEvent, Outboxes, Partition, Queued, StoreError, StoreErrorKind, StoreHandle, Waiting};

/// All sinks of a collector, and what is on its way to them. Cheap to clone.
#[derive(Clone)]
pub struct Deliveries {
    shared: Arc<SharedDeliveries>,
}

struct SharedDeliveries {
    store: StoreHandle,
    disk: Arc<dyn Disk>,
    stdout: Stdout,
    /// Whom HTTP sinks trust, and what they go through.
    network: Mutex<(rustls::ClientConfig, Proxy)>,
    metrics: Arc<Metrics>,
    clock: Clock,
    inner: Mutex<Inner>,
    /// Something was delivered, a partition came to rest, or a sink closed.
    moved: Notify,
    /// Other sinks took the place of those before.
    replaced: Notify,
}

#[derive(Default)]
struct Inner {
    sinks: BTreeMap<String, Arc<OpenSink>>,
    /// Partitions that somebody works at.
    busy: HashMap<Partition, Work>,
    /// Partitions, by sink, that end with what the sink was before; none begins until they did, so that no event is on two
    /// ways at once.
    leaving: BTreeMap<String, usize>,
    waiting: HashMap<(String, String), Count>,
    /// What keeps events from their sinks.
    ledger: Ledger,
    /// Sinks that nobody configured any more, of which it was said that events wait for them.
    told_lost: BTreeSet<String>,
    /// Whether what an earlier process left was taken up.
    resumed: bool,
    closed: Option<(io::ErrorKind, String)>,
}

/// What somebody works with at a partition.
struct Work {
    sink: Arc<OpenSink>,
    /// Whether more came meanwhile.
    more: bool,
}

/// What waits, with a sign: a partition may have delivered events by the time that they are told to wait.
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

/// What keeps the events of a tenant, or of all tenants, from a sink, or kept some of them from it for good.
#[derive(Debug, Clone)]
pub struct SinkRow {
    /// Id of the sink.
    pub sink: String,
    /// Id of the tenant; none for all tenants of a sink that does not tell them apart.
    pub tenant: Option<String>,
    /// What waits.
    pub waiting: Waiting,
    /// Why nothing is delivered.
    pub failing: Option<Failing>,
    /// Since when the outbox is full.
    pub full_since: Option<u64>,
    /// What the sink refused for good, and the file where that is.
    pub letters: Option<(DeadLetters, PathBuf)>,
    /// Whether the sink is configured.
    pub is_configured: bool,
}

struct OpenSink {
    config: SinkConfig,
    /// SharedDeliveries by all partitions of a sink that does not tell tenants apart.
    client: Option<http::Client>,
    dead_letters: Arc<Mutex<LineFile>>,
    /// Keeps its deliveries from taking all sockets and threads; its own, so that others do not wait for them.
    places: Semaphore,
}

/// What deliveries need of the world.
pub struct Surroundings {
    /// Where events wait.
    pub store: StoreHandle,
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// Where the sink `stdout` goes.
    pub stdout: Stdout,
    /// Whom HTTP sinks trust.
    pub tls: rustls::ClientConfig,
    /// What HTTP sinks go through.
    pub proxy: Proxy,
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
}

impl Deliveries {
    /// No sink yet.
    pub fn new(surroundings: Surroundings) -> Deliveries {
        let Surroundings { store, disk, stdout, tls, proxy, metrics, clock } = surroundings;
        let (inner, moved, replaced) = (Mutex::default(), Notify::new(), Notify::new());
        let network = Mutex::new((tls, proxy));
        Deliveries {
            shared: Arc::new(SharedDeliveries { store, disk, stdout, network, metrics, clock, inner, moved, replaced }),
        }
    }

    /// Trusts others and goes another way from now on, in HTTP sinks that are opened.
    pub fn trust(&self, tls: rustls::ClientConfig, proxy: Proxy) {
        *self.shared.network.lock() = (tls, proxy);
        self.shared.inner.lock().sinks.retain(|_, sink| !matches!(sink.config.kind, SinkKind::Http(_)));
    }

    /// Takes these sinks in place of the ones before. A partition whose sink changed ends with the batch that is under way, and
    /// the rest goes where the sink leads now; what waited for a sink that is back is taken up.
    pub fn replace(&self, configs: &[SinkConfig]) -> Result<(), String> {
        let mut inner = self.shared.inner.lock();
        let mut sinks = BTreeMap::new();
        for config in configs {
            let same = inner.sinks.get(&config.id).filter(|before| before.config == *config).map(Arc::clone);
            let sink = same.map_or_else(|| self.shared.opened(config).map(Arc::new), Ok)?;
            sinks.insert(config.id.clone(), sink);
        }
        let before = std::mem::replace(&mut inner.sinks, sinks);
        let Inner { sinks, ledger, .. } = &mut *inner;
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
        self.shared.weigh_all();
        if resumed {
            self.take_up(None);
        }
        Ok(())
    }

    /// Takes up what an earlier process left in the outbox. Tells and gives the ids of sinks that nobody configured any
    /// more, with the number of events that wait for them.
    pub async fn resume(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let backlog = self.shared.store.ask(|store| store.backlog()).await?;
        let mut inner = self.shared.inner.lock();
        inner.resumed = true;
        inner.waiting.clear();
        for row in &backlog {
            let count = inner.waiting.entry((row.sink.clone(), row.tenant.clone())).or_default();
            count.add(signed(row.events), signed(row.bytes));
        }
        let lost = inner.lost(&backlog);
        inner.tell_lost(&lost);
        drop(inner);
        self.shared.weigh_all();
        for row in backlog {
            self.wake(&row.sink, &row.tenant, &row.feed);
        }
        Ok(lost)
    }

    /// The first of these sinks whose outbox is full for a tenant, with what waits there.
    pub fn full(&self, sinks: &[String], tenant: &str) -> Option<(String, Waiting)> {
        let inner = self.shared.inner.lock();
        sinks.iter().find_map(|sink| {
            let waiting = inner.waiting.get(&(sink.clone(), tenant.to_owned()))?.waiting();
            let most = inner.sinks.get(sink)?.config.max_outbox_bytes;
            (waiting.bytes >= most).then(|| (sink.clone(), waiting))
        })
    }

    /// Events of a feed entered the outbox.
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
            self.shared.weigh(sink, tenant);
            self.wake(sink, tenant, feed);
        }
    }

    /// What waits, by sink and tenant.
    pub fn waiting(&self) -> Vec<((String, String), Waiting)> {
        let inner = self.shared.inner.lock();
        let mut waiting: Vec<_> = inner.waiting.iter().map(|(key, count)| (key.clone(), count.waiting())).collect();
        waiting.retain(|(_, waiting)| waiting.events > 0);
        waiting.sort_by(|left, right| left.0.cmp(&right.0));
        waiting
    }

    /// What waits and which outboxes are full, for the metrics.
    pub fn outboxes(&self) -> Outboxes {
        let full = self.shared.inner.lock().ledger.full().keys().cloned().collect();
        Outboxes { waiting: self.waiting(), full }
    }

    /// What does not get through at the moment, in sentences: one for each sink, with how much waits for it.
    pub fn troubles(&self) -> Vec<String> {
        let inner = self.shared.inner.lock();
        let mut sinks: BTreeMap<&str, (&str, i64)> = BTreeMap::new();
        for (partition, failing) in inner.ledger.failing() {
            sinks.entry(&partition.sink).or_insert((&failing.trouble.why, 0));
        }
        for ((sink, _), count) in &inner.waiting {
            match sinks.get_mut(sink.as_str()) {
                Some((_, events)) => *events += count.events,
                None if count.events > 0 && !inner.sinks.contains_key(sink) => {
                    sinks.insert(sink, ("it is not configured any more", count.events));
                }
                None => {}
            }
        }
        sinks.iter().map(|(sink, (why, events))| format!("{events} events wait for the sink {sink}: {why}")).collect()
    }

    /// What keeps events from their sinks, or kept them for good, by sink and tenant.
    pub fn rows(&self) -> Vec<SinkRow> {
        self.shared.inner.lock().rows()
    }

    /// Why the events of a tenant do not get through to a sink at the moment.
    pub fn trouble(&self, sink: &str, tenant: &str) -> Option<SinkTrouble> {
        self.shared.inner.lock().trouble(sink, tenant).cloned()
    }

    /// Says how often was met what is not said each time; once an hour for each kind.
    pub fn tell_repeats(&self) {
        let summaries = self.shared.inner.lock().ledger.summaries((self.shared.clock)());
        for Summary { subject, code, count, minutes, last, lasts } in summaries {
            let (fault, lasts) = (Blame::of_sink(&code).word(), if lasts { ", and it lasts" } else { "" });
            tracing::warn!(
                sink = subject,
                code,
                fault,
                count,
                "the same again, {count} times in {minutes} min{lasts}; at last: {last}"
            );
        }
    }

    /// Why nothing can ever be delivered again, if that is so.
    pub fn closed(&self) -> Option<(io::ErrorKind, String)> {
        self.shared.inner.lock().closed.clone()
    }

    /// Comes back when something was delivered, a partition came to rest, or a sink closed.
    pub async fn moved(&self) {
        self.shared.moved.notified().await;
    }

    /// Comes back when no partition is busy any more.
    pub async fn rest(&self) {
        loop {
            let moved = self.shared.moved.notified();
            if self.shared.inner.lock().busy.is_empty() || self.closed().is_some() {
                return;
            }
            moved.await;
        }
    }

    /// Comes back when every partition is at rest, or does not get through at the moment.
    pub async fn flushed(&self) {
        loop {
            let moved = self.shared.moved.notified();
            if self.shared.inner.lock().is_flushed() {
                return;
            }
            moved.await;
        }
    }

    /// Sets somebody to work at a partition, unless somebody is.
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
        inner.busy.insert(partition.clone(), Work { sink: Arc::clone(&open), more: false });
        drop(inner);
        let (deliveries, tenant) = (self.clone(), tenant.to_owned());
        tokio::spawn(async move {
            if deliveries.shared.work(&open, &partition, &tenant).await {
                deliveries.take_up(Some(partition.sink));
            }
            deliveries.shared.moved.notify_waiters();
        });
    }

    /// Sets somebody to work at whatever waits, for all sinks or for one.
    fn take_up(&self, only: Option<String>) {
        let deliveries = self.clone();
        tokio::spawn(async move {
            let mut failures = 0;
            let backlog = loop {
                match deliveries.shared.store.ask(|store| store.backlog()).await {
                    Ok(backlog) => break backlog,
                    Err(error) if error.what == StoreErrorKind::Stopped => return,
                    Err(error) => {
                        failures += 1;
                        let fault = error.blame().word();
                        if failures == 1 {
                            tracing::warn!(fault, "cannot see what waits for sinks, and tries on: {error}");
                        } else {
                            tracing::debug!(fault, "cannot see what waits for sinks, and tries on: {error}");
                        }
                        tokio::time::sleep(backoff(failures)).await;
                    }
                }
            };
            if only.is_none() {
                let mut inner = deliveries.shared.inner.lock();
                let lost = inner.lost(&backlog);
                inner.tell_lost(&lost);
            }
            for row in backlog.iter().filter(|row| only.as_ref().is_none_or(|only| *only == row.sink)) {
                deliveries.wake(&row.sink, &row.tenant, &row.feed);
            }
        });
    }
}

impl Inner {
    fn is_flushed(&self) -> bool {
        self.closed.is_some() || self.busy.keys().all(|partition| self.ledger.failing().contains_key(partition))
    }

    /// Whether events for this sink still go where it leads.
    fn leads(&self, sink: &Arc<OpenSink>) -> bool {
        self.sinks.get(&sink.config.id).is_some_and(|current| Arc::ptr_eq(current, sink))
    }

    /// Nobody works at a partition any more; true if this was the last one that the sink as it was before had.
    fn end(&mut self, partition: &Partition) -> bool {
        self.ledger.delivers(partition);
        let Some(work) = self.busy.remove(partition) else { return false };
        if self.leads(&work.sink) {
            return false;
        }
        let left = self.leaving.get_mut(&partition.sink).map(|partitions| {
            *partitions -= 1;
            *partitions
        });
        left == Some(0) && self.leaving.remove(&partition.sink).is_some()
    }

    /// What waits for sinks that nobody configured any more, in events.
    fn lost(&self, backlog: &[Backlog]) -> BTreeMap<String, u64> {
        let mut lost = BTreeMap::new();
        for row in backlog.iter().filter(|row| !self.sinks.contains_key(&row.sink)) {
            *lost.entry(row.sink.clone()).or_default() += row.events;
        }
        lost
    }

    /// Says once what waits for sinks that nobody configured any more.
    fn tell_lost(&mut self, lost: &BTreeMap<String, u64>) {
        for (sink, events) in lost.iter().filter(|(sink, _)| !self.told_lost.contains(*sink)) {
            tracing::warn!(
                sink,
                fault = Blame::Operator.word(),
                "{events} events wait for the sink {sink}, which is not configured any more; they stay until it is"
            );
        }
        self.told_lost = lost.keys().cloned().collect();
    }

    /// Why the events of a tenant do not get through to a sink.
    fn trouble(&self, sink: &str, tenant: &str) -> Option<&SinkTrouble> {
        let of = |partition: &Partition| {
            partition.sink == sink && partition.tenant.as_deref().is_none_or(|other| other == tenant)
        };
        let (_, failing) = self.ledger.failing().iter().find(|(partition, _)| of(partition))?;
        Some(&failing.trouble)
    }

    fn rows(&self) -> Vec<SinkRow> {
        let mut rows: BTreeMap<(&str, Option<&str>), SinkRow> = BTreeMap::new();
        let new = |sink: &str, tenant: Option<&str>| SinkRow {
            sink: sink.to_owned(),
            tenant: tenant.map(str::to_owned),
            waiting: self.waits(sink, tenant),
            failing: None,
            full_since: None,
            letters: None,
            is_configured: self.sinks.contains_key(sink),
        };
        for (partition, failing) in self.ledger.failing() {
            let tenant = partition.tenant.as_deref();
            let row = rows.entry((&partition.sink, tenant)).or_insert_with(|| new(&partition.sink, tenant));
            // The partitions of several feeds are one row.
            row.failing.get_or_insert_with(|| failing.clone());
        }
        for ((sink, tenant), since) in self.ledger.full() {
            rows.entry((sink, Some(tenant))).or_insert_with(|| new(sink, Some(tenant))).full_since = Some(*since);
        }
        for ((sink, tenant), letters) in self.ledger.letters() {
            let Some(open) = self.sinks.get(sink) else { continue };
            let row = rows.entry((sink, Some(tenant))).or_insert_with(|| new(sink, Some(tenant)));
            row.letters = Some((letters.clone(), open.config.dead_letters.clone()));
        }
        for ((sink, tenant), count) in &self.waiting {
            if count.events > 0 && !self.sinks.contains_key(sink) {
                rows.entry((sink, Some(tenant))).or_insert_with(|| new(sink, Some(tenant)));
            }
        }
        rows.into_values().collect()
    }

    /// What waits for a sink from a tenant, or from all.
    fn waits(&self, sink: &str, tenant: Option<&str>) -> Waiting {
        if let Some(tenant) = tenant {
            let count = self.waiting.get(&(sink.to_owned(), tenant.to_owned()));
            return count.map(Count::waiting).unwrap_or_default();
        }
        let counts = self.waiting.iter().filter(|((other, _), _)| other == sink).map(|(_, count)| count.waiting());
        counts.fold(Waiting::default(), |sum, more| Waiting {
            events: sum.events + more.events,
            bytes: sum.bytes + more.bytes,
        })
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What one step of the work at a partition came to.
enum DeliveryStep {
    /// A batch is where it belongs.
    Delivered,
    /// The next batch is smaller.
    Halved,
    /// There is none.
    Empty,
}

/// What somebody who works at a partition has in hand.
struct Courier {
    writer: Option<Box<dyn Writer>>,
    size: Size,
    /// What the sink has, though the store does not know it yet.
    taken: Vec<Queued>,
}

/// How large the next batch may be.
struct Size {
    /// What the sink bears, as far as it said.
    most: usize,
    /// Smaller while an event is searched that the sink refuses.
    probe: usize,
}

impl SharedDeliveries {
    fn client(&self) -> reqwest::Result<http::Client> {
        let (tls, proxy) = self.network.lock().clone();
        http::client(tls, &proxy)
    }

    fn opened(&self, config: &SinkConfig) -> Result<OpenSink, String> {
        let client = match &config.kind {
            SinkKind::Http(_) => {
                let client = self.client();
                Some(client.map_err(|error| format!("sink {}: {error}", config.id))?)
            }
            _ => None,
        };
        let disk = Arc::clone(&self.disk);
        let dead_letters = LineFile::new(disk, config.dead_letters.clone(), u64::MAX, None);
        Ok(OpenSink {
            config: config.clone(),
            client,
            dead_letters: Arc::new(Mutex::new(dead_letters)),
            places: Semaphore::new(limits::DELIVERIES),
        })
    }

    /// Delivers a partition until it is empty, or its sink leads elsewhere, or is gone.
    /// Gives whether it was the last to leave the sink as it was before, so that others may begin.
    async fn work(&self, sink: &Arc<OpenSink>, partition: &Partition, tenant: &str) -> bool {
        let size = Size { most: limits::BATCH_EVENTS, probe: limits::BATCH_EVENTS };
        let mut hand = Courier { writer: None, size, taken: Vec::new() };
        let mut failures = 0;
        while self.inner.lock().leads(sink) {
            let wait = match self.deliver(sink, partition, tenant, &mut hand).await {
                Ok(DeliveryStep::Halved) => continue,
                Ok(step @ (DeliveryStep::Delivered | DeliveryStep::Empty)) => {
                    if std::mem::take(&mut failures) > 0 {
                        self.tell_delivery(partition);
                    }
                    match step {
                        DeliveryStep::Empty => match self.came_to_rest(partition) {
                            Some(last) => return last,
                            None => continue,
                        },
                        _ => continue,
                    }
                }
                Err(Refusal::Closed(kind, why)) => {
                    let mut inner = self.inner.lock();
                    inner.closed.get_or_insert((kind, why));
                    return inner.end(partition);
                }
                Err(Refusal::Later { wait, trouble }) => {
                    failures += 1;
                    let wait = wait.unwrap_or_default().max(backoff(failures)).min(limits::LONGEST_WAIT);
                    self.tell_failure(partition, trouble, wait);
                    self.moved.notify_waiters();
                    wait
                }
                Err(Refusal::TooLarge(_) | Refusal::Never(_)) => unreachable!("`deliver` halves or buries"),
            };
            hand.writer = None;
            self.pause(sink, wait).await;
        }
        self.inner.lock().end(partition)
    }

    /// Says that a partition does not deliver: aloud where that is news.
    fn tell_failure(&self, partition: &Partition, trouble: SinkTrouble, wait: Duration) {
        let now = (self.clock)();
        let Partition { sink, tenant, feed } = partition;
        let (tenant, feed) = (tenant.as_deref(), feed.as_deref());
        let SinkTrouble { code, blame, why } = trouble.clone();
        let fault = blame.word();
        let aloud = self.inner.lock().ledger.failed(partition, trouble, now, now.saturating_add(milliseconds(wait)));
        match aloud {
            true => tracing::warn!(sink, tenant, feed, code, fault, "does not deliver, and tries on: {why}"),
            false => tracing::debug!(sink, tenant, feed, code, fault, "does not deliver, and tries on: {why}"),
        }
    }

    /// Says that a partition delivers again: aloud where no other of its sink is in the same trouble.
    fn tell_delivery(&self, partition: &Partition) {
        let Partition { sink, tenant, feed } = partition;
        let (tenant, feed) = (tenant.as_deref(), feed.as_deref());
        let aloud = self.inner.lock().ledger.delivers(partition);
        match aloud {
            true => tracing::info!(sink, tenant, feed, "delivers again"),
            false => tracing::debug!(sink, tenant, feed, "delivers again"),
        }
    }

    /// Looks whether an outbox is full, and says so where that is news.
    fn weigh(&self, sink: &str, tenant: &str) {
        let now = (self.clock)();
        let mut inner = self.inner.lock();
        let waiting = inner.waits(sink, Some(tenant));
        let most = inner.sinks.get(sink).map_or(u64::MAX, |open| open.config.max_outbox_bytes);
        let is_full = waiting.bytes >= most;
        let Some(aloud) = inner.ledger.filled(sink, tenant, is_full, now) else { return };
        let fault = inner.trouble(sink, tenant).map_or(Blame::of_sink(OUTBOX_FULL), |trouble| trouble.blame).word();
        drop(inner);
        let Waiting { events, bytes } = waiting;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    sink,
                    tenant,
                    code = OUTBOX_FULL,
                    fault,
                    "the outbox is full, {bytes} bytes in {events} events wait: the tenant's feeds that go there pause"
                )
            };
        }
        match (is_full, aloud) {
            (true, true) => line!(warn),
            (true, false) => line!(debug),
            (false, true) => tracing::info!(sink, tenant, "the outbox has room again: its feeds go on"),
            (false, false) => tracing::debug!(sink, tenant, "the outbox has room again: its feeds go on"),
        }
    }

    fn weigh_all(&self) {
        let keys: Vec<(String, String)> = self.inner.lock().waiting.keys().cloned().collect();
        keys.iter().for_each(|(sink, tenant)| self.weigh(sink, tenant));
    }

    /// Waits, though not for a sink that leads elsewhere by now: what is wrong may be mended.
    async fn pause(&self, sink: &Arc<OpenSink>, wait: Duration) {
        let end = tokio::time::Instant::now() + wait;
        loop {
            let replaced = self.replaced.notified();
            if !self.inner.lock().leads(sink) || tokio::time::timeout_at(end, replaced).await.is_err() {
                return;
            }
        }
    }

    /// Ends the work at a partition, unless something came since its outbox was found empty.
    fn came_to_rest(&self, partition: &Partition) -> Option<bool> {
        let mut inner = self.inner.lock();
        let more = inner.busy.get_mut(partition).is_some_and(|work| std::mem::take(&mut work.more));
        (!more).then(|| inner.end(partition))
    }

    /// Delivers one batch.
    async fn deliver(
        &self,
        sink: &OpenSink,
        partition: &Partition,
        tenant: &str,
        hand: &mut Courier,
    ) -> Result<DeliveryStep, Refusal> {
        let _place = sink.places.acquire().await;
        let Courier { writer, size, taken } = hand;
        if !taken.is_empty() {
            // The sink has it: only the store is to be asked again.
            self.acknowledge(partition, taken).await?;
            return Ok(DeliveryStep::Delivered);
        }
        let (asked, events) = (partition.clone(), size.most.min(size.probe));
        let batch = self.store.ask(move |store| store.queued(&asked, events, limits::BATCH_BYTES)).await?;
        failpoint::pass("delivery-events-read");
        if batch.is_empty() {
            return Ok(DeliveryStep::Empty);
        }
        let open = match writer {
            Some(writer) => writer,
            None => writer
                .insert(self.open(sink, partition, tenant).map_err(|why| SinkTrouble::new(REQUEST_UNUSABLE, why))?),
        };
        let answer = open.take(&batch).await;
        self.count(partition, &batch, answer.is_ok());
        match answer {
            Ok(()) => size.probe = size.probe.saturating_mul(2),
            Err(Refusal::TooLarge(_)) if batch.len() > 1 => {
                size.most = batch.len() / 2;
                return Ok(DeliveryStep::Halved);
            }
            Err(Refusal::Never(_)) if batch.len() > 1 => {
                size.probe = batch.len() / 2;
                return Ok(DeliveryStep::Halved);
            }
            Err(Refusal::TooLarge(trouble)) => {
                self.bury(sink, &batch, &trouble).await?;
                // An event that is too large by itself says nothing of how many others the sink bears.
                size.most = limits::BATCH_EVENTS;
            }
            Err(Refusal::Never(trouble)) => {
                self.bury(sink, &batch, &trouble).await?;
                size.probe = size.probe.saturating_mul(2);
            }
            Err(refusal) => return Err(refusal),
        }
        *taken = batch;
        self.acknowledge(partition, taken).await?;
        Ok(DeliveryStep::Delivered)
    }

    /// Counts what a sink made of a batch, for each tenant in it.
    fn count(&self, partition: &Partition, batch: &[Queued], taken: bool) {
        let mut events: BTreeMap<&str, u64> = BTreeMap::new();
        batch.iter().for_each(|event| *events.entry(&event.tenant).or_default() += 1);
        let now = (self.clock)();
        for (tenant, events) in events {
            self.metrics.sink(&partition.sink, tenant, |counts| match taken {
                true => (counts.delivered, counts.last_delivered) = (counts.delivered + events, Some(now)),
                false => counts.failures += 1,
            });
        }
    }

    fn open(&self, sink: &OpenSink, partition: &Partition, tenant: &str) -> Result<Box<dyn Writer>, String> {
        Ok(match &sink.config.kind {
            SinkKind::Stdout => Box::new(Lines::new(Arc::clone(&self.stdout))),
            SinkKind::File(config) => {
                let path = config.path.filled(tenant, partition.feed.as_deref().unwrap_or_default());
                let (disk, path) = (Arc::clone(&self.disk), Path::new(&path).to_owned());
                let file = LineFile::new(disk, path, config.rotate_bytes, config.keep_files);
                Box::new(FileWriter::new(file.named_aside(config.path.aside())))
            }
            SinkKind::Http(config) => {
                // Tenants that are told apart do not share a connection.
                let apart = partition.tenant.is_some() || partition.feed.is_some();
                let client = match sink.client.as_ref().filter(|_| !apart) {
                    Some(client) => client.clone(),
                    None => self.client().map_err(|error| error.to_string())?,
                };
                Box::new(HttpWriter::new(client, config, partition, tenant)?)
            }
        })
    }

    /// Takes a batch out of the outbox, and out of the hand.
    async fn acknowledge(&self, partition: &Partition, taken: &mut Vec<Queued>) -> Result<(), StoreError> {
        failpoint::pass("delivery-acknowledge");
        let numbers: Vec<i64> = taken.iter().map(|event| event.number).collect();
        self.store.ask(move |store| store.acknowledge(&numbers)).await?;
        failpoint::pass("delivery-acknowledged");
        let mut inner = self.inner.lock();
        let tenants: BTreeSet<String> = taken.iter().map(|event| event.tenant.clone()).collect();
        for event in taken.drain(..) {
            let count = inner.waiting.entry((partition.sink.clone(), event.tenant)).or_default();
            count.add(-1, -signed(event.body.len() as u64));
        }
        drop(inner);
        tenants.iter().for_each(|tenant| self.weigh(&partition.sink, tenant));
        self.moved.notify_waiters();
        Ok(())
    }

    /// Writes events that the sink will never take where an operator finds them.
    async fn bury(&self, sink: &OpenSink, batch: &[Queued], trouble: &SinkTrouble) -> Result<(), Refusal> {
        let (id, path) = (&sink.config.id, sink.config.dead_letters.display());
        let SinkTrouble { code, blame, why } = trouble;
        for event in batch {
            let (line, file) = (dead_letter(id, event, why), Arc::clone(&sink.dead_letters));
            // Syncing blocks for milliseconds.
            let written = tokio::task::spawn_blocking(move || {
                failpoint::pass("dead-letter-append");
                let written = file.lock().append(&line);
                failpoint::pass("dead-letter-synced");
                written
            });
            let unwritten = |error: io::Error| {
                SinkTrouble::new(FILE_UNWRITABLE, format!("cannot write the dead letters {path}: {error}"))
            };
            written.await?.map_err(unwritten)?;
            let Queued { tenant, feed, uid, .. } = event;
            self.metrics.feed(tenant, feed, |counts| counts.dead_letters += 1);
            self.metrics.sink(id, tenant, |counts| counts.dead_letters += 1);
            let fault = blame.word();
            let aloud = self.inner.lock().ledger.buried(id, tenant, trouble, (self.clock)());
            match aloud {
                true => tracing::warn!(
                    sink = id,
                    tenant,
                    feed,
                    uid,
                    code,
                    fault,
                    "refused for good, and written to {path}: {why}"
                ),
                false => tracing::debug!(
                    sink = id,
                    tenant,
                    feed,
                    uid,
                    code,
                    fault,
                    "refused for good, and written to {path}: {why}"
                ),
            }
        }
        Ok(())
    }
}

fn dead_letter(sink: &str, event: &Queued, why: &str) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct DeadLetter<'a> {
        sink: &'a str,
        tenant: &'a str,
        feed: &'a str,
        scope: &'a str,
        uid: &'a str,
        reason: &'a str,
        event: Option<&'a RawValue>,
    }
    let Queued { tenant, feed, scope, uid, body, .. } = event;
    let letter = DeadLetter { sink, tenant, feed, scope, uid, reason: why, event: serde_json::from_slice(body).ok() };
    let mut line = serde_json::to_vec(&letter).unwrap_or_else(|_| body.clone());
    line.push(b'\n');
    line
}

/// Doubled with each failure in a row.
fn backoff(failures: u32) -> Duration {
    let doubled = limits::LEAST_DELIVERY_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(limits::MOST_DELIVERY_BACKOFF)
}
