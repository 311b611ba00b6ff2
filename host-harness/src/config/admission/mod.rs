//! The feeds of a configuration: checked all at once, kept small, and opened when there is something to do.

mod candidate;
mod interned;
mod plugins;

use std::collections::VecDeque;
use std::future;
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
use tokio::task::JoinHandle;

use self::candidate::{Admitted, Rejected, admit};
use self::interned::Interned;
use self::plugins::Plugins;
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
            LeftOutReason::Plugin => "plugin-broken",
            LeftOutReason::Pin => "pin-differs",
        }
    }

    /// Who can mend it.
    pub const fn blame(self) -> Blame {
        match self {
            LeftOutReason::Credentials | LeftOutReason::Pin => Blame::Operator,
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
    let log_bytes = config.collector.log_bytes_a_minute;
    let Config { network, feeds, warnings, problems, strict, .. } = config;
    let (ways, mut plugins) = (Ways::new(&network)?, Plugins::new(host, plugin).await?);
    let mut collected = Collected { warnings, problems, ..Collected::default() };
    collected.warnings.extend(odd_authorities(&network, clock()));
    let nowhere = Arc::new(Tenants::new(|_| Ok(Arc::new(Nowhere))));
    let mut running = VecDeque::new();
    for mut feed in feeds {
        let pins = feed.pins.clone();
        running.push_back(match plugins.of(&mut feed).await {
            Ok(plugin) => {
                let (allowed, nowhere, clock) = (ways.origins(&plugin), Arc::clone(&nowhere), Arc::clone(clock));
                tokio::spawn(async move {
                    admit(plugin, feed, allowed, &nowhere, log_bytes, &clock)
                        .await
                        .map_err(|rejected| rejected.pinned(pins))
                })
            }
            Err(error) => tokio::spawn(future::ready(Err(plugins::rejected(feed, &error).pinned(pins)))),
        });
        // All at once, ten thousand would leave the memory in pieces.
        if running.len() >= limits::CHECKS
            && let Some(check) = running.pop_front()
        {
            collected.take(ended(check).await?);
        }
    }
    for check in running {
        collected.take(ended(check).await?);
    }
    collected.checked(ways.network, strict)
}

async fn ended(check: JoinHandle<Result<Admitted, Rejected>>) -> Result<Result<Admitted, Rejected>, StartError> {
    check.await.map_err(StartError::of_host)
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

/// What came of the feeds so far.
#[derive(Default)]
struct Collected {
    feeds: Vec<Arc<AdmittedFeed>>,
    interned: Interned,
    warnings: Vec<ConfigProblem>,
    problems: Vec<ConfigProblem>,
    left_out: Vec<LeftOut>,
}

impl Collected {
    fn take(&mut self, judged: Result<Admitted, Rejected>) {
        match judged {
            Ok(Admitted { feed, warnings }) => {
                self.warnings.extend(warnings);
                self.feeds.push(Arc::new(self.interned.of(feed)));
            }
            Err(Rejected::Wrong(problems)) => self.problems.extend(problems),
            Err(Rejected::LeftOut(feed)) => self.left_out.push(feed),
        }
    }

    /// Feeds that are left out do not stop the others, unless the configuration is to be strict.
    fn checked(self, network: Network, strict: bool) -> Result<Checked, StartError> {
        let Collected { feeds, warnings, mut problems, left_out, .. } = self;
        if problems.is_empty() && (left_out.is_empty() || !strict && !feeds.is_empty()) {
            return Ok(Checked { feeds, network, warnings, left_out });
        }
        problems.extend(left_out.into_iter().flat_map(|feed| feed.problems));
        Err(StartError::Configuration(config::once_each(problems)))
    }
}
