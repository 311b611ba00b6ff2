//! The feeds of a configuration: checked together, kept small, and opened when there is work to do.

mod candidate;
mod faults;
mod plugins;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use source_host::blame::Blame;
use source_host::clock::Clock;
use source_host::credentials::expiry;

use source_host::failures;
use source_host::network::Nowhere;
use source_host::network::client::Network;
use source_host::network::egress::Origins;
use source_host::plugin::Plugin;
use source_host::plugin::call::CallError;
use source_host::plugin::engine::Host;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::candidate::{Admitted, Rejected, plugin_place};
pub use self::faults::Faults;
use self::plugins::{FeedVerdict, PluginBytes, PluginFeeds};
use crate::admitted::AdmittedFeed;
use crate::admitted::pool::FeedPool;
use crate::admitted::tenants::Tenants;
use crate::built_in;
use crate::config::{self, CaFile, Config, ConfigPlace, ConfigProblem, NetworkConfig, Pins, SeenFile, StartError};
use crate::environment::PRODUCT;
use crate::limits;

/// The result of checking a configuration.
pub struct Checked {
    /// The admitted feeds, in the order of the configuration.
    pub feeds: Vec<Arc<AdmittedFeed>>,
    /// The network of the feeds' requests.
    pub network: Network,
    /// Oddities that are no reason to stop.
    pub warnings: Vec<ConfigProblem>,
    /// Feeds that cannot be collected now; the others can.
    pub left_out: Vec<LeftOut>,
}

/// A feed that cannot be collected now, which is no reason to stop the others.
#[derive(Debug, Clone)]
pub struct LeftOut {
    /// Id of the feed's tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// The reason.
    pub why: LeftOutReason,
    /// The problems, each with its place in the configuration.
    pub problems: Vec<ConfigProblem>,
    /// The pins that an earlier version of the feed must fit to continue.
    pub pins: Pins,
    /// Further files whose change may mend the problem, as they were before they were read.
    pub files: Vec<SeenFile>,
}

/// Why a feed is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOutReason {
    /// The feed's credentials, or other values that its settings refer to, cannot be read.
    Credentials,
    /// The feed's settings are wrong, which its plugin reported after the other feeds had started.
    Settings,
    /// The feed's plugin fails.
    Plugin,
    /// The process stood still while the feed's plugin was asked, so that the plugin gave no answer in time.
    Stopped,
    /// The host could not start the compiler for the feed's plugin.
    Compiler,
    /// The feed's plugin or its plan has another digest than the pinned one.
    Pin,
}

impl LeftOutReason {
    /// The code of the reason, in the log, in metrics, and in the step of `check`.
    pub const fn code(self) -> &'static str {
        match self {
            LeftOutReason::Credentials => "credential-unreadable",
            LeftOutReason::Settings => "settings-invalid",
            LeftOutReason::Plugin => "plugin-broken",
            LeftOutReason::Stopped => failures::HOST_STOPPED.code,
            LeftOutReason::Compiler => "compiler-unavailable",
            LeftOutReason::Pin => "pin-differs",
        }
    }

    /// The party that can mend the problem.
    pub const fn blame(self) -> Blame {
        match self {
            LeftOutReason::Credentials | LeftOutReason::Settings | LeftOutReason::Pin => Blame::Operator,
            LeftOutReason::Plugin => Blame::Plugin,
            LeftOutReason::Stopped => failures::HOST_STOPPED.blame,
            LeftOutReason::Compiler => Blame::Harness,
        }
    }

    /// Says whether the problem may be over without a change of any file.
    pub const fn may_pass(self) -> bool {
        matches!(self, LeftOutReason::Stopped | LeftOutReason::Compiler)
    }

    /// The reason, if this call of the plugin failed.
    fn of_call(error: &CallError) -> LeftOutReason {
        if error.blame() == Blame::Plugin { LeftOutReason::Plugin } else { LeftOutReason::Stopped }
    }
}

impl LeftOut {
    /// Leaves out a feed whose plugin fails, or was not asked in time, with its other problems.
    fn of_plugin(
        why: LeftOutReason,
        tenant: &str,
        feed: &str,
        problem: ConfigProblem,
        unreadable: Vec<(String, ConfigProblem)>,
    ) -> LeftOut {
        let others = unreadable.into_iter().map(|(_, problem)| problem);
        let problems = std::iter::once(problem).chain(others).collect();
        LeftOut { problems, ..LeftOut::because(why, tenant, feed) }
    }

