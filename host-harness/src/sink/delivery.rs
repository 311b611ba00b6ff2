//! Brings events from the outbox to their sinks: each lane in order, lanes beside each other, a slow or broken one in
//! nobody's way. An event leaves the outbox when its sink has it, or when it stands among the dead letters.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore};

use super::disk::Disk;
use super::file::{FileWriter, LineFile};
use super::http::{self, HttpWriter};
use super::{Kind, Lines, Refusal, SinkConfig, Stdout, Writer};
use crate::failpoint;
use crate::limits;
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::store::{Backlog, Fault, Lane, NewEvent, Queued, StoreError, StoreHandle};

/// All sinks of a collector, and what is on its way to them. Cheap to clone.
#[derive(Clone)]
pub struct Deliveries {
    shared: Arc<Shared>,
}

struct Shared {
    store: StoreHandle,
    disk: Arc<dyn Disk>,
    stdout: Stdout,
    /// Whom HTTP sinks trust, and what they go through.
    network: Mutex<(rustls::ClientConfig, Proxy)>,
    metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
    /// Something was delivered, a lane came to rest, or a sink closed.
    moved: Notify,
    /// Other sinks took the place of those before.
    replaced: Notify,
}

#[derive(Default)]
struct Inner {
    sinks: BTreeMap<String, Arc<OpenSink>>,
    /// Lanes that somebody works at.
    busy: HashMap<Lane, Work>,
    /// Lanes, by sink, that end with what the sink was before; none begins until they did, so that no event is on two
    /// ways at once.
    leaving: BTreeMap<String, usize>,
    waiting: HashMap<(String, String), Count>,
    /// Why lanes do not deliver at the moment.
    troubles: BTreeMap<Lane, String>,
    /// Whether what an earlier process left was taken up.
    resumed: bool,
    closed: Option<(io::ErrorKind, String)>,
}

/// What somebody works with at a lane.
struct Work {
    sink: Arc<OpenSink>,
    /// Whether more came meanwhile.
    more: bool,
}

/// What waits, with a sign: a lane may have delivered events by the time that they are told to wait.
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

/// What waits for one sink from one tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Number of events.
    pub events: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

struct OpenSink {
    config: SinkConfig,
    /// Shared by all lanes of a sink that does not tell tenants apart.
    client: Option<reqwest::Client>,
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
}

impl Deliveries {
    /// No sink yet.
    pub fn new(surroundings: Surroundings) -> Deliveries {
        let Surroundings { store, disk, stdout, tls, proxy, metrics } = surroundings;
        let (inner, moved, replaced) = (Mutex::default(), Notify::new(), Notify::new());
        let network = Mutex::new((tls, proxy));
        Deliveries { shared: Arc::new(Shared { store, disk, stdout, network, metrics, inner, moved, replaced }) }
    }

    /// Trusts others and goes another way from now on, in HTTP sinks that are opened.
    pub fn trust(&self, tls: rustls::ClientConfig, proxy: Proxy) {
        *self.shared.network.lock().unwrap_or_else(PoisonError::into_inner) = (tls, proxy);
        self.shared.lock().sinks.retain(|_, sink| !matches!(sink.config.kind, Kind::Http(_)));
    }

    /// Takes these sinks in place of the ones before. A lane whose sink changed ends with the batch that is under way, and
    /// the rest goes where the sink leads now; what waited for a sink that is back is taken up.
    pub fn replace(&self, configs: &[SinkConfig]) -> Result<(), String> {
        let mut inner = self.shared.lock();
        let mut sinks = BTreeMap::new();
        for config in configs {
            let same = inner.sinks.get(&config.id).filter(|before| before.config == *config).map(Arc::clone);
            let sink = same.map_or_else(|| self.shared.opened(config).map(Arc::new), Ok)?;
            sinks.insert(config.id.clone(), sink);
        }
        inner.sinks = sinks;
        let mut leaving: BTreeMap<String, usize> = BTreeMap::new();
        for (lane, work) in inner.busy.iter().filter(|(_, work)| !inner.leads(&work.sink)) {
            debug_assert_eq!(lane.sink, work.sink.config.id);
            *leaving.entry(lane.sink.clone()).or_default() += 1;
        }
        inner.leaving = leaving;
        let resumed = inner.resumed;
        drop(inner);
        self.shared.replaced.notify_waiters();
        if resumed {
            self.take_up(None);
        }
        Ok(())
    }

