//! The rules on a plugin's declarations: its description, the problems of its settings, the shapes of its requests.

use std::collections::HashSet;
use std::ops::ControlFlow;

use serde_json::{Map, Value, json};
use source_host::contract::{Credential, Description, Path, Plan, Problem, Shape};
use source_host::credentials::settings::Settings;
use source_host::credentials::settings::schema::validator;
use source_host::network::egress::canonical;
use source_host::plugin::Plugin;
use source_host::plugin::call::Caller;

use super::bookkeeping::Examination;
use crate::admitted::CompactPlan;
use crate::limits::CONFORMANCE_CALLS;

impl Examination {
    pub(super) async fn describe(&mut self, plugin: &Plugin, description: &Description) {
        const RULE: &str = "describe";
        for _ in 1..CONFORMANCE_CALLS {
            let again = self.answer(plugin.describe().await).continue_value();
            self.check(RULE, again.as_ref() == Some(description), || "it differs from call to call".to_owned());
        }
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
        self.check(RULE, usable, || "settings-schema: it is not a JSON Schema".to_owned());
        for credential in &description.credentials {
            let marked = schema["properties"][&credential.setting]["writeOnly"] == true;
            self.check(RULE, marked, || {
                format!("settings-schema: the credential {} is not marked `writeOnly`", credential.setting)
            });
        }
    }

    /// Breaks two settings at a time: if each alone is a problem, both must be reported together.
    pub(super) async fn settings(&mut self, plugin: &Plugin, description: &Description, good: &Map<String, Value>) {
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
                let answer = self.problems(plugin, description, settings).await;
                let ControlFlow::Continue(problems) = answer else { return };
                told.push(problems);
            }
            for (alone, key) in [(&told[0], key), (&told[1], next)] {
                let both = !names(alone, key) || names(&told[2], key);
                self.check(RULE, both, || format!("{key} is a problem, but is not reported together with others"));
            }
        }
    }

    async fn problems(
        &mut self,
        plugin: &Plugin,
        description: &Description,
        settings: Map<String, Value>,
    ) -> ControlFlow<(), Vec<Problem>> {
        let settings = Settings::new(settings, Default::default()).sealing(description);
        let caller = Caller { limits: self.limits.clone(), ..Caller::default() };
        let problems = self.answer(plugin.prepare(&caller, &settings).await)?.err().unwrap_or_default();
        for Problem { setting, expected, .. } in &problems {
            let pointer = setting.is_empty() || setting.starts_with('/');
            self.check("settings", pointer, || format!("found {setting:?}, expected a JSON pointer such as \"/key\""));
            self.check("settings", !expected.is_empty(), || format!("{setting}: it does not say what it expects"));
        }
        ControlFlow::Continue(problems)
    }

    /// Asks for the plan several times, each time with other placeholders: somebody signs one plan, and another plan
    /// could send a credential elsewhere.
    pub(super) async fn plans(
        &mut self,
        plugin: &Plugin,
        caller: &Caller,
        settings: &Settings,
        plan: &Plan,
    ) -> ControlFlow<()> {
        for _ in 1..CONFORMANCE_CALLS {
            let again = self.answer(plugin.prepare_with_chance(caller, settings).await)?;
            self.check("shapes", again.as_ref() == Ok(plan), || {
                let digest = |plan: &Plan| CompactPlan::of(&plan.shapes).sha256();
                let found = again.as_ref().map_or_else(|_| "a refusal".to_owned(), digest);
                let expected = digest(plan);
                format!("the plan of the same settings differs from call to call: found {found}, and before {expected}")
            });
        }
        ControlFlow::Continue(())
    }

    pub(super) fn shapes(&mut self, description: &Description, plan: &Plan) {
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
}

fn names(problems: &[Problem], key: &str) -> bool {
    problems
        .iter()
        .any(|problem| problem.setting.strip_prefix('/').is_some_and(|rest| rest.split('/').next() == Some(key)))
}

/// Says whether a name is lower-case words with hyphens between.
fn is_kebab(name: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name.split('-').all(word)
}
