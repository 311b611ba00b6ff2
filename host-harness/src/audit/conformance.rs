//! The contract's rules, tried on any plugin. What needs settings and answers takes them from recordings; without one, those
//! rules are told as not run.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value, json};
use source_host::contract::{
    Batch, Context, Credential, Description, Failure, Notice, Path, Plan, PollResult, Problem, Reaction, Scope, Shape,
};
use source_host::credentials::secret::Secret;
use source_host::credentials::settings::Settings;
use source_host::credentials::settings::schema::validator;
use source_host::failures;
use source_host::feed::{Gathered, poll_id};
use source_host::limits::{CONFORMANCE_SCOPES, Limits, WORDS_BYTES};
use source_host::network::egress::{Egress, canonical};
use source_host::network::tokens::Freshness;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture};
use source_host::plugin::Plugin;
use source_host::plugin::call::{CallNetwork, Called, Caller, Journal};
use source_host::plugin::engine::Host;
use source_host::text;

use crate::recording::cassette::{Cassette, origins};
use crate::recording::replay::Recording;

/// Every rule, in the order in which they are tried, and what it asks.
pub const RULES: &[(&str, &str)] = &[
    ("component", "compiles within limits, imports what is allowed and exports this contract"),
    ("describe", "describes itself the same way each time: kebab-case names, a JSON Schema with its credentials"),
    ("settings", "names all problems of its settings at once, each by a JSON pointer, and what belongs there"),
    ("shapes", "declares requests by upper-case method, bare origin, path, and credentials that it has"),
    (
        "poll",
        "asks for what is recorded, all of it and nothing else; its kinds of page and codes of notices are declared",
    ),
    ("requests", "sends only requests of its shapes, with each credential at its place"),
    ("cursors", "comes to an end, and to no cursor twice"),
    ("failures", "answers faults of the service with the reaction that fits, and a code that it lists"),
    ("normalize", "makes events of the declared classes and kinds, with codes that it lists, also of a failure"),
    ("purity", "makes the same of the same in a fresh instance"),
    ("state", "reads its own state, and takes a foreign one for a failure and never for a fresh start"),
    ("limits", "stays within the limits of a call, and gives only what the contract allows"),
];

/// A recording for the built-in plugin.
pub const BUILT_IN: &str = include_str!("two-pages.json");

/// What came of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleRow {
    /// Name of the rule.
    pub rule: &'static str,
    /// Whether the plugin keeps it.
    pub status: Verdict,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Whether a rule is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is.
    Passed,
    /// It is not.
    Failed,
    /// There was nothing to try it on.
    NotRun,
}

/// What came of all rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConformanceReport {
    /// Whether no rule failed.
    pub ok: bool,
    /// One for each rule.
    pub rules: Vec<RuleRow>,
}

impl ConformanceReport {
    /// The rules that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.rules.iter().filter(|row| row.status == Verdict::Failed).map(|row| row.rule).collect()
    }

    /// Whether every rule was tried.
    pub fn is_complete(&self) -> bool {
        self.rules.iter().all(|row| row.status != Verdict::NotRun)
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (row, (_, asks)) in self.rules.iter().zip(RULES) {
            let status = match row.status {
                Verdict::Passed => "passed",
                Verdict::Failed => "FAILED",
                Verdict::NotRun => "not run",
            };
            text += &format!("{:10}  {status:7} {asks}\n", row.rule);
            if let (Verdict::Failed, Some(why)) = (row.status, &row.why) {
                text += &format!("{:20}{why}\n", "");
            }
        }
        // The reason is one for all of them.
        if let Some(why) =
            self.rules.iter().filter(|row| row.status == Verdict::NotRun).find_map(|row| row.why.as_ref())
        {
            text += &format!("not run: {why}\n");
        }
        text
    }
}

/// Tries all rules on a plugin.
pub async fn examine(host: &Host, bytes: &[u8], cassettes: &[Cassette], limits: &Limits) -> ConformanceReport {
    let mut examination = Examination { limits: limits.clone(), ..Examination::default() };
    examination.begin("component");
    let _doing = host.progress().begin("trying the rules of the contract on the plugin");
    match Plugin::from_bytes(host, bytes) {
        Ok(plugin) => examination.plugin(&plugin, cassettes).await,
        Err(error) => examination.fail("component", error.to_string()),
    }
    examination.report(cassettes.is_empty())
}

