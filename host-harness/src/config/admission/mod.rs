//! The feeds of a configuration: checked all at once, kept small, and opened when there is something to do.

mod candidate;
mod interned;
mod plugins;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use source_host::blame::Blame;
use source_host::clock::Clock;

use source_host::feed::admitted::AdmittedFeed;
use source_host::feed::tenants::Tenants;
use source_host::limits;
use source_host::network::Nowhere;
use source_host::network::client::Network;
use source_host::network::egress::Origins;
use source_host::plugin::Plugin;
use source_host::plugin::engine::Host;
use tokio::task::JoinHandle;

use self::candidate::{Admission, Unfit, check_feed};
use self::interned::Interned;
use self::plugins::{Unloaded, load};
use crate::built_in;
use crate::config::{self, Config, Problem, SeenFile, SourcePlace};

/// What a check of a configuration found good.
pub struct Checked {
    /// In the order of the configuration.
    pub feeds: Vec<Arc<AdmittedFeed>>,
    /// How requests leave.
    pub network: Network,
    /// Odd, and no reason to stop.
    pub warnings: Vec<Problem>,
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
    pub why: Why,
    /// Each trouble, and where it is configured.
    pub problems: Vec<Problem>,
    /// Files beyond those of the configuration with which that may change, as they were before they were looked at.
    pub files: Vec<SeenFile>,
}

/// Why a feed is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its credentials, or other values that its settings refer to, cannot be read.
    Credentials,
    /// Its plugin breaks down.
    Plugin,
}

impl Why {
    /// The code under which the log and the metrics name it, and `check` its step.
    pub fn code(self) -> &'static str {
        match self {
            Why::Credentials => "credential-unreadable",
            Why::Plugin => "plugin-broken",
        }
    }

    /// Who can mend it.
    pub fn blame(self) -> Blame {
        match self {
            Why::Credentials => Blame::Operator,
            Why::Plugin => Blame::Plugin,
        }
    }
}

impl LeftOut {
    /// A feed whose plugin breaks down, and what else is wrong with it.
    fn of_plugin(tenant: &str, feed: &str, problem: Problem, unreadable: Vec<(String, Problem)>) -> LeftOut {
        let others = unreadable.into_iter().map(|(_, problem)| problem);
        let problems = std::iter::once(problem).chain(others).collect();
        LeftOut { tenant: tenant.to_owned(), feed: feed.to_owned(), why: Why::Plugin, problems, files: Vec::new() }
    }

