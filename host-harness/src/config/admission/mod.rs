//! The feeds of a configuration: checked all at once, kept small, and opened when there is something to do.

mod candidate;
mod faults;
mod interned;
mod plugins;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use source_host::blame::Blame;
use source_host::clock::Clock;

use source_host::feed::admitted::AdmittedFeed;
use source_host::feed::tenants::Tenants;
use source_host::network::Nowhere;
use source_host::network::client::Network;
use source_host::network::egress::Origins;
use source_host::plugin::Plugin;
use source_host::plugin::engine::Host;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::candidate::{Admitted, Rejected, plugin_problem};
pub use self::faults::Faults;
use self::interned::Interned;
use self::plugins::{FeedVerdict, PluginBytes, PluginFeeds};
use crate::built_in;
use crate::config::{self, Config, ConfigProblem, NetworkConfig, Pins, SeenFile, StartError};
use crate::environment::PRODUCT;
use crate::limits;

/// What a check of a configuration found good.
pub struct Checked {
    /// In the order of the configuration.
    pub feeds: Vec<Arc<AdmittedFeed>>,
    /// How requests leave.
    pub network: Network,
    /// Odd, and no reason to stop.
    pub warnings: Vec<ConfigProblem>,
    /// Feeds that cannot be collected now; the others can.
    pub left_out: Vec<LeftOut>,
}

/// A feed that cannot be collected now, which is no reason to stop the others.
#[derive(Debug, Clone)]
pub struct LeftOut {
    /// Its tenant.
    pub tenant: String,
    /// Its id.
    pub feed: String,
    /// What its trouble is.
    pub why: LeftOutReason,
    /// Each trouble, and where it is configured.
    pub problems: Vec<ConfigProblem>,
    /// What must be true of one that goes on as it was.
    pub pins: Pins,
    /// Files beyond those of the configuration with which that may change, as they were before they were looked at.
    pub files: Vec<SeenFile>,
}

/// Why a feed is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOutReason {
    /// Its credentials, or other values that its settings refer to, cannot be read.
    Credentials,
    /// Its settings are wrong, which its plugin said when the others were taken already.
    Settings,
    /// Its plugin breaks down.
    Plugin,
    /// Its plugin or its plan has another digest than the one that is pinned.
    Pin,
}

impl LeftOutReason {
    /// The code under which the log and the metrics name it, and `check` its step.
    pub const fn code(self) -> &'static str {
        match self {
            LeftOutReason::Credentials => "credential-unreadable",
            LeftOutReason::Settings => "settings-invalid",
            LeftOutReason::Plugin => "plugin-broken",
            LeftOutReason::Pin => "pin-differs",
        }
    }

    /// Who can mend it.
    pub const fn blame(self) -> Blame {
        match self {
            LeftOutReason::Credentials | LeftOutReason::Settings | LeftOutReason::Pin => Blame::Operator,
            LeftOutReason::Plugin => Blame::Plugin,
        }
    }
}

impl LeftOut {
    /// A feed whose plugin breaks down, and what else is wrong with it.
    fn of_plugin(
        tenant: &str,
        feed: &str,
        problem: ConfigProblem,
        unreadable: Vec<(String, ConfigProblem)>,
    ) -> LeftOut {
        let others = unreadable.into_iter().map(|(_, problem)| problem);
        let problems = std::iter::once(problem).chain(others).collect();
        LeftOut { problems, ..LeftOut::because(LeftOutReason::Plugin, tenant, feed) }
    }

    fn because(why: LeftOutReason, tenant: &str, feed: &str) -> LeftOut {
        let (tenant, feed) = (tenant.to_owned(), feed.to_owned());
        LeftOut { tenant, feed, why, problems: Vec::new(), pins: Pins::default(), files: Vec::new() }
    }

    /// A feed that is good but for its pins; none if it is as they say.
    pub fn of_pins(feed: &AdmittedFeed, pins: &Pins) -> Option<LeftOut> {
        let problems = pins.problems(feed);
        let out =
            LeftOut { pins: pins.clone(), problems, ..LeftOut::because(LeftOutReason::Pin, &feed.tenant, &feed.id) };
        (!out.problems.is_empty()).then_some(out)
    }

    /// What is said of it; each sentence names the feed.
    pub fn messages(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(|problem| match problem.feed {
            Some(_) => problem.to_string(),
            // What stands among the defaults is the trouble of several.
            None => format!("feed {}: {problem}", self.feed),
        })
    }
}