    /// Takes up what an earlier process left in the outbox. Tells and gives the ids of sinks that nobody configured any
    /// more, with the number of events that wait for them.
    pub async fn resume(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let backlog = self.shared.store.ask(|store| store.backlog()).await?;
        let mut inner = self.shared.lock();
        inner.resumed = true;
        inner.waiting.clear();
        for row in &backlog {
            let count = inner.waiting.entry((row.sink.clone(), row.tenant.clone())).or_default();
            count.add(signed(row.events), signed(row.bytes));
        }
        let lost = inner.lost(&backlog);
        drop(inner);
        tell_lost(&lost);
        for row in backlog {
            self.wake(&row.sink, &row.tenant, &row.feed);
        }
        Ok(lost)
    }

    /// The first of these sinks whose outbox is full for a tenant, with what waits there.
    pub fn full(&self, sinks: &[String], tenant: &str) -> Option<(String, Waiting)> {
        let inner = self.shared.lock();
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
            let mut inner = self.shared.lock();
            let count = inner.waiting.entry((sink.clone(), tenant.to_owned())).or_default();
            count.add(signed(events.len() as u64), signed(bytes));
            drop(inner);
            self.wake(sink, tenant, feed);
        }
    }

    /// What waits, by sink and tenant.
    pub fn waiting(&self) -> Vec<((String, String), Waiting)> {
        let inner = self.shared.lock();
        let mut waiting: Vec<_> = inner.waiting.iter().map(|(key, count)| (key.clone(), count.waiting())).collect();
        waiting.retain(|(_, waiting)| waiting.events > 0);
        waiting.sort_by(|left, right| left.0.cmp(&right.0));
        waiting
    }

    /// What does not get through at the moment, in sentences: one for each sink, with how much waits for it.
    pub fn troubles(&self) -> Vec<String> {
        let inner = self.shared.lock();
        let mut sinks: BTreeMap<&str, (&str, i64)> = BTreeMap::new();
        for (lane, why) in &inner.troubles {
            sinks.entry(&lane.sink).or_insert((why, 0));
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

    /// Why nothing can ever be delivered again, if that is so.
    pub fn closed(&self) -> Option<(io::ErrorKind, String)> {
        self.shared.lock().closed.clone()
    }

    /// Comes back when something was delivered, a lane came to rest, or a sink closed.
    pub async fn moved(&self) {
        self.shared.moved.notified().await;
    }

    /// Comes back when no lane is busy any more.
    pub async fn rest(&self) {
        loop {
            let moved = self.shared.moved.notified();
            if self.shared.lock().busy.is_empty() || self.closed().is_some() {
                return;
            }
            moved.await;
        }
    }

    /// Comes back when every lane is at rest, or does not get through at the moment.
    pub async fn flushed(&self) {
        loop {
            let moved = self.shared.moved.notified();
            if self.shared.lock().is_flushed() {
                return;
            }
            moved.await;
        }
    }

    /// Sets somebody to work at a lane, unless somebody is.
    fn wake(&self, sink: &str, tenant: &str, feed: &str) {
        let mut inner = self.shared.lock();
        let Some(open) = inner.sinks.get(sink).cloned() else { return };
        if inner.leaving.contains_key(sink) {
            return;
        }
        let lane = open.config.lane(tenant, feed);
        if let Some(work) = inner.busy.get_mut(&lane) {
            work.more = true;
            return;
        }
        inner.busy.insert(lane.clone(), Work { sink: Arc::clone(&open), more: false });
        drop(inner);
        let (deliveries, tenant) = (self.clone(), tenant.to_owned());
        tokio::spawn(async move {
            if deliveries.shared.work(&open, &lane, &tenant).await {
                deliveries.take_up(Some(lane.sink));
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
                    Err(error) if error.what == Fault::Stopped => return,
                    Err(error) => {
                        failures += 1;
                        tracing::warn!(fault = "harness", "cannot see what waits for sinks, and tries on: {error}");
                        tokio::time::sleep(backoff(failures)).await;
                    }
                }
            };
            let lost = deliveries.shared.lock().lost(&backlog);
            if only.is_none() {
                tell_lost(&lost);
            }
            for row in backlog.iter().filter(|row| only.as_ref().is_none_or(|only| *only == row.sink)) {
                deliveries.wake(&row.sink, &row.tenant, &row.feed);
            }
        });
    }
}

