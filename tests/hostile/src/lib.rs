//! A source plugin for tests of the host: well-behaved, unless the setting `mode` names one of its `tricks`. It reads
//! `{origin}/data/1`, `2`, … with a token from `{origin}/token`, and makes one event of each page.

pub mod mode;
mod tricks;

use std::time::Duration;

use serde_json::{Value, json};
use waki::{Client, ErrorCode};

/// The contract, as `wit-bindgen` makes it from `wit/`.
#[expect(missing_docs, reason = "generated from the documented WIT")]
#[allow(clippy::all, clippy::unwrap_used, reason = "generated")]
pub mod contract {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "plugin-code",
        pub_export_macro: true,
        default_bindings_module: "hostile_plugin::contract",
        additional_derives: [PartialEq],
    });
    pub use exports::collector::source::plugin::*;
}

use contract::*;
use mode::Mode;

/// The component.
pub struct Plugin;

/// What a test asks for.
struct Settings {
    /// Which trick.
    mode: Mode,
    /// How much of it.
    amount: usize,
    origin: String,
    key: String,
}

impl Settings {
    /// What can be read of the settings; what is wrong with them, `prepare` says.
    fn trusted(text: &str) -> Settings {
        let settings: Value = serde_json::from_str(text).unwrap_or_default();
        let word = |key: &str| settings[key].as_str().unwrap_or_default().to_owned();
        let amount = settings["amount"].as_u64().and_then(|amount| usize::try_from(amount).ok());
        let origin = settings["origin"].as_str().unwrap_or("https://api.example").to_owned();
        let mode = Mode::of(&word("mode")).unwrap_or_default();
        Settings { mode, amount: amount.unwrap_or_default(), origin, key: word("key") }
    }
}

const CODES: &[(&str, &str)] = &[
    ("throttled", "The service asks to wait."),
    ("refused", "The service refuses the token."),
    ("forbidden", "The token has no right to it."),
    ("absent", "There is no such thing."),
    ("service-fault", "The service has a fault."),
    ("transport", "The service was not reached."),
    ("answer-odd", "The answer is not understood."),
    ("state-odd", "The state is not of this plugin."),
];

impl Guest for Plugin {
    fn describe() -> Description {
        tricks::before_describe();
        Description {
            name: "hostile-plugin".to_owned(),
            version: "0.1.0".to_owned(),
            events: vec![EventKind { name: "items".to_owned(), title: "Items".to_owned(), class_uids: vec![2003] }],
            settings_schema: json!({
                "type": "object",
                "properties": {
                    "mode": { "type": "string" },
                    "amount": { "type": "integer" },
                    "origin": { "type": "string" },
                    "key": { "type": "string", "writeOnly": true },
                },
            })
            .to_string(),
            credentials: vec![DeclaredCredential { setting: "key".to_owned(), kind: CredentialKind::Secret }],
            // As often as it can have it.
            interval_seconds: 1,
            refresh_seconds: None,
            response_headers: vec!["content-type".to_owned()],
            identifiers: Vec::new(),
            diagnoses: CODES
                .iter()
                .map(|(code, cause)| Diagnosis {
                    code: (*code).to_owned(),
                    cause: (*cause).to_owned(),
                    fix: String::new(),
                })
                .collect(),
        }
    }

    fn prepare(settings: String) -> Result<Plan, Vec<Problem>> {
        let problems = problems(&settings);
        let settings = Settings::trusted(&settings);
        let problems = tricks::problems(&settings, problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let shape = |method: &str, path, credential, place, captures: Option<&str>| Shape {
            method: method.to_owned(),
            origin: settings.origin.clone(),
            path,
            credentials: vec![CredentialUse { credential, place }],
            captures: captures.map(str::to_owned),
        };
        let key = (Credential::Setting("key".to_owned()), Place::FormField("key".to_owned()));
        let plan = Plan {
            shapes: vec![
                shape("POST", Path::Exact("/token".to_owned()), key.0, key.1, Some("access_token")),
                shape("GET", Path::Prefix("/data/".to_owned()), Credential::Token, Place::Bearer, None),
            ],
            warnings: Vec::new(),
        };
        Ok(tricks::plan(&settings, plan))
    }

    fn fetch_token(settings: String) -> Result<Option<Token>, Failure> {
        let settings = Settings::trusted(&settings);
        let form = tricks::form(&settings, format!("key={}", settings.key));
        let request = Client::new()
            .post(&format!("{}/token", settings.origin))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.as_bytes());
        let body = read(request)?;
        let answer: Value = serde_json::from_slice(&body).map_err(|error| odd(&error.to_string()))?;
        let value = answer["access_token"].as_str().ok_or_else(|| odd("no token"))?.to_owned();
        Ok(Some(tricks::token(&settings, Token { value, expires_in_seconds: 3_600 })))
    }

    fn discover(settings: String, _token: Option<String>) -> Result<Discovery, Failure> {
        let settings = Settings::trusted(&settings);
        let scopes = vec![Scope { id: "one".to_owned(), name: None, owner: None, plugin_data: String::new() }];
        Ok(tricks::discovery(&settings, Discovery { scopes, skipped: Vec::new(), notices: Vec::new() }))
    }

