//! Events for sinks, and the part of a collector that sinks see.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use host_harness::limits;
use host_harness::metrics::Metrics;
use host_harness::sink::delivery::{Deliveries, Surroundings};
use host_harness::sink::disk::{Disk, OpenFile, RealDisk};
use host_harness::sink::{FileConfig, HttpConfig, Preset, SinkConfig, SinkKind, Template};
use host_harness::store::shards::{Lease, Shards};
use host_harness::store::space::Room;
use host_harness::store::sqlite::SqliteHandle;
use host_harness::store::sqlite::for_tests;
use host_harness::store::{NewEvent, PollRecord, ScopeRow, SharedStore, Standing};
use parking_lot::Mutex;
use serde_json::Value;
use source_host::contract::Scope;
use source_host::credentials::certificates::Authorities;
use source_host::credentials::secret::Secret;
use source_host::network::client::Network;
use tempfile::TempDir;

use super::{PATIENCE, noon};

pub const TOKEN: &str = "a-token-of-tests";

/// Makes the events of a poll, one for each body.
fn events(bodies: &[String]) -> Vec<NewEvent> {
    let event = |body: &String| {
        let uid = serde_json::from_str::<Value>(body).unwrap()["uid"].as_str().unwrap().to_owned();
        NewEvent { uid, time: 1_500, body: body.clone().into_bytes() }
    };
    bodies.iter().map(event).collect()
}