/// What was found so far.
#[derive(Default)]
struct Examination {
    limits: Limits,
    tried: BTreeSet<&'static str>,
    /// The first failure of each rule.
    found: BTreeMap<&'static str, String>,
}

/// One recording, opened with a plugin.
struct Stage<'a> {
    plugin: &'a Plugin,
    description: &'a Description,
    cassette: &'a Cassette,
    settings: Settings,
    plan: Plan,
}

impl Stage<'_> {
    fn caller(&self, limits: &Limits, transport: Arc<dyn Transport>) -> Caller {
        let time = self.cassette.context.time_milliseconds;
        let network = CallNetwork {
            egress: Arc::new(Egress::new(self.plan.clone(), Arc::new(origins(self.cassette).unwrap_or_default()))),
            transport,
            tokens: Arc::default(),
            freshness: Freshness::Any,
            clock: Arc::new(move || time),
        };
        Caller {
            tenant: self.cassette.context.tenant.clone(),
            feed: self.cassette.context.feed.clone(),
            limits: limits.clone(),
            network: Some(network),
        }
    }

    fn lists(&self, code: &str) -> bool {
        self.description.diagnoses.iter().any(|row| row.code == code)
    }

    fn has_kind(&self, kind: &str) -> bool {
        self.description.events.iter().any(|known| known.name == kind)
    }
}

impl Examination {
    fn begin(&mut self, rule: &'static str) {
        self.tried.insert(rule);
    }

    fn fail(&mut self, rule: &'static str, why: String) {
        self.tried.insert(rule);
        self.found.entry(rule).or_insert_with(|| text::plain(text::cut(&why, WORDS_BYTES)));
    }

    fn check(&mut self, rule: &'static str, good: bool, why: impl FnOnce() -> String) {
        self.begin(rule);
        if !good {
            self.fail(rule, why());
        }
    }

    fn report(self, no_cassette: bool) -> ConformanceReport {
        let rows = RULES.iter().map(|(rule, _)| {
            let why = self.found.get(rule).cloned();
            let needs_cassette = no_cassette && !self.found.contains_key("component");
            let nothing =
                if needs_cassette { "it needs a cassette: --cassette FILE" } else { "an earlier rule failed" };
            match (why, self.tried.contains(rule)) {
                (Some(why), _) => RuleRow { rule, status: Verdict::Failed, why: Some(why) },
                (None, true) => RuleRow { rule, status: Verdict::Passed, why: None },
                (None, false) => RuleRow { rule, status: Verdict::NotRun, why: Some(nothing.to_owned()) },
            }
        });
        ConformanceReport { ok: self.found.is_empty(), rules: rows.collect() }
    }

    /// A call's answer, if it gave one; what it did beyond its bounds is noted.
    fn answer<T>(&mut self, (answer, journal): Called<T>, transport: Option<&WatchedTransport>) -> Option<T> {
        self.begin("limits");
        self.denied(&journal, transport);
        answer.map_err(|error| self.fail("limits", error.to_string())).ok()
    }

    /// A request without an answer that never came to the transport was not let out.
    fn denied(&mut self, journal: &Journal, transport: Option<&WatchedTransport>) {
        self.begin("requests");
        for exchange in &journal.exchanges {
            if let Err(cause) = &exchange.result
                && !transport.is_some_and(|transport| transport.gave(cause))
            {
                self.fail("requests", format!("{} {}: {cause}", exchange.method, exchange.url));
            }
        }
    }

    async fn plugin(&mut self, plugin: &Plugin, cassettes: &[Cassette]) {
        let Some(description) = self.answer(plugin.describe().await, None) else { return };
        // Asked once more for the plugin itself, which then knows what it may sign with.
        if plugin.description().await.is_err() {
            return;
        }
        self.describe(plugin, &description).await;
        let nothing = Map::new();
        let settings = cassettes.first().map_or(&nothing, |cassette| &cassette.settings);
        self.settings(plugin, &description, settings).await;
        for cassette in cassettes {
            self.cassette(plugin, &description, cassette).await;
        }
    }

