//! Delivers the events of one partition: opens the sink, delivers in batches, halves batches that are refused, and
//! writes events that no sink takes to the file of dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use source_host::failpoint;
use source_host::failures::OUTBOX_FULL;
use source_host::limits::milliseconds;
use tokio::sync::Semaphore;

use super::{Inner, OpenSink, SharedDeliveries, backoff, signed};
use crate::limits;
use crate::sink::file::{FileWriter, LineFile, Rotation};
use crate::sink::http::{self, HttpWriter};
#[cfg(feature = "nats")]
use crate::sink::nats::{NatsClient, NatsConfig, NatsWriter};
use crate::sink::shares::SeenDisk;
use crate::sink::{
    Apart, DeliveryError, FileConfig, HttpConfig, Lines, SinkConfig, SinkError, SinkKind, SinkTrouble, Stall, Writer,
};
use crate::store::shards::Lease;
use crate::store::{Backlog, Keep, Partition, Queued, StoreError, Waiting};

/// The result of one step of a delivery.
enum DeliveryStep {
    /// A batch was delivered or written to the dead letters.
    Delivered,
    /// The next batch is smaller, or has other events.
    Again,
    /// There is no batch.
    Empty,
    /// All waiting events wait for room on a disk.
    Held,
}

/// The state of the delivery of one partition.
struct WorkerState {
    writer: Option<Box<dyn Writer>>,
    /// Number of deliveries that failed since the last one that did not.
    failures: u32,
    size: Size,
    /// Events that the sink has but that are not yet removed from the store.
    taken: Taken,
    /// Events of batches that the sink took only in part, which must not be sent again: they go to the dead letters.
    refused: Vec<(Queued, SinkTrouble)>,
    held: HeldTenants,
}

/// Tenants whose events wait for room on a disk, and the first of these events. The events of other tenants in the same
/// partition do not wait.
pub(super) type HeldTenants = BTreeMap<String, HeldEvent>;

/// An event that has no room, and with it all later ones of its tenant.
pub(super) struct HeldEvent {
    /// The file to which it would be appended.
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// Events that are removed from the outbox.
#[derive(Default)]
struct Taken {
    events: Vec<Queued>,
    /// Whether the sink has them, and not the file of dead letters.
    is_delivered: bool,
}

/// Limits of the next batch's size.
struct Size {
    /// The number of events that the sink accepts, as far as known.
    most: usize,
    /// A smaller number while searching for an event that the sink refuses.
    probe: usize,
}

/// Number of failures in a row that may say how many events a receiver takes in time.
const SLOW_FAILURES: u32 = 4;

/// Says whether the receiver, or a proxy before it, had too little time for the batch.
fn is_slow(trouble: &SinkTrouble) -> bool {
    ["timeout", "answered-504"].contains(&trouble.code.as_ref())
}

impl SharedDeliveries {
    pub(super) async fn backlog(&self) -> Result<Vec<Backlog>, StoreError> {
        self.store.backlog(&self.counted()).await
    }

    /// Returns the leases whose events are delivered.
    pub(super) fn counted(&self) -> Vec<Lease> {
        let inner = self.inner.lock();
        let held = self.shards.held().into_iter();
        held.filter(|lease| self.is_counted(&inner, *lease)).collect()
    }

    /// Says whether the waiting events of a lease were counted, and its shard is still this collector's.
    fn is_counted(&self, inner: &Inner, lease: Lease) -> bool {
        self.shards.is_sole() || self.shards.holds(lease) && inner.counted.contains(&lease)
    }

    #[cfg(feature = "nats")]
    fn nats_client(&self, sink: &str, config: &NatsConfig) -> Result<NatsClient, SinkError> {
        let tls = self.network.lock().tls_with(&config.authorities, config.identity.as_ref());
        Ok(NatsClient::new(tls.map_err(|error| SinkError::Tls { sink: sink.to_owned(), error })?))
    }

