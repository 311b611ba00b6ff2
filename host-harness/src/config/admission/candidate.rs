//! One feed before its admission: the host judges its settings first, and then the plugin does.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use source_host::blame::Blame;
use source_host::cause;
use source_host::contract::{self, CredentialKind, Description};
use source_host::credentials::expiry::{self, Validity};
use source_host::credentials::settings::{Oddity, Settings};
use source_host::feed::{Feed, FeedError};
use source_host::network::egress;
use source_host::plugin::Plugin;

use super::{FeedSurroundings, LeftOut, LeftOutReason};
use crate::admitted::{AdmittedFeed, FeedProfile, FeedVoice};
use crate::config::{ConfigPlace, ConfigProblem, FeedConfig, Interval, Pins, SeenFile, SourcePlace, astray};
use crate::files;
use crate::limits;

/// The expected value of a setting with a key pair.
const KEY_PAIR: &str = "PEM of an RSA private key without a passphrase and of its certificate";

/// The expected value of a setting with a token file.
const TOKEN_FILE: &str = "the path of a file with a signed token";

/// Endings of the names of settings that are secrets.
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
    /// Oddities that are no reason to refuse the feed.
    pub(super) warnings: Vec<ConfigProblem>,
}

/// The reason why a feed may not run.
pub(super) enum Rejected {
    /// Its configuration is wrong.
    Wrong(Vec<ConfigProblem>),
    /// The feed cannot be collected now, and that may change without a new configuration.
    LeftOut(LeftOut),
}

impl Rejected {
    /// Adds the pins of the feed's configuration: an earlier version of the feed continues only if it fits them.
    pub(super) fn pinned(self, pins: Pins) -> Rejected {
        match self {
            Rejected::LeftOut(out) => Rejected::LeftOut(LeftOut { pins, ..out }),
            wrong @ Rejected::Wrong(_) => wrong,
        }
    }

    /// Adds the file of the feed's plugin, because another plugin may replace it later.
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

/// Admits a feed, or returns all its problems.
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
    // Read first, so that a file that changes while it is read counts as changed.
    let files = settings.token_files().map(|(_, file)| SeenFile::now(file)).collect();
    candidate.examine(&settings, clock());
    let profile = FeedProfile {
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
        log_bytes: around.log_bytes,
        clock: Arc::clone(clock),
    };
    let mut feed = AdmittedFeed {
        id: id.as_str().into(),
        profile: Arc::new(profile),
        settings,
        plan: None,
        voice: FeedVoice::default(),
    };
    let opening = async {
        match feed.open(&around.nowhere, clock).await {
            // A call that was given up because the process stood still says nothing about the plugin.
            Err(FeedError::Call(error)) if error.blame() == Blame::Plugin => Err(error),
            opened => Ok(opened),
        }
    };
    let opened = around.faults.plans.once(feed.asked_with(), opening).await;
    match opened.unwrap_or_else(|error| Err(FeedError::Call(error))) {
        Ok(opened) if candidate.is_good() => {
            candidate.note_oddities(&opened);
            note_plan(&mut feed, &opened);
            match LeftOut::of_pins(&feed, &pins) {
                Some(out) => Err(Rejected::LeftOut(LeftOut { files, ..out })),
                None => Ok(Admitted { feed, warnings: candidate.warnings }),
            }
        }
        Ok(_) => Err(candidate.rejected(tenant, files)),
        Err(error) => Err(candidate.unopened(error, &given, tenant, files)),
    }
}

