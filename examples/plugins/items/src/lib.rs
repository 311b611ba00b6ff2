//! A source plugin for a fictional service: `GET /v1/items` with an API key gives the items of an account, page by page.
//! docs/next-plugin.md explains it call by call.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use waki::Client;

/// The contract, generated from `wit/`.
#[allow(clippy::all, missing_docs)]
mod contract {
    wit_bindgen::generate!({ path: "../../../wit", world: "plugin-code" });
    pub use exports::collector::source::plugin::*;
}

use contract::*;

struct Plugin;

contract::export!(Plugin with_types_in contract);

/// Every code of a failure, with its cause and the step that mends it.
const CODES: [(&str, &str, &str); 6] = [
    ("throttled", "The service asks to wait.", ""),
    ("key-refused", "The service refuses the key.", "Create a key for the account, and put it into the setting `key`."),
    ("not-found", "The service does not know the account.", "Correct the setting `account`."),
    ("service-fault", "The service has a fault, or was not reached.", ""),
    ("answer-odd", "The plugin does not understand the answer.", "Report it to the authors of the plugin."),
    ("state-odd", "The state is not one of this plugin.", ""),
];

impl Guest for Plugin {
    fn describe() -> Description {
        let schema = json!({
            "type": "object",
            "properties": {
                "url": { "type": "string", "description": "Origin of the service, such as https://items.example" },
                "account": { "type": "string", "x-identity": true },
                "key": { "type": "string", "writeOnly": true },
            },
            "required": ["url", "account", "key"],
            "additionalProperties": false,
        });
        Description {
            name: "items".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            events: vec![EventKind { name: "items".to_owned(), title: "Items".to_owned(), class_uids: vec![2004] }],
            settings_schema: schema.to_string(),
            credentials: vec![DeclaredCredential { setting: "key".to_owned(), kind: CredentialKind::Secret }],
            interval_seconds: 3_600,
            refresh_seconds: None,
            response_headers: vec!["retry-after".to_owned()],
            identifiers: Vec::new(),
            diagnoses: CODES.iter().map(|row| diagnosis(*row)).collect(),
        }
    }

    fn prepare(settings: String) -> Result<Plan, Vec<Problem>> {
        let settings: Map<String, Value> = serde_json::from_str(&settings).unwrap_or_default();
        let problems = problems(&settings);
        if !problems.is_empty() {
            return Err(problems);
        }
        let key = CredentialUse { credential: Credential::Setting("key".to_owned()), place: Place::Bearer };
        let items = Shape {
            method: "GET".to_owned(),
            origin: text(&settings, "url").to_owned(),
            path: Path::Exact("/v1/items".to_owned()),
            credentials: vec![key],
            captures: None,
        };
        Ok(Plan { shapes: vec![items], warnings: Vec::new() })
    }

    /// The key itself is on each request.
    fn fetch_token(_: String) -> Result<Option<Token>, Failure> {
        Ok(None)
    }

    /// One account is one scope.
    fn discover(settings: String, _: Option<String>) -> Result<Discovery, Failure> {
        let settings: Map<String, Value> = serde_json::from_str(&settings).unwrap_or_default();
        let id = text(&settings, "account").to_owned();
        let scope = Scope { id, name: None, owner: None, plugin_data: String::new() };
        Ok(Discovery { scopes: vec![scope], skipped: Vec::new(), notices: Vec::new() })
    }

    fn poll(settings: String, _: Option<String>, scope: Scope, cursor: Option<String>) -> Result<PollStep, Failure> {
        let settings: Map<String, Value> = serde_json::from_str(&settings).unwrap_or_default();
        let page: u64 = cursor.as_deref().and_then(|cursor| cursor.parse().ok()).unwrap_or(1);
        let url = format!("{}/v1/items?account={}&page={page}", text(&settings, "url"), scope.id);
        let body = get(&url, text(&settings, "key"))?;
        let answer: Value = serde_json::from_slice(&body).map_err(|error| odd(&format!("no JSON: {error}")))?;
        if !answer["items"].is_array() {
            return Err(odd("it has no list `items`"));
        }
        // A page that does not come after this one would be a loop.
        let next = match &answer["next"] {
            Value::Null => None,
            next => Some(next.as_u64().filter(|next| *next > page).ok_or_else(|| odd("`next` is no later page"))?),
        };
        let page = Page { kind: "items".to_owned(), body, request_id: None };
        Ok(PollStep { pages: vec![page], next: next.map(|next| next.to_string()), notices: Vec::new() })
    }

    fn normalize(
        _: String,
        context: Context,
        poll_result: PollResult,
        state: Option<Vec<u8>>,
    ) -> Result<Batch, Failure> {
        let before = state.as_deref().map(read_state).transpose()?;
        let pages = match poll_result {
            PollResult::Pages(pages) => pages,
            // Nothing was read: the state stays as it is.
            PollResult::Failure(failure) => {
                return Ok(batch(Vec::new(), &before.unwrap_or_default(), Some(failure), Vec::new()));
            }
        };
        let (mut events, mut after) = (Vec::new(), BTreeMap::new());
        for page in &pages {
            let answer: Value = serde_json::from_slice(&page.body).map_err(|error| odd(&error.to_string()))?;
            for item in answer["items"].as_array().ok_or_else(|| odd("it has no list `items`"))? {
                let word = |key: &str| item[key].as_str().ok_or_else(|| odd(&format!("an item has no `{key}`")));
                let (id, title, state) = (word("id")?, word("title")?, word("state")?);
                // A list that changes while it is read may give an item on two pages.
                if after.contains_key(id) {
                    continue;
                }
                let earlier = before.as_ref().and_then(|before| before.get(id));
                if earlier.map(String::as_str) != Some(state) {
                    events.push(event(&context, id, title, state, earlier));
                }
                after.insert(id.to_owned(), state.to_owned());
            }
        }
        let good = after.values().filter(|state| *state == "good").count();
        let measure = Measure {
            kind: "items".to_owned(),
            subject: context.scope.id.clone(),
            title: "Good items".to_owned(),
            value: good as f64,
            maximum: after.len() as f64,
            weight: 1.0,
        };
        Ok(batch(events, &after, None, vec![measure]))
    }
}

