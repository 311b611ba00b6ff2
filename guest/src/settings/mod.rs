//! The settings, read once: every problem at the same time, each under the name that the user wrote.

use serde_json::{Map, Value};

use crate::clouds::{CLOUDS, Cloud};
use crate::contract::{Failure, Problem};
use crate::diagnoses::SETTINGS_INVALID;
use crate::http;

mod forms;
mod meant;

pub use forms::is_guid;
use forms::{DAY_SECONDS, duration_seconds, is_date, is_domain, is_origin};

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Application (client) ID, in lower case.
    pub client_id: String,
    /// What the application signs in with; none where the host withholds credentials.
    pub credential: Option<Credential>,
    /// Tenant: a GUID in lower case, or a domain.
    pub tenant: String,
    /// Origin of Entra ID.
    pub authority: String,
    /// Origin of Azure Resource Manager.
    pub endpoint: String,
    /// The token's scope without `/.default`.
    pub audience: String,
    /// OCSF `cloud_partition`, where it is known and not the public one.
    pub partition: Option<&'static str>,
    /// What to poll.
    pub subscriptions: Subscriptions,
    /// What to collect, in the order in which it is read.
    pub events: Vec<EventKind>,
    /// How much of a definition an event carries.
    pub definitions: Definitions,
    /// OCSF class of the events.
    pub class: Class,
    /// Whether unchanged findings are told at each poll.
    pub emit_unchanged: bool,
    /// Time between two snapshots.
    pub snapshot_seconds: u64,
    /// Whether events carry the item to the letter.
    pub raw: bool,
    /// Whether events carry observables.
    pub observables: bool,
    /// Version of the OCSF extension.
    pub extension_version: String,
}

/// What the application signs in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The client secret, or its placeholder.
    Secret(String),
    /// An assertion that the host makes of the credential in this setting.
    Assertion(&'static str),
}

/// Settings that hold a credential: one of them, and what belongs there.
const CREDENTIALS: &[(&str, &str)] = &[
    ("client_secret", "the client secret's Value"),
    ("client_certificate", "PEM of the private key and the certificate, by `{ file = … }` or `{ env = … }`"),
    ("federated_token_file", "the path of the file in which the other identity provider leaves its token"),
];

/// Which subscriptions to poll; ids in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscriptions {
    /// These.
    List(Vec<String>),
    /// Every enabled one that the application can read.
    All {
        /// But these.
        exclude: Vec<String>,
        /// Those of other tenants too.
        delegated: bool,
    },
}

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// Secure scores of initiatives.
    Scores,
    /// Controls of secure scores.
    Controls,
}

impl EventKind {
    /// Both, in the order in which they are read.
    pub const ALL: [EventKind; 2] = [EventKind::Scores, EventKind::Controls];

    /// As in settings and pages.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Scores => "secure-scores",
            EventKind::Controls => "secure-score-controls",
        }
    }

    /// As people call it.
    pub fn title(self) -> &'static str {
        match self {
            EventKind::Scores => "Secure Scores",
            EventKind::Controls => "Secure Score Controls",
        }
    }

    /// Names the list of this kind for people.
    pub fn list(self) -> &'static str {
        match self {
            EventKind::Scores => "the list of secure scores",
            EventKind::Controls => "the list of secure score controls",
        }
    }

    /// The resource type of its items.
    pub fn resource_type(self) -> &'static str {
        match self {
            EventKind::Scores => "Microsoft.Security/secureScores",
            EventKind::Controls => "Microsoft.Security/secureScores/secureScoreControls",
        }
    }

    /// The kind of a name.
    pub fn named(name: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How much of a control's definition an event carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Definitions {
    /// Nothing; it is not asked for.
    None,
    /// All but the assessments.
    Summary,
    /// The assessments too, as checks.
    Full,
}

/// OCSF class of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 99402001, of the extension `databee`.
    AssessmentFinding,
    /// 2003, of OCSF itself.
    ComplianceFinding,
}