impl Inner {
    fn is_flushed(&self) -> bool {
        self.closed.is_some() || self.busy.keys().all(|lane| self.troubles.contains_key(lane))
    }

    /// Whether events for this sink still go where it leads.
    fn leads(&self, sink: &Arc<OpenSink>) -> bool {
        self.sinks.get(&sink.config.id).is_some_and(|current| Arc::ptr_eq(current, sink))
    }

    /// Nobody works at a lane any more; true if this was the last one that the sink as it was before had.
    fn end(&mut self, lane: &Lane) -> bool {
        self.troubles.remove(lane);
        let Some(work) = self.busy.remove(lane) else { return false };
        if self.leads(&work.sink) {
            return false;
        }
        let left = self.leaving.get_mut(&lane.sink).map(|lanes| {
            *lanes -= 1;
            *lanes
        });
        left == Some(0) && self.leaving.remove(&lane.sink).is_some()
    }

    /// What waits for sinks that nobody configured any more, in events.
    fn lost(&self, backlog: &[Backlog]) -> BTreeMap<String, u64> {
        let mut lost = BTreeMap::new();
        for row in backlog.iter().filter(|row| !self.sinks.contains_key(&row.sink)) {
            *lost.entry(row.sink.clone()).or_default() += row.events;
        }
        lost
    }
}

