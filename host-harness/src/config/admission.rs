//! The feeds of a configuration: checked all at once, kept small, and opened when there is something to do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use source_host::blame::Blame;
use source_host::clock::Clock;
use source_host::contract::{self, Shape};
use source_host::credentials::expiry;
use source_host::feed::FeedError;
use source_host::feed::admitted::AdmittedFeed;
use source_host::feed::tenants::Tenants;
use source_host::limits;
use source_host::network::Nowhere;
use source_host::network::client::Network;
use source_host::network::egress::{self, Origins};
use source_host::plugin::engine::Host;
use source_host::plugin::{Plugin, PluginError};
use tokio::task::JoinHandle;

use crate::built_in;
use crate::config::{self, Config, FeedConfig, Problem, SeenFile, SourcePlace, astray};

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

/// Why there is no plugin.
#[derive(Clone)]
struct Unloaded {
    message: String,
    /// Whether the file was read: then it is the plugin's fault.
    is_read: bool,
}

/// Compiling takes seconds.
async fn load(host: &Host, path: Option<PathBuf>) -> Result<Plugin, Unloaded> {
    let host = host.clone();
    let loaded = tokio::task::spawn_blocking(move || match path {
        None => built_in::load(&host, None).map_err(|error| Unloaded { message: error.to_string(), is_read: false }),
        Some(file) => Plugin::from_file(&host, &file).map_err(|error| Unloaded {
            message: format!("{}: {error}", file.display()),
            is_read: !matches!(error, PluginError::Unreadable(_)),
        }),
    });
    loaded.await.unwrap_or_else(|error| Err(Unloaded { message: error.to_string(), is_read: false }))
}

/// What is the same for many feeds is kept once.
#[derive(Default)]
struct Interned {
    lists: BTreeSet<Arc<[String]>>,
    tenants: BTreeSet<Arc<str>>,
    /// By their text.
    shapes: BTreeMap<String, Arc<[(Shape, usize)]>>,
}

impl Interned {
    fn of(&mut self, feed: AdmittedFeed) -> AdmittedFeed {
        fn one<T: Ord + ?Sized>(known: &mut BTreeSet<Arc<T>>, value: Arc<T>) -> Arc<T> {
            if let Some(known) = known.get(&value) {
                return Arc::clone(known);
            }
            known.insert(Arc::clone(&value));
            value
        }
        let Interned { lists, tenants, shapes } = self;
        let plan = feed.plan.map(|mut plan| {
            plan.shapes = Arc::clone(shapes.entry(format!("{:?}", plan.shapes)).or_insert(plan.shapes));
            plan
        });
        let (sinks, origins) = (one(lists, feed.sinks), one(lists, feed.origins));
        AdmittedFeed { sinks, origins, plan, tenant: one(tenants, feed.tenant), ..feed }
    }
}

/// What belongs into settings of two kinds.
const KEY_PAIR: &str = "PEM of an RSA private key without a passphrase and of its certificate";
const TOKEN_FILE: &str = "the path of a file with a signed token";

type Admission = Result<(AdmittedFeed, Vec<Problem>), Unfit>;

/// Why a feed cannot be collected.
enum Unfit {
    /// It is configured wrongly.
    Wrong(Vec<Problem>),
    /// It cannot be collected now, and that may change without its configuration.
    LeftOut(LeftOut),
}