    async fn describe(&mut self, plugin: &Plugin, description: &Description) {
        const RULE: &str = "describe";
        let again = self.answer(plugin.describe().await, None);
        self.check(RULE, again.as_ref() == Some(description), || "it differs from call to call".to_owned());
        let named = |what: &str, name: &str| format!("{what}: found {name:?}, expected kebab-case");
        self.check(RULE, is_kebab(&description.name), || named("name", &description.name));
        let numbers = description.version.split(['-', '+']).next().unwrap_or_default();
        let semantic = numbers.split('.').filter(|part| part.parse::<u64>().is_ok()).count() == 3;
        self.check(RULE, semantic, || format!("version: found {:?}, expected a semantic version", description.version));
        self.check(RULE, description.interval_seconds > 0, || "interval-seconds: found 0".to_owned());
        self.check(RULE, !description.events.is_empty(), || "it collects no kind of event".to_owned());
        for kind in &description.events {
            self.check(RULE, is_kebab(&kind.name), || named("kind of event", &kind.name));
            self.check(RULE, !kind.class_uids.is_empty(), || format!("{}: no class of events", kind.name));
        }
        let mut codes = HashSet::new();
        for row in &description.diagnoses {
            self.check(RULE, is_kebab(&row.code), || named("code", &row.code));
            self.check(RULE, codes.insert(&row.code), || format!("the code {} is listed twice", row.code));
            self.check(RULE, !row.cause.is_empty(), || format!("the code {} has no cause", row.code));
        }
        let schema: Value = serde_json::from_str(&description.settings_schema).unwrap_or_default();
        let usable = schema.is_object() && validator(&schema).is_ok();
        self.check(RULE, usable, || "settings-schema: it is no JSON Schema".to_owned());
        for credential in &description.credentials {
            let marked = schema["properties"][&credential.setting]["writeOnly"] == true;
            self.check(RULE, marked, || {
                format!("settings-schema: the credential {} is not marked `writeOnly`", credential.setting)
            });
        }
    }

    /// Breaks two settings at a time: where each alone is a problem, both must be told together.
    async fn settings(&mut self, plugin: &Plugin, description: &Description, good: &Map<String, Value>) {
        const RULE: &str = "settings";
        let schema: Value = serde_json::from_str(&description.settings_schema).unwrap_or_default();
        let known = schema["properties"].as_object().into_iter().flat_map(|known| known.keys().cloned());
        let mut keys: Vec<String> = known.take(64).collect();
        keys.push("no_such_setting".to_owned());
        let broken = |keys: &[&String]| {
            let mut settings = good.clone();
            settings.extend(keys.iter().map(|key| ((*key).clone(), json!([{ "no": "such value" }]))));
            settings
        };
        for (index, key) in keys.iter().enumerate() {
            let next = &keys[(index + 1) % keys.len()];
            let mut told = Vec::new();
            for settings in [broken(&[key]), broken(&[next]), broken(&[key, next])] {
                let Some(problems) = self.problems(plugin, description, settings).await else { return };
                told.push(problems);
            }
            for (alone, key) in [(&told[0], key), (&told[1], next)] {
                let both = !names(alone, key) || names(&told[2], key);
                self.check(RULE, both, || format!("{key} is a problem, and is not told together with others"));
            }
        }
    }

    async fn problems(
        &mut self,
        plugin: &Plugin,
        description: &Description,
        settings: Map<String, Value>,
    ) -> Option<Vec<Problem>> {
        let settings = Settings::new(settings, Default::default()).sealing(description);
        let caller = Caller { limits: self.limits.clone(), ..Caller::default() };
        let problems = self.answer(plugin.prepare(&caller, &settings).await, None)?.err().unwrap_or_default();
        for Problem { setting, expected, .. } in &problems {
            let pointer = setting.is_empty() || setting.starts_with('/');
            self.check("settings", pointer, || format!("found {setting:?}, expected a JSON pointer such as \"/key\""));
            self.check("settings", !expected.is_empty(), || format!("{setting}: it does not say what it expects"));
        }
        Some(problems)
    }

    async fn cassette(&mut self, plugin: &Plugin, description: &Description, cassette: &Cassette) {
        let settings = Settings::new(cassette.settings.clone(), Default::default()).sealing(description);
        let without = Caller { limits: self.limits.clone(), ..Caller::default() };
        let plan = match self.answer(plugin.prepare(&without, &settings).await, None) {
            Some(Ok(plan)) => plan,
            Some(Err(problems)) => {
                let named: Vec<_> = problems.into_iter().map(|problem| problem.setting).collect();
                return self.fail("settings", format!("it refuses those of the cassette: {}", named.join(", ")));
            }
            None => return,
        };
        self.shapes(description, &plan);
        let stage = Stage { plugin, description, cassette, settings, plan };
        let recording = Arc::new(Recording::new(cassette));
        let watched = Arc::new(WatchedTransport::new(Arc::clone(&recording) as Arc<dyn Transport>));
        let caller = stage.caller(&self.limits, Arc::clone(&watched) as Arc<dyn Transport>);
        let whole = self.whole(&stage, &caller, &watched).await;
        self.begin("poll");
        // Of many scopes some are tried: then what is left over says nothing.
        if let (Some(scopes), Err(mismatch)) = (whole, recording.verdict())
            && scopes <= CONFORMANCE_SCOPES
        {
            self.fail("poll", mismatch.to_string());
        }
    }