    fn client(&self, sink: &str, config: &HttpConfig) -> Result<http::Client, SinkError> {
        let network = self.network.lock().clone();
        let tls = network.tls_with(&config.authorities, config.identity.as_ref());
        let tls = tls.map_err(|error| SinkError::Tls { sink: sink.to_owned(), error })?;
        http::client(tls, &network.proxy()).map_err(|error| SinkError::Client { sink: sink.to_owned(), error })
    }

    pub(super) fn opened(&self, config: &SinkConfig) -> Result<OpenSink, SinkError> {
        let client = match &config.kind {
            SinkKind::Http(http) => Some(self.client(&config.id, http)?),
            _ => None,
        };
        let disk = Arc::clone(&self.disk);
        let dead_letters = LineFile::new(disk, config.dead_letters.clone(), None);
        Ok(OpenSink {
            config: config.clone(),
            client,
            #[cfg(feature = "nats")]
            nats: match &config.kind {
                SinkKind::Nats(nats) => Some(self.nats_client(&config.id, nats)?),
                _ => None,
            },
            dead_letters: Arc::new(Mutex::new(dead_letters)),
            places: Semaphore::new(limits::DELIVERIES),
            retries: Semaphore::new(limits::RETRIED_DELIVERIES),
        })
    }

    /// Delivers a partition until it is empty, or until its sink is replaced or removed. Returns whether this was the
    /// last worker with the sink's old configuration, so that others may begin.
    pub(super) async fn work(&self, sink: &Arc<OpenSink>, partition: &Partition, tenant: &str) -> bool {
        let size = Size { most: limits::BATCH_EVENTS, probe: limits::BATCH_EVENTS };
        let (taken, held) = (Taken::default(), HeldTenants::new());
        let mut state = WorkerState { writer: None, failures: 0, size, taken, refused: Vec::new(), held };
        while self.inner.lock().leads(sink) {
            // A panic is a fault of this program, which must not keep the partition's events for ever.
            let step = AssertUnwindSafe(self.deliver(sink, partition, tenant, &mut state)).catch_unwind().await;
            let wait = match step.unwrap_or_else(|_| Err(SinkTrouble::of_host("a delivery panicked").into())) {
                Ok(DeliveryStep::Again) => continue,
                Ok(DeliveryStep::Held) => {
                    state.writer = None;
                    self.mark_held(partition, true);
                    self.moved.notify_waiters();
                    self.pause(sink, limits::SPACE_PAUSE).await;
                    self.mark_held(partition, false);
                    continue;
                }
                Ok(step @ (DeliveryStep::Delivered | DeliveryStep::Empty)) => {
                    if std::mem::take(&mut state.failures) > 0 {
                        self.tell_delivery(partition);
                    }
                    match step {
                        DeliveryStep::Empty => match self.end_if_idle(partition, &state.held) {
                            Some(last) => return last,
                            None => continue,
                        },
                        _ => continue,
                    }
                }
                Err(Stall::Closed(why)) => {
                    let mut inner = self.inner.lock();
                    inner.closed.get_or_insert(why);
                    self.room.notify_one();
                    return inner.end(partition, &state.held);
                }
                Err(Stall::Later { wait, trouble }) => {
                    state.failures += 1;
                    let wait = wait.unwrap_or_default().max(backoff(state.failures)).min(limits::LONGEST_WAIT);
                    self.tell_failure(partition, trouble, wait);
                    self.moved.notify_waiters();
                    wait
                }
            };
            state.writer = None;
            self.pause(sink, wait).await;
        }
        self.inner.lock().end(partition, &state.held)
    }

    /// Logs that a partition does not deliver; at debug level if that is not new.
    fn tell_failure(&self, partition: &Partition, trouble: SinkTrouble, wait: Duration) {
        let now = (self.clock)();
        let Partition { sink, tenant, feed } = partition;
        let (tenant, feed) = (tenant.as_deref(), feed.as_deref());
        let SinkTrouble { code, blame, why } = trouble.clone();
        let fault = blame.word();
        let aloud = self.inner.lock().ledger.failed(partition, trouble, now, now.saturating_add(milliseconds(wait)));
        match aloud {
            true => tracing::warn!(sink, tenant, feed, code, fault, why, "a delivery failed, and is retried"),
            false => tracing::debug!(sink, tenant, feed, code, fault, why, "a delivery failed, and is retried"),
        }
    }