impl Class {
    /// Number of the class; of an extension's: (extension × 100 + category) × 1000 + class.
    pub fn uid(self) -> u64 {
        match self {
            Class::AssessmentFinding => 99_402_001,
            Class::ComplianceFinding => 2_003,
        }
    }

    /// Caption of the class.
    pub fn caption(self) -> &'static str {
        match self {
            Class::AssessmentFinding => "Assessment Finding",
            Class::ComplianceFinding => "Compliance Finding",
        }
    }
}

/// Every key, for the nearest one to an unknown key.
const KEYS: &[&str] = &[
    "client_key",
    "client_id",
    "client_secret",
    "client_secret_expires",
    "client_certificate",
    "federated_token_file",
    "token_url",
    "tenant_id",
    "subscription_id",
    "exclude_subscriptions",
    "delegated",
    "cloud",
    "authority",
    "endpoint",
    "audience",
    "events",
    "definitions",
    "class",
    "emit",
    "snapshot_every",
    "raw",
    "entity_resolution",
    "extension_version",
];

/// Settings that this version does not have, though a later one is to have them.
const LATER: &[&str] = &["ocsf_version"];

/// Classes of which the same holds, by the names that they have in lower case without signs.
const LATER_CLASSES: &[&str] = &["detectionfinding", "detection", "2004"];

/// No secret that Entra ID makes is shorter.
const SHORTEST_SECRET: usize = 16;

/// Reads settings as a user wrote them: the settings with their warnings, or every problem.
pub fn read(text: &str) -> Result<(Settings, Vec<Problem>), Vec<Problem>> {
    let mut reader = Reader::new(text)?;
    let settings = reader.settings();
    if !CREDENTIALS.iter().any(|(key, _)| reader.has(key) || reader.is_meant(key)) {
        let names: Vec<_> = CREDENTIALS.iter().map(|(key, _)| format!("`{key}`")).collect();
        reader.problem("client_secret", "nothing", &format!("a credential: {}", names.join(" or ")));
    } else if reader.has("client_secret_expires") && !reader.has("client_secret") && !reader.is_meant("client_secret") {
        reader.problem("client_secret_expires", "a date without its `client_secret`", "nothing");
    }
    if reader.problems.is_empty() { Ok((settings, reader.warnings)) } else { Err(reader.problems) }
}

impl Settings {
    /// Reads settings that `prepare` found good; credentials may be withheld.
    pub fn trusted(text: &str) -> Result<Settings, Failure> {
        let invalid = |problems: &[Problem]| {
            let words: Vec<_> = problems
                .iter()
                .map(|problem| format!("`{}`: found {}, expected {}", problem.setting, problem.found, problem.expected))
                .collect();
            SETTINGS_INVALID.failure(&words.join("; "))
        };
        let mut reader = Reader::new(text).map_err(|problems| invalid(&problems))?;
        let settings = reader.settings();
        if reader.problems.is_empty() { Ok(settings) } else { Err(invalid(&reader.problems)) }
    }

    /// Whether the tenant is given as its id.
    pub fn tenant_is_id(&self) -> bool {
        is_guid(&self.tenant)
    }
}

/// Takes the settings object apart and notes what is wrong with it.
struct Reader {
    object: Map<String, Value>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Settings that unknown ones are a few letters off from: that they are missing only follows.
    meant: Vec<&'static str>,
}

