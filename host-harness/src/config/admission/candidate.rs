//! One feed before it is admitted: its settings are judged here first, and then by its plugin.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use source_host::cause;
use source_host::contract::{self, CredentialKind, Description};
use source_host::credentials::expiry;
use source_host::credentials::settings::Settings;
use source_host::feed::admitted::AdmittedFeed;
use source_host::feed::{Feed, FeedError};
use source_host::network::egress;
use source_host::plugin::Plugin;
use source_host::plugin::log_share::LogShare;

use super::{FeedSurroundings, LeftOut, LeftOutReason};
use crate::config::{ConfigProblem, FeedConfig, Interval, Pins, SeenFile, SourcePlace, astray};
use crate::files;
use crate::limits;

/// What belongs into a setting of a key pair.
const KEY_PAIR: &str = "PEM of an RSA private key without a passphrase and of its certificate";

/// What belongs into a setting of a token file.
const TOKEN_FILE: &str = "the path of a file with a signed token";

/// Ends of the names of settings that are secrets.
const SECRET_NAMES: &[&str] = &[
    "access_key",
    "api_key",
    "apikey",
    "credential",
    "passphrase",
    "password",
    "private_key",
    "pwd",
    "secret",
    "token",
];

/// A feed that may run.
pub(super) struct Admitted {
    pub(super) feed: AdmittedFeed,
    /// Odd, and no reason to refuse it.
    pub(super) warnings: Vec<ConfigProblem>,
}

/// Why a feed may not run.
pub(super) enum Rejected {
    /// It is configured wrongly.
    Wrong(Vec<ConfigProblem>),
    /// It cannot be collected now, and that may change without its configuration.
    LeftOut(LeftOut),
}

impl Rejected {
    /// The same with the pins of its configuration: what runs already goes on within them only.
    pub(super) fn pinned(self, pins: Pins) -> Rejected {
        match self {
            Rejected::LeftOut(out) => Rejected::LeftOut(LeftOut { pins, ..out }),
            wrong @ Rejected::Wrong(_) => wrong,
        }
    }

    /// The same with the file of its plugin: another plugin may stand there later.
    pub(super) fn watching(self, plugin: Option<&SeenFile>) -> Rejected {
        match self {
            Rejected::LeftOut(out) if out.why != LeftOutReason::Credentials => {
                let files = out.files.into_iter().chain(plugin.cloned()).collect();
                Rejected::LeftOut(LeftOut { files, ..out })
            }
            rejected => rejected,
        }
    }
}

/// Admits a feed, or says all that is wrong with it.
pub(super) async fn admit(
    plugin: Plugin,
    description: &Description,
    config: FeedConfig,
    around: &FeedSurroundings,
) -> Result<Admitted, Rejected> {
    let FeedConfig { id, tenant, interval, sinks, contact, pins, settings, place, sealed, opened, .. } = config;
    let (unreadable, clock) = (config.unreadable, &around.clock);
    let mut candidate = Candidate::new(&id, &place, description, unreadable);
    candidate.judge_secrets(&sealed);
    candidate.judge_credentials(&settings);
    candidate.judge_open(&settings, &opened);
    candidate.judge_opened(&opened);
    let interval = candidate.interval(interval);
    let given = settings.plain();
    let settings = candidate.sealed(settings);
    // Looked at first: who writes one while it is read has changed it.
    let files = settings.token_files().map(|(_, file)| SeenFile::now(file)).collect();
    candidate.examine(&settings, clock());
    let mut feed = AdmittedFeed {
        id: id.as_str().into(),
        tenant: tenant.as_str().into(),
        interval,
        sinks: sinks.into(),
        contact,
        origins: Arc::default(),
        in_clear: Box::default(),
        expiries: std::mem::take(&mut candidate.expiries).into(),
        allowed: around.ways.origins(&plugin),
        plugin,
        identity: settings.identity(description),
        settings,
        news: Arc::default(),
        log: Arc::new(LogShare::new(around.log_bytes, Arc::clone(clock))),
        plan: None,
    };
    let opening = async {
        match feed.open(&around.nowhere, clock).await {
            Err(FeedError::Call(error)) => Err(error),
            opened => Ok(opened),
        }
    };
    let opened = around.faults.plans.once(feed.asked_with(), opening).await;
    match opened.unwrap_or_else(|error| Err(FeedError::Call(error))) {
        Ok(opened) if candidate.is_good() => {
            candidate.note_oddities(&opened);
            note_plan(&mut feed, &opened);
            return match LeftOut::of_pins(&feed, &pins) {
                Some(out) => Err(Rejected::LeftOut(LeftOut { files, ..out })),
                None => Ok(Admitted { feed, warnings: candidate.warnings }),
            };
        }
        Ok(_) => {}
        Err(FeedError::Settings(problems)) => candidate.hear(&problems, &given),
        // A plugin that breaks down is the trouble of its own feeds.
        Err(FeedError::Call(error)) if candidate.problems.is_empty() => {
            let problem = plugin_problem(&id, &place, cause::chain(&error));
            return Err(Rejected::LeftOut(LeftOut::of_plugin(&tenant, &id, problem, candidate.unreadable())));
        }
        Err(error @ (FeedError::Call(_) | FeedError::Host(_))) => {
            candidate.problems.push(plugin_problem(&id, &place, cause::chain(&error)));
        }
    }
    Err(candidate.rejected(tenant, files))
}