    /// Logs a warning of a sink that took events; at debug level if that is not new.
    fn tell_warning(&self, sink: &str, warning: SinkTrouble) {
        let aloud = self.inner.lock().ledger.warned(sink, &warning, (self.clock)());
        let SinkTrouble { code, blame, why } = warning;
        let fault = blame.word();
        match aloud {
            true => tracing::warn!(sink, code, fault, why, "a receiver took events with a warning"),
            false => tracing::debug!(sink, code, fault, why, "a receiver took events with a warning"),
        }
    }

    /// Logs that a partition delivers again; at debug level if another partition of its sink has the same problem.
    fn tell_delivery(&self, partition: &Partition) {
        let Partition { sink, tenant, feed } = partition;
        let (tenant, feed) = (tenant.as_deref(), feed.as_deref());
        let aloud = self.inner.lock().ledger.delivers(partition);
        match aloud {
            true => tracing::info!(sink, tenant, feed, "delivers again"),
            false => tracing::debug!(sink, tenant, feed, "delivers again"),
        }
    }

    /// Checks whether an outbox is full, and logs a change.
    pub(super) fn check_outbox(&self, sink: &str, tenant: &str) {
        let now = (self.clock)();
        let mut inner = self.inner.lock();
        let waiting = inner.waits(sink, Some(tenant));
        let is_full = inner.sinks.get(sink).is_some_and(|open| waiting.bytes >= open.config.max_outbox_bytes);
        let Some(aloud) = inner.ledger.filled(sink, tenant, is_full, now) else { return };
        let fault = inner.trouble(sink, tenant).map_or(OUTBOX_FULL.blame, |trouble| trouble.blame).word();
        drop(inner);
        if !is_full {
            self.room.notify_one();
        }
        let Waiting { events, bytes } = waiting;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    sink,
                    tenant,
                    code = OUTBOX_FULL.code,
                    fault,
                    "the outbox is full, {bytes} bytes in {events} events wait: the tenant's feeds that go there pause"
                )
            };
        }
        match (is_full, aloud) {
            (true, true) => line!(warn),
            (true, false) => line!(debug),
            (false, true) => tracing::info!(sink, tenant, "the outbox has room again: its feeds continue"),
            (false, false) => tracing::debug!(sink, tenant, "the outbox has room again: its feeds continue"),
        }
    }

    pub(super) fn check_outboxes(&self) {
        let keys: Vec<(String, String)> = self.inner.lock().waiting.keys().cloned().collect();
        keys.iter().for_each(|(sink, tenant)| self.check_outbox(sink, tenant));
    }

    /// Waits, but not for a sink that was replaced meanwhile, because the problem may be mended.
    async fn pause(&self, sink: &Arc<OpenSink>, wait: Duration) {
        let end = tokio::time::Instant::now() + wait;
        loop {
            let replaced = self.replaced.notified();
            if !self.inner.lock().leads(sink) || tokio::time::timeout_at(end, replaced).await.is_err() {
                return;
            }
        }
    }

    /// Ends the work on a partition, unless events arrived since its outbox was found empty.
    fn end_if_idle(&self, partition: &Partition, held: &HeldTenants) -> Option<bool> {
        let mut inner = self.inner.lock();
        let more = inner.busy.get_mut(partition).is_some_and(|work| std::mem::take(&mut work.more));
        (!more).then(|| inner.end(partition, held))
    }

    /// Delivers one batch.
    async fn deliver(
        &self,
        sink: &OpenSink,
        partition: &Partition,
        tenant: &str,
        state: &mut WorkerState,
    ) -> Result<DeliveryStep, Stall> {
        let WorkerState { writer, failures, size, taken, refused, held } = state;
        // One failure may be of a moment.
        let places = if *failures > 1 { &sink.retries } else { &sink.places };
        let _place = places.acquire().await;
        if !taken.events.is_empty() {
            // The sink has these events; only the store must still remove them.
            self.acknowledge(sink, partition, taken).await?;
            return Ok(DeliveryStep::Delivered);
        }
        // The new holder of a shard delivers its events.
        refused.retain(|(event, _)| self.shards.holds(event.lease));
        held.retain(|tenant, _| self.shards.lease_of(tenant).is_some());
        self.release(sink, partition, held).await?;
        if !held.is_empty() && !self.inner.lock().waits_beside(partition, held) {
            return Ok(DeliveryStep::Held);
        }
        // Those of tenants without room wait, and their later events are not read meanwhile.
        if let Some(next) = refused.iter().position(|(event, _)| !held.contains_key(&event.tenant)) {
            let (event, trouble) = &refused[next];
            if self.write_dead_letters(sink, partition, std::slice::from_ref(event), trouble, held).await? {
                *taken = Taken { events: vec![refused.remove(next).0], is_delivered: false };
                self.acknowledge(sink, partition, taken).await?;
            }
            return Ok(DeliveryStep::Again);
        }
        let (shards, events) = (self.counted(), size.most.min(size.probe));
        if shards.is_empty() {
            // The leases may be renewed without a change: the events then wait here.
            return Ok(DeliveryStep::Held);
        }
        let without: Vec<String> = held.keys().cloned().collect();
        let batch = self.store.queued(&shards, partition, without, events, limits::BATCH_BYTES).await?;
        failpoint::pass("delivery-events-read");
        if batch.is_empty() {
            return Ok(if held.is_empty() { DeliveryStep::Empty } else { DeliveryStep::Held });
        }
        let (batch, disk) = match sink.config.kind.file_of(partition, tenant) {
            Some(path) => self.with_room(sink, partition, &path, batch, held).await?,
            None => (batch, None),
        };
        if batch.is_empty() {
            return Ok(DeliveryStep::Again);
        }
        let open = match writer {
            Some(writer) => writer,
            None => writer.insert(self.open(sink, partition, tenant).map_err(|error| SinkTrouble::of_table(&error))?),
        };
        if failpoint::lacks("late-acknowledgement") {
            *taken = Taken { events: batch.clone(), is_delivered: true };
            self.acknowledge(sink, partition, taken).await?;
        }
        let answer = open.take(&batch).await;
        if !matches!(answer, Err(DeliveryError::Apart(_))) {
            self.count(partition, &batch, answer.is_ok());
        }
        if let Some(disk) = disk.filter(|_| answer.is_err()) {
            batch.iter().for_each(|event| self.shares.give_back(&disk, &event.tenant, line_bytes(event)));
        }
        let (is_delivered, was_full) = (answer.is_ok(), batch.len() >= events);
        match answer {
            Ok(warning) => {
                size.probe = size.probe.saturating_mul(2);
                // A limit in bytes holds more of smaller events.
                if was_full {
                    size.most = (size.most + size.most / 32 + 1).min(limits::BATCH_EVENTS);
                }
                warning.into_iter().for_each(|warning| self.tell_warning(&sink.config.id, warning));
            }
            Err(DeliveryError::Partly(trouble)) => {
                refused.extend(batch.into_iter().map(|event| (event, trouble.clone())));
                return Ok(DeliveryStep::Delivered);
            }
            Err(DeliveryError::TooLarge(_)) if batch.len() > 1 => {
                size.most = batch.len() / 2;
                return Ok(DeliveryStep::Again);
            }
            Err(DeliveryError::Never(_)) if batch.len() > 1 => {
                size.probe = batch.len() / 2;
                return Ok(DeliveryStep::Again);
            }
            Err(DeliveryError::TooLarge(trouble)) => {
                if !self.write_dead_letters(sink, partition, &batch, &trouble, held).await? {
                    return Ok(DeliveryStep::Again);
                }
                // A single event that is too large says nothing about how many others the sink accepts.
                size.most = limits::BATCH_EVENTS;
            }
            Err(DeliveryError::Never(trouble)) => {
                if !self.write_dead_letters(sink, partition, &batch, &trouble, held).await? {
                    return Ok(DeliveryStep::Again);
                }
                size.probe = size.probe.saturating_mul(2);
            }
            Err(DeliveryError::Stalled(stall)) => {
                // A slow receiver may take fewer events in time; one that is busy says when to come again.
                if matches!(&stall, Stall::Later { wait: None, trouble } if is_slow(trouble)) {
                    size.probe = (batch.len() / 2).max(1);
                    // A receiver that is away for long is not slow: only the first failures say how many it takes.
                    if *failures < SLOW_FAILURES {
                        size.most = size.probe;
                    }
                }
                return Err(stall);
            }
            Err(DeliveryError::Apart(apart)) => {
                return self.sort((sink, partition), batch, *apart, taken, refused).await;
            }
        }
        *taken = Taken { events: batch, is_delivered };
        self.acknowledge(sink, partition, taken).await?;
        Ok(DeliveryStep::Delivered)
    }

    /// Removes the events of a batch that the sink took from the outbox, and adds those that it refused to `refused`.
    async fn sort(
        &self,
        (sink, partition): (&OpenSink, &Partition),
        batch: Vec<Queued>,
        apart: Apart,
        taken: &mut Taken,
        refused: &mut Vec<(Queued, SinkTrouble)>,
    ) -> Result<DeliveryStep, Stall> {
        let Apart { taken: numbers, refused: mut troubles, stall, warning } = apart;
        warning.into_iter().for_each(|warning| self.tell_warning(&partition.sink, warning));
        let (had, others): (Vec<_>, Vec<_>) = batch.into_iter().partition(|event| numbers.contains(&event.number));
        self.count(partition, &had, true);
        // A sink without a reason did not come to the others yet.
        let tried = |event: &Queued| stall.is_some() || troubles.contains_key(&event.number);
        let others: Vec<Queued> = others.into_iter().filter(tried).collect();
        self.count(partition, &others, false);
        refused.extend(others.into_iter().filter_map(|event| {
            let trouble = troubles.remove(&event.number)?;
            Some((event, trouble))
        }));
        *taken = Taken { events: had, is_delivered: true };
        if !taken.events.is_empty() {
            self.acknowledge(sink, partition, taken).await?;
        }
        stall.map_or(Ok(DeliveryStep::Delivered), Err)
    }

    /// Looks at the disk of a file; `None` if its room is unknown.
    async fn seen_disk(&self, sink: &OpenSink, path: &Path) -> Result<Option<SeenDisk>, Stall> {
        let (disk, file) = (Arc::clone(&self.disk), path.to_owned());
        // A file system over the network may take long to answer.
        let room = tokio::task::spawn_blocking(move || disk.room(&file)).await?;
        let seen = room.map(|room| SeenDisk::new(path, room, sink.config.min_free_bytes));
        if let Some(seen) = &seen {
            let mut inner = self.inner.lock();
            // The sink may have been removed meanwhile.
            if inner.sinks.contains_key(&sink.config.id) {
                inner.free.insert(sink.config.id.clone(), seen.free());
            }
        }
        Ok(seen)
    }

    /// Returns the events of a batch that have room on the disk of their file. The others, and all later ones of their
    /// tenants, are held.
    async fn with_room(
        &self,
        sink: &OpenSink,
        partition: &Partition,
        path: &Path,
        mut batch: Vec<Queued>,
        held: &mut HeldTenants,
    ) -> Result<(Vec<Queued>, Option<SeenDisk>), Stall> {
        let Some(mut disk) = self.seen_disk(sink, path).await? else { return Ok((batch, None)) };
        if self.needs_no_share(sink, path, &disk).await? {
            return Ok((batch, None));
        }
        batch.retain(|event| {
            let bytes = line_bytes(event);
            if held.contains_key(&event.tenant) || self.shares.take(&mut disk, &event.tenant, bytes) {
                return !held.contains_key(&event.tenant);
            }
            self.hold(partition, &event.tenant, HeldEvent { path: path.to_owned(), bytes }, &disk, held);
            false
        });
        Ok((batch, Some(disk)))
    }

    /// Says whether a nearly full disk has room for all that an event file may still grow. Otherwise the file, which needs
    /// no more room than its rotation frees, would never come to its next rotation.
    async fn needs_no_share(&self, sink: &OpenSink, path: &Path, disk: &SeenDisk) -> Result<bool, Stall> {
        let SinkKind::File(config) = &sink.config.kind else { return Ok(false) };
        if !disk.is_low() || config.keep_files.is_none() {
            return Ok(false);
        }
        let file = self.event_file(config, path.to_owned());
        let growth = tokio::task::spawn_blocking(move || file.growth()).await?;
        // A file that cannot be read is told of when it is written.
        Ok(matches!(growth, Ok(Some(growth)) if disk.holds(growth)))
    }

    /// Holds the events of a tenant back, from this one on.
    fn hold(&self, partition: &Partition, tenant: &str, event: HeldEvent, disk: &SeenDisk, held: &mut HeldTenants) {
        held.insert(tenant.to_owned(), event);
        self.tell_failure(&of_tenant(partition, tenant), SinkTrouble::of_low_disk(disk), limits::SPACE_PAUSE);
    }

    /// Ends the wait of tenants whose next event has room now.
    async fn release(&self, sink: &OpenSink, partition: &Partition, held: &mut HeldTenants) -> Result<(), Stall> {
        let paths: BTreeSet<PathBuf> = held.values().map(|event| event.path.clone()).collect();
        for path in paths {
            let disk = self.seen_disk(sink, &path).await?;
            let low = match disk {
                Some(disk) if !self.needs_no_share(sink, &path, &disk).await? => Some(disk),
                _ => None,
            };
            held.retain(|tenant, event| {
                let fits = low.as_ref().is_none_or(|disk| self.shares.fits(disk, tenant, event.bytes));
                let is_over = event.path == path && fits;
                if is_over {
                    self.tell_delivery(&of_tenant(partition, tenant));
                }
                !is_over
            });
        }
        Ok(())
    }

    /// Marks whether all events of a partition wait for room on a disk.
    fn mark_held(&self, partition: &Partition, is_held: bool) {
        if let Some(work) = self.inner.lock().busy.get_mut(partition) {
            work.is_held = is_held;
        }
    }

    /// Counts the result of a batch for each of its tenants.
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

    fn event_file(&self, config: &FileConfig, path: PathBuf) -> LineFile {
        let FileConfig { path: template, rotate_bytes: bytes, rotate_every: every, keep_files } = config;
        let rotation = Rotation { bytes: *bytes, every: *every, keep_files: *keep_files, aside: template.aside() };
        LineFile::new(Arc::clone(&self.disk), path, Some(rotation))
    }

    fn open(&self, sink: &OpenSink, partition: &Partition, tenant: &str) -> Result<Box<dyn Writer>, SinkError> {
        // Separated tenants do not share a connection.
        let apart = partition.tenant.is_some() || partition.feed.is_some();
        Ok(match &sink.config.kind {
            SinkKind::Stdout => Box::new(Lines::new(Arc::clone(&self.stdout))),
            SinkKind::File(config) => {
                let file = self.event_file(config, config.file_of(partition, tenant));
                Box::new(FileWriter::new(file, Arc::clone(&self.clock)))
            }
            SinkKind::Http(config) => {
                let client = match sink.client.as_ref().filter(|_| !apart) {
                    Some(client) => client.clone(),
                    None => self.client(&sink.config.id, config)?,
                };
                Box::new(HttpWriter::new((client, Arc::clone(&self.clock)), config, partition, tenant)?)
            }
            #[cfg(feature = "nats")]
            SinkKind::Nats(config) => {
                let client = match &sink.nats {
                    Some(client) if apart => client.apart(),
                    Some(client) => client.clone(),
                    None => self.nats_client(&sink.config.id, config)?,
                };
                Box::new(NatsWriter::new(client, config, partition, tenant))
            }
        })
    }

    /// Removes a batch from the outbox, and from `taken`.
    async fn acknowledge(&self, sink: &OpenSink, partition: &Partition, taken: &mut Taken) -> Result<(), StoreError> {
        failpoint::pass("delivery-acknowledge");
        match sink.config.keep_delivered.filter(|_| taken.is_delivered) {
            Some((span, bytes)) => {
                let keep = Keep { now: (self.clock)(), span, bytes };
                self.store.keep_delivered(&taken.events, keep).await?;
            }
            None => self.store.acknowledge(&taken.events).await?,
        }
        failpoint::pass("delivery-acknowledged");
        let mut inner = self.inner.lock();
        let tenants: BTreeSet<String> = taken.events.iter().map(|event| event.tenant.clone()).collect();
        // The new holder of a shard counts its events anew.
        let counted: Vec<Queued> =
            taken.events.drain(..).filter(|event| self.is_counted(&inner, event.lease)).collect();
        for event in counted {
            let count = inner.waiting.entry((partition.sink.clone(), event.tenant)).or_default();
            count.add(-1, -signed(event.body.len() as u64));
        }
        drop(inner);
        tenants.iter().for_each(|tenant| self.check_outbox(&partition.sink, tenant));
        self.moved.notify_waiters();
        Ok(())
    }

    /// Writes events that the sink will never take to the file of dead letters, for the operator. Returns false if one
    /// has no room there; its tenant is then held.
    async fn write_dead_letters(
        &self,
        sink: &OpenSink,
        partition: &Partition,
        batch: &[Queued],
        trouble: &SinkTrouble,
        held: &mut HeldTenants,
    ) -> Result<bool, Stall> {
        let (id, path) = (&sink.config.id, sink.config.dead_letters.display());
        let SinkTrouble { code, blame, why } = trouble;
        for event in batch {
            let (line, now, file) = (dead_letter(id, event, why), (self.clock)(), Arc::clone(&sink.dead_letters));
            let bytes = line.len() as u64;
            let mut disk = self.seen_disk(sink, &sink.config.dead_letters).await?;
            if let Some(disk) = &mut disk
                && !self.shares.take(disk, &event.tenant, bytes)
            {
                let next = HeldEvent { path: sink.config.dead_letters.clone(), bytes };
                self.hold(partition, &event.tenant, next, disk, held);
                return Ok(false);
            }
            // Syncing blocks for milliseconds.
            let written = tokio::task::spawn_blocking(move || {
                failpoint::pass("dead-letter-append");
                let written = file.lock().append(&line, now);
                failpoint::pass("dead-letter-synced");
                written
            });
            let unwritten =
                |error: io::Error| SinkTrouble::of_file(format!("cannot write the dead letters {path}: {error}"));
            let written = written.await?;
            if let Some(disk) = disk.filter(|_| written.is_err()) {
                self.shares.give_back(&disk, &event.tenant, bytes);
            }
            written.map_err(unwritten)?;
            let Queued { tenant, feed, uid, .. } = event;
            self.metrics.feed(tenant, feed, |counts| counts.dead_letters += 1);
            self.metrics.sink(id, tenant, |counts| counts.dead_letters += 1);
            let fault = blame.word();
            let aloud = self.inner.lock().ledger.refused_for_good(id, tenant, trouble, (self.clock)());
            macro_rules! line {
                ($level:ident) => {
                    tracing::$level!(
                        sink = id,
                        tenant,
                        feed,
                        uid,
                        code,
                        fault,
                        why,
                        "refused for good, and written to {path}"
                    )
                };
            }
            if aloud { line!(warn) } else { line!(debug) }
        }
        Ok(true)
    }
}

/// The part of a partition that belongs to one tenant.
pub(super) fn of_tenant(partition: &Partition, tenant: &str) -> Partition {
    Partition { tenant: Some(tenant.to_owned()), ..partition.clone() }
}

/// The bytes of an event's line in a file.
fn line_bytes(event: &Queued) -> u64 {
    event.body.len() as u64 + 1
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