    fn shapes(&mut self, description: &Description, plan: &Plan) {
        const RULE: &str = "shapes";
        self.begin(RULE);
        let sealing = plan.shapes.iter().any(|shape| shape.captures.is_some());
        for Shape { method, origin, path, credentials, .. } in &plan.shapes {
            let upper = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
            self.check(RULE, upper, || format!("method: found {method:?}, expected upper case"));
            self.check(RULE, canonical(origin).as_ref() == Some(origin), || {
                format!("origin: found {origin:?}, expected scheme, host and unusual port, in lower case")
            });
            let rooted = match path {
                Path::Exact(path) => path.starts_with('/'),
                Path::Prefix(path) => path.starts_with('/') && path.ends_with('/'),
            };
            self.check(RULE, rooted, || format!("path: found {path:?}, expected `/…`, and a prefix that ends in `/`"));
            for used in credentials {
                let has = match &used.credential {
                    Credential::Setting(setting) | Credential::Assertion(setting) => {
                        description.credentials.iter().any(|known| known.setting == *setting)
                    }
                    Credential::Token => sealing,
                };
                self.check(RULE, has, || {
                    format!(
                        "{:?} is declared for {origin}, and the description has no such credential",
                        used.credential
                    )
                });
            }
        }
    }

    /// One poll of every scope, up to a number; gives how many there are, or none if a call broke down.
    async fn whole(&mut self, stage: &Stage<'_>, caller: &Caller, watched: &WatchedTransport) -> Option<usize> {
        let Stage { plugin, settings, .. } = stage;
        let fetched = self.answer(plugin.fetch_token(caller, settings).await, Some(watched))?;
        let token = match fetched {
            Ok(token) => token.map(|token| token.value),
            Err(failure) => return self.failure(stage, "fetch-token", &failure).map(|()| 0),
        };
        let found = self.answer(plugin.discover(caller, settings, token.as_ref()).await, Some(watched))?;
        let scopes = match found {
            Ok(discovery) => {
                self.notices("poll", stage, &discovery.notices);
                discovery.scopes
            }
            Err(failure) => return self.failure(stage, "discover", &failure).map(|()| 0),
        };
        for (index, scope) in scopes.iter().take(CONFORMANCE_SCOPES).enumerate() {
            let poll_result = self.pages(stage, caller, watched, token.as_ref(), scope).await?;
            if let PollResult::Failure(failure) = &poll_result {
                self.failure(stage, "poll", failure);
            }
            if index == 0 {
                self.faults(stage, token.as_ref(), scope).await?;
            }
            self.normalize(stage, scope, &poll_result).await?;
        }
        Some(scopes.len())
    }

    /// A failure on recorded answers may be what the recording shows; its code must be listed.
    fn failure(&mut self, stage: &Stage<'_>, call: &str, failure: &Failure) -> Option<()> {
        self.check("failures", stage.lists(&failure.code), || {
            format!("{call}: the code {} is not listed", failure.code)
        });
        Some(())
    }

    async fn pages(
        &mut self,
        stage: &Stage<'_>,
        caller: &Caller,
        watched: &WatchedTransport,
        token: Option<&Secret>,
        scope: &Scope,
    ) -> Option<PollResult> {
        let (mut gathered, mut cursor) = (Gathered::default(), None::<String>);
        self.begin("cursors");
        loop {
            let answer = stage.plugin.poll(caller, &stage.settings, token, scope, cursor.as_deref()).await;
            let step = match self.answer(answer, Some(watched))? {
                Ok(step) => step,
                Err(failure) => return Some(PollResult::Failure(failure)),
            };
            for kind in step.pages.iter().map(|page| &page.kind) {
                self.check("poll", stage.has_kind(kind), || format!("the kind {kind:?} of a page is not declared"));
            }
            self.notices("poll", stage, &step.notices);
            cursor = match gathered.take(step, &self.limits) {
                Ok(None) => return Some(PollResult::Pages(gathered.pages)),
                Ok(next) => next,
                Err(broken) => {
                    let endless = [failures::CURSOR_REPEATED.code, failures::PAGE_LIMIT.code];
                    let endless = endless.contains(&broken.code.as_str());
                    self.fail(if endless { "cursors" } else { "limits" }, broken.cause);
                    return None;
                }
            };
        }
    }

