//! An admitted feed between two polls: the data that opening the feed takes, and little more.

pub mod pool;
pub mod tenants;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use source_host::clock::Clock;
use source_host::contract::{Path, Plan, Shape};
use source_host::credentials::secret::Secret;
use source_host::credentials::settings::Settings;
use source_host::digest::{ShortDigest, digest};
use source_host::feed::{Feed, FeedError, Identity};
use source_host::network::egress::{News, Origins};
use source_host::plugin::Plugin;
use source_host::plugin::log_share::LogShare;

use self::tenants::Tenants;

/// A feed that passed admission: the data that opening it takes, and little more.
pub struct AdmittedFeed {
    /// Id of the feed, unique in the configuration.
    pub id: Arc<str>,
    /// The properties that other feeds often have, too.
    pub profile: Arc<FeedProfile>,
    /// The feed's settings, with the credentials kept apart.
    pub settings: Settings,
    /// The requests that the plugin declared when the feed was admitted; `None` before that.
    pub plan: Option<CompactPlan>,
    /// The reports about the feed so far.
    pub voice: FeedVoice,
}

/// The properties of a feed that other feeds often have, too: those of one tenant mostly differ in their ids, some
/// settings and paths of their requests only.
#[derive(Clone)]
pub struct FeedProfile {
    /// Id of the tenant whose data the feed polls.
    pub tenant: Arc<str>,
    /// Time between two polls of a scope.
    pub interval: Duration,
    /// Ids of the sinks that get the feed's events.
    pub sinks: Arc<[String]>,
    /// The person or address to ask about the feed.
    pub contact: Option<String>,
    /// Origins of the feed's requests.
    pub origins: Arc<[String]>,
    /// The origins to which credentials would go without TLS.
    pub in_clear: Box<[String]>,
    /// When credentials expire, by setting, in Unix milliseconds.
    pub expiries: Box<[(String, u64)]>,
    /// The plugin.
    pub plugin: Plugin,
    /// Digest of the settings that say, with the credentials, who signs in.
    pub identity: ShortDigest,
    /// The origins that the operator allows the feed.
    pub allowed: Arc<Origins>,
    /// Bytes that the feed may write to the log in a minute.
    pub log_bytes: u64,
    /// The clock of those minutes.
    pub clock: Clock,
}

/// The reports about a feed over all the times that it is opened. Nothing is kept while there is nothing to report, as
/// for most feeds most of the time.
#[derive(Default)]
pub struct FeedVoice(Mutex<VoiceParts>);

#[derive(Default, Clone)]
struct VoiceParts {
    /// Remarks about the feed's requests that were already reported.
    news: Option<Arc<News>>,
    /// The feed's share of the log.
    log: Option<Arc<LogShare>>,
}

impl Clone for FeedVoice {
    fn clone(&self) -> FeedVoice {
        FeedVoice(Mutex::new(self.0.lock().clone()))
    }
}

impl Deref for AdmittedFeed {
    type Target = FeedProfile;

    fn deref(&self) -> &FeedProfile {
        &self.profile
    }
}

/// The requests of a plan in a small form: the plans of one plugin's feeds mostly differ in the paths only.
#[derive(Debug, Clone, PartialEq)]
pub struct CompactPlan {
    /// Shapes without their paths, each with the number of equal ones in a row.
    pub shapes: Arc<[(Shape, usize)]>,
    /// The paths, one on each line.
    paths: Box<str>,
}

impl CompactPlan {
    /// Separates the paths of shapes from the shapes.
    pub fn of(shapes: &[Shape]) -> CompactPlan {
        let (mut kinds, mut paths) = (Vec::<(Shape, usize)>::new(), Vec::new());
        for shape in shapes {
            let (path, bare) = match &shape.path {
                Path::Exact(path) => (path, Path::Exact(String::new())),
                Path::Prefix(path) => (path, Path::Prefix(String::new())),
            };
            paths.push(path.as_str());
            let kind = Shape { path: bare, ..shape.clone() };
            match kinds.last_mut() {
                Some((last, count)) if *last == kind => *count += 1,
                _ => kinds.push((kind, 1)),
            }
        }
        CompactPlan { shapes: kinds.into(), paths: paths.join("\n").into() }
    }

    /// SHA-256, in lower-case hexadecimal, of the shapes as compact JSON with the contract's fields in the contract's
    /// order. The order of the shapes counts, because the first shape that fits a request decides.
    pub fn sha256(&self) -> String {
        // Texts, lists and enumerations always serialize.
        digest(&serde_json::to_vec(&self.plan().shapes).unwrap_or_default())
    }

