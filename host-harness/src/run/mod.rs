//! `run`: the collector with its signals, its timers, its status server, and a configuration that may change.

mod late;
pub mod memory;
pub mod page;
pub mod server;
pub mod sharing;
mod slots;
mod watch;
mod writing;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use source_host::blame::Blame;
use source_host::cause;
use source_host::clock::Clock;
use source_host::failpoint;
use source_host::network::client::Network;
use source_host::plugin::engine::Host;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at};

use crate::admitted::AdmittedFeed;
use crate::admitted::pool::FeedPool;
use crate::admitted::tenants::Tenants;
use crate::collector::work::Pipeline;
use crate::collector::{Collector, LeftOutRow, StatusSnapshot};
use crate::config::admission::{Admission, Checked, Faults, LeftOut};
use crate::config::{self, CollectorConfig, ConfigProblem, NetworkConfig, Pins, SeenFile, StartError, StateConfig};
use crate::limits;
use crate::metrics::Metrics;
use crate::overview::Extent;
use crate::run::late::LateFeeds;
use crate::run::page::words::number;
use crate::run::server::{StatusRequest, StatusServer};
use crate::run::sharing::Sharing;
use crate::run::watch::Turns;
use crate::sink::delivery::{Deliveries, Surroundings};
use crate::sink::disk::RealDisk;
use crate::sink::{SinkConfig, Stdout};
use crate::store::budget::Budgets;
use crate::store::postgres::PostgresStore;
use crate::store::shards::Shards;
use crate::store::sqlite::{SqliteHandle, SqliteStore};
use crate::store::{SharedStore, StoreError};