    fn because(why: LeftOutReason, tenant: &str, feed: &str) -> LeftOut {
        let (tenant, feed) = (tenant.to_owned(), feed.to_owned());
        LeftOut { tenant, feed, why, problems: Vec::new(), pins: Pins::default(), files: Vec::new() }
    }

    /// Leaves out a feed that does not fit its pins; `None` if it does.
    pub fn of_pins(feed: &AdmittedFeed, pins: &Pins) -> Option<LeftOut> {
        let problems = pins.problems(feed);
        let out =
            LeftOut { pins: pins.clone(), problems, ..LeftOut::because(LeftOutReason::Pin, &feed.tenant, &feed.id) };
        (!out.problems.is_empty()).then_some(out)
    }

    /// The messages about the feed; each sentence names it.
    pub fn messages(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(|problem| match problem.place.feed {
            Some(_) => problem.to_string(),
            // A problem among the defaults concerns several feeds.
            None => format!("feed {}: {problem}", self.feed),
        })
    }
}

/// Checks every feed of a configuration. All problems of all feeds are returned at once, together with those found
/// while reading. `plugin` replaces the plugins that the feeds name.
pub async fn check(host: &Host, config: Config, plugin: Option<&Path>, clock: &Clock) -> Result<Checked, StartError> {
    check_each(host, Config { strict: true, ..config }, plugin, clock).await
}

/// The same, except that one feed does not stop the others unless the configuration is strict: feeds whose credentials
/// cannot be read, whose plugin fails or whose pins differ are left out as long as other feeds remain.
pub async fn check_each(
    host: &Host,
    config: Config,
    plugin: Option<&Path>,
    clock: &Clock,
) -> Result<Checked, StartError> {
    Admission::begin(host, config, plugin, clock, &Faults::default()).await?.all().await
}

/// The check of a configuration. Plugins are asked at the same time, so that a slow or broken plugin delays only its
/// own feeds. Dropping the value ends the check.
pub struct Admission {
    network: Network,
    strict: bool,
    begun: Instant,
    verdicts: UnboundedReceiver<FeedVerdict>,
    /// Feeds that are still being checked, by their numbers in the configuration.
    waiting: BTreeMap<usize, WaitingFeed>,
    collected: Collected,
    _plugins: JoinSet<()>,
}

/// A feed that is still being checked.
pub struct WaitingFeed {
    /// Id of the feed's tenant.
    pub tenant: String,
    /// Id of the feed.
    pub feed: String,
    /// The pins that an earlier version of the feed must fit to continue.
    pub pins: Pins,
    /// The place of the feed's plugin in the configuration.
    place: ConfigPlace,
    /// Whether its plugin is the built-in one.
    is_built_in: bool,
}

/// The result of a feed that was checked after the others had started.
pub enum Late {
    /// The feed may run; the problems are warnings.
    Good(Arc<AdmittedFeed>, Vec<ConfigProblem>),
    /// The feed is left out.
    Out(LeftOut),
}

impl Admission {
    /// Begins to check every feed. `plugin` replaces the plugins that the feeds name, and must load.
    pub async fn begin(
        host: &Host,
        config: Config,
        plugin: Option<&Path>,
        clock: &Clock,
        faults: &Faults,
    ) -> Result<Admission, StartError> {
        let log_bytes = config.collector.log_bytes_a_minute;
        let Config { network, feeds, mut warnings, problems, certificates, ends, strict, .. } = config;
        let (ways, host, faults) = (Ways::new(&network)?, host.clone(), faults.clone());
        let instead = match plugin {
            None => None,
            Some(file) => {
                let bytes = Arc::new(PluginBytes::read(Some(file.to_owned())).await.map_err(Arc::new)?);
                let plugin = bytes.load(&host, &faults).await.map_err(Arc::new)?;
                Some((bytes, plugin))
            }
        };
        warnings.extend(odd_certificates(certificates.iter().chain(&network.ca_file), clock()));
        warnings.extend(near_ends(&ends, clock()));
        let network = ways.network.clone();
        let nowhere = Tenants::new(|_| Ok(Arc::new(Nowhere)));
        let around = Arc::new(FeedSurroundings { host, ways, nowhere, log_bytes, clock: Arc::clone(clock), faults });
        let (mut waiting, mut groups) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        for (number, mut feed) in (1..).zip(feeds) {
            let file = plugin.map(Path::to_owned).or_else(|| feed.plugin.take());
            let place = plugin_place(&feed.id, &feed.place);
            let (tenant, id, pins) = (feed.tenant.clone(), feed.id.clone(), feed.pins.clone());
            waiting.insert(number, WaitingFeed { tenant, feed: id, pins, place, is_built_in: file.is_none() });
            groups.entry(file).or_default().push((number, feed));
        }
        let ((sender, verdicts), mut plugins) = (mpsc::unbounded_channel(), JoinSet::new());
        for (file, feeds) in groups {
            let feeds = PluginFeeds { file, loaded: instead.clone(), feeds };
            plugins.spawn(feeds.judge(Arc::clone(&around), sender.clone()));
        }
        let collected =
            Collected { warnings: vec![(None, warnings)], problems: vec![(None, problems)], ..Collected::default() };
        Ok(Admission { network, strict, begun: Instant::now(), verdicts, waiting, collected, _plugins: plugins })
    }