    fn notices(&mut self, rule: &'static str, stage: &Stage<'_>, notices: &[Notice]) {
        for Notice { code, .. } in notices {
            self.check(rule, stage.lists(code), || format!("the code {code} of a notice is not listed"));
        }
    }

    /// Lets the first page meet each fault.
    async fn faults(&mut self, stage: &Stage<'_>, token: Option<&Secret>, scope: &Scope) -> Option<()> {
        const RULE: &str = "failures";
        for fault in FAULTS {
            let watched = Arc::new(WatchedTransport::new(Arc::new(*fault)));
            let caller = stage.caller(&self.limits, Arc::clone(&watched) as Arc<dyn Transport>);
            let answer = stage.plugin.poll(&caller, &stage.settings, token, scope, None).await;
            if answer.1.exchanges.is_empty() {
                continue;
            }
            let Err(failure) = self.answer(answer, Some(&watched))? else {
                self.fail(RULE, format!("{} was taken for an answer", fault.what));
                continue;
            };
            self.check(RULE, fault.fits.contains(&failure.reaction), || {
                format!("{}: found {:?}, expected one of {:?}", fault.what, failure.reaction, fault.fits)
            });
            let waits = fault.retry_after.is_none_or(|seconds| failure.wait_seconds >= Some(seconds));
            self.check(RULE, waits, || {
                format!("{}: found a wait of {:?} s, expected what was asked", fault.what, failure.wait_seconds)
            });
            self.failure(stage, fault.what, &failure);
        }
        Some(())
    }

    async fn normalize(&mut self, stage: &Stage<'_>, scope: &Scope, poll_result: &PollResult) -> Option<()> {
        let first = self.batch(stage, scope, poll_result, None).await?;
        let again = self.batch(stage, scope, poll_result, None).await?;
        self.check("purity", first == again, || "two fresh instances make different things of the same".to_owned());
        let batch = match (first, poll_result) {
            (Ok(batch), _) => batch,
            // Nothing was collected, and there is no earlier state: there is nothing to tell.
            (Err(failure), PollResult::Failure(_)) => return self.failure(stage, "normalize", &failure),
            (Err(failure), PollResult::Pages(_)) => {
                self.fail("normalize", format!("it fails on what it read itself: {}", failure.cause));
                return Some(());
            }
        };
        self.made(stage, &batch);
        let later = self.batch(stage, scope, poll_result, Some(&batch.state)).await?;
        let again = self.batch(stage, scope, poll_result, Some(&batch.state)).await?;
        self.check("purity", later == again, || {
            "two fresh instances make different things of the same state".to_owned()
        });
        if let Err(failure) = later {
            self.fail("state", format!("it does not take its own state: {}", failure.cause));
        }
        let foreign = self.batch(stage, scope, poll_result, Some(b"\xff\x00 the state of another plugin")).await?;
        let unusable = foreign.is_err_and(|failure| failure.reaction == Reaction::StateUnusable);
        self.check("state", unusable, || "a foreign state is not answered with state-unusable".to_owned());
        let lost = PollResult::Failure(Failure::new(Reaction::TryLater, "transport", "it was not reached".to_owned()));
        if let Err(failure) = self.batch(stage, scope, &lost, Some(&batch.state)).await? {
            self.fail("normalize", format!("it fails on a failure: {}", failure.cause));
        }
        Some(())
    }

    async fn batch(
        &mut self,
        stage: &Stage<'_>,
        scope: &Scope,
        poll_result: &PollResult,
        state: Option<&[u8]>,
    ) -> Option<Result<Batch, Failure>> {
        let recorded = &stage.cassette.context;
        let context = Context {
            feed: recorded.feed.clone(),
            tenant: recorded.tenant.clone(),
            scope: scope.clone(),
            poll_id: poll_id(&recorded.feed, &scope.id, recorded.time_milliseconds).to_string(),
            collected_at_milliseconds: recorded.time_milliseconds,
        };
        let caller = Caller { limits: self.limits.clone(), ..Caller::default() };
        let answer = stage.plugin.normalize(&caller, &stage.settings, &context, poll_result, state).await;
        self.answer(answer, None)
    }