impl Reader {
    fn new(text: &str) -> Result<Reader, Vec<Problem>> {
        let whole = |found: &str| {
            vec![Problem {
                setting: String::new(),
                found: found.to_owned(),
                expected: "a JSON object of settings".to_owned(),
            }]
        };
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => {
                Ok(Reader { object, problems: Vec::new(), warnings: Vec::new(), meant: Vec::new() })
            }
            Ok(other) => Err(whole(kind(&other))),
            Err(error) => Err(whole(&format!("text that is no JSON ({error})"))),
        }
    }

    fn settings(&mut self) -> Settings {
        self.refuse_unknown_keys();
        let client_id = self.client_id();
        let (tenant, token_origin) = self.tenant();
        let cloud = self.cloud();
        let authority = self.origin("authority");
        if let (Some(authority), Some(token_origin)) = (&authority, &token_origin)
            && authority != token_origin
        {
            self.problem(
                "authority",
                &format!("`{authority}`"),
                &format!("`{token_origin}`, as in the token URL, or nothing"),
            );
        }
        let of_token = CLOUDS.iter().find(|cloud| Some(cloud.authority) == token_origin.as_deref()).copied();
        if let (Some(cloud), Some(of_token)) = (cloud, of_token)
            && cloud != of_token
        {
            let expected = format!("`{}`, to which the token URL belongs", of_token.name);
            self.problem("cloud", &format!("`{}`", cloud.name), &expected);
        }
        let preset = cloud.or(of_token).unwrap_or(CLOUDS[0]);
        let endpoint = self.origin("endpoint");
        // The cloud's own address is no other one, whether somebody writes it or not.
        let own_authority = [&authority, &token_origin]
            .into_iter()
            .any(|origin| origin.as_ref().is_some_and(|origin| origin != preset.authority))
            || self.has("authority") && authority.is_none();
        let own_endpoint = self.has("endpoint") && endpoint.as_deref() != Some(preset.endpoint);
        self.warn_of_other_clouds(own_authority, own_endpoint);
        let custom = own_authority || own_endpoint;
        let endpoint = endpoint.unwrap_or_else(|| preset.endpoint.to_owned());
        Settings {
            client_id,
            credential: self.credential(),
            tenant,
            authority: authority.or(token_origin).unwrap_or_else(|| preset.authority.to_owned()),
            audience: self.audience().unwrap_or_else(|| preset.audience.to_owned()),
            endpoint,
            partition: if custom && cloud.is_none() { None } else { preset.partition },
            subscriptions: self.subscriptions(),
            events: self.events(),
            definitions: self.choice(
                "definitions",
                &[("summary", Definitions::Summary), ("none", Definitions::None), ("full", Definitions::Full)],
                meant::DEFINITIONS,
            ),
            class: self.class(),
            emit_unchanged: self.choice("emit", &[("changes", false), ("snapshot", true)], meant::EMIT),
            snapshot_seconds: self.snapshot_seconds(),
            raw: self.choice("raw", &[("full", true), ("hash", false)], meant::RAW),
            observables: self.boolean("entity_resolution", true),
            extension_version: self.extension_version(),
        }
    }

    fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    fn problem(&mut self, key: &str, found: &str, expected: &str) {
        self.problems.push(problem(key, found, expected));
    }

    fn warn(&mut self, key: &str, found: &str, expected: &str) {
        self.warnings.push(problem(key, found, expected));
    }

    fn is_meant(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }

    /// Says that a setting is missing, unless it is there under a name that is a few letters off.
    fn missing(&mut self, keys: &[&str], expected: &str) {
        if !keys.iter().any(|key| self.is_meant(key)) {
            self.problem(keys[0], "nothing", expected);
        }
    }

    fn refuse_unknown_keys(&mut self) {
        let keys: Vec<String> = self.object.keys().filter(|key| !KEYS.contains(&key.as_str())).cloned().collect();
        for key in keys {
            if LATER.contains(&key.as_str()) {
                self.problem(&key, "a setting that is not there yet", "no such setting");
                continue;
            }
            let meant = meant::name(&key, KEYS.iter().copied(), &[]);
            self.meant.extend(meant);
            let expected = match meant.or_else(|| meant::nearest(&key, KEYS)) {
                Some(nearest) => format!("a known setting; the nearest is `{nearest}`"),
                None => format!("a known setting: {}", KEYS.join(", ")),
            };
            self.problem(&key, "an unknown setting", &expected);
        }
    }

    /// The name that the user wrote, of two for the same setting.
    fn either(&mut self, first: &'static str, second: &'static str) -> &'static str {
        match (self.has(first), self.has(second)) {
            (true, true) => {
                self.problem(second, &format!("`{first}` as well, which is the same setting"), "one of the two");
                first
            }
            (false, true) => second,
            _ => first,
        }
    }

    /// A string without surrounding white space; a problem where it is something else or empty.
    fn text(&mut self, key: &str, expected: &str) -> Option<String> {
        let found = match self.object.get(key) {
            None => return None,
            Some(Value::String(text)) if !text.trim().is_empty() => {
                let trimmed = text.trim().to_owned();
                if trimmed.len() != text.len() {
                    self.warn(key, "white space around the value, which was trimmed", "the value alone");
                }
                return Some(trimmed);
            }
            Some(Value::String(_)) => "an empty string",
            Some(other) => kind(other),
        };
        self.problem(key, found, expected);
        None
    }

    fn client_id(&mut self) -> String {
        const EXPECTED: &str = "the Application (client) ID, a GUID";
        let key = self.either("client_key", "client_id");
        if !self.has(key) {
            self.missing(&["client_key", "client_id"], EXPECTED);
        }
        match self.text(key, EXPECTED) {
            Some(text) if is_guid(&text) => text.to_ascii_lowercase(),
            Some(text) => {
                self.problem(key, &quoted_id(&text), EXPECTED);
                String::new()
            }
            None => String::new(),
        }
    }

    /// The credential. Its value is the host's affair: here it is most often a placeholder.
    fn credential(&mut self) -> Option<Credential> {
        let mut first: Option<(&'static str, Credential)> = None;
        for (key, expected) in CREDENTIALS {
            let found = match self.object.get(*key) {
                None => continue,
                Some(Value::String(value)) if !value.trim().is_empty() => {
                    let credential = match *key {
                        "client_secret" => Credential::Secret(value.clone()),
                        other => Credential::Assertion(other),
                    };
                    match &first {
                        None => first = Some((key, credential)),
                        Some((first, _)) => {
                            let found = format!("`{first}` as well");
                            self.problem(key, &found, "one credential alone");
                        }
                    }
                    continue;
                }
                Some(Value::String(_)) => "an empty string",
                Some(other) => kind(other),
            };
            self.problem(key, found, expected);
        }
        first.map(|(_, credential)| credential)
    }

    /// The tenant, and the authority where the full token URL names one.
    fn tenant(&mut self) -> (String, Option<String>) {
        const EXPECTED: &str =
            "the Directory (tenant) ID, a domain of the tenant, or https://AUTHORITY/TENANT/oauth2/v2.0/token";
        let key = self.either("token_url", "tenant_id");
        if !self.has(key) {
            self.missing(&["token_url", "tenant_id"], EXPECTED);
        }
        let Some(text) = self.text(key, EXPECTED) else { return Default::default() };
        let (tenant, origin) = match http::origin(&text) {
            None => (text.as_str(), None),
            Some(origin) => {
                let path = text[origin.len()..].trim_matches('/');
                let (tenant, rest) = path.split_once('/').unwrap_or((path, ""));
                if !["", "oauth2/v2.0/token", "oauth2/token"].contains(&rest) || !is_origin(origin) {
                    self.problem(key, &quoted(&text), EXPECTED);
                    return Default::default();
                }
                if let Some(secure) = in_clear(origin) {
                    self.problem(key, &quoted(&text), &format!("`{secure}`: nothing goes to this cloud in clear"));
                    return Default::default();
                }
                if rest == "oauth2/token" {
                    self.warn(
                        key,
                        "the address of version 1 of the token endpoint",
                        "version 2, /oauth2/v2.0/token, which is used in its place",
                    );
                }
                (tenant, Some(origin.to_ascii_lowercase()))
            }
        };
        let tenant = tenant.to_ascii_lowercase();
        if ["common", "organizations", "consumers"].contains(&tenant.as_str()) {
            self.problem(key, &format!("`{tenant}`, which names no tenant"), "the Directory (tenant) ID");
        } else if !is_guid(&tenant) && !is_domain(&tenant) {
            let names_authority =
                |cloud: &Cloud| format!("https://{tenant}").starts_with(&format!("{}/", cloud.authority));
            let meant = if origin.is_none() && CLOUDS.iter().any(names_authority) { ", with its https://" } else { "" };
            self.problem(key, &quoted(&text), &format!("{EXPECTED}{meant}"));
        }
        (tenant, origin)
    }

    fn cloud(&mut self) -> Option<Cloud> {
        let name = self.text("cloud", "the name of a cloud")?;
        let cloud = CLOUDS.iter().find(|cloud| cloud.name == name).copied();
        if cloud.is_none() {
            let names: Vec<_> = CLOUDS.iter().map(|cloud| format!("`{}`", cloud.name)).collect();
            let meant = meant::name(&name, CLOUDS.iter().map(|cloud| cloud.name), meant::CLOUDS);
            let more = match meant {
                Some(meant) => format!("; write `{meant}`"),
                None if name.to_lowercase().contains("china") => {
                    ": Microsoft ended Defender for Cloud in China on 2026-10-01".to_owned()
                }
                None => "; for any other cloud `authority`, `endpoint` and `audience`".to_owned(),
            };
            self.problem("cloud", &quoted(&name), &format!("{}{more}", names.join(" or ")));
        }
        cloud
    }

    fn origin(&mut self, key: &str) -> Option<String> {
        const EXPECTED: &str = "an origin such as https://host.example:8443, without a path";
        let text = self.text(key, EXPECTED)?;
        let origin = text.trim_end_matches('/');
        if let Some(secure) = in_clear(origin) {
            self.problem(key, &quoted(&text), &format!("`{secure}`: nothing goes to this cloud in clear"));
            return None;
        }
        if is_origin(origin) {
            return Some(origin.to_ascii_lowercase());
        }
        let meant = format!("https://{}", origin.split("://").last().unwrap_or_default());
        // Only what is a name for sure: it may be a secret that was put in the wrong place.
        let is_meant = meant.contains('.') && is_origin(&meant);
        let meant = if is_meant { format!("; write `{meant}`") } else { String::new() };
        self.problem(key, &quoted(&text), &format!("{EXPECTED}{meant}"));
        None
    }

    /// Addresses of one cloud do not go with those of another.
    fn warn_of_other_clouds(&mut self, own_authority: bool, own_endpoint: bool) {
        if own_authority && !self.has("endpoint") {
            let found = "nothing beside an address of another cloud's Entra ID";
            self.warn("endpoint", found, "that cloud's address of Azure Resource Manager");
        }
        if own_endpoint && !self.has("audience") {
            self.warn("audience", "nothing beside an `endpoint`", "whom tokens are for in that cloud");
        }
    }

    /// `/.default` is appended, so that the audience must not end in a slash or carry it already.
    fn audience(&mut self) -> Option<String> {
        const EXPECTED: &str = "an address such as https://management.azure.com";
        let text = self.text("audience", EXPECTED)?;
        if text.contains(|character: char| character.is_whitespace() || "\"'`,".contains(character)) {
            self.problem("audience", &quoted(&text), EXPECTED);
            return None;
        }
        Some(text.trim_end_matches('/').trim_end_matches("/.default").trim_end_matches('/').to_owned())
    }

    fn subscriptions(&mut self) -> Subscriptions {
        const EXPECTED: &str = "a subscription ID (GUID), a list of them, or \"*\"";
        let key = "subscription_id";
        let all = self.object.get(key).and_then(Value::as_str).is_some_and(|text| text.trim() == "*");
        if all {
            return Subscriptions::All {
                exclude: self.guids("exclude_subscriptions", EXPECTED),
                delegated: self.boolean("delegated", false),
            };
        }
        for alone in ["exclude_subscriptions", "delegated"] {
            if self.has(alone) {
                self.problem(alone, "a setting that goes with `subscription_id = \"*\"`", "nothing");
            }
        }
        if !self.has(key) {
            self.missing(&[key], EXPECTED);
        }
        Subscriptions::List(self.guids(key, EXPECTED))
    }

    /// One GUID or a list of them, each once, in lower case.
    fn guids(&mut self, key: &str, expected: &str) -> Vec<String> {
        let values = match self.object.get(key) {
            None => return Vec::new(),
            Some(Value::Array(values)) => values.clone(),
            Some(value) => vec![value.clone()],
        };
        let many = matches!(self.object.get(key), Some(Value::Array(_)));
        if many && values.is_empty() && key == "subscription_id" {
            self.problem(key, "an empty list", expected);
        }
        let mut guids = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let place = if many { format!("{key}/{index}") } else { key.to_owned() };
            match value {
                Value::String(text) if is_guid(text.trim()) => {
                    if text.trim() != text {
                        self.warn(&place, "white space around the value, which was trimmed", "the value alone");
                    }
                    let guid = text.trim().to_ascii_lowercase();
                    if guids.contains(&guid) {
                        self.warn(&place, "a subscription that stands in the list already", "each once");
                    } else {
                        guids.push(guid);
                    }
                }
                Value::String(text) => {
                    let meant = meant::subscriptions(text).map(|meant| format!("; write {meant}"));
                    self.problem(&place, &quoted(text), &format!("{expected}{}", meant.unwrap_or_default()));
                }
                other => self.problem(&place, kind(other), expected),
            }
        }
        guids
    }

    fn events(&mut self) -> Vec<EventKind> {
        const EXPECTED: &str = "a list of `secure-scores` and `secure-score-controls`";
        let Some(value) = self.object.get("events").cloned() else { return EventKind::ALL.to_vec() };
        let names = || EventKind::ALL.iter().map(|kind| kind.name());
        let Value::Array(values) = value else {
            let meant = meant::name(value.as_str().unwrap_or_default(), names(), &[]);
            let meant = meant.map(|name| format!("; write [\"{name}\"]")).unwrap_or_default();
            self.problem("events", kind(&value), &format!("{EXPECTED}{meant}"));
            return Vec::new();
        };
        if values.is_empty() {
            self.problem("events", "an empty list", EXPECTED);
        }
        let mut events = Vec::new();
        for (index, value) in values.iter().enumerate() {
            match value.as_str().map(EventKind::named) {
                Some(Some(event)) => events.push(event),
                _ => self.problem(
                    &format!("events/{index}"),
                    &value.as_str().map_or(kind(value).to_owned(), quoted),
                    &format!("{EXPECTED}{}", meant::hint(value, names(), &[])),
                ),
            }
        }
        events.sort_unstable();
        events.dedup();
        events
    }

    /// One of several words; the first is the default. `others` are words of other programs for them.
    /// The class of the events.
    fn class(&mut self) -> Class {
        let choices =
            [("assessment-finding", Class::AssessmentFinding), ("compliance-finding", Class::ComplianceFinding)];
        if self.object.get("class").is_some_and(|value| meant::is_one_of(value, LATER_CLASSES)) {
            let expected = choices.map(|(name, _)| format!("`{name}`")).join(" or ");
            self.problem("class", "`detection-finding` (2004), which is not there yet", &expected);
            return Class::AssessmentFinding;
        }
        self.choice("class", &choices, meant::CLASSES)
    }

    fn choice<T: Copy>(&mut self, key: &str, choices: &[(&'static str, T)], others: meant::Others) -> T {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
        let hint = self.object.get(key).map(|value| {
            let names = choices.iter().map(|(name, _)| *name);
            meant::hint(value, names, others)
        });
        let expected = names.join(" or ") + &hint.unwrap_or_default();
        let Some(text) = self.text(key, &expected) else { return choices[0].1 };
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => *choice,
            None => {
                self.problem(key, &quoted(&text), &expected);
                choices[0].1
            }
        }
    }

    fn boolean(&mut self, key: &str, default: bool) -> bool {
        match self.object.get(key) {
            None => default,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                let in_quotes = matches!(other.as_str(), Some("true" | "false"));
                let (found, quotes) = (kind(other), if in_quotes { ", without quotes" } else { "" });
                self.problem(key, found, &format!("true or false{quotes}"));
                default
            }
        }
    }

    fn snapshot_seconds(&mut self) -> u64 {
        let key = "snapshot_every";
        let Some(value) = self.object.get(key).cloned() else { return DAY_SECONDS };
        let seconds = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => duration_seconds(text.trim()),
            _ => None,
        };
        seconds.filter(|seconds| *seconds > 0).unwrap_or_else(|| {
            let meant = value.as_str().and_then(|text| meant::duration(text.trim()));
            let meant = meant.map(|meant| format!("; write `{meant}`")).unwrap_or_default();
            self.problem(
                key,
                &value.as_str().map_or(value.to_string(), quoted),
                &format!("seconds, or a time such as `30m`, `24h` or `7d`{meant}"),
            );
            DAY_SECONDS
        })
    }

    /// A date is what the host warns by; here only its form can be judged.
    fn date(&mut self, key: &str) {
        const EXPECTED: &str = "a date such as 2027-06-30";
        let written = self.object.get(key).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
        let meant = written.and_then(|text| meant::date(text.trim())).map(|date| format!("; write \"{date}\""));
        let expected = format!("{EXPECTED}{}", meant.unwrap_or_default());
        if let Some(date) = self.text(key, &expected)
            && !is_date(&date)
        {
            self.problem(key, &quoted(&date), &expected);
        }
    }

    fn extension_version(&mut self) -> String {
        self.date("client_secret_expires");
        self.text("extension_version", "a version such as 1.0.0").unwrap_or_else(|| "1.0.0".to_owned())
    }
}