    /// Waits for every feed.
    pub async fn all(mut self) -> Result<Checked, StartError> {
        while let Some((_, verdict)) = self.verdict().await {
            self.collected.take(verdict);
        }
        self.checked()
    }

    /// Waits for the feeds of the built-in plugin, and for a short time for the others; if the configuration is strict,
    /// waits for all. With `some`, also waits until one feed is admitted or none is left. The other feeds come with
    /// [`Admission::late`].
    pub async fn first(&mut self, some: bool) -> Result<Checked, StartError> {
        let patience = self.begun + limits::PLUGIN_PATIENCE;
        loop {
            let is_needed = self.strict
                || self.waiting.values().any(|feed| feed.is_built_in)
                || some && self.collected.is_nothing();
            let verdict = match is_needed {
                true => self.verdict().await,
                false => timeout_at(patience, self.verdict()).await.unwrap_or_default(),
            };
            let Some((_, verdict)) = verdict else { break };
            self.collected.take(verdict);
        }
        self.checked()
    }

    /// Returns the result of the next feed that was not among the first; `None` after the last one. The future may be
    /// dropped at any time without loss.
    pub async fn late(&mut self) -> Option<Late> {
        let (WaitingFeed { tenant, feed, pins, .. }, (_, judged)) = self.verdict().await?;
        Some(match judged {
            Ok(Admitted { feed, warnings }) => Late::Good(Arc::new(self.collected.pool.share(feed)), warnings),
            Err(Rejected::LeftOut(out)) => Late::Out(out),
            // The other feeds of the configuration already run.
            Err(Rejected::Wrong(problems)) => {
                Late::Out(LeftOut { problems, pins, ..LeftOut::because(LeftOutReason::Settings, &tenant, &feed) })
            }
        })
    }

    /// Rows of the feeds that are still being checked.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = &WaitingFeed> {
        self.waiting.values()
    }

    /// Waits for the next verdict; `None` if there is none to wait for.
    async fn verdict(&mut self) -> Option<(WaitingFeed, FeedVerdict)> {
        if self.waiting.is_empty() {
            return None;
        }
        while let Some((number, judged)) = self.verdicts.recv().await {
            if let Some(feed) = self.waiting.remove(&number) {
                return Some((feed, (number, judged)));
            }
        }
        // The task that judged the feed panicked; the message of the panic is on standard error.
        let (number, feed) = self.waiting.pop_first()?;
        let problem = feed.place.problem("its check crashed (harness)".to_owned());
        let out = LeftOut::of_plugin(LeftOutReason::Plugin, &feed.tenant, &feed.feed, problem, Vec::new());
        let out = LeftOut { pins: feed.pins.clone(), ..out };
        Some((feed, (number, Err(Rejected::LeftOut(out)))))
    }

    /// Returns the result. Feeds that are left out do not stop the others, unless the configuration is strict.
    fn checked(&mut self) -> Result<Checked, StartError> {
        let Collected { pool, feeds, warnings, problems, left_out } = std::mem::take(&mut self.collected);
        self.collected.pool = pool;
        let (feeds, left_out) = (in_order(feeds), in_order(left_out));
        let is_some = !feeds.is_empty() || !self.waiting.is_empty();
        let mut problems: Vec<ConfigProblem> = in_order(problems).into_iter().flatten().collect();
        if problems.is_empty() && (left_out.is_empty() || !self.strict && is_some) {
            let warnings = config::once_each(in_order(warnings).into_iter().flatten().collect());
            return Ok(Checked { feeds, network: self.network.clone(), warnings, left_out });
        }
        problems.extend(left_out.into_iter().flat_map(|feed| feed.problems));
        Err(StartError::Configuration(config::once_each(problems)))
    }
}