    fn made(&mut self, stage: &Stage<'_>, batch: &Batch) {
        const RULE: &str = "normalize";
        self.begin(RULE);
        let classes: HashSet<u64> = stage.description.events.iter().flat_map(|kind| kind.class_uids.clone()).collect();
        for event in &batch.events {
            let body: Value = serde_json::from_slice(&event.body).unwrap_or_default();
            let class = body["class_uid"].as_u64();
            self.check(RULE, class.is_some_and(|class| classes.contains(&class)), || {
                format!("event {}: the class {class:?} is not declared", text::cut(&event.uid, 64))
            });
        }
        for measure in &batch.measures {
            let kind = &measure.kind;
            self.check(RULE, stage.has_kind(kind), || format!("the kind {kind:?} of a figure is not declared"));
        }
        self.notices(RULE, stage, &batch.notices);
        if let Some(Failure { code, .. }) = &batch.outcome {
            self.check(RULE, stage.lists(code), || format!("the code {code} of the outcome is not listed"));
        }
    }
}

fn names(problems: &[Problem], key: &str) -> bool {
    problems
        .iter()
        .any(|problem| problem.setting.strip_prefix('/').is_some_and(|rest| rest.split('/').next() == Some(key)))
}

/// Lower-case words with dashes between.
fn is_kebab(name: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name.split('-').all(word)
}

/// A fault of the service, and the reactions that fit it.
#[derive(Clone, Copy)]
struct SimulatedFault {
    what: &'static str,
    /// Verdict and body; none for a service that is not reached.
    answer: Option<(u16, &'static str)>,
    retry_after: Option<u32>,
    /// Value of `www-authenticate`.
    challenge: Option<&'static str>,
    fits: &'static [Reaction],
}

const fn fault(what: &'static str, answer: Option<(u16, &'static str)>, fits: &'static [Reaction]) -> SimulatedFault {
    SimulatedFault { what, answer, retry_after: None, challenge: None, fits }
}

const FAULTS: &[SimulatedFault] = &[
    SimulatedFault { retry_after: Some(17), ..fault("429 with Retry-After", Some((429, "{}")), &[Reaction::Wait]) },
    SimulatedFault { challenge: Some("Bearer"), ..fault("401", Some((401, "{}")), &[Reaction::RenewToken]) },
    fault("500", Some((500, "")), &[Reaction::TryLater, Reaction::Wait]),
    fault("503", Some((503, "busy")), &[Reaction::TryLater, Reaction::Wait]),
    fault("a refused connection", None, &[Reaction::TryLater]),
    fault("HTML in place of JSON", Some((200, "<html></html>")), &[Reaction::FixPlugin, Reaction::TryLater]),
    fault("JSON that ends early", Some((200, "{\"value\": [")), &[Reaction::FixPlugin, Reaction::TryLater]),
];

impl Transport for SimulatedFault {
    fn send(&self, _: OutgoingRequest) -> TransportFuture<'_> {
        let wait = self.retry_after.map(|seconds| ("retry-after".to_owned(), seconds.to_string()));
        let challenge = self.challenge.map(|value| ("www-authenticate".to_owned(), value.to_owned()));
        let answer = self.answer.map(|(status, body)| IncomingResponse {
            status,
            headers: wait.into_iter().chain(challenge).collect(),
            body: body.as_bytes().to_vec(),
        });
        Box::pin(std::future::ready(answer.ok_or(TransportError::Refused)))
    }
}

/// A transport that remembers its own errors.
struct WatchedTransport {
    inner: Arc<dyn Transport>,
    errors: Mutex<Vec<String>>,
}

impl WatchedTransport {
    fn new(inner: Arc<dyn Transport>) -> WatchedTransport {
        WatchedTransport { inner, errors: Mutex::default() }
    }

    fn gave(&self, error: &str) -> bool {
        self.errors.lock().iter().any(|known| known == error)
    }
}

impl Transport for WatchedTransport {
    fn replays(&self) -> bool {
        self.inner.replays()
    }

    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        Box::pin(async {
            let answer = self.inner.send(request).await;
            if let Err(error) = &answer {
                self.errors.lock().push(error.to_string());
            }
            answer
        })
    }
}
