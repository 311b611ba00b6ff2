//! Brings events from the outbox to their sinks: each lane in order, lanes beside each other, a slow or broken one in
//! nobody's way. An event leaves the outbox when its sink has it, or when it stands among the dead letters.

use std::collections::{BTreeMap, HashMap};
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
use crate::store::{Lane, NewEvent, Queued, StoreError, StoreHandle};

/// All sinks of a collector, and what is on its way to them. Cheap to clone.
#[derive(Clone)]
pub struct Deliveries {
    shared: Arc<Shared>,
}

struct Shared {
    store: StoreHandle,
    disk: Arc<dyn Disk>,
    stdout: Stdout,
    tls: rustls::ClientConfig,
    metrics: Arc<Metrics>,
    /// Keeps deliveries from taking all sockets and threads.
    places: Semaphore,
    inner: Mutex<Inner>,
    /// Something was delivered, a lane came to rest, or a sink closed.
    moved: Notify,
}

#[derive(Default)]
struct Inner {
    sinks: BTreeMap<String, Arc<OpenSink>>,
    /// Lanes that somebody works at; true if more came meanwhile.
    busy: HashMap<Lane, bool>,
    waiting: HashMap<(String, String), Waiting>,
    closed: Option<String>,
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
    dead_letters: Mutex<LineFile>,
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
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
}

impl Deliveries {
    /// No sink yet.
    pub fn new(surroundings: Surroundings) -> Deliveries {
        let Surroundings { store, disk, stdout, tls, metrics } = surroundings;
        let (places, inner) = (Semaphore::new(limits::DELIVERIES), Mutex::default());
        Deliveries {
            shared: Arc::new(Shared { store, disk, stdout, tls, metrics, places, inner, moved: Notify::new() }),
        }
    }

    /// Takes these sinks in place of the ones before; lanes that are busy end with what they have.
    pub fn replace(&self, configs: &[SinkConfig]) -> Result<(), String> {
        let mut sinks = BTreeMap::new();
        for config in configs {
            let client = match &config.kind {
                Kind::Http(_) => {
                    let client = http::client(self.shared.tls.clone());
                    Some(client.map_err(|error| format!("sink {}: {error}", config.id))?)
                }
                _ => None,
            };
            let disk = Arc::clone(&self.shared.disk);
            let dead_letters = LineFile::new(disk, config.dead_letters.clone(), u64::MAX, None);
            let sink = OpenSink { config: config.clone(), client, dead_letters: Mutex::new(dead_letters) };
            sinks.insert(config.id.clone(), Arc::new(sink));
        }
        self.shared.lock().sinks = sinks;
        Ok(())
    }

    /// Takes up what an earlier process left in the outbox. Gives the ids of sinks that nobody configured any more, with
    /// the number of events that wait for them.
    pub async fn resume(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let backlog = self.shared.store.ask(|store| store.backlog()).await?;
        let mut lost = BTreeMap::new();
        let mut inner = self.shared.lock();
        inner.waiting.clear();
        for row in &backlog {
            let waiting = inner.waiting.entry((row.sink.clone(), row.tenant.clone())).or_default();
            *waiting = Waiting { events: waiting.events + row.events, bytes: waiting.bytes + row.bytes };
            if !inner.sinks.contains_key(&row.sink) {
                *lost.entry(row.sink.clone()).or_default() += row.events;
            }
        }
        drop(inner);
        for row in backlog {
            self.wake(&row.sink, &row.tenant, &row.feed);
        }
        Ok(lost)
    }

    /// The first of these sinks whose outbox is full for a tenant, with what waits there.
    pub fn full(&self, sinks: &[String], tenant: &str) -> Option<(String, Waiting)> {
        let inner = self.shared.lock();
        sinks.iter().find_map(|sink| {
            let waiting = *inner.waiting.get(&(sink.clone(), tenant.to_owned()))?;
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
            let waiting = inner.waiting.entry((sink.clone(), tenant.to_owned())).or_default();
            waiting.events += events.len() as u64;
            waiting.bytes += bytes;
            drop(inner);
            self.wake(sink, tenant, feed);
        }
    }

    /// What waits, by sink and tenant.
    pub fn waiting(&self) -> Vec<((String, String), Waiting)> {
        let inner = self.shared.lock();
        let mut waiting: Vec<_> = inner.waiting.iter().map(|(key, waiting)| (key.clone(), *waiting)).collect();
        waiting.retain(|(_, waiting)| waiting.events > 0);
        waiting.sort_by(|left, right| left.0.cmp(&right.0));
        waiting
    }

    /// Why nothing can ever be delivered again, if that is so.
    pub fn closed(&self) -> Option<String> {
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

    /// Sets somebody to work at a lane, unless somebody is.
    fn wake(&self, sink: &str, tenant: &str, feed: &str) {
        let mut inner = self.shared.lock();
        let Some(open) = inner.sinks.get(sink).cloned() else { return };
        let lane = open.config.lane(tenant, feed);
        if let Some(more) = inner.busy.get_mut(&lane) {
            *more = true;
            return;
        }
        inner.busy.insert(lane.clone(), false);
        drop(inner);
        let (shared, tenant) = (Arc::clone(&self.shared), tenant.to_owned());
        tokio::spawn(async move { shared.work(&open, &lane, &tenant).await });
    }
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

    /// Delivers a lane until it is empty.
    async fn work(&self, sink: &OpenSink, lane: &Lane, tenant: &str) {
        let mut size = Size { most: limits::BATCH_EVENTS, probe: limits::BATCH_EVENTS };
        let mut failures = 0;
        let mut writer = None;
        loop {
            let wait = match self.deliver(sink, lane, tenant, &mut writer, &mut size).await {
                Ok(true) => {
                    if failures > 0 {
                        tracing::info!(sink = %lane.sink, tenant, "delivers again");
                        failures = 0;
                    }
                    continue;
                }
                Ok(false) => {
                    if self.came_to_rest(lane) {
                        return;
                    }
                    continue;
                }
                Err(Refusal::Closed(why)) => {
                    let mut inner = self.lock();
                    inner.closed.get_or_insert(why);
                    inner.busy.remove(lane);
                    drop(inner);
                    self.moved.notify_waiters();
                    return;
                }
                Err(Refusal::Later { wait, why }) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(sink = %lane.sink, tenant, fault = "harness", "does not deliver, and tries on: {why}");
                    }
                    wait.unwrap_or_default().max(backoff(failures))
                }
                // Halved, or written to the dead letters.
                Err(Refusal::TooLarge(_) | Refusal::Never(_)) => continue,
            };
            writer = None;
            tokio::time::sleep(wait.min(limits::LONGEST_WAIT)).await;
        }
    }