    /// What is said of it; each sentence names the feed.
    pub fn words(&self) -> impl Iterator<Item = String> {
        let named = format!("feed {}: ", self.feed);
        self.problems.iter().map(move |problem| match problem.key.starts_with(&named) {
            true => problem.to_string(),
            // What stands among the defaults is the trouble of several.
            false => format!("{named}{problem}"),
        })
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The configuration is wrong.
    #[error("the configuration has {} problems", .0.len())]
    Configuration(Vec<Problem>),
    /// The plugin that is to take the place of what the feeds name cannot be used: the command line's trouble, and not
    /// that of each feed.
    #[error("{0}")]
    Plugin(String),
    /// Something of the host failed.
    #[error("{0}")]
    Host(String),
}

/// Checks every feed of a configuration; all problems of all feeds come at once, with those that reading it found.
/// `plugin` takes the place of what the feeds name.
pub async fn check(host: &Host, config: Config, plugin: Option<&Path>, clock: &Clock) -> Result<Checked, CheckError> {
    check_each(host, Config { strict: true, ..config }, plugin, clock).await
}

/// The same where one feed is not to stop the others, unless the configuration is to be strict: feeds whose credentials
/// cannot be read, and those whose plugin breaks down, are left out as long as there are others.
pub async fn check_each(
    host: &Host,
    config: Config,
    plugin: Option<&Path>,
    clock: &Clock,
) -> Result<Checked, CheckError> {
    let Config { network, feeds, mut warnings, mut problems, strict, .. } = config;
    let authorities = network.ca_file.as_ref().map(|file| file.authorities.clone()).unwrap_or_default();
    for oddity in authorities.oddities(clock()) {
        warnings.extend(network.ca_file.as_ref().map(|file| Problem { message: oddity, ..file.place.clone() }));
    }
    let live = Network::trusting(&authorities, network.allow_addresses.clone())
        .map_err(|error| CheckError::Host(error.to_string()))?;
    let live = live.through(network.proxy.clone());
    let allowed = Origins::new(&network.allow).map_err(|error| CheckError::Host(error.to_string()))?;
    let allowed = allowed.going(|url| network.proxy.address_for(url).is_none());
    let allowed = allowed
        .with_credentials_over_http(&network.credentials_over_http)
        .map_err(|error| CheckError::Host(error.to_string()))?;
    let own = Origins::new(built_in::ORIGINS).map_err(|error| CheckError::Host(error.to_string()))?;
    let (with_own, allowed) = (Arc::new(allowed.and(&own)), Arc::new(allowed));
    let nowhere = Arc::new(Tenants::new(|_| Ok(Arc::new(Nowhere))));
    let mut plugins: BTreeMap<Option<PathBuf>, Result<Plugin, Unloaded>> = BTreeMap::new();
    let (mut checks, mut found, mut left_out) = (VecDeque::new(), Vec::new(), Vec::new());
    if let Some(file) = plugin {
        let loaded = load(host, Some(file.to_owned())).await;
        if let Err(Unloaded { message, .. }) = loaded {
            return Err(CheckError::Plugin(message));
        }
        plugins.insert(Some(file.to_owned()), loaded);
    }
    for mut feed in feeds {
        let path = plugin.map(Path::to_owned).or_else(|| feed.plugin.take());
        let loaded = match plugins.get(&path) {
            Some(loaded) => loaded.clone(),
            None => {
                let loaded = load(host, path.clone()).await;
                plugins.entry(path).or_insert(loaded).clone()
            }
        };
        let plugin = match loaded {
            Ok(plugin) => plugin,
            Err(Unloaded { message, is_read }) => {
                let SourcePlace { file, line, .. } = feed.place;
                let problem = Problem { file, line, key: format!("feed {}: plugin", feed.id), message };
                let out = LeftOut::of_plugin(&feed.tenant, &feed.id, problem, feed.unreadable);
                match is_read {
                    true => left_out.push(out),
                    false => problems.extend(out.problems),
                }
                continue;
            }
        };
        let allowed = if built_in::is(plugin.about()) { &with_own } else { &allowed };
        let (allowed, nowhere, clock) = (Arc::clone(allowed), Arc::clone(&nowhere), Arc::clone(clock));
        checks.push_back(tokio::spawn(async move { check_feed(plugin, feed, allowed, &nowhere, &clock).await }));
        // All at once, ten thousand would leave the memory in pieces.
        if checks.len() >= limits::CHECKS
            && let Some(check) = checks.pop_front()
        {
            found.push(ended(check).await?);
        }
    }
    for check in checks {
        found.push(ended(check).await?);
    }
    let (mut admitted, mut shared) = (Vec::new(), Interned::default());
    for one in found {
        match one {
            Ok((feed, odd)) => {
                warnings.extend(odd);
                admitted.push(Arc::new(shared.of(feed)));
            }
            Err(Unfit::Wrong(found)) => problems.extend(found),
            Err(Unfit::LeftOut(found)) => left_out.push(found),
        }
    }
    if problems.is_empty() && (left_out.is_empty() || !strict && !admitted.is_empty()) {
        return Ok(Checked { feeds: admitted, network: live, warnings, left_out });
    }
    problems.extend(left_out.into_iter().flat_map(|feed| feed.problems));
    Err(CheckError::Configuration(config::once_each(problems)))
}

async fn ended(check: JoinHandle<Result<Admission, CheckError>>) -> Result<Admission, CheckError> {
    check.await.unwrap_or_else(|error| Err(CheckError::Host(error.to_string())))
}
