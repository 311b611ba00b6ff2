//! A collector on a clock that jumps, with a transport of the test, and with a store in a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use host_harness::admitted::AdmittedFeed;
use host_harness::admitted::tenants::Tenants;
use host_harness::collector::Collector;
use host_harness::collector::work::Pipeline;
use host_harness::config;
use host_harness::config::admission;
use host_harness::metrics::MetricsLevel;
use host_harness::run;
use host_harness::store::SharedStore;
use host_harness::store::shards::Shards;
use host_harness::store::space::{FreeSpace, Room};
use host_harness::store::sqlite::{SqliteHandle, SqliteStore, for_tests};
use parking_lot::Mutex;
use serde_json::Value;
use source_host::clock::Clock;
use source_host::network::Transport;

use super::flaky::Flaky;
use super::host;

/// Values of environment variables.
pub type Secrets = BTreeMap<String, String>;

pub struct Stage {
    pub now: Arc<AtomicU64>,
    pub collector: Collector,
    pub pipeline: Pipeline,
    /// While set, the store refuses writes.
    pub disk_is_full: Arc<AtomicBool>,
    /// The number of transactions of the store that wrote.
    pub writes: Arc<AtomicUsize>,
    /// Free bytes on the disk of the state.
    pub free: Arc<AtomicU64>,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Stage {
    /// Starts a collector with a configuration, and with the state beside it.
    pub async fn start(
        file: &Path,
        text: &str,
        secrets: &Secrets,
        now: &Arc<AtomicU64>,
        transport: Arc<dyn Transport>,
    ) -> Stage {
        let state = config::parse(file, text, None, &|_| None).collector.state;
        let free = Arc::new(AtomicU64::new(1 << 40));
        let looking = Arc::clone(&free);
        let space = FreeSpace::new(move || Some(Room { free: looking.load(Ordering::SeqCst), total: 1 << 40 }));
        let store = for_tests::with_space(SqliteStore::open(state.file().unwrap()).unwrap(), space);
        let store = Arc::new(SqliteHandle::start(store).unwrap());
        let disk_is_full = Arc::new(AtomicBool::new(false));
        let writes = Arc::new(AtomicUsize::new(0));
        let flaky =
            Flaky { store, is_full: Arc::clone(&disk_is_full), writes: Arc::clone(&writes), breaks: Arc::default() };
        let on = (Arc::new(flaky) as SharedStore, &Shards::sole());
        let stage = Prepared::on(on, file, text, secrets, now, transport).await.start().await;
        Stage { disk_is_full, writes, free, ..stage }
    }

    /// Reloads with another configuration; `impatient` as after SIGHUP.
    pub async fn reload(&mut self, file: &Path, text: &str, secrets: &Secrets, impatient: bool) {
        let mut config = config::parse(file, text, None, &|name| secrets.get(name).cloned());
        let (budgets, sinks) = (config.collector.budgets, std::mem::take(&mut config.sinks));
        let checked = admission::check(&host(), config, None, &self.pipeline.clock).await.unwrap();
        self.pipeline.deliveries.replace(&sinks).unwrap();
        *self.pipeline.budgets.lock() = budgets;
        self.collector.reload(checked.feeds, &[], 64, 8, impatient);
    }

    /// Ends the collector in the way of a process: its state can be opened again.
    pub async fn end(self) {
        self.pipeline.close().await;
    }

    /// Runs everything that is due now.
    pub async fn run_now(&mut self) {
        loop {
            self.collector.start_due();
            match self.collector.is_idle() {
                true => return,
                false => self.collector.ended().await,
            }
        }
    }

    /// Runs everything that is due before `end`, each at its time, and then moves the clock to `end`.
    pub async fn run_until(&mut self, end: u64) {
        loop {
            self.collector.start_due();
            if !self.collector.is_idle() {
                self.collector.ended().await;
                continue;
            }
            match self.collector.next_due().filter(|due| *due < end) {
                Some(due) => self.now.fetch_max(due, Ordering::SeqCst),
                None => break,
            };
        }
        self.now.store(end, Ordering::SeqCst);
    }

    /// Returns the events that went to standard output since the last call.
    pub async fn told(&self) -> Vec<Value> {
        self.pipeline.deliveries.rest().await;
        let lines = std::mem::take(&mut *self.output.lock());
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// Returns the value of a metric.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.pipeline.metrics.text(self.pipeline.deliveries.outboxes(), MetricsLevel::Feed);
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

/// A collector whose deliveries have begun, and whose rows are not loaded yet.
pub struct Prepared {
    now: Arc<AtomicU64>,
    pipeline: Pipeline,
    tenants: Arc<Tenants>,
    feeds: Vec<Arc<AdmittedFeed>>,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Prepared {
    /// Begins the deliveries of a collector with a configuration, on these shards of a store.
    pub async fn on(
        opened: (SharedStore, &Shards),
        file: &Path,
        text: &str,
        secrets: &Secrets,
        now: &Arc<AtomicU64>,
        transport: Arc<dyn Transport>,
    ) -> Prepared {
        let reading = Arc::clone(now);
        let clock: Clock = Arc::new(move || reading.load(Ordering::SeqCst));
        let mut config = config::parse(file, text, None, &|name| secrets.get(name).cloned());
        let (budgets, sinks) = (config.collector.budgets, std::mem::take(&mut config.sinks));
        let checked = admission::check(&host(), config, None, &clock).await.unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let pipeline = run::pipeline(opened, budgets, &sinks, &checked.network, &clock, output.clone()).await.unwrap();
        let tenants = Arc::new(Tenants::new(move |_| Ok(Arc::clone(&transport))));
        Prepared { now: Arc::clone(now), pipeline, tenants, feeds: checked.feeds, output }
    }

    /// Starts the collector.
    pub async fn start(self) -> Stage {
        let Prepared { now, pipeline, tenants, feeds, output } = self;
        let collector = Collector::new(pipeline.clone(), tenants, feeds, 64, 8).await.unwrap();
        let (disk_is_full, writes, free) = Default::default();
        Stage { now, collector, pipeline, disk_is_full, writes, free, output }
    }
}