/// The address of a known cloud, of the same one over plain http.
fn in_clear(origin: &str) -> Option<String> {
    let secure = format!("https://{}", origin.to_ascii_lowercase().strip_prefix("http://")?);
    CLOUDS.iter().any(|cloud| [cloud.authority, cloud.endpoint].contains(&secure.as_str())).then_some(secure)
}

fn problem(key: &str, found: &str, expected: &str) -> Problem {
    Problem { setting: format!("/{key}"), found: found.to_owned(), expected: expected.to_owned() }
}

/// What a user wrote, shortened; never used for credentials. A secret that was put there by mistake is not shown.
fn quoted(text: &str) -> String {
    let mixed = |kinds: [fn(&char) -> bool; 3]| kinds.iter().all(|kind| text.chars().any(|one| kind(&one)));
    let is_mixed = mixed([char::is_ascii_lowercase, char::is_ascii_uppercase, char::is_ascii_digit]);
    if text.len() >= SHORTEST_SECRET && is_mixed && !text.contains(['/', ' ']) && !text.chars().all(of_an_id) {
        return format!("a text of {} characters, which may be a secret,", text.chars().count());
    }
    let short: String = text.chars().take(80).collect();
    format!("`{}`", short.escape_debug())
}

/// What stands where an id belongs. A secret that was put there by mistake is not shown.
fn quoted_id(text: &str) -> String {
    if text.len() < SHORTEST_SECRET || text.chars().all(of_an_id) {
        return quoted(text);
    }
    format!("a text of {} characters that is no GUID", text.chars().count())
}

/// Whether ids are written with it, rightly or wrongly.
fn of_an_id(character: char) -> bool {
    character.is_ascii_hexdigit() || "-{}\"' ".contains(character)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

#[cfg(test)]
pub(crate) const SAMPLE: &str = r#"{
    "client_key": "11111111-2222-3333-4444-555555555555", "client_secret": "sealed",
    "token_url": "AAAABBBB-0000-cccc-1111-dddd2222eeee", "subscription_id": "20FF7FC3-e762-44dd-bd96-b71116dcdc23"
}"#;

#[cfg(test)]
impl Settings {
    pub(crate) fn sample() -> Settings {
        Settings::trusted(SAMPLE).unwrap()
    }
}

#[cfg(test)]
mod tests;