    /// Restores the plan, without its warnings.
    pub fn plan(&self) -> Plan {
        let kinds = self.shapes.iter().flat_map(|(shape, count)| std::iter::repeat_n(shape, *count));
        let whole = |(shape, path): (&Shape, &str)| {
            let path = match shape.path {
                Path::Exact(_) => Path::Exact(path.to_owned()),
                Path::Prefix(_) => Path::Prefix(path.to_owned()),
            };
            Shape { path, ..shape.clone() }
        };
        Plan { shapes: kinds.zip(self.paths.split('\n')).map(whole).collect(), warnings: Vec::new() }
    }
}

impl AdmittedFeed {
    /// Opens the feed.
    pub async fn open(&self, tenants: &Tenants, clock: &Clock) -> Result<Feed, FeedError> {
        let transport = tenants.transport(&self.tenant, clock())?;
        let identity = Identity {
            tenant: self.tenant.to_string(),
            feed: self.id.to_string(),
            limits: tenants.limits.clone(),
            allowed: Arc::clone(&self.allowed),
            transport,
            tokens: Arc::clone(&tenants.tokens),
            clock: Arc::clone(clock),
        };
        let (news, log) = (self.news(), self.log());
        let (plugin, settings) = (self.plugin.clone(), self.settings.clone());
        let plan = self.plan.as_ref().map(CompactPlan::plan);
        Feed::open_as(plugin, settings, plan, news, log, identity).await
    }

    /// Keeps the requests that the plugin declared. The plan's warnings were reported when the feed was admitted.
    pub fn keep_plan(&mut self, shapes: &[Shape]) {
        self.plan = Some(CompactPlan::of(shapes));
    }

    /// The same feed with the plan of an earlier admission, and with the data that derives from that plan.
    pub fn with_plan_of(&self, before: &AdmittedFeed) -> AdmittedFeed {
        let (origins, in_clear) = (Arc::clone(&before.origins), before.in_clear.clone());
        let profile = FeedProfile { origins, in_clear, ..(*self.profile).clone() };
        AdmittedFeed { profile: Arc::new(profile), plan: before.plan.clone(), ..self.copied() }
    }

    /// Remarks about the feed's requests that were already reported.
    pub fn news(&self) -> Arc<News> {
        Arc::clone(self.voice.0.lock().news.get_or_insert_default())
    }

    /// The feed's share of the log.
    pub fn log(&self) -> Arc<LogShare> {
        let new = || Arc::new(LogShare::new(self.log_bytes, Arc::clone(&self.clock)));
        Arc::clone(self.voice.0.lock().log.get_or_insert_with(new))
    }

    /// The feed's share of the log, if the feed used it.
    pub fn used_log(&self) -> Option<Arc<LogShare>> {
        self.voice.0.lock().log.clone()
    }

    /// Drops what is kept for reports if there is nothing to report and the feed is not open.
    pub fn hush(&self) {
        let mut parts = self.voice.0.lock();
        parts.news.take_if(|news| Arc::strong_count(news) == 1 && news.is_empty());
        parts.log.take_if(|log| Arc::strong_count(log) == 1 && log.is_unused());
    }

    /// A copy that shares no memory with the original but the profile and the shapes of the plan. The copies of
    /// thousands of feeds lie together, not scattered between the data that was read with them.
    pub fn copied(&self) -> AdmittedFeed {
        AdmittedFeed {
            id: (*self.id).into(),
            profile: Arc::clone(&self.profile),
            settings: self.settings.copied(),
            plan: self.plan.clone(),
            voice: self.voice.clone(),
        }
    }

    /// The names under which the feed is counted: its tenant, its id and its sinks.
    pub fn counted(&self) -> (&str, &str, &[String]) {
        (&self.tenant, &self.id, &self.sinks)
    }

    /// The same names, shared with those who keep them.
    pub fn counted_as(&self) -> (Arc<str>, Arc<str>, &[String]) {
        (Arc::clone(&self.tenant), Arc::clone(&self.id), &self.sinks)
    }

    /// The origins of the feed's requests that the operator does not allow.
    pub fn forbidden_origins(&self) -> Vec<&str> {
        let origins = self.origins.iter().map(String::as_str);
        let exposed = self.exposed_origins();
        origins.filter(|origin| self.allowed.leave(origin).is_none() && !exposed.contains(origin)).collect()
    }

    /// The origins to which credentials would go without TLS although that is not allowed.
    pub fn exposed_origins(&self) -> Vec<&str> {
        let origins = self.in_clear.iter().map(String::as_str);
        origins.filter(|origin| self.allowed.exposes(origin)).collect()
    }