/// Checks every feed of a configuration; all problems of all feeds come at once, with those that reading it found.
/// `plugin` takes the place of what the feeds name.
pub async fn check(host: &Host, config: Config, plugin: Option<&Path>, clock: &Clock) -> Result<Checked, StartError> {
    check_each(host, Config { strict: true, ..config }, plugin, clock).await
}

/// The same where one feed is not to stop the others, unless the configuration is to be strict: feeds whose credentials
/// cannot be read, whose plugin breaks down or whose pins differ are left out as long as there are others.
pub async fn check_each(
    host: &Host,
    config: Config,
    plugin: Option<&Path>,
    clock: &Clock,
) -> Result<Checked, StartError> {
    Admission::begin(host, config, plugin, clock, &Faults::default()).await?.all().await
}

/// The check of a configuration: each plugin is asked beside the others, so that one that is slow or broken keeps nobody
/// but its own feeds. Dropping it gives the check up.
pub struct Admission {
    network: Network,
    strict: bool,
    begun: Instant,
    verdicts: UnboundedReceiver<FeedVerdict>,
    /// Feeds of which nothing is known yet, by their numbers in the configuration.
    waiting: BTreeMap<usize, WaitingFeed>,
    collected: Collected,
    _plugins: JoinSet<()>,
}

/// A feed that is still being checked.
pub struct WaitingFeed {
    /// Its tenant.
    pub tenant: String,
    /// Its id.
    pub feed: String,
    /// What must be true of one that goes on as it was.
    pub pins: Pins,
    /// Where it stands; the message is empty.
    place: ConfigProblem,
    /// Whether its plugin is the built-in one.
    is_built_in: bool,
}

/// What came of a feed after the others were taken.
pub enum Late {
    /// It may run; what is odd about it.
    Good(Arc<AdmittedFeed>, Vec<ConfigProblem>),
    /// It is left out.
    Out(LeftOut),
}

impl Admission {
    /// Begins to check every feed. `plugin` takes the place of what the feeds name, and must load.
    pub async fn begin(
        host: &Host,
        config: Config,
        plugin: Option<&Path>,
        clock: &Clock,
        faults: &Faults,
    ) -> Result<Admission, StartError> {
        let log_bytes = config.collector.log_bytes_a_minute;
        let Config { network, feeds, mut warnings, problems, strict, .. } = config;
        let (ways, host, faults) = (Ways::new(&network)?, host.clone(), faults.clone());
        let instead = match plugin {
            None => None,
            Some(file) => {
                let bytes = Arc::new(PluginBytes::read(Some(file.to_owned())).await.map_err(Arc::new)?);
                let plugin = bytes.load(&host, &faults).await.map_err(Arc::new)?;
                Some((bytes, plugin))
            }
        };
        warnings.extend(odd_authorities(&network, clock()));
        let network = ways.network.clone();
        let nowhere = Tenants::new(|_| Ok(Arc::new(Nowhere)));
        let around = Arc::new(FeedSurroundings { host, ways, nowhere, log_bytes, clock: Arc::clone(clock), faults });
        let (mut waiting, mut groups) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        for (number, mut feed) in (1..).zip(feeds) {
            let file = plugin.map(Path::to_owned).or_else(|| feed.plugin.take());
            let place = plugin_problem(&feed.id, &feed.place, String::new());
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
            Collected { warnings: vec![(0, warnings)], problems: vec![(0, problems)], ..Collected::default() };
        Ok(Admission { network, strict, begun: Instant::now(), verdicts, waiting, collected, _plugins: plugins })
    }

    /// Waits for every feed.
    pub async fn all(mut self) -> Result<Checked, StartError> {
        while let Some((_, verdict)) = self.verdict().await {
            self.collected.take(verdict);
        }
        self.checked()
    }

    /// Waits for the feeds of the built-in plugin, and for a moment for those of others; where the configuration is to be
    /// strict, for all. With `some`, also until there is one good feed, or nothing to wait for. The others come with
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

    /// What came of the next of the feeds that were not among the first; none if that was told of all. May be dropped at any
    /// time without losing anything.
    pub async fn late(&mut self) -> Option<Late> {
        let (WaitingFeed { tenant, feed, pins, .. }, (_, judged)) = self.verdict().await?;
        Some(match judged {
            Ok(Admitted { feed, warnings }) => Late::Good(Arc::new(self.collected.interned.of(feed)), warnings),
            Err(Rejected::LeftOut(out)) => Late::Out(out),
            // The rest of the configuration is taken already.
            Err(Rejected::Wrong(problems)) => {
                Late::Out(LeftOut { problems, pins, ..LeftOut::because(LeftOutReason::Settings, &tenant, &feed) })
            }
        })
    }

    /// The feeds that are still being checked.
    pub fn waiting(&self) -> impl Iterator<Item = &WaitingFeed> {
        self.waiting.values()
    }

    /// The next verdict; none if there is none to wait for.
    async fn verdict(&mut self) -> Option<(WaitingFeed, FeedVerdict)> {
        if self.waiting.is_empty() {
            return None;
        }
        while let Some((number, judged)) = self.verdicts.recv().await {
            if let Some(feed) = self.waiting.remove(&number) {
                return Some((feed, (number, judged)));
            }
        }
        // Whoever judged it panicked, which is told on standard error.
        let (number, feed) = self.waiting.pop_first()?;
        let problem = ConfigProblem { message: "its check broke down (harness)".to_owned(), ..feed.place.clone() };
        let out = LeftOut::of_plugin(&feed.tenant, &feed.feed, problem, Vec::new());
        let out = LeftOut { pins: feed.pins.clone(), ..out };
        Some((feed, (number, Err(Rejected::LeftOut(out)))))
    }

    /// Feeds that are left out do not stop the others, unless the configuration is to be strict.
    fn checked(&mut self) -> Result<Checked, StartError> {
        let Collected { interned, feeds, warnings, problems, left_out } = std::mem::take(&mut self.collected);
        self.collected.interned = interned;
        let (feeds, left_out) = (in_order(feeds), in_order(left_out));
        let is_some = !feeds.is_empty() || !self.waiting.is_empty();
        let mut problems: Vec<ConfigProblem> = in_order(problems).into_iter().flatten().collect();
        if problems.is_empty() && (left_out.is_empty() || !self.strict && is_some) {
            let warnings = in_order(warnings).into_iter().flatten().collect();
            return Ok(Checked { feeds, network: self.network.clone(), warnings, left_out });
        }
        problems.extend(left_out.into_iter().flat_map(|feed| feed.problems));
        Err(StartError::Configuration(config::once_each(problems)))
    }
}

/// What every feed is judged with.
struct FeedSurroundings {
    host: Host,
    ways: Ways,
    nowhere: Tenants,
    log_bytes: u64,
    clock: Clock,
    faults: Faults,
}

/// How requests leave, and where they may go.
struct Ways {
    network: Network,
    /// The operator's origins.
    allowed: Arc<Origins>,
    /// The same, and those of the built-in plugin.
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