    /// Whether nobody is needed any more: nothing came since the outbox was found empty.
    fn came_to_rest(&self, lane: &Lane) -> bool {
        let mut inner = self.lock();
        let rest = inner.busy.get(lane) != Some(&true);
        if rest {
            inner.busy.remove(lane);
        } else {
            inner.busy.insert(lane.clone(), false);
        }
        drop(inner);
        if rest {
            self.moved.notify_waiters();
        }
        rest
    }

    /// Delivers one batch; false if there is none.
    async fn deliver(
        &self,
        sink: &OpenSink,
        lane: &Lane,
        tenant: &str,
        writer: &mut Option<Box<dyn Writer>>,
        size: &mut Size,
    ) -> Result<bool, Refusal> {
        let _place = self.places.acquire().await;
        let (asked, events) = (lane.clone(), size.most.min(size.probe));
        let batch = self.store.ask(move |store| store.queued(&asked, events, limits::BATCH_BYTES)).await;
        let batch = batch.map_err(Refusal::later)?;
        failpoint::pass("delivery-events-read");
        if batch.is_empty() {
            return Ok(false);
        }
        let open = match writer {
            Some(writer) => writer,
            None => writer.insert(self.open(sink, lane, tenant).map_err(Refusal::later)?),
        };
        match open.take(&batch).await {
            Ok(()) => size.probe = size.probe.saturating_mul(2).min(limits::BATCH_EVENTS),
            Err(Refusal::TooLarge(_)) if batch.len() > 1 => {
                size.most = batch.len() / 2;
                return Ok(true);
            }
            Err(Refusal::Never(_)) if batch.len() > 1 => {
                size.probe = batch.len() / 2;
                return Ok(true);
            }
            Err(Refusal::TooLarge(why) | Refusal::Never(why)) => {
                self.bury(sink, &batch, &why)?;
                size.probe = size.probe.saturating_mul(2).min(limits::BATCH_EVENTS);
            }
            Err(refusal) => return Err(refusal),
        }
        self.acknowledge(lane, batch).await.map_err(Refusal::later)?;
        Ok(true)
    }

    fn open(&self, sink: &OpenSink, lane: &Lane, tenant: &str) -> Result<Box<dyn Writer>, String> {
        Ok(match &sink.config.kind {
            Kind::Stdout => Box::new(Lines::new(Arc::clone(&self.stdout))),
            Kind::File(config) => {
                let path = config.path.filled(tenant, lane.feed.as_deref().unwrap_or_default());
                let (disk, path) = (Arc::clone(&self.disk), Path::new(&path).to_owned());
                Box::new(FileWriter::new(LineFile::new(disk, path, config.rotate_bytes, config.keep_files)))
            }
            Kind::Http(config) => {
                // Tenants that are told apart do not share a connection.
                let apart = lane.tenant.is_some() || lane.feed.is_some();
                let client = match sink.client.as_ref().filter(|_| !apart) {
                    Some(client) => client.clone(),
                    None => http::client(self.tls.clone()).map_err(|error| error.to_string())?,
                };
                Box::new(HttpWriter::new(client, config, lane, tenant)?)
            }
        })
    }

    async fn acknowledge(&self, lane: &Lane, batch: Vec<Queued>) -> Result<(), StoreError> {
        failpoint::pass("delivery-acknowledge");
        let numbers: Vec<i64> = batch.iter().map(|event| event.number).collect();
        self.store.ask(move |store| store.acknowledge(&numbers)).await?;
        failpoint::pass("delivery-acknowledged");
        let mut inner = self.lock();
        for event in &batch {
            if let Some(waiting) = inner.waiting.get_mut(&(lane.sink.clone(), event.tenant.clone())) {
                waiting.events = waiting.events.saturating_sub(1);
                waiting.bytes = waiting.bytes.saturating_sub(event.body.len() as u64);
            }
        }
        drop(inner);
        self.moved.notify_waiters();
        Ok(())
    }

    /// Writes an event that the sink will never take where an operator finds it.
    fn bury(&self, sink: &OpenSink, batch: &[Queued], why: &str) -> Result<(), Refusal> {
        for event in batch {
            let line = dead_letter(&sink.config.id, event, why);
            failpoint::pass("dead-letter-append");
            let mut file = sink.dead_letters.lock().unwrap_or_else(PoisonError::into_inner);
            let written = file.append(&line);
            failpoint::pass("dead-letter-synced");
            let path = sink.config.dead_letters.display();
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