    /// The feed's secrets, for redaction.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.settings.secrets()
    }

    /// Digest of the settings without credentials.
    pub fn settings_digest(&self) -> ShortDigest {
        self.settings.digest()
    }

    /// Identifies who signs in, without revealing the credentials: feeds of one plugin with equal credentials and
    /// identity have equal ids, in whatever tenant. A feed without credentials shares its id only within its tenant.
    pub fn credential_id(&self, salt: &str) -> ShortDigest {
        let has_secret = self.settings.secrets().any(|secret| !secret.expose().is_empty());
        let tenant = if has_secret { "" } else { &*self.tenant };
        let (identity, credential) = (self.identity, self.settings.credential_id(salt));
        ShortDigest::of(&format!("{}\n{tenant}\n{identity}\n{credential}", self.plugin.about().sha256))
    }

    /// Digest of everything that determines the plugin's answer to `prepare`: its code, and the settings as the plugin
    /// sees them.
    pub fn asked_with(&self) -> ShortDigest {
        ShortDigest::of(&format!("{}\n{}", self.plugin_digest(), self.settings.with_fixed_placeholders()))
    }

    /// Digest of everything that determines the result of a poll, including credentials and plugin.
    pub fn fingerprint(&self, salt: &str) -> ShortDigest {
        let (AdmittedFeed { settings, .. }, FeedProfile { tenant, plugin, allowed, .. }) = (self, &*self.profile);
        let (plain, secret) = (settings.digest(), settings.credential_id(salt));
        ShortDigest::of(&format!("{tenant}\n{}\n{plain}\n{secret}\n{allowed:?}", plugin.about().sha256))
    }

    /// Says whether interval, sinks, contact, expiries or the share of the log differ: changes that do not affect the
    /// result of a poll.
    pub fn differs_in_use(&self, other: &AdmittedFeed) -> bool {
        self.interval != other.interval
            || self.sinks != other.sinks
            || self.contact != other.contact
            || self.expiries != other.expiries
            || self.log_bytes != other.log_bytes
    }

    /// The digest of the plan that is enforced; `None` before the feed is admitted.
    pub fn plan_digest(&self) -> Option<String> {
        self.plan.as_ref().map(CompactPlan::sha256)
    }

    /// Digest of the plugin's code.
    pub fn plugin_digest(&self) -> &str {
        &self.plugin.about().sha256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use source_host::contract::{Credential, CredentialUse, Place};

    #[test]
    fn a_plan_comes_back_as_it_was() {
        let token = || vec![CredentialUse { credential: Credential::Token, place: Place::Bearer }];
        let shape = |method: &str, path, credentials| Shape {
            method: method.to_owned(),
            origin: "https://api.example".to_owned(),
            path,
            credentials,
            captures: None,
        };
        let get = |path: &str| shape("GET", Path::Prefix(path.to_owned()), token());
        let post = shape("POST", Path::Exact("/token".to_owned()), Vec::new());
        for shapes in [vec![], vec![post.clone()], vec![post.clone(), get("/a/"), get("/b/"), post, get("/a/")]] {
            let compact = CompactPlan::of(&shapes);
            assert_eq!(compact.plan().shapes, shapes);
            assert!(compact.shapes.len() <= 4);
        }
    }

    #[test]
    fn the_digest_of_a_plan_is_the_same_on_every_host_and_another_for_each_difference() {
        let captured = Shape {
            method: "POST".to_owned(),
            origin: "https://login.example".to_owned(),
            path: Path::Exact("/token".to_owned()),
            credentials: vec![CredentialUse {
                credential: Credential::Setting("key".to_owned()),
                place: Place::FormField("key".to_owned()),
            }],
            captures: Some("access_token".to_owned()),
        };
        let get = Shape {
            method: "GET".to_owned(),
            path: Path::Prefix("/a/".to_owned()),
            credentials: vec![CredentialUse { credential: Credential::Token, place: Place::Bearer }],
            captures: None,
            ..captured.clone()
        };
        let sha256 = |shapes: &[Shape]| CompactPlan::of(shapes).sha256();
        // Operators have pinned this digest: a change here breaks their pins.
        let signed = sha256(&[captured.clone(), get.clone()]);
        assert_eq!(signed, "fef50f45f37d476596948c906c70cc13f60950e23450f07d3a94112bad0d2e00");
        let others = [
            Shape { method: "HEAD".to_owned(), ..get.clone() },
            Shape { origin: "https://login.example:8443".to_owned(), ..get.clone() },
            Shape { path: Path::Exact("/a/".to_owned()), ..get.clone() },
            Shape { credentials: Vec::new(), ..get.clone() },
            Shape { captures: Some(String::new()), ..get.clone() },
        ];
        let others = others.map(|other| sha256(&[captured.clone(), other]));
        let more = [sha256(&[]), sha256(&[get.clone(), captured.clone()]), sha256(&[captured, get.clone(), get])];
        let all: std::collections::BTreeSet<String> = others.into_iter().chain(more).chain([signed]).collect();
        assert_eq!(all.len(), 9);
    }
}