    fn poll(settings: String, token: Option<String>, _: Scope, cursor: Option<String>) -> Result<PollStep, Failure> {
        let settings = Settings::trusted(&settings);
        let token = token.unwrap_or_default();
        tricks::before_poll(&settings, &token)?;
        let page: usize = cursor.as_deref().and_then(|cursor| cursor.trim().parse().ok()).unwrap_or(1);
        let request = Client::new()
            .get(&format!("{}/data/{page}", settings.origin))
            .header("authorization", format!("Bearer {token}"));
        let body = read(request).map_err(|failure| tricks::failed(&settings, failure))?;
        if serde_json::from_slice::<Value>(&body).is_err() {
            return Err(tricks::failed(&settings, odd("no JSON")));
        }
        let next = (page == 1).then(|| "2".to_owned());
        let page_read = Page { kind: "items".to_owned(), body, request_id: None };
        Ok(tricks::step(&settings, page, PollStep { pages: vec![page_read], next, notices: Vec::new() }))
    }

    fn normalize(
        settings: String,
        context: Context,
        poll_result: PollResult,
        state: Option<Vec<u8>>,
    ) -> Result<Batch, Failure> {
        let settings = Settings::trusted(&settings);
        let earlier = match state.as_deref() {
            None => 0,
            Some(state) => {
                match state.strip_prefix(b"1 ").and_then(|rest| std::str::from_utf8(rest).ok()?.parse().ok()) {
                    Some(count) => count,
                    None if settings.mode == Mode::StateFreshStart => 0,
                    None => return Err(failure(Reaction::StateUnusable, "state-odd", "it does not begin with `1 `")),
                }
            }
        };
        let pages = match &poll_result {
            PollResult::Pages(pages) => pages.len(),
            PollResult::Failure(_) => 0,
        };
        let event = |index: usize| {
            let uid = format!("{}-{index}", context.poll_id);
            let body = json!({ "class_uid": 2003, "time": context.collected_at_milliseconds, "uid": uid });
            Event { time_milliseconds: context.collected_at_milliseconds, body: body.to_string().into_bytes(), uid }
        };
        let batch = Batch {
            events: (0..pages).map(event).collect(),
            state: format!("1 {}", earlier + pages).into_bytes(),
            outcome: None,
            notices: Vec::new(),
            measures: vec![Measure {
                kind: "items".to_owned(),
                subject: "all".to_owned(),
                title: "All items".to_owned(),
                value: 1.0,
                maximum: 1.0,
                weight: 1.0,
            }],
        };
        tricks::batch(&settings, batch)
    }
}

/// What is wrong with the settings, all at once.
fn problems(settings: &str) -> Vec<Problem> {
    let problem = |setting: &str, found: &Value, expected: &str| Problem {
        setting: format!("/{setting}"),
        found: found.to_string(),
        expected: expected.to_owned(),
    };
    let Ok(Value::Object(settings)) = serde_json::from_str(settings) else {
        return vec![problem("", &Value::Null, "an object")];
    };
    let bad = |(key, value): (&String, &Value)| match key.as_str() {
        "mode" if value.as_str().and_then(Mode::of).is_none() => Some(problem(key, value, "a mode")),
        "mode" => None,
        "origin" | "key" => (!value.is_string()).then(|| problem(key, value, "a string")),
        "amount" => (!value.is_u64()).then(|| problem(key, value, "a number")),
        _ => Some(problem(key, &Value::from(key.as_str()), "one of mode, amount, origin, key")),
    };
    settings.iter().filter_map(bad).collect()
}

/// Sends a request and reads the answer; what is not good is a failure.
fn read(request: waki::RequestBuilder) -> Result<Vec<u8>, Failure> {
    let lost = |error: anyhow::Error| {
        let code = error.downcast_ref::<ErrorCode>().map(|code| format!("{code:?}"));
        failure(Reaction::TryLater, "transport", &code.unwrap_or_else(|| error.to_string()))
    };
    let response = request.connect_timeout(Duration::from_secs(5)).send().map_err(lost)?;
    let (status, wait) = (response.status_code(), response.headers().get("retry-after"));
    let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
    let body = response.body().map_err(lost)?;
    let (reaction, code) = match status {
        200 => return Ok(body),
        429 => (Reaction::Wait, "throttled"),
        401 => (Reaction::RenewToken, "refused"),
        403 => (Reaction::FixScope, "forbidden"),
        404 => (Reaction::NoData, "absent"),
        500.. => (Reaction::TryLater, "service-fault"),
        _ => (Reaction::FixPlugin, "answer-odd"),
    };
    let words = format!("the service answers {status}");
    Err(Failure { status: Some(status), wait_seconds: wait, ..failure(reaction, code, &words) })
}

fn odd(words: &str) -> Failure {
    failure(Reaction::FixPlugin, "answer-odd", words)
}

fn failure(reaction: Reaction, code: &str, cause: &str) -> Failure {
    Failure {
        reaction,
        wait_seconds: None,
        code: code.to_owned(),
        cause: cause.to_owned(),
        fix: None,
        status: None,
        service_code: None,
        request_id: None,
    }
}

// Only the component exports: a native linker takes the `@` in these names for a symbol version.
#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "the exports of a component are raw symbols")]
mod export {
    crate::contract::export!(Plugin with_types_in crate::contract);
    use crate::Plugin;
}