/// A feed that is being judged, and what was found so far.
struct Candidate<'a> {
    id: &'a str,
    place: &'a SourcePlace,
    description: &'a Description,
    /// The settings that the plugin knows; none where its schema does not list them.
    known: Option<Map<String, Value>>,
    problems: Vec<ConfigProblem>,
    warnings: Vec<ConfigProblem>,
    /// Settings that refer to what cannot be read.
    unread: Vec<(String, ConfigProblem)>,
    /// Key pairs and token files that are of no use.
    unfit: Vec<(String, ConfigProblem)>,
    /// Settings of which a problem is told already.
    told: Vec<String>,
    /// When credentials run out, by setting, in Unix milliseconds.
    expiries: Vec<(String, u64)>,
}

impl<'a> Candidate<'a> {
    fn new(
        id: &'a str,
        place: &'a SourcePlace,
        description: &'a Description,
        unread: Vec<(String, ConfigProblem)>,
    ) -> Candidate<'a> {
        let schema: Value = serde_json::from_str(&description.settings_schema).unwrap_or_default();
        let known = schema.get("properties").and_then(Value::as_object).cloned();
        let (problems, warnings, unfit) = (Vec::new(), Vec::new(), Vec::new());
        Candidate {
            id,
            place,
            description,
            known,
            problems,
            warnings,
            unread,
            unfit,
            told: Vec::new(),
            expiries: Vec::new(),
        }
    }

    /// A problem of a setting, which a plugin names by a JSON pointer.
    fn problem(&self, setting: &str, message: String) -> ConfigProblem {
        let key = setting.trim_start_matches('/').replace('/', ".");
        let place = self.place;
        let (file, line) =
            place.settings.get(top(setting)).cloned().unwrap_or_else(|| (place.file.clone(), place.line));
        ConfigProblem { file, line, feed: Some(self.id.to_owned()), key: format!("settings.{key}"), message }
    }

    /// The same in the words of the plugin.
    fn found(&self, problem: &contract::Problem) -> ConfigProblem {
        self.problem(&problem.setting, format!("found {}, expected {}", problem.found, problem.expected))
    }

    fn is_credential(&self, setting: &str) -> bool {
        self.description.credentials.iter().any(|known| known.setting == setting)
    }

    /// Whether the plugin does not know a setting at all, which is for the plugin to say.
    fn is_unknown(&self, setting: &str) -> bool {
        self.known.as_ref().is_some_and(|known| !known.contains_key(setting))
    }

    /// Secrets are credentials: the plugin would not see another setting that is one.
    fn judge_secrets(&mut self, sealed: &[String]) {
        let is_misplaced = |setting: &&String| !self.is_credential(setting) && !self.is_unknown(setting);
        for setting in sealed.iter().filter(is_misplaced).collect::<Vec<_>>() {
            let message = if self.looks_secret(setting) {
                "found a secret, which the plugin does not declare to be a credential: it would get the value itself. Ask \
                 the plugin's author to declare it"
            } else {
                "found a secret, expected a plain value: the plugin does not declare it to be a credential, and gets the \
                 value itself. If the value is no secret, write it here, or add `plain = true`"
            };
            self.problems.push(self.problem(setting, message.to_owned()));
            self.told.push(setting.clone());
        }
    }

    /// Whether a setting is a secret by its name, or by the plugin's own schema, though it is no credential.
    fn looks_secret(&self, setting: &str) -> bool {
        let property = self.known.as_ref().and_then(|known| known.get(setting));
        let is_marked =
            property.is_some_and(|property| property["writeOnly"] == true || property["format"] == "password");
        let name = setting.to_ascii_lowercase();
        is_marked || SECRET_NAMES.iter().any(|end| name.ends_with(end))
    }

    /// A plain value that looks like a secret goes to the plugin, and stands in logs and recordings.
    fn judge_opened(&mut self, opened: &[String]) {
        let is_odd = |setting: &&String| !self.is_credential(setting) && self.looks_secret(setting);
        for setting in opened.iter().filter(is_odd).collect::<Vec<_>>() {
            let words = "has `plain = true` and looks like a secret: the plugin gets the value itself, and the host does not \
                         keep it out of logs and recordings";
            self.warnings.push(self.problem(setting, words.to_owned()));
        }
    }

    /// Credentials are texts: nobody could keep another value from the plugin.
    fn judge_credentials(&mut self, settings: &Settings) {
        let given = settings.plain();
        for setting in settings.unsealed(self.description) {
            let Some(value) = given.get(&setting) else { continue };
            let message = astray::reference(value).unwrap_or_else(|| {
                let found = astray::kind(value);
                format!("found {found}, expected a text, {{ env = \"…\" }} or {{ file = \"…\" }}: it is a credential")
            });
            self.problems.push(self.problem(&setting, message));
            self.told.push(setting);
        }
    }

    /// Credentials that stand in the configuration itself are odd.
    fn judge_open(&mut self, settings: &Settings, opened: &[String]) {
        let open = settings.in_the_open(self.description, self.id, opened);
        let warnings: Vec<ConfigProblem> = open.map(|(setting, words)| self.problem(&setting, words)).collect();
        self.warnings.extend(warnings);
    }

    /// The time between two polls: the configured one, which may be odd, or the plugin's own proposal, of which none is
    /// shorter than the operator's sinks and machine were asked for.
    fn interval(&mut self, configured: Option<Interval>) -> Duration {
        let refresh = self.description.refresh_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let short = configured.as_ref().zip(refresh).and_then(|(interval, refresh)| interval.oddity(refresh));
        self.warnings.extend(short);
        let proposed = Duration::from_secs(self.description.interval_seconds.into());
        configured.map_or(proposed.max(limits::LEAST_PROPOSED_INTERVAL), |interval| interval.time)
    }

    /// The settings with the credentials apart from them; paths in them are relative to the file where they stand.
    fn sealed(&mut self, settings: Settings) -> Settings {
        let credentials = self.description.credentials.iter();
        self.expiries.extend(credentials.filter_map(|credential| settings.expiry(&credential.setting)));
        settings.sealing(self.description).under(|setting| {
            let file = self.place.settings.get(setting).map_or(&self.place.file, |(file, _)| file);
            file.parent().map(Path::to_owned).unwrap_or_default()
        })
    }

    /// Reads key pairs and token files. `now` is Unix time in milliseconds.
    fn examine(&mut self, settings: &Settings, now: u64) {
        for (setting, file) in settings.token_files() {
            self.warnings.extend(files::too_open(&file).map(|words| self.problem(setting, words)));
        }
        for (setting, found) in settings.examined() {
            if self.unread.iter().any(|(known, _)| *known == setting) {
                continue;
            }
            match found {
                Ok(Some((from, until))) => {
                    if from > now {
                        let message = format!("its certificate is not valid before {}", expiry::date(from));
                        self.warnings.push(self.problem(&setting, message));
                    }
                    self.expiries.push((setting, until));
                }
                Ok(None) => {}
                Err(error) => {
                    let mut credentials = self.description.credentials.iter();
                    let kind = credentials.find(|known| known.setting == setting).map(|known| known.kind);
                    let fits = if kind == Some(CredentialKind::KeyPair) { KEY_PAIR } else { TOKEN_FILE };
                    let problem = self.problem(&setting, format!("found {error}, expected {fits}"));
                    self.unfit.push((setting, problem));
                }
            }
        }
    }

    fn is_good(&self) -> bool {
        self.problems.is_empty() && self.unread.is_empty() && self.unfit.is_empty()
    }

    /// Takes the problems that the plugin finds in the settings that it was given.
    fn hear(&mut self, problems: &[contract::Problem], given: &Map<String, Value>) {
        // What the plugin says of what stands in place of a value is of no use to anybody.
        let replaced = self.unread.iter().chain(&self.unfit).map(|(setting, _)| setting);
        let replaced = replaced.filter(|setting| !self.is_credential(setting));
        let told: BTreeSet<&str> = self.told.iter().chain(replaced).map(String::as_str).collect();
        let heard = problems.iter().filter(|problem| !told.contains(top(&problem.setting)));
        let heard: Vec<ConfigProblem> = heard.map(|problem| self.advised(problem, given)).collect();
        self.problems.extend(heard);
        // What the plugin says of a credential's place goes before what is found in it.
        self.unfit.retain(|(setting, _)| !problems.iter().any(|problem| top(&problem.setting) == setting));
    }

    /// A problem that the plugin found, with the host's own advice where a key is astray.
    fn advised(&self, problem: &contract::Problem, given: &Map<String, Value>) -> ConfigProblem {
        let setting = top(&problem.setting);
        let misplaced = self.is_unknown(setting).then(|| astray::misplaced(setting)).flatten();
        let advice = misplaced.or_else(|| astray::reference(given.get(setting)?));
        advice.map_or_else(|| self.found(problem), |advice| self.problem(setting, advice))
    }

    /// Takes what the plugin and its schema find odd.
    fn note_oddities(&mut self, feed: &Feed) {
        let odd = feed.plan().warnings.iter().map(|problem| self.found(problem));
        let odd = odd.chain(feed.oddities().into_iter().map(|(setting, words)| self.problem(&setting, words)));
        let odd: Vec<ConfigProblem> = odd.collect();
        self.warnings.extend(odd);
    }

    fn unreadable(self) -> Vec<(String, ConfigProblem)> {
        self.unread.into_iter().chain(self.unfit).collect()
    }

    /// What is wrong with the configuration, or else what cannot be read now.
    fn rejected(mut self, tenant: String, files: Vec<SeenFile>) -> Rejected {
        let (feed, mut problems) = (self.id.to_owned(), std::mem::take(&mut self.problems));
        let is_wrong = !problems.is_empty();
        problems.extend(self.unreadable().into_iter().map(|(_, problem)| problem));
        if is_wrong {
            return Rejected::Wrong(problems);
        }
        Rejected::LeftOut(LeftOut { problems, files, ..LeftOut::because(LeftOutReason::Credentials, &tenant, &feed) })
    }
}

/// A problem of a feed's plugin.
pub(super) fn plugin_problem(feed: &str, place: &SourcePlace, message: String) -> ConfigProblem {
    let (file, feed) = (place.file.clone(), Some(feed.to_owned()));
    ConfigProblem { file, line: place.line, feed, key: "plugin".to_owned(), message }
}

/// The setting in which a JSON pointer begins.
fn top(pointer: &str) -> &str {
    pointer.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// Keeps with a feed where its requests go, and which they are.
fn note_plan(admitted: &mut AdmittedFeed, feed: &Feed) {
    let shapes = &feed.plan().shapes;
    // Each different spelling is read once.
    let canonical =
        |spelled: BTreeSet<&str>| -> BTreeSet<String> { spelled.into_iter().filter_map(egress::canonical).collect() };
    let origins = canonical(shapes.iter().map(|shape| shape.origin.as_str()).collect());
    admitted.origins = origins.into_iter().collect();
    let carrying = shapes.iter().filter(|shape| !shape.credentials.is_empty());
    let carrying = canonical(carrying.map(|shape| shape.origin.as_str()).collect());
    admitted.in_clear = carrying.into_iter().filter(|origin| origin.starts_with("http://")).collect();
    admitted.keep_plan(shapes);
}