/// The process cannot handle signals.
#[derive(Debug, thiserror::Error)]
#[error("cannot take signals")]
struct NoSignals(#[source] std::io::Error);

/// The parameters of the collector's start.
#[derive(Clone)]
pub struct Start {
    /// The host that runs plugins.
    pub host: Host,
    /// The configuration: a file or a folder.
    pub config: PathBuf,
    /// The plugin in place of those that feeds name.
    pub plugin: Option<PathBuf>,
    /// Reads variables of the environment.
    pub environment: fn(&str) -> Option<String>,
    /// The clock.
    pub clock: Clock,
    /// Whether a feed that cannot be collected also stops the others.
    pub strict: bool,
}

/// A configuration that passed its check.
struct Loaded {
    collector: CollectorConfig,
    sinks: Vec<SinkConfig>,
    checked: Checked,
    /// The rest of the check.
    admission: Admission,
    files: Files,
    /// The network settings, to see whether they changed.
    network: NetworkConfig,
}

impl Start {
    /// Reads the configuration and checks the feeds whose plugins do not delay the others. With `some`, waits for at
    /// least one admitted feed.
    async fn load(self, faults: Faults, some: bool) -> Result<Loaded, StartError> {
        let before = look(&self.config);
        let (path, environment) = (self.config.clone(), self.environment);
        let loaded = tokio::task::spawn_blocking(move || config::load(&path, None, &environment)).await;
        let mut config = loaded.map_err(StartError::of_host)?;
        config.strict = self.strict;
        let (collector, sinks) = (config.collector.clone(), std::mem::take(&mut config.sinks));
        let (mut files, network) = (std::mem::take(&mut config.files), config.network.clone());
        let admission = Admission::begin(&self.host, config, self.plugin.as_deref(), &self.clock, &faults);
        let mut admission = admission.await?;
        let checked = admission.first(some).await?;
        files.extend(checked.left_out.iter().flat_map(|out| out.files.iter().cloned()));
        let files = Files::new(&self.config, before, files);
        Ok(Loaded { collector, sinks, checked, admission, files, network })
    }
}

/// Opens the state, and updates its tables.
pub async fn store(state: &StateConfig) -> Result<SharedStore, StartError> {
    Ok(match state {
        StateConfig::File(file) => {
            Arc::new(SqliteHandle::start(SqliteStore::open(file)?).map_err(StartError::of_host)?)
        }
        StateConfig::Server(address) => Arc::new(PostgresStore::open((**address).clone()).await?),
    })
}

/// Connects an open store with the sinks that deliver its events.
pub async fn pipeline(
    (store, shards): (SharedStore, &Shards),
    budgets: Budgets,
    sinks: &[SinkConfig],
    network: &Network,
    clock: &Clock,
    stdout: Stdout,
) -> Result<Pipeline, StartError> {
    let salt = store.salt().await?.into();
    let metrics = Arc::new(Metrics::of(store.space().clone()));
    let budgets = Arc::new(Mutex::new(budgets));
    let shards = shards.clone();
    let deliveries = Deliveries::new(Surroundings {
        store: Arc::clone(&store),
        shards: shards.clone(),
        disk: Arc::new(RealDisk),
        stdout,
        network: network.clone(),
        metrics: Arc::clone(&metrics),
        clock: Arc::clone(clock),
    });
    deliveries.replace(sinks).map_err(StartError::of_host)?;
    deliveries.resume().await?;
    Ok(Pipeline { store, shards, deliveries, metrics, clock: Arc::clone(clock), salt, budgets })
}

/// Runs the collector until it is told to stop.
pub async fn run(start: Start) -> Result<(), StartError> {
    // This comes first: a signal without a handler ends the process.
    let mut signals = Signals::new().map_err(|error| StartError::of_host(NoSignals(error)))?;
    let turns = Turns::default();
    watch::start(turns.clone()).map_err(|error| StartError::of_host(NoSignals(error)))?;
    let (driver, server) = tokio::select! {
        begun = begin(start) => begun?,
        () = signals.stop() => return Ok(()),
    };
    let ended = driver.drive(signals, turns).await;
    if let Some(server) = server {
        server.abort();
    }
    ended
}

/// Starts with a configuration, and with the stored state of its feeds. The second value is the task of the status
/// server.
async fn begin(start: Start) -> Result<(RunLoop, Option<JoinHandle<()>>), StartError> {
    let faults = Faults::default();
    let loaded = start.clone().load(faults.clone(), false).await?;
    let Loaded { collector: config, sinks, checked, admission, files, network } = loaded;
    tell_odd(&checked.warnings, &BTreeSet::new(), false);
    let stdout = Arc::new(Mutex::new(std::io::stdout()));
    // Before any shard is taken, which nobody could take for a while after an error.
    let listener = match config.listen {
        None => None,
        Some(address) => Some(server::listen(address).await.map_err(StartError::of_host)?),
    };
    let store = store(&config.state).await?;
    let mut sharing = Sharing::join(&store, &checked.feeds, config.listen.map(|address| address.to_string())).await;
    // Reading the rows may take longer than a lease.
    sharing.keep();
    let opened = (store, &sharing.shards);
    let opened = pipeline(opened, config.budgets, &sinks, &checked.network, &start.clock, stdout).await;
    let (sharing, pipeline) = sharing.or_leave(opened).await?;
    let (questions, asked) = mpsc::channel(16);
    let server = match listener {
        None => None,
        Some(listener) => {
            let address = listener.local_addr().map_err(StartError::of_host)?;
            tracing::info!("serving /metrics /healthz /readyz and the status page at http://{address}/");
            let server = StatusServer::new(pipeline.clone(), config.token.clone(), questions.clone());
            Some(tokio::spawn(server::serve(listener, server)))
        }
    };
    let tenants = Arc::new(Tenants::live(checked.network));
    let (polls, of_tenant) = (config.polls, config.polls_of_tenant);
    let count = checked.feeds.len();
    let collector = Collector::new(pipeline, tenants, compact(checked.feeds), polls, of_tenant).await?;
    tracing::info!("collecting {}, state in {}", number(count, "feed"), config.state);
    let left_out = tell_left_out(&collector, &checked.left_out, &KnownRows::new(), false);
    let late = LateFeeds::of_start(admission, &checked.left_out, (start.clock)());
    let mut driver = RunLoop {
        start,
        faults,
        late,
        config,
        files,
        network,
        collector,
        sharing,
        sinks: sinks.into_iter().map(|sink| sink.id).collect(),
        asked,
        reload: None,
        trimmed: Instant::now(),
        refused: None,
        loaded: Instant::now(),
        left_out,
        odd: checked.warnings.into_iter().collect(),
        _questions: questions,
    };
    driver.count_left_out();
    driver.count_waiting();
    driver.describe();
    Ok((driver, server))
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when the process is told to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A configuration that is being read again.
struct Reload {
    task: JoinHandle<Result<Loaded, StartError>>,
    /// Whether a user asked for the reload.
    asked: bool,
    /// The configuration's files when the reload began.
    files: Vec<SeenFile>,
}

impl Drop for Reload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A configuration that was not accepted, and the time of its last reading.
struct RefusedConfig {
    at: Instant,
    /// The problems, one sentence each.
    problems: Vec<String>,
}

struct RunLoop {
    start: Start,
    /// Failures of plugins, so that a reload does not repeat them.
    faults: Faults,
    /// Feeds of the current configuration that are still being checked.
    late: Option<LateFeeds>,
    config: CollectorConfig,
    files: Files,
    network: NetworkConfig,
    collector: Collector,
    sharing: Sharing,
    /// Ids of the sinks.
    sinks: Vec<String>,
    asked: mpsc::Receiver<StatusRequest>,
    reload: Option<Reload>,
    /// When free memory was last returned to the system.
    trimmed: Instant,
    /// The configuration that was refused last; `None` if a later one was accepted.
    refused: Option<RefusedConfig>,
    /// When the current configuration was loaded.
    loaded: Instant,
    /// Feeds that could not be collected at the last reload: whether each is left out or continues as before.
    left_out: Vec<LeftOutRow>,
    /// The warnings about the current configuration.
    odd: BTreeSet<ConfigProblem>,
    /// Keeps the channel open if there is no status server.
    _questions: mpsc::Sender<StatusRequest>,
}

impl RunLoop {
    async fn drive(mut self, mut signals: Signals, turns: Turns) -> Result<(), StartError> {
        // A turn for each look at the files shows that the loop turns, also to a watch whose time passes faster.
        let mut watch = interval(limits::WATCH / failpoint::pace());
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deliveries = self.collector.pipeline().deliveries.clone();
        loop {
            if let Some(why) = deliveries.closed() {
                return Err(StartError::of_host(why));
            }
            turns.does("starts due jobs");
            failpoint::pass(failpoint::LOOP);
            self.collector.start_due();
            let next = self.collector.next_due().map(|due| due.saturating_sub((self.start.clock)()));
            let next = next.map_or(limits::LONGEST_WAIT, |next| Duration::from_millis(next).min(limits::LONGEST_WAIT));
            turns.does("waits, or handles the result of a poll or a search");
            tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hang_up.recv() => self.begin_reload(true),
                Some(question) = self.asked.recv() => {
                    turns.does("answers a request for the status");
                    self.answer(question);
                }
                loaded = reloaded(&mut self.reload) => {
                    turns.does("loads a configuration");
                    self.end_reload(loaded);
                }
                verdict = late::next(&mut self.late) => {
                    turns.does("adds a feed whose plugin is ready");
                    self.take_late(verdict)?;
                }
                () = sharing::changed(&mut self.sharing) => {
                    turns.does("takes up the shards of tenants that it works on");
                    self.take_fleet();
                }
                _ = watch.tick() => {
                    turns.does("checks its files for changes, and drops old scopes");
                    self.look_around();
                }
                () = self.collector.ended() => {}
                () = deliveries.room() => self.collector.resume_paused(),
                () = sleep(next) => {}
            }
        }
        turns.end();
        self.stop(&mut signals).await;
        Ok(())
    }

    /// Drops old data, and reads the configuration again if its files changed, or if it was refused, or left a feed out,
    /// a while ago for a reason that may be over.
    fn look_around(&mut self) {
        self.collector.sweep();
        if self.collector.is_idle() && self.trimmed.elapsed() >= limits::TRIM {
            memory::give_back();
            self.trimmed = Instant::now();
        }
        let is_old = |read: Instant| read.elapsed() >= limits::RELOAD_RETRY / failpoint::pace();
        let is_accepted = self.late.is_none() && self.refused.is_none();
        let may_pass = is_accepted && self.left_out.iter().any(|row| row.may_pass) && is_old(self.loaded);
        let begins = match &self.reload {
            Some(reload) => look(&self.start.config) != reload.files,
            None => may_pass || self.files.changed() || self.refused.as_ref().is_some_and(|refused| is_old(refused.at)),
        };
        if begins {
            self.begin_reload(false);
        }
    }

    /// Gives polls and deliveries time to end.
    async fn stop(self, signals: &mut Signals) {
        let deadline = Instant::now() + limits::SHUTDOWN_WORK;
        tracing::info!("stopping: polls and deliveries have {} s to end", limits::SHUTDOWN_WORK.as_secs());
        let RunLoop { collector, sharing, .. } = self;
        let pipeline = collector.pipeline().clone();
        let deliveries = &pipeline.deliveries;
        let end = async {
            collector.stop(limits::SHUTDOWN_POLLS).await;
            let _ = timeout_at(deadline - limits::SHUTDOWN_STORE, deliveries.flushed()).await;
            sharing.leave().await;
            pipeline.close().await;
        };
        tokio::select! {
            () = end => {}
            () = signals.stop() => tracing::warn!("told to stop a second time: ending at once"),
            () = sleep_until(deadline) => {}
        }
        let waiting: u64 = deliveries.waiting().iter().map(|(_, waiting)| waiting.events).sum();
        if waiting > 0 {
            tracing::warn!("{waiting} events wait in the outbox for the next start");
        }
    }

    fn answer(&self, question: StatusRequest) {
        // A client that went away does not wait for an answer.
        match question {
            StatusRequest::Health(answer) => {
                let of_polls = || self.collector.health().map_err(StoreError::clone);
                drop(answer.send(self.sharing.joined().and_then(|()| of_polls())));
            }
            StatusRequest::Snapshot(query, answer) => {
                let (draft, waiting) = (self.collector.draft(&query), self.waiting_rows(limits::STATUS_ROWS));
                let is_asked = |row: &&LeftOutRow| match &query.view {
                    Extent::Tenant(tenant) => row.tenant == *tenant,
                    _ => true,
                };
                let left_out = || self.left_out.iter().filter(is_asked);
                let (left_out_total, waiting_total) = (left_out().count(), self.waiting_total());
                let going_on = left_out().filter(|row| row.goes_on).count();
                let left_out = left_out().take(limits::STATUS_ROWS).cloned().collect();
                let refused = self.refused.as_ref().map_or_else(Vec::new, |refused| refused.problems.clone());
                let fleet = self.sharing.state();
                let unjoined = self.sharing.joined().err();
                let unjoined = unjoined.map(|trouble| format!("this collector cannot renew its leases: {trouble}"));
                // Done beside the loop, so that others do not wait.
                tokio::task::spawn_blocking(move || {
                    let mut snapshot = draft.cleaned();
                    snapshot.notes.extend(unjoined);
                    drop(answer.send(StatusSnapshot {
                        left_out,
                        left_out_total,
                        going_on,
                        waiting,
                        waiting_total,
                        refused,
                        fleet,
                        ..snapshot
                    }));
                });
            }
        }
    }

    /// Begins to read the configuration again. A reload of an earlier state of the files is abandoned.
    fn begin_reload(&mut self, asked: bool) {
        let asked = asked || self.reload.take().is_some_and(|given_up| given_up.asked);
        let files = look(&self.start.config);
        let task = tokio::spawn(self.start.clone().load(self.faults.clone(), true));
        self.reload = Some(Reload { task, asked, files });
    }

    /// Keeps the current configuration, and logs the problems of the new one unless they were logged before and nobody
    /// `asked`.
    fn refuse(&mut self, problems: Vec<String>, asked: bool) {
        self.collector.pipeline().metrics.reloaded(false);
        let is_told = self.refused.as_ref().is_some_and(|refused| refused.problems == problems) && !asked;
        for problem in problems.iter().filter(|_| !is_told) {
            tracing::error!(fault = Blame::Operator.word(), problem, "the configuration is not accepted");
        }
        self.refused = Some(RefusedConfig { at: Instant::now(), problems });
    }

    fn end_reload(&mut self, loaded: Result<Loaded, StartError>) {
        let asked = self.reload.take().is_some_and(|reload| reload.asked);
        let Loaded { collector: config, sinks, checked, admission, files, network } = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                self.files.changed_seen();
                let problems = match error {
                    StartError::Configuration(problems) => problems.iter().map(ToString::to_string).collect(),
                    other => vec![other.to_string()],
                };
                return self.refuse(problems, asked);
            }
        };
        self.refused = None;
        self.loaded = Instant::now();
        self.files = files;
        if (&config.state, config.listen, &config.token) != (&self.config.state, self.config.listen, &self.config.token)
        {
            tracing::warn!(
                fault = Blame::Operator.word(),
                "`state`, `listen` and `token` of [collector] change with the next start"
            );
        }
        tell_odd(&checked.warnings, &self.odd, asked);
        self.odd = checked.warnings.into_iter().collect();
        // After a change of the network or a larger budget, scopes that wait for a person are tried at once, too.
        let impatient = asked || network != self.network || config.budgets != self.config.budgets;
        *self.collector.pipeline().budgets.lock() = config.budgets;
        if network != self.network {
            self.collector.pipeline().deliveries.trust(&checked.network);
        }
        self.network = network;
        if let Err(error) = self.collector.pipeline().deliveries.replace(&sinks) {
            return self.refuse(vec![cause::chain(&error)], asked);
        }
        self.collector.tenants().replace(checked.network);
        let count = checked.feeds.len();
        let feeds = compact(checked.feeds);
        let going_on = going_on(&self.collector, &checked.left_out, &admission);
        let kept = match going_on.len() {
            0 => String::new(),
            count => format!("; {} with the previous one", number(count, "feed")),
        };
        self.collector.reload(feeds, &going_on, config.polls, config.polls_of_tenant, impatient);
        self.sinks = sinks.iter().map(|sink| sink.id.clone()).collect();
        self.describe();
        self.config = CollectorConfig {
            state: self.config.state.clone(),
            folder: self.config.folder.clone(),
            listen: self.config.listen,
            token: self.config.token.clone(),
            ..config
        };
        self.collector.pipeline().metrics.reloaded(true);
        let before = std::mem::take(&mut self.left_out).into_iter().map(|row| (row.feed.clone(), row)).collect();
        self.left_out = tell_left_out(&self.collector, &checked.left_out, &before, asked);
        self.count_left_out();
        tracing::info!("loaded the configuration of {}{kept}", number(count, "feed"));
        self.late = LateFeeds::of_reload(admission, asked, impatient, before, (self.start.clock)());
        self.count_waiting();
    }
}