/// Makes bodies with different uids.
pub fn bodies(scope: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!(r#"{{"uid":"{scope}-{number}","scope":"{scope}"}}"#)).collect()
}

/// Makes the result of a scope's poll for these sinks.
pub fn record(tenant: &str, feed: &str, scope: &str, sinks: &[&str], bodies: &[String]) -> PollRecord {
    let id = scope.to_owned();
    PollRecord {
        lease: Lease::SOLE,
        row: ScopeRow {
            feed: feed.to_owned(),
            tenant: tenant.to_owned(),
            scope: Scope { id, name: None, owner: None, plugin_data: String::new() },
            standing: Standing::default(),
        },
        state: None,
        time: 1_000,
        measures: Vec::new(),
        events: events(bodies),
        sinks: sinks.iter().map(|sink| (*sink).to_owned()).collect(),
        throttle: None,
        budgets: Default::default(),
    }
}

/// Starts a store in memory, on its thread.
pub fn store() -> SharedStore {
    Arc::new(SqliteHandle::start(for_tests::in_memory().unwrap()).unwrap())
}

/// Makes deliveries from a store to a disk.
pub fn deliveries(
    store: &SharedStore,
    disk: Arc<dyn Disk>,
    stdout: host_harness::sink::Stdout,
) -> (Deliveries, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let (network, counted) = (NETWORK.clone(), Arc::clone(&metrics));
    let clock = noon();
    let surroundings = Surroundings {
        store: Arc::clone(store),
        shards: Shards::sole(),
        disk,
        stdout,
        network,
        metrics: counted,
        clock,
    };
    (Deliveries::new(surroundings), metrics)
}

/// The network of the machine, read once.
pub static NETWORK: LazyLock<Network> = LazyLock::new(|| Network::new(None, Vec::new()).unwrap());

/// The part of a collector that sinks see.
pub struct Collector {
    pub folder: TempDir,
    pub store: SharedStore,
    pub deliveries: Deliveries,
    pub metrics: Arc<Metrics>,
    pub stdout: Arc<Mutex<Pipe>>,
}

impl Collector {
    pub fn new(sinks: &[SinkConfig]) -> Collector {
        Collector::with(store(), sinks)
    }

    pub fn with(store: SharedStore, sinks: &[SinkConfig]) -> Collector {
        Collector::on(Arc::new(RealDisk), store, sinks)
    }

    pub fn on(disk: Arc<dyn Disk>, store: SharedStore, sinks: &[SinkConfig]) -> Collector {
        let stdout = Arc::new(Mutex::new(Pipe::default()));
        let (deliveries, metrics) = deliveries(&store, disk, Arc::clone(&stdout) as _);
        let ids: Vec<String> = sinks.iter().map(|sink| sink.id.clone()).collect();
        metrics.configure([("contoso", "prod", &*ids)].into_iter());
        let collector = Collector { folder: tempfile::tempdir().unwrap(), store, deliveries, metrics, stdout };
        collector.configure(sinks);
        collector
    }

    /// Configures sinks, whose paths are below the test's folder.
    pub fn configure(&self, sinks: &[SinkConfig]) {
        let sinks: Vec<SinkConfig> = sinks.iter().cloned().map(|sink| self.placed(sink)).collect();
        self.deliveries.replace(&sinks).unwrap();
    }

    pub fn placed(&self, mut sink: SinkConfig) -> SinkConfig {
        sink.dead_letters = self.folder.path().join(sink.dead_letters);
        if let SinkKind::File(file) = &mut sink.kind {
            file.path = file.path.clone().under(self.folder.path());
        }
        sink
    }

    /// Returns a collector with the same store after a restart of the process.
    pub fn restarted(self, sinks: &[SinkConfig]) -> Collector {
        let (deliveries, metrics) = deliveries(&self.store, Arc::new(RealDisk), Arc::clone(&self.stdout) as _);
        let collector = Collector { deliveries, metrics, ..self };
        collector.configure(sinks);
        collector
    }

    /// Commits a poll of `contoso`'s feed `prod`.
    pub async fn poll(&self, sinks: &[&str], bodies: &[String]) {
        self.poll_of("contoso", "prod", sinks, bodies).await;
    }

    pub async fn poll_of(&self, tenant: &str, feed: &str, sinks: &[&str], bodies: &[String]) {
        let record = self.committed(tenant, feed, sinks, bodies).await;
        self.deliveries.queued(&record.sinks, tenant, feed, &record.events);
    }

    pub async fn committed(&self, tenant: &str, feed: &str, sinks: &[&str], bodies: &[String]) -> PollRecord {
        let record = record(tenant, feed, "one", sinks, bodies);
        let written = record.clone();
        self.store.commit(Arc::new(written)).await.unwrap();
        record
    }

    /// Waits until everything is delivered.
    pub async fn delivered(&self) {
        self.delivered_but(&[]).await;
    }

    /// Waits until the events of these tenants alone wait, and rest.
    pub async fn delivered_but(&self, tenants: &[&str]) {
        let delivered = async {
            loop {
                let backlog = self.store.backlog(&[Lease::SOLE]).await.unwrap();
                let waiting = self.deliveries.waiting();
                let left: Vec<&str> = waiting.iter().map(|((_, tenant), _)| &**tenant).collect();
                if backlog.len() == tenants.len() && left == tenants {
                    return self.deliveries.flushed().await;
                }
                let _ = tokio::time::timeout(Duration::from_millis(20), self.deliveries.moved()).await;
            }
        };
        tokio::time::timeout(PATIENCE, delivered).await.expect("everything is delivered");
    }

    pub fn read(&self, path: impl AsRef<Path>) -> String {
        fs::read_to_string(self.folder.path().join(path)).unwrap()
    }

    pub fn dead_letters(&self) -> Vec<Value> {
        self.read("dead.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub fn sink(id: &str, kind: SinkKind) -> SinkConfig {
    let (max_outbox_bytes, dead_letters) = (limits::OUTBOX_BYTES, "dead.ndjson".into());
    SinkConfig { id: id.to_owned(), kind, max_outbox_bytes, dead_letters, min_free_bytes: None, keep_delivered: None }
}

type Meanwhile = Box<dyn FnOnce() + Send>;

/// The disk of the machine, with as many free bytes as a test says.
#[derive(Clone, Default)]
pub struct SmallDisk {
    pub free: Arc<AtomicU64>,
    /// Runs once, while the room is looked at.
    pub meanwhile: Arc<Mutex<Option<Meanwhile>>>,
}

impl Disk for SmallDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        RealDisk.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.list(folder)
    }

    fn size(&self, path: &Path) -> io::Result<Option<u64>> {
        RealDisk.size(path)
    }

    fn room(&self, path: &Path) -> Option<(u64, Room)> {
        let (disk, room) = RealDisk.room(path)?;
        let free = self.free.load(Ordering::SeqCst);
        if let Some(meanwhile) = self.meanwhile.lock().take() {
            meanwhile();
        }
        Some((disk, Room { free, ..room }))
    }
}

pub fn template(text: &str) -> Template {
    Template::new(text).unwrap()
}

pub fn file(path: &str, rotate_bytes: u64) -> SinkConfig {
    sink(
        "lake",
        SinkKind::File(FileConfig { path: template(path), rotate_bytes, rotate_every: None, keep_files: None }),
    )
}

pub fn http(id: &str, url: &str) -> SinkConfig {
    sink(id, SinkKind::Http(posting(url, Preset::Vector)))
}

pub fn posting(url: &str, preset: Preset) -> HttpConfig {
    HttpConfig {
        url: template(url),
        is_url_secret: false,
        preset,
        token: Some(Secret::new(TOKEN)),
        headers: Vec::new(),
        credentials: Vec::new(),
        gzip: true,
        envelope: Vec::new(),
        authorities: Authorities::default(),
        identity: None,
    }
}

/// A standard output whose other end may be closed.
#[derive(Default)]
pub struct Pipe {
    pub written: Vec<u8>,
    pub is_closed: bool,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.is_closed {
            true => Err(std::io::ErrorKind::BrokenPipe.into()),
            false => self.written.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
