//! A collector whose clock skips the time in which nothing is due, and whose service answers from memory. While the
//! collector works, its clock goes like any other.

use std::future::ready;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use host_harness::admitted::AdmittedFeed;
use host_harness::admitted::tenants::Tenants;
use host_harness::collector::Collector;
use host_harness::collector::work::Pipeline;
use host_harness::config::{self, StateConfig, admission};
use host_harness::metrics::MetricsLevel;
use host_harness::sink::SinkConfig;
use host_harness::store::budget::Budgets;
use host_harness::store::shards::{Lease, Shards};
use host_harness::store::{PollRecord, StoreError};
use host_harness::{built_in, limits, run};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use source_host::clock::Clock;
use source_host::limits::milliseconds;
use source_host::network::client::Network;
use source_host::{Compiler, IncomingResponse, OutgoingRequest, Transport, TransportFuture};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::blocks;
use crate::input;
use crate::sandbox;

/// Transactions of which the time is the median.
const TRANSACTIONS: usize = 201;

/// The longest time without an answered poll.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// The one origin of the service.
pub(super) const ORIGIN: &str = "https://service.example";

/// The collector on its stage.
pub(super) struct Stage {
    pub(super) clock: Skipping,
    pub(super) service: Arc<Service>,
    pub(super) pipeline: Pipeline,
    pub(super) collector: Collector,
    ground: Ground,
    /// The number of answered polls, and since when the stage knows it.
    answered: (u64, Instant),
}

/// All that a collector needs to start.
struct Ground {
    state: StateConfig,
    budgets: Budgets,
    sinks: Vec<SinkConfig>,
    network: Network,
    tenants: Arc<Tenants>,
    feeds: Vec<Arc<AdmittedFeed>>,
    folder: TempDir,
}

impl Ground {
    /// Opens the store, and starts a collector.
    async fn opened(&self, clock: &Skipping) -> Result<(Pipeline, Collector), String> {
        let failed = |error: &dyn std::fmt::Display| format!("the collector of {} feeds: {error}", self.feeds.len());
        let store = run::store(&self.state).await.map_err(|error| failed(&error))?;
        let (output, shards) = (Arc::new(Mutex::new(std::io::sink())), Shards::sole());
        let pipeline = run::pipeline((store, &shards), self.budgets, &self.sinks, &self.network, &clock.read, output);
        let pipeline = pipeline.await.map_err(|error| failed(&error))?;
        let (tenants, feeds) = (Arc::clone(&self.tenants), self.feeds.clone());
        let collector = Collector::new(pipeline.clone(), tenants, feeds, limits::POLLS, limits::POLLS_OF_TENANT).await;
        Ok((pipeline, collector.map_err(|error| failed(&error))?))
    }
}

/// A stage without its collector.
pub(super) struct Closed {
    clock: Skipping,
    service: Arc<Service>,
    ground: Ground,
}

impl Closed {
    /// The folder of the store's files.
    pub(super) fn folder(&self) -> &Path {
        self.ground.folder.path()
    }

    /// Starts a collector.
    pub(super) async fn opened(self) -> Result<Stage, String> {
        let Closed { clock, service, ground } = self;
        let (pipeline, collector) = ground.opened(&clock).await?;
        Ok(Stage { clock, service, pipeline, collector, ground, answered: (0, Instant::now()) })
    }
}