/// Feeds that the new configuration lacks, or does not have yet, and that continue with their previous configuration. A
/// feed that differs from a pin does not continue.
fn going_on<'a>(collector: &Collector, left_out: &'a [LeftOut], admission: &'a Admission) -> Vec<&'a str> {
    let goes_on =
        |pins: &Pins, feed: &str| collector.admitted(feed).is_some_and(|running| pins.problems(running).is_empty());
    let left_out = left_out.iter().map(|out| (out.feed.as_str(), &out.pins));
    let waiting = admission.waiting().map(|feed| (feed.feed.as_str(), &feed.pins));
    left_out.chain(waiting).filter(|(feed, pins)| goes_on(pins, feed)).map(|(feed, _)| feed).collect()
}

/// Logs the warnings about a configuration, except for those logged `before`, unless a user `asked`.
fn tell_odd(odd: &[ConfigProblem], before: &BTreeSet<ConfigProblem>, asked: bool) {
    for warning in odd.iter().filter(|warning| asked || !before.contains(warning)) {
        tracing::warn!(
            fault = Blame::Operator.word(),
            problem = warning.to_string(),
            "a warning about the configuration"
        );
    }
}

/// Feeds that were left out before, by id.
type KnownRows = HashMap<String, LeftOutRow>;

/// Logs what happens to feeds that cannot be collected now, except for those logged `before`, unless a user `asked`.
fn tell_left_out(collector: &Collector, left_out: &[LeftOut], before: &KnownRows, asked: bool) -> Vec<LeftOutRow> {
    let now = (collector.pipeline().clock)();
    let row = |out: &LeftOut| {
        let (tenant, feed, goes_on) = (out.tenant.clone(), out.feed.clone(), collector.collects(&out.feed));
        let known = before.get(&feed);
        let told = known.filter(|row| !asked && row.goes_on == goes_on);
        let what = if goes_on { "a feed keeps its previous configuration" } else { "a feed is left out" };
        let (code, fault, words) = (out.why.code(), out.why.blame().word(), out.messages().collect::<Vec<_>>());
        for words in words.iter().filter(|words| told.is_none_or(|told| !told.words.contains(words))) {
            tracing::error!(tenant, feed, code, fault, words, "{what}");
        }
        let (since, may_pass) = (known.map_or(now, |known| known.since), out.why.may_pass());
        LeftOutRow { tenant, feed, code, words, since, goes_on, may_pass }
    };
    left_out.iter().map(row).collect()
}

