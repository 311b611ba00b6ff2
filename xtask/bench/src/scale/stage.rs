//! A collector whose clock skips the time in which nothing is due, and whose service answers from memory. While the
//! collector works, its clock goes like any other.

use std::future::ready;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use host_harness::admitted::tenants::Tenants;
use host_harness::collector::Collector;
use host_harness::collector::work::Pipeline;
use host_harness::config::{self, admission};
use host_harness::metrics::MetricsLevel;
use host_harness::store::shards::{Lease, Shards};
use host_harness::store::{PollRecord, StoreError};
use host_harness::{built_in, limits, run};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use source_host::clock::Clock;
use source_host::{Compiler, IncomingResponse, OutgoingRequest, Transport, TransportFuture};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::blocks;
use crate::input;
use crate::sandbox;
use crate::scale::collector::configuration;

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
    _folder: TempDir,
}

impl Stage {
    pub(super) async fn start(feeds: usize, controls: u32) -> Result<Stage, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("failed to make a temporary folder: {error}"))?;
        let clock = Skipping::new();
        let service = Arc::new(Service::new(controls));
        let mut config = config::parse(&folder.path().join("collector.toml"), &configuration(feeds), None, &|_| None);
        let (budgets, sinks) = (config.collector.budgets, std::mem::take(&mut config.sinks));
        let state = config.collector.state.clone();
        let failed = |error: &dyn std::fmt::Display| format!("the collector of {feeds} feeds: {error}");
        let host = built_in::host(None, Compiler::this_program()).map_err(|error| failed(&error))?;
        let checked = admission::check(&host, config, None, &clock.read).await.map_err(|error| failed(&error))?;
        let store = run::store(&state).await.map_err(|error| failed(&error))?;
        let output = Arc::new(Mutex::new(std::io::sink()));
        let shards = Shards::sole();
        let pipeline = run::pipeline((store, &shards), budgets, &sinks, &checked.network, &clock.read, output);
        let pipeline = pipeline.await.map_err(|error| failed(&error))?;
        let transport = Arc::clone(&service) as Arc<dyn Transport>;
        let tenants = Arc::new(Tenants::new(move |_| Ok(Arc::clone(&transport))));
        let feeds = run::compact(checked.feeds);
        let collector = Collector::new(pipeline.clone(), tenants, feeds, limits::POLLS, limits::POLLS_OF_TENANT).await;
        let collector = collector.map_err(|error| failed(&error))?;
        Ok(Stage { clock, service, pipeline, collector, _folder: folder })
    }

    /// Goes on until the service answered so many polls, and nothing is in flight.
    pub(super) async fn drive(&mut self, polls: u64) -> Result<(), String> {
        let (mut answered, mut since) = (self.service.polls(), Instant::now());
        while self.service.polls() < polls || !self.collector.is_idle() {
            let now_answered = self.service.polls();
            if now_answered > answered {
                (answered, since) = (now_answered, Instant::now());
            } else if since.elapsed() > LONGEST {
                return Err(format!("no poll was answered for {LONGEST:?}, after {answered} of {polls}"));
            }
            if answered < polls {
                self.collector.start_due();
            }
            let due = self.collector.next_due();
            if self.collector.is_idle() {
                let due = due.ok_or_else(|| format!("no feed is due after {answered} of {polls} polls"))?;
                self.clock.skip_to(due);
                continue;
            }
            let wait = due.map(|due| Duration::from_millis(due.saturating_sub((self.clock.read)())));
            let wait = wait.unwrap_or(limits::WATCH).min(limits::WATCH);
            tokio::select! {
                () = self.collector.ended() => {}
                () = tokio::time::sleep(wait) => {}
            }
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
        let begun = time_of_thread();
        let path = request.url.path();
        let body = self.answer(path).into_bytes();
        let headers = vec![("content-type".to_owned(), "application/json; charset=utf-8".to_owned())];
        let answer = Ok(IncomingResponse { status: 200, headers, body });
        self.spent.fetch_add(time_of_thread() - begun, Ordering::SeqCst);
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

/// Returns the processor time of this thread in nanoseconds.
fn time_of_thread() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