/// The data with which every feed is judged.
struct FeedSurroundings {
    host: Host,
    ways: Ways,
    nowhere: Tenants,
    log_bytes: u64,
    clock: Clock,
    faults: Faults,
}

/// The network, and the allowed origins.
struct Ways {
    network: Network,
    /// The operator's origins.
    allowed: Arc<Origins>,
    /// The operator's origins, and those of the built-in plugin.
    with_own: Arc<Origins>,
}

impl Ways {
    fn new(config: &NetworkConfig) -> Result<Ways, StartError> {
        let authorities = config.ca_file.as_ref().map(|file| file.authorities.clone()).unwrap_or_default();
        let network = Network::trusting(&authorities, config.allow_addresses.clone()).map_err(StartError::of_host)?;
        let allowed = Origins::new(&config.allow).map_err(StartError::of_host)?;
        let allowed = allowed.going(|url| config.proxy.address_for(url).is_none());
        let allowed = allowed.with_credentials_over_http(&config.credentials_over_http).map_err(StartError::of_host)?;
        let own = Origins::new(built_in::ORIGINS).map_err(StartError::of_host)?;
        let network = network.through(config.proxy.clone()).with_product(PRODUCT).map_err(StartError::of_host)?;
        Ok(Ways { network, with_own: Arc::new(allowed.and(&own)), allowed: Arc::new(allowed) })
    }

    /// The origins to which requests of a plugin may go.
    fn origins(&self, plugin: &Plugin) -> Arc<Origins> {
        Arc::clone(if built_in::is(plugin.about()) { &self.with_own } else { &self.allowed })
    }
}

/// Returns warnings about certificates of the configuration. `now` is Unix time in milliseconds.
fn odd_certificates<'a>(files: impl Iterator<Item = &'a CaFile>, now: u64) -> Vec<ConfigProblem> {
    let odd = |file: &'a CaFile| file.authorities.oddities(now).into_iter().map(|message| file.place.problem(message));
    files.flat_map(odd).collect()
}

/// Returns warnings about credentials of sinks that expire soon or have expired. `now` is Unix time in milliseconds.
fn near_ends(ends: &[(ConfigPlace, u64)], now: u64) -> impl Iterator<Item = ConfigProblem> {
    let near = ends.iter().filter(move |(_, end)| expiry::nearness(*end, now).is_some());
    near.map(move |(place, end)| place.problem(expiry::warning("credentials", *end, now)))
}

/// The results so far, each with the feed's number in the configuration; those of the whole configuration come first.
#[derive(Default)]
struct Collected {
    pool: FeedPool,
    feeds: Vec<(usize, Arc<AdmittedFeed>)>,
    /// `None` for the whole configuration.
    warnings: Vec<(Option<usize>, Vec<ConfigProblem>)>,
    problems: Vec<(Option<usize>, Vec<ConfigProblem>)>,
    left_out: Vec<(usize, LeftOut)>,
}

impl Collected {
    fn take(&mut self, (number, judged): FeedVerdict) {
        match judged {
            Ok(Admitted { feed, warnings }) => {
                self.warnings.push((Some(number), warnings));
                self.feeds.push((number, Arc::new(self.pool.share(feed))));
            }
            Err(Rejected::Wrong(problems)) => self.problems.push((Some(number), problems)),
            Err(Rejected::LeftOut(feed)) => self.left_out.push((number, feed)),
        }
    }

    /// Says whether there is neither an admitted feed nor a problem.
    fn is_nothing(&self) -> bool {
        self.feeds.is_empty() && self.problems.iter().all(|(_, problems)| problems.is_empty())
    }
}

/// Sorts by the order of the configuration.
fn in_order<N: Ord + Copy, T>(mut numbered: Vec<(N, T)>) -> Vec<T> {
    numbered.sort_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, one)| one).collect()
}