    /// The origins that requests of a plugin may go to.
    fn origins(&self, plugin: &Plugin) -> Arc<Origins> {
        Arc::clone(if built_in::is(plugin.about()) { &self.with_own } else { &self.allowed })
    }
}

/// What is odd about the certificates that are trusted. `now` is Unix time in milliseconds.
fn odd_authorities(network: &NetworkConfig, now: u64) -> Vec<ConfigProblem> {
    let Some(file) = &network.ca_file else { return Vec::new() };
    let odd = file.authorities.oddities(now).into_iter();
    odd.map(|message| ConfigProblem { message, ..file.place.clone() }).collect()
}

/// What came of the feeds so far, each with its number in the configuration; 0 is what belongs to no feed.
#[derive(Default)]
struct Collected {
    interned: Interned,
    feeds: Vec<(usize, Arc<AdmittedFeed>)>,
    warnings: Vec<(usize, Vec<ConfigProblem>)>,
    problems: Vec<(usize, Vec<ConfigProblem>)>,
    left_out: Vec<(usize, LeftOut)>,
}

impl Collected {
    fn take(&mut self, (number, judged): FeedVerdict) {
        match judged {
            Ok(Admitted { feed, warnings }) => {
                self.warnings.push((number, warnings));
                self.feeds.push((number, Arc::new(self.interned.of(feed))));
            }
            Err(Rejected::Wrong(problems)) => self.problems.push((number, problems)),
            Err(Rejected::LeftOut(feed)) => self.left_out.push((number, feed)),
        }
    }

    /// Whether there is neither a good feed nor a reason to refuse all.
    fn is_nothing(&self) -> bool {
        self.feeds.is_empty() && self.problems.iter().all(|(_, problems)| problems.is_empty())
    }
}

/// In the order of the configuration.
fn in_order<T>(mut numbered: Vec<(usize, T)>) -> Vec<T> {
    numbered.sort_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, one)| one).collect()
}