/// Returns the configuration that was read again; waits for ever if none is being read.
async fn reloaded(reload: &mut Option<Reload>) -> Result<Loaded, StartError> {
    match reload {
        None => std::future::pending().await,
        Some(reload) => (&mut reload.task).await.unwrap_or_else(|error| Err(StartError::of_host(error))),
    }
}

/// The files of a configuration, as they were when it was read.
struct Files {
    config: PathBuf,
    main: Vec<SeenFile>,
    more: Vec<SeenFile>,
}

impl Files {
    /// Watches the files of a configuration, as they were `before` it was read, and the files that it names.
    fn new(config: &Path, before: Vec<SeenFile>, mut named: Vec<SeenFile>) -> Files {
        let known: BTreeSet<&Path> = before.iter().map(|seen| seen.path.as_path()).collect();
        named.retain(|seen| !known.contains(seen.path.as_path()));
        named.sort();
        named.dedup();
        Files { config: config.to_owned(), main: before, more: named }
    }

    /// Watches these files, too.
    fn watch(&mut self, files: &[SeenFile]) {
        self.more.extend_from_slice(files);
    }

    fn changed(&self) -> bool {
        look(&self.config) != self.main || self.more.iter().any(|seen| SeenFile::now(seen.path.clone()) != *seen)
    }