/// Returns all problems of the settings, each with a JSON pointer. The value of a credential is never quoted.
fn problems(settings: &Map<String, Value>) -> Vec<Problem> {
    let problem = |key: &str, found: &str, expected: &str| Problem {
        setting: format!("/{key}"),
        found: found.to_owned(),
        expected: expected.to_owned(),
    };
    let mut problems = Vec::new();
    for key in ["url", "account", "key"] {
        let value = settings.get(key).and_then(Value::as_str);
        if value.is_none_or(str::is_empty) {
            problems.push(problem(key, "no text", "a text"));
        }
    }
    let url = text(settings, "url");
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if !url.is_empty() && host.is_none_or(|host| host.is_empty() || host.contains('/')) {
        problems.push(problem("url", url, "scheme and host, such as https://items.example"));
    }
    let account = text(settings, "account");
    if !account.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        problems.push(problem("account", account, "letters, digits and hyphens"));
    }
    let known = ["url", "account", "key"];
    let unknown = settings.keys().filter(|key| !known.contains(&key.as_str()));
    problems.extend(unknown.map(|key| problem(key, "a setting that is not known", "one of url, account, key")));
    problems
}

fn text<'a>(settings: &'a Map<String, Value>, key: &str) -> &'a str {
    settings.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Sends the one request of this plugin. `key` is a placeholder: the host puts the value in.
fn get(url: &str, key: &str) -> Result<Vec<u8>, Failure> {
    let lost = |why: String| failure(Reaction::TryLater, "service-fault", &why);
    let request = Client::new().get(url).header("authorization", format!("Bearer {key}"));
    let response = request.connect_timeout(Duration::from_secs(10)).send().map_err(|error| lost(error.to_string()))?;
    let status = response.status_code();
    let wait = response.headers().get("retry-after").and_then(|wait| wait.to_str().ok()?.parse().ok());
    let body = response.body().map_err(|error| lost(error.to_string()))?;
    let (reaction, code) = match status {
        200 => return Ok(body),
        401 | 403 => (Reaction::RenewToken, "key-refused"),
        404 => (Reaction::FixScope, "not-found"),
        429 => (Reaction::Wait, "throttled"),
        500.. => (Reaction::TryLater, "service-fault"),
        _ => (Reaction::FixPlugin, "answer-odd"),
    };
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    Err(Failure {
        status: Some(status),
        wait_seconds: wait,
        // The service's own words say that it was the service that refused, and no proxy on the way.
        service_code: answer["error"].as_str().map(str::to_owned),
        ..failure(reaction, code, &format!("the service answers {status}"))
    })
}

/// One finding of OCSF, class Detection Finding.
fn event(context: &Context, id: &str, title: &str, state: &str, earlier: Option<&String>) -> Event {
    let (activity, activity_name) = if earlier.is_some() { (2, "Update") } else { (1, "Create") };
    let (severity, severity_name) = if state == "good" { (1, "Informational") } else { (4, "High") };
    let time = context.collected_at_milliseconds;
    // The same poll done twice gives the same uid.
    let uid = format!("{}-{id}", context.poll_id);
    let body = json!({
        "class_uid": 2004, "class_name": "Detection Finding", "category_uid": 2, "category_name": "Findings",
        "activity_id": activity, "activity_name": activity_name, "type_uid": 200_400 + activity,
        "severity_id": severity, "severity": severity_name, "time": time, "message": format!("{title}: {state}"),
        "finding_info": { "uid": format!("{}/{id}", context.scope.id), "title": title },
        "metadata": {
            "uid": uid, "version": "1.8.0", "tenant_uid": context.tenant,
            "product": { "name": "Items", "vendor_name": "Example" },
        },
        "unmapped": { "state": state, "earlier": earlier },
    });
    Event { uid, time_milliseconds: time, body: body.to_string().into_bytes() }
}

fn batch(
    events: Vec<Event>,
    state: &BTreeMap<String, String>,
    outcome: Option<Failure>,
    measures: Vec<Measure>,
) -> Batch {
    // The state begins with the number of its format.
    let state = format!("1 {}", json!(state)).into_bytes();
    Batch { events, state, outcome, notices: Vec::new(), measures }
}

fn read_state(state: &[u8]) -> Result<BTreeMap<String, String>, Failure> {
    let states = state.strip_prefix(b"1 ").and_then(|state| serde_json::from_slice(state).ok());
    states.ok_or_else(|| failure(Reaction::StateUnusable, "state-odd", "it does not begin with its format, 1"))
}

fn odd(why: &str) -> Failure {
    failure(Reaction::FixPlugin, "answer-odd", &format!("the plugin does not understand the answer: {why}"))
}

fn failure(reaction: Reaction, code: &str, cause: &str) -> Failure {
    let row = CODES.iter().find(|row| row.0 == code).map(|row| row.2).filter(|fix| !fix.is_empty());
    Failure {
        reaction,
        wait_seconds: None,
        code: code.to_owned(),
        cause: cause.to_owned(),
        fix: row.map(str::to_owned),
        status: None,
        service_code: None,
        request_id: None,
    }
}

fn diagnosis((code, cause, fix): (&str, &str, &str)) -> Diagnosis {
    Diagnosis { code: code.to_owned(), cause: cause.to_owned(), fix: fix.to_owned() }
}