impl Stage {
    /// Admits the feeds of a configuration, and starts their collector. The service counts the polls that the transport
    /// hands to it.
    pub(super) async fn start(
        clock: Skipping,
        configuration: &str,
        (service, transport): (Arc<Service>, Arc<dyn Transport>),
    ) -> Result<Stage, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("failed to make a temporary folder: {error}"))?;
        let mut config = config::parse(&folder.path().join("collector.toml"), configuration, None, &|_| None);
        let (budgets, sinks) = (config.collector.budgets, std::mem::take(&mut config.sinks));
        let state = config.collector.state.clone();
        let failed = |error: &dyn std::fmt::Display| format!("the collector's feeds: {error}");
        let host = built_in::host(None, Compiler::this_program()).map_err(|error| failed(&error))?;
        let checked = admission::check(&host, config, None, &clock.read).await.map_err(|error| failed(&error))?;
        let tenants = Arc::new(Tenants::new(move |_| Ok(Arc::clone(&transport))));
        let (network, feeds) = (checked.network, run::compact(checked.feeds));
        Closed { clock, service, ground: Ground { state, budgets, sinks, network, tenants, feeds, folder } }
            .opened()
            .await
    }

    /// Ends the collector, and closes its store.
    pub(super) async fn closed(self) -> Closed {
        let Stage { clock, service, pipeline, collector, ground, .. } = self;
        collector.stop(limits::SHUTDOWN_POLLS).await;
        pipeline.close().await;
        Closed { clock, service, ground }
    }

    /// Goes on until the service answered so many polls, and nothing is in flight.
    pub(super) async fn drive(&mut self, polls: u64) -> Result<(), String> {
        self.answered = (self.service.polls(), Instant::now());
        loop {
            let begins = self.service.polls() < polls;
            if !begins && self.collector.is_idle() {
                return Ok(());
            }
            self.turn(begins, u64::MAX).await?;
        }
    }

    /// Goes on until this time, or until the service answered so many polls, and nothing is in flight. The collector drops
    /// what is old and gives free memory back, as in `run`.
    pub(super) async fn live(&mut self, until: u64, polls: u64) -> Result<(), String> {
        self.answered = (self.service.polls(), Instant::now());
        let (mut look, mut trim) = (0, 0);
        loop {
            let now = (self.clock.read)();
            let begins = now < until && self.service.polls() < polls;
            if !begins && self.collector.is_idle() {
                return Ok(());
            }
            if now >= look {
                look = now + milliseconds(limits::WATCH);
                self.collector.sweep();
                if now >= trim && self.collector.is_idle() {
                    trim = now + milliseconds(limits::TRIM);
                    run::memory::give_back();
                }
            }
            self.turn(begins, look.min(until)).await?;
        }
    }

    /// Starts what is due, if anything begins. Then waits for the end of a job, or skips to the next due time, at most to
    /// `furthest`.
    async fn turn(&mut self, begins: bool, furthest: u64) -> Result<(), String> {
        let (polls, (known, since)) = (self.service.polls(), self.answered);
        if polls > known {
            self.answered = (polls, Instant::now());
        } else if since.elapsed() > LONGEST {
            return Err(format!("no poll was answered for {LONGEST:?}, after {polls}"));
        }
        if begins {
            self.collector.start_due();
        }
        let due = self.collector.next_due();
        if self.collector.is_idle() {
            let next = due.unwrap_or(u64::MAX).min(furthest);
            if next == u64::MAX {
                return Err(format!("no feed is due after {polls} polls"));
            }
            self.clock.skip_to(next);
            return Ok(());
        }
        let wait = due.map(|due| Duration::from_millis(due.saturating_sub((self.clock.read)())));
        let wait = wait.unwrap_or(limits::WATCH).min(limits::WATCH);
        tokio::select! {
            () = self.collector.ended() => {}
            () = tokio::time::sleep(wait) => {}
        }
        Ok(())
    }

    /// Waits for the deliveries, and gives free memory back, as `run` does.
    pub(super) async fn rest(&mut self) {
        self.pipeline.deliveries.rest().await;
        self.clock.skip_to((self.clock.read)() + 60_000);
        self.collector.sweep();
        run::memory::give_back();
    }

    /// Returns the 99th percentile of the lateness of the feeds' last polls, in milliseconds.
    pub(super) fn lateness(&self) -> Result<f64, String> {
        let text = self.pipeline.metrics.text(self.pipeline.deliveries.outboxes(), MetricsLevel::Feed);
        let lines = text.lines().filter(|line| line.starts_with("collector_last_lateness_seconds{"));
        let mut late: Vec<f64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        late.sort_by(f64::total_cmp);
        let at = late.len() * 99 / 100;
        late.get(at).map(|seconds| seconds * 1e3).ok_or_else(|| "the metrics tell no lateness".to_owned())
    }

    /// Returns the time of the transaction of a poll in which nothing changed: the median over scopes from the first to
    /// the last one, in microseconds.
    pub(super) async fn transaction(&self) -> Result<f64, StoreError> {
        let (now, budgets) = ((self.clock.read)(), *self.pipeline.budgets.lock());
        let store = &self.pipeline.store;
        let rows = store.scopes(&[Lease::SOLE]).await?;
        let apart = (rows.len() / TRANSACTIONS).max(1);
        let mut times = Vec::new();
        for row in rows.into_iter().step_by(apart).cycle().take(TRANSACTIONS) {
            let state = store.state(&row.tenant, &row.feed, &row.scope.id).await?;
            let nothing = PollRecord {
                lease: Lease::SOLE,
                row,
                state,
                time: now,
                measures: Vec::new(),
                events: Vec::new(),
                sinks: Vec::new(),
                throttle: None,
                budgets,
            };
            let begun = Instant::now();
            store.commit(Arc::new(nothing)).await?;
            times.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        Ok(blocks::alone(&times).ours)
    }
}