async fn check_feed(
    plugin: Plugin,
    config: FeedConfig,
    allowed: Arc<Origins>,
    nowhere: &Tenants,
    clock: &Clock,
) -> Result<Admission, CheckError> {
    let FeedConfig { id, tenant, interval, sinks, contact, settings, place, sealed, opened, mut unreadable, .. } =
        config;
    let problem = |setting: &str, message: String| {
        let key = setting.trim_start_matches('/').replace('/', ".");
        let top = key.split('.').next().unwrap_or_default();
        let (file, line) = place.settings.get(top).cloned().unwrap_or_else(|| (place.file.clone(), place.line));
        Problem { file, line, key: format!("feed {id}: settings.{key}"), message }
    };
    let found = |problem_of: &contract::Problem| {
        problem(&problem_of.setting, format!("found {}, expected {}", problem_of.found, problem_of.expected))
    };
    // A plugin that breaks down is the trouble of its own feeds.
    let broken = |message: String| {
        let SourcePlace { file, line, .. } = place.clone();
        Problem { file, line, key: format!("feed {id}: plugin"), message }
    };
    let description = match plugin.description().await {
        Ok(description) => description,
        Err(error) => {
            let problem = broken(error.to_string());
            return Ok(Err(Unfit::LeftOut(LeftOut::of_plugin(&tenant, &id, problem, unreadable))));
        }
    };
    let is_credential = |setting: &str| description.credentials.iter().any(|known| known.setting == setting);
    // What the plugin does not know at all is for it to say.
    let schema: serde_json::Value = serde_json::from_str(&description.settings_schema).unwrap_or_default();
    let properties = schema.get("properties").and_then(serde_json::Value::as_object);
    let is_unknown = |setting: &str| properties.is_some_and(|properties| !properties.contains_key(setting));
    let no_secrets: Vec<&String> =
        sealed.iter().filter(|setting| !is_credential(setting) && !is_unknown(setting)).collect();
    let mut problems: Vec<Problem> = no_secrets
        .iter()
        .map(|setting| {
            let message = "found a secret, which the plugin never sees, expected a plain value: add `plain = true`";
            problem(setting, message.to_owned())
        })
        .collect();
    let refresh = description.refresh_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let short = interval.as_ref().zip(refresh).and_then(|(interval, refresh)| interval.oddity(refresh));
    let proposed = Duration::from_secs(description.interval_seconds.max(1).into());
    let interval = interval.map_or(proposed, |interval| interval.time);
    let dated = description.credentials.iter().filter_map(|credential| settings.expiry(&credential.setting));
    let mut expiries: Vec<(String, u64)> = dated.collect();
    let odd = settings.unsealed(&description);
    let given = settings.plain();
    problems.extend(odd.iter().filter_map(|setting| {
        let value = given.get(setting)?;
        let message = astray::reference(value).unwrap_or_else(|| {
            let found = astray::kind(value);
            format!("found {found}, expected a text, {{ env = \"…\" }} or {{ file = \"…\" }}: it is a credential")
        });
        Some(problem(setting, message))
    }));
    let open = settings.in_the_open(&description, &id, &opened);
    let mut warnings: Vec<Problem> = open.map(|(setting, words)| problem(&setting, words)).chain(short).collect();
    let settings = settings.sealing(&description).under(|setting| {
        let file = place.settings.get(setting).map_or(&place.file, |(file, _)| file);
        file.parent().map(Path::to_owned).unwrap_or_default()
    });
    let referred = unreadable.len();
    // Looked at first: who writes one while it is read has changed it.
    let files = settings.token_files().map(SeenFile::now).collect();
    for (setting, found) in settings.examined() {
        if unreadable.iter().any(|(known, _)| *known == setting) {
            continue;
        }
        match found {
            Ok(Some((from, until))) => {
                if from > clock() {
                    warnings
                        .push(problem(&setting, format!("its certificate is not valid before {}", expiry::date(from))));
                }
                expiries.push((setting, until));
            }
            Ok(None) => {}
            Err(error) => {
                let key = description
                    .credentials
                    .iter()
                    .any(|known| known.setting == setting && known.kind == contract::CredentialKind::KeyPair);
                let fits = if key { KEY_PAIR } else { TOKEN_FILE };
                let problem = problem(&setting, format!("found {error}, expected {fits}"));
                unreadable.push((setting, problem));
            }
        }
    }
    let mut admitted = AdmittedFeed {
        id: id.as_str().into(),
        tenant: tenant.into(),
        interval,
        sinks: sinks.into(),
        contact,
        origins: Arc::default(),
        in_clear: Box::default(),
        expiries: expiries.into(),
        plugin,
        identity: settings.identity(&description),
        settings,
        allowed,
        news: Arc::default(),
        plan: None,
    };
    let opened = match admitted.open(nowhere, clock).await {
        Ok(feed) => Some(feed),
        Err(FeedError::Settings(others)) => {
            // What the plugin says of what stands in place of a value is of no use to anybody.
            let unread = unreadable.iter().map(|(setting, _)| setting).filter(|setting| !is_credential(setting));
            let replaced: Vec<&String> = no_secrets.iter().copied().chain(&odd).chain(unread).collect();
            let top = |setting: &str| setting.trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
            let told = others.iter().filter(|other| !replaced.contains(&&top(&other.setting)));
            let told: Vec<Problem> = told
                .map(|other| {
                    let setting = top(&other.setting);
                    let misplaced = is_unknown(&setting).then(|| astray::misplaced(&setting)).flatten();
                    let advice = misplaced.or_else(|| astray::reference(given.get(&setting)?));
                    advice.map_or_else(|| found(other), |advice| problem(&setting, advice))
                })
                .collect();
            // What the plugin says of a credential's place goes before what is found in it.
            let examined = unreadable.split_off(referred);
            let is_told = |setting: &str| others.iter().any(|other| top(&other.setting) == setting);
            unreadable.extend(examined.into_iter().filter(|(setting, _)| !is_told(setting)));
            problems.extend(told);
            None
        }
        Err(FeedError::Call(error)) if problems.is_empty() => {
            let problem = broken(error.to_string());
            return Ok(Err(Unfit::LeftOut(LeftOut::of_plugin(&admitted.tenant, &admitted.id, problem, unreadable))));
        }
        Err(error @ (FeedError::Call(_) | FeedError::Host(_))) => {
            problems.push(broken(error.to_string()));
            None
        }
    };
    let unreadable = unreadable.into_iter().map(|(_, problem)| problem);
    match opened {
        Some(feed) if problems.is_empty() && unreadable.len() == 0 => {
            warnings.extend(feed.plan().warnings.iter().map(found));
            warnings.extend(feed.oddities().into_iter().map(|(setting, words)| problem(&setting, words)));
            let origins: BTreeSet<String> =
                feed.plan().shapes.iter().filter_map(|shape| egress::canonical(&shape.origin)).collect();
            admitted.origins = origins.into_iter().collect();
            let carrying = feed.plan().shapes.iter().filter(|shape| !shape.credentials.is_empty());
            let carrying: BTreeSet<String> = carrying.filter_map(|shape| egress::canonical(&shape.origin)).collect();
            admitted.in_clear = carrying.into_iter().filter(|origin| origin.starts_with("http://")).collect();
            admitted.admit(&feed.plan().shapes);
            Ok(Ok((admitted, warnings)))
        }
        _ if problems.is_empty() && unreadable.len() > 0 => {
            let (tenant, feed, problems) = (admitted.tenant.to_string(), admitted.id.to_string(), unreadable.collect());
            Ok(Err(Unfit::LeftOut(LeftOut { tenant, feed, why: Why::Credentials, problems, files })))
        }
        _ => Ok(Err(Unfit::Wrong(problems.into_iter().chain(unreadable).collect()))),
    }
}