    /// Takes the present state of the files as seen.
    fn changed_seen(&mut self) {
        self.main = look(&self.config);
        self.more = std::mem::take(&mut self.more).into_iter().map(|seen| SeenFile::now(seen.path)).collect();
    }
}

/// Reads the properties of a configuration file, or of the files of a folder.
fn look(config: &Path) -> Vec<SeenFile> {
    // A folder's own properties change with any file in it.
    let files = if config.is_dir() { config::folder(config).unwrap_or_default() } else { vec![config.to_owned()] };
    files.into_iter().map(SeenFile::now).collect()
}

/// Copies feeds out of the memory that was used to read them: ten thousand feeds take 100 MiB to read and a tenth of
/// that to keep.
pub fn compact(feeds: Vec<Arc<AdmittedFeed>>) -> Vec<Arc<AdmittedFeed>> {
    let mut pool = FeedPool::default();
    let copied = feeds.iter().map(|feed| Arc::new(pool.copy(feed))).collect();
    drop(feeds);
    memory::give_back();
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_no_configuration_is_read_from_changes_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("feeds.toml"), "").unwrap();
        let before = look(folder.path());
        assert_eq!(before.len(), 1);
        for other in [".feeds.toml", "feeds.toml~"] {
            std::fs::write(folder.path().join(other), "").unwrap();
        }
        assert_eq!(look(folder.path()), before);
        std::fs::write(folder.path().join("more.toml"), "").unwrap();
        assert_ne!(look(folder.path()), before);
    }
}