/// A feed that is being judged, and the problems so far.
struct Candidate<'a> {
    id: &'a str,
    place: &'a SourcePlace,
    description: &'a Description,
    /// The settings that the plugin knows; `None` if its schema does not list them.
    known: Option<Map<String, Value>>,
    problems: Vec<ConfigProblem>,
    warnings: Vec<ConfigProblem>,
    /// Settings that refer to values which cannot be read.
    unread: Vec<(String, ConfigProblem)>,
    /// Key pairs and token files that are unusable.
    unfit: Vec<(String, ConfigProblem)>,
    /// Settings with a problem that is already reported.
    told: Vec<String>,
    /// When credentials expire, by setting, in Unix milliseconds.
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

    /// Makes a problem of a setting, which a plugin names by a JSON pointer.
    fn problem(&self, setting: &str, message: String) -> ConfigProblem {
        let key = setting.trim_start_matches('/').replace('/', ".");
        let SourcePlace { table, settings } = self.place;
        let at = settings.get(top(setting)).unwrap_or(table).clone();
        ConfigPlace { at, feed: Some(self.id.to_owned()), key: Some(format!("settings.{key}")) }.problem(message)
    }

    fn odd(&self, Oddity { setting, words }: Oddity) -> ConfigProblem {
        match setting {
            Some(setting) => self.problem(&setting, words),
            None => plugin_place(self.id, self.place).problem(words),
        }
    }

    /// Makes a problem with the plugin's text.
    fn found(&self, problem: &contract::Problem) -> ConfigProblem {
        self.problem(&problem.setting, format!("found {}, expected {}", problem.found, problem.expected))
    }

    fn is_credential(&self, setting: &str) -> bool {
        self.description.credentials.iter().any(|known| known.setting == setting)
    }

    /// Says whether the plugin does not know a setting at all; the plugin reports that itself.
    fn is_unknown(&self, setting: &str) -> bool {
        self.known.as_ref().is_some_and(|known| !known.contains_key(setting))
    }

    /// Checks that secrets are credentials: the plugin would see the value of any other setting.
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

    /// Says whether a setting looks secret by its name, or by the plugin's own schema, although it is not a credential.
    fn looks_secret(&self, setting: &str) -> bool {
        let property = self.known.as_ref().and_then(|known| known.get(setting));
        let is_marked =
            property.is_some_and(|property| property["writeOnly"] == true || property["format"] == "password");
        let name = setting.to_ascii_lowercase();
        is_marked || SECRET_NAMES.iter().any(|end| name.ends_with(end))
    }

    /// Checks plain values that look like secrets: they go to the plugin, and appear in logs and recordings.
    fn judge_opened(&mut self, opened: &[String]) {
        let is_odd = |setting: &&String| !self.is_credential(setting) && self.looks_secret(setting);
        for setting in opened.iter().filter(is_odd).collect::<Vec<_>>() {
            let words = "has `plain = true` and looks like a secret: the plugin gets the value itself, and the host does not \
                         keep it out of logs and recordings";
            self.warnings.push(self.problem(setting, words.to_owned()));
        }
    }

    /// Checks that credentials are texts: the host could not seal another value.
    fn judge_credentials(&mut self, settings: &Settings) {
        let given = settings.plain();
        for setting in settings.unsealed(self.description) {
            let Some(value) = given.get(&setting) else { continue };
            let message = astray::reference(value).unwrap_or_else(|| {
                let found = astray::kind(value);
                format!("found {found}, expected a string, {{ env = \"…\" }} or {{ file = \"…\" }}: it is a credential")
            });
            self.problems.push(self.problem(&setting, message));
            self.told.push(setting);
        }
    }

    /// Warns of credentials that are written in the configuration itself.
    fn judge_open(&mut self, settings: &Settings, opened: &[String]) {
        let open = settings.in_the_open(self.description, self.id, opened);
        let warnings: Vec<ConfigProblem> = open.map(|odd| self.odd(odd)).collect();
        self.warnings.extend(warnings);
    }

    /// Returns the time between two polls: the configured one, which may be odd, or the plugin's proposal, but never
    /// shorter than the host's minimum for proposals.
    fn interval(&mut self, configured: Option<Interval>) -> Duration {
        let refresh = self.description.refresh_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let short = configured.as_ref().zip(refresh).and_then(|(interval, refresh)| interval.oddity(refresh));
        self.warnings.extend(short);
        let proposed = Duration::from_secs(self.description.interval_seconds.into());
        configured.map_or(proposed.max(limits::LEAST_PROPOSED_INTERVAL), |interval| interval.time)
    }

    /// Separates the credentials from the settings; paths in settings are relative to the file that contains them.
    fn sealed(&mut self, settings: Settings) -> Settings {
        let credentials = self.description.credentials.iter();
        self.expiries.extend(credentials.filter_map(|credential| settings.expiry(&credential.setting)));
        settings.sealing(self.description).under(|setting| {
            let file = &self.place.settings.get(setting).unwrap_or(&self.place.table).file;
            file.parent().map(Path::to_owned).unwrap_or_default()
        })
    }

    /// Examines key pairs and token files. `now` is Unix time in milliseconds.
    fn examine(&mut self, settings: &Settings, now: u64) {
        for (setting, file) in settings.token_files() {
            self.warnings.extend(files::too_open(&file).map(|words| self.problem(setting, words)));
        }
        for (setting, found) in settings.examined() {
            if self.unread.iter().any(|(known, _)| *known == setting) {
                continue;
            }
            match found {
                Ok(Some(Validity { from, until })) => {
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

    /// Adds the problems that the plugin found in the settings that it was given.
    fn hear(&mut self, problems: &[contract::Problem], given: &Map<String, Value>) {
        // A problem with a placeholder that replaces an unread value helps nobody.
        let replaced = self.unread.iter().chain(&self.unfit).map(|(setting, _)| setting);
        let replaced = replaced.filter(|setting| !self.is_credential(setting));
        let told: BTreeSet<&str> = self.told.iter().chain(replaced).map(String::as_str).collect();
        let heard = problems.iter().filter(|problem| !told.contains(top(&problem.setting)));
        let heard: Vec<ConfigProblem> = heard.map(|problem| self.advised(problem, given)).collect();
        self.problems.extend(heard);
        // A problem that the plugin finds in a credential's setting replaces one that the host found in its value.
        self.unfit.retain(|(setting, _)| !problems.iter().any(|problem| top(&problem.setting) == setting));
    }

    /// Makes a problem of one that the plugin found, with the host's own advice if a key is in the wrong table.
    fn advised(&self, problem: &contract::Problem, given: &Map<String, Value>) -> ConfigProblem {
        let setting = top(&problem.setting);
        let misplaced = self.is_unknown(setting).then(|| astray::misplaced(setting)).flatten();
        let advice = misplaced.or_else(|| astray::reference(given.get(setting)?));
        advice.map_or_else(|| self.found(problem), |advice| self.problem(setting, advice))
    }

    /// Adds the oddities that the plugin and its schema find.
    fn note_oddities(&mut self, feed: &Feed) {
        let odd = feed.plan().warnings.iter().map(|problem| self.found(problem));
        let odd = odd.chain(feed.oddities().into_iter().map(|odd| self.odd(odd)));
        let odd: Vec<ConfigProblem> = odd.collect();
        self.warnings.extend(odd);
    }

    /// Rejects the feed because the plugin, or the host, did not open it.
    fn unopened(
        mut self,
        error: FeedError,
        given: &Map<String, Value>,
        tenant: String,
        files: Vec<SeenFile>,
    ) -> Rejected {
        let place = plugin_place(self.id, self.place);
        match error {
            FeedError::Settings(problems) => self.hear(&problems, given),
            // A plugin that fails is a problem of its own feeds only.
            FeedError::Call(error) if self.problems.is_empty() => {
                let (id, problem) = (self.id, place.problem(cause::chain(&error)));
                let why = LeftOutReason::of_call(&error);
                return Rejected::LeftOut(LeftOut::of_plugin(why, &tenant, id, problem, self.unreadable()));
            }
            error => self.problems.push(place.problem(cause::chain(&error))),
        }
        self.rejected(tenant, files)
    }

    fn unreadable(self) -> Vec<(String, ConfigProblem)> {
        self.unread.into_iter().chain(self.unfit).collect()
    }

    /// Rejects the feed for the problems of its configuration, or else for values that cannot be read now.
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

/// Returns the place of a feed's plugin in the configuration.
pub(super) fn plugin_place(feed: &str, place: &SourcePlace) -> ConfigPlace {
    ConfigPlace { at: place.table.clone(), feed: Some(feed.to_owned()), key: Some("plugin".to_owned()) }
}

/// The setting at the beginning of a JSON pointer.
fn top(pointer: &str) -> &str {
    pointer.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// Keeps with a feed its plan and the plan's origins.
fn note_plan(admitted: &mut AdmittedFeed, feed: &Feed) {
    let shapes = &feed.plan().shapes;
    // Each different spelling is parsed once.
    let canonical =
        |spelled: BTreeSet<&str>| -> BTreeSet<String> { spelled.into_iter().filter_map(egress::canonical).collect() };
    let origins = canonical(shapes.iter().map(|shape| shape.origin.as_str()).collect());
    let profile = Arc::make_mut(&mut admitted.profile);
    profile.origins = origins.into_iter().collect();
    let carrying = shapes.iter().filter(|shape| !shape.credentials.is_empty());
    let carrying = canonical(carrying.map(|shape| shape.origin.as_str()).collect());
    profile.in_clear = carrying.into_iter().filter(|origin| origin.starts_with("http://")).collect();
    admitted.keep_plan(shapes);
}