/// A clock that goes on, and skips time when it is told to.
pub(super) struct Skipping {
    pub(super) read: Clock,
    skipped: Arc<AtomicU64>,
}

impl Skipping {
    pub(super) fn new() -> Skipping {
        let (begun, skipped) = (Instant::now(), Arc::new(AtomicU64::new(input::NOON)));
        let to_add = Arc::clone(&skipped);
        let read: Clock = Arc::new(move || begun.elapsed().as_millis() as u64 + to_add.load(Ordering::SeqCst));
        Skipping { read, skipped }
    }

    pub(super) fn skip_to(&self, time: u64) {
        self.skipped.fetch_add(time.saturating_sub((self.read)()), Ordering::SeqCst);
    }
}

/// The service, which keeps nothing: each subscription has the same score and controls.
pub(super) struct Service {
    scores: String,
    controls: String,
    token: String,
    polls: AtomicU64,
    /// Nanoseconds of processor time.
    spent: AtomicU64,
    /// Whether lists of controls are answered, and how many wait.
    pub(super) is_open: watch::Sender<bool>,
    pub(super) waiting: AtomicUsize,
}

impl Service {
    pub(super) fn new(controls: u32) -> Service {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Service {
            scores: text(&input::scores_of(controls)),
            controls: text(&input::some_controls(controls)),
            token: format!(r#"{{"token_type":"Bearer","expires_in":86399,"access_token":"{}"}}"#, sandbox::token()),
            polls: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            is_open: watch::Sender::new(true),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(super) fn polls(&self) -> u64 {
        self.polls.load(Ordering::SeqCst)
    }

    pub(super) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::SeqCst))
    }

    /// Does work of the service, whose processor time counts as the service's.
    pub(super) fn counted<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = time_of_thread();
        let done = work();
        self.spent.fetch_add(time_of_thread() - begun, Ordering::SeqCst);
        done
    }

    fn answer(&self, path: &str) -> String {
        let subscription = path.split('/').nth(2).unwrap_or_default();
        match Path::new(path).file_name().and_then(|name| name.to_str()) {
            Some("secureScores") => self.scores.replace(input::SUBSCRIPTION, subscription),
            Some("secureScoreControls") => self.controls.replace(input::SUBSCRIPTION, subscription),
            _ => self.token.clone(),
        }
    }
}

impl Transport for Service {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let path = request.url.path();
        let answer = Ok(self.counted(|| answered(self.answer(path))));
        if !path.ends_with("/secureScoreControls") {
            return Box::pin(ready(answer));
        }
        self.polls.fetch_add(1, Ordering::SeqCst);
        let mut is_open = self.is_open.subscribe();
        Box::pin(async move {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            // The sender lives as long as the service.
            let _ = is_open.wait_for(|is_open| *is_open).await;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            answer
        })
    }
}

/// Returns the answer with this document.
pub(super) fn answered(body: String) -> IncomingResponse {
    let headers = vec![("content-type".to_owned(), "application/json; charset=utf-8".to_owned())];
    IncomingResponse { status: 200, headers, body: body.into_bytes() }
}

/// Returns the processor time of this thread in nanoseconds.
fn time_of_thread() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