fn tell_lost(lost: &BTreeMap<String, u64>) {
    for (sink, events) in lost {
        tracing::warn!(
            fault = "harness",
            "{events} events wait for the sink {sink}, which is not configured any more; they stay until it is"
        );
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What one step of the work at a lane came to.
enum Step {
    /// A batch is where it belongs.
    Delivered,
    /// The next batch is smaller.
    Halved,
    /// There is none.
    Empty,
}

/// What somebody who works at a lane has in hand.
struct Hand {
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> reqwest::Result<reqwest::Client> {
        let (tls, proxy) = self.network.lock().unwrap_or_else(PoisonError::into_inner).clone();
        http::client(tls, &proxy)
    }

    fn opened(&self, config: &SinkConfig) -> Result<OpenSink, String> {
        let client = match &config.kind {
            Kind::Http(_) => {
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

    /// Delivers a lane until it is empty, or its sink leads elsewhere, or is gone.
    /// Gives whether it was the last to leave the sink as it was before, so that others may begin.
    async fn work(&self, sink: &Arc<OpenSink>, lane: &Lane, tenant: &str) -> bool {
        let size = Size { most: limits::BATCH_EVENTS, probe: limits::BATCH_EVENTS };
        let mut hand = Hand { writer: None, size, taken: Vec::new() };
        let mut failures = 0;
        while self.lock().leads(sink) {
            let wait = match self.deliver(sink, lane, tenant, &mut hand).await {
                Ok(Step::Halved) => continue,
                Ok(Step::Delivered) => {
                    if failures > 0 {
                        tracing::info!(sink = %lane.sink, tenant, "delivers again");
                        self.lock().troubles.remove(lane);
                        failures = 0;
                    }
                    continue;
                }
                Ok(Step::Empty) => match self.came_to_rest(lane) {
                    Some(last) => return last,
                    None => continue,
                },
                Err(Refusal::Closed(kind, why)) => {
                    let mut inner = self.lock();
                    inner.closed.get_or_insert((kind, why));
                    return inner.end(lane);
                }
                Err(Refusal::Later { wait, why }) => {
                    failures += 1;
                    let before = self.lock().troubles.insert(lane.clone(), why.clone());
                    self.moved.notify_waiters();
                    if before.as_ref() != Some(&why) {
                        tracing::warn!(sink = %lane.sink, tenant, fault = "harness", "does not deliver, and tries on: {why}");
                    }
                    wait.unwrap_or_default().max(backoff(failures))
                }
                Err(Refusal::TooLarge(_) | Refusal::Never(_)) => unreachable!("`deliver` halves or buries"),
            };
            hand.writer = None;
            self.pause(sink, wait.min(limits::LONGEST_WAIT)).await;
        }
        self.lock().end(lane)
    }

    /// Waits, though not for a sink that leads elsewhere by now: what is wrong may be mended.
    async fn pause(&self, sink: &Arc<OpenSink>, wait: Duration) {
        let end = tokio::time::Instant::now() + wait;
        loop {
            let replaced = self.replaced.notified();
            if !self.lock().leads(sink) || tokio::time::timeout_at(end, replaced).await.is_err() {
                return;
            }
        }
    }

    /// Ends the work at a lane, unless something came since its outbox was found empty.
    fn came_to_rest(&self, lane: &Lane) -> Option<bool> {
        let mut inner = self.lock();
        let more = inner.busy.get_mut(lane).is_some_and(|work| std::mem::take(&mut work.more));
        (!more).then(|| inner.end(lane))
    }

    /// Delivers one batch.
    async fn deliver(&self, sink: &OpenSink, lane: &Lane, tenant: &str, hand: &mut Hand) -> Result<Step, Refusal> {
        let _place = sink.places.acquire().await;
        let Hand { writer, size, taken } = hand;
        if !taken.is_empty() {
            // The sink has it: only the store is to be asked again.
            self.acknowledge(lane, taken).await.map_err(Refusal::later)?;
            return Ok(Step::Delivered);
        }
        let (asked, events) = (lane.clone(), size.most.min(size.probe));
        let batch = self.store.ask(move |store| store.queued(&asked, events, limits::BATCH_BYTES)).await;
        let batch = batch.map_err(Refusal::later)?;
        failpoint::pass("delivery-events-read");
        if batch.is_empty() {
            return Ok(Step::Empty);
        }
        let open = match writer {
            Some(writer) => writer,
            None => writer.insert(self.open(sink, lane, tenant).map_err(Refusal::later)?),
        };
        match open.take(&batch).await {
            Ok(()) => size.probe = size.probe.saturating_mul(2),
            Err(Refusal::TooLarge(_)) if batch.len() > 1 => {
                size.most = batch.len() / 2;
                return Ok(Step::Halved);
            }
            Err(Refusal::Never(_)) if batch.len() > 1 => {
                size.probe = batch.len() / 2;
                return Ok(Step::Halved);
            }
            Err(Refusal::TooLarge(why)) => {
                self.bury(sink, &batch, &why).await?;
                // An event that is too large by itself says nothing of how many others the sink bears.
                size.most = limits::BATCH_EVENTS;
            }
            Err(Refusal::Never(why)) => {
                self.bury(sink, &batch, &why).await?;
                size.probe = size.probe.saturating_mul(2);
            }
            Err(refusal) => return Err(refusal),
        }
        *taken = batch;
        self.acknowledge(lane, taken).await.map_err(Refusal::later)?;
        Ok(Step::Delivered)
    }

    fn open(&self, sink: &OpenSink, lane: &Lane, tenant: &str) -> Result<Box<dyn Writer>, String> {
        Ok(match &sink.config.kind {
            Kind::Stdout => Box::new(Lines::new(Arc::clone(&self.stdout))),
            Kind::File(config) => {
                let path = config.path.filled(tenant, lane.feed.as_deref().unwrap_or_default());
                let (disk, path) = (Arc::clone(&self.disk), Path::new(&path).to_owned());
                let file = LineFile::new(disk, path, config.rotate_bytes, config.keep_files);
                Box::new(FileWriter::new(file.named_aside(config.path.aside())))
            }
            Kind::Http(config) => {
                // Tenants that are told apart do not share a connection.
                let apart = lane.tenant.is_some() || lane.feed.is_some();
                let client = match sink.client.as_ref().filter(|_| !apart) {
                    Some(client) => client.clone(),
                    None => self.client().map_err(|error| error.to_string())?,
                };
                Box::new(HttpWriter::new(client, config, lane, tenant)?)
            }
        })
    }

    /// Takes a batch out of the outbox, and out of the hand.
    async fn acknowledge(&self, lane: &Lane, taken: &mut Vec<Queued>) -> Result<(), StoreError> {
        failpoint::pass("delivery-acknowledge");
        let numbers: Vec<i64> = taken.iter().map(|event| event.number).collect();
        self.store.ask(move |store| store.acknowledge(&numbers)).await?;
        failpoint::pass("delivery-acknowledged");
        let mut inner = self.lock();
        for event in taken.drain(..) {
            let count = inner.waiting.entry((lane.sink.clone(), event.tenant.clone())).or_default();
            count.add(-1, -signed(event.body.len() as u64));
        }
        drop(inner);
        self.moved.notify_waiters();
        Ok(())
    }

    /// Writes events that the sink will never take where an operator finds them.
    async fn bury(&self, sink: &OpenSink, batch: &[Queued], why: &str) -> Result<(), Refusal> {
        let path = sink.config.dead_letters.display();
        for event in batch {
            let (line, file) = (dead_letter(&sink.config.id, event, why), Arc::clone(&sink.dead_letters));
            // Syncing blocks for milliseconds.
            let written = tokio::task::spawn_blocking(move || {
                failpoint::pass("dead-letter-append");
                let written = file.lock().unwrap_or_else(PoisonError::into_inner).append(&line);
                failpoint::pass("dead-letter-synced");
                written
            });
            let written = written.await.map_err(Refusal::later)?;
            written.map_err(|error| Refusal::later(format!("cannot write the dead letters {path}: {error}")))?;
            self.metrics.feed(&event.tenant, &event.feed, |counted| counted.dead_letters += 1);
            tracing::warn!(
                sink = %sink.config.id, tenant = %event.tenant, feed = %event.feed, uid = %event.uid, fault = "harness",
                "refused for good, and written to {path}: {why}"
            );
        }
        Ok(())
    }
}

fn dead_letter(sink: &str, event: &Queued, why: &str) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Letter<'a> {
        sink: &'a str,
        tenant: &'a str,
        feed: &'a str,
        scope: &'a str,
        uid: &'a str,
        reason: &'a str,
        event: Option<&'a RawValue>,
    }
    let Queued { tenant, feed, scope, uid, body, .. } = event;
    let letter = Letter { sink, tenant, feed, scope, uid, reason: why, event: serde_json::from_slice(body).ok() };
    let mut line = serde_json::to_vec(&letter).unwrap_or_else(|_| body.clone());
    line.push(b'\n');
    line
}

/// Doubled with each failure in a row.
fn backoff(failures: u32) -> Duration {
    let doubled = limits::LEAST_DELIVERY_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(limits::MOST_DELIVERY_BACKOFF)
}
