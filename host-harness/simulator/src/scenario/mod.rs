//! Failures by name. Scenarios of the token endpoint, of the search for subscriptions and of the tenant's domain affect
//! the first tenant, and those of the API affect the last subscription of the first tenant. All other requests succeed
//! as usual.

mod catalogue;
mod echo;

use serde_json::{Value, json};

use self::catalogue::{ARM, ENTRA};
pub use self::catalogue::{Kind, OBJECT_ID, SECRET_INVALID, ScenarioInfo, all, asks_for, named, names};
use self::echo::{echo, echo_in_charset, echo_in_lines, echo_of_a_piece, token_echo};
use crate::answer::{Answer, EndpointKind, Request, arm_error, controls_path, entra_error};
use crate::{gateways, hostile};

/// The data that a scenario may use.
pub struct Strike<'a> {
    /// The scenario that the service plays.
    pub scenario: Option<&'static str>,
    /// The number of failures so far.
    pub strikes: usize,
    /// Origin of the service.
    pub url: &'a str,
    /// Id of the subscription whose list was requested; `None` for other requests.
    pub subscription: Option<&'a str>,
    /// Id of the application.
    pub client: &'a str,
    /// The sign-in; `None` for other requests.
    pub sign_in: Option<SignInAttempt<'a>>,
}

/// A request for a token.
pub struct SignInAttempt<'a> {
    /// The service's own id of the request.
    pub request_id: &'a str,
    /// The secret in the form; empty without one.
    pub secret: &'a str,
}

/// Returns the answer of a scenario; `None` if it lets the request pass. `good` is the answer that the request would
/// have had.
pub fn strike(strike: &Strike<'_>, place: EndpointKind, good: Option<(&Value, &Request)>) -> Option<Answer> {
    let name = strike.scenario?;
    if let Some(case) = gateways::named(name) {
        // A firewall that blocks `$expand` lets the same list pass without it.
        let spared =
            name == "expand-blocked" && good.is_some_and(|(_, request)| !request.query.contains_key("$expand"));
        return (case.place == place && !spared).then(|| case.answer());
    }
    match (place, good) {
        (EndpointKind::Token, _) => token(strike, name),
        (EndpointKind::Scores, Some((good, _))) => refused(strike, name).or_else(|| scores(strike, name, good)),
        (EndpointKind::Controls, Some((good, request))) => {
            refused(strike, name).or_else(|| controls(strike, name, good, request))
        }
        (EndpointKind::Search, Some((good, request))) => search(strike, name, good, request),
        _ => None,
    }
}

fn token(strike: &Strike<'_>, name: &str) -> Option<Answer> {
    let SignInAttempt { request_id, secret } = strike.sign_in.as_ref()?;
    if let Some((_, status, error, code, text)) = ENTRA.iter().find(|row| row.0 == name) {
        let text = if *code == 7_000_215 { format!("{text} '{}'.", strike.client) } else { (*text).to_owned() };
        let answer = entra_error(*status, error, *code, &text, request_id);
        return Some(if *status == 429 { answer.with("retry-after", "600") } else { answer });
    }
    match name {
        "token-echo" => Some(token_echo(secret)),
        "token-error-200" => {
            let text = "The provided client secret keys for app are expired.";
            Some(Answer { status: 200, ..entra_error(401, "invalid_client", 7_000_222, text, request_id) })
        }
        "token-unusable" => Some(token_of("ey.first\nsecond", 3_599, "Bearer")),
        "token-expired-at-once" => Some(token_of("ey.first", 0, "Bearer")),
        "token-of-proof" => Some(token_of("ey.first", 3_599, "pop")),
        "token-html" => Some(Answer::text(200, "text/html", "<!DOCTYPE html><title>Sign in to the network</title>")),
        _ => None,
    }
}

fn token_of(token: &str, seconds: u32, kind: &str) -> Answer {
    Answer::json(200, &json!({ "token_type": kind, "expires_in": seconds, "access_token": token }))
}

fn refused(strike: &Strike<'_>, name: &str) -> Option<Answer> {
    if name == "forbidden" {
        let (client, subscription) = (strike.client, strike.subscription?);
        let text = format!(
            "The client '{client}' with object id '{OBJECT_ID}' does not have authorization to perform action \
             'Microsoft.Security/secureScores/read' over scope '/subscriptions/{subscription}' or the scope is invalid. If \
             access was recently granted, please refresh your credentials."
        );
        return Some(arm_error(403, "AuthorizationFailed", &text));
    }
    if name == "claims-challenge" {
        // {"access_token":{"nbf":{"essential":true,"value":"1790000000"}}}
        let claims = "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNzkwMDAwMDAwIn19fQ==";
        let challenge = format!("Bearer realm=\"\", error=\"insufficient_claims\", claims=\"{claims}\"");
        let text = "Continuous access evaluation resulted in a challenge.";
        return Some(arm_error(401, "InvalidAuthenticationToken", text).with("www-authenticate", &challenge));
    }
    if name == "byte-order-mark-error" {
        let refusal = arm_error(404, "SubscriptionNotFound", "The subscription could not be found.");
        return Some(refusal.marked());
    }
    ARM.iter().find(|row| row.0 == name).map(|(_, status, code, text)| arm_error(*status, code, text))
}

/// Answers of scenarios that affect both lists, or the first list only.
fn scores(strike: &Strike<'_>, name: &str, good: &Value) -> Option<Answer> {
    let json = |text: String| Answer::text(200, "application/json; charset=utf-8", text);
    let throttled = "Number of 'read' requests exceeded.";
    Some(match name {
        "not-onboarded" | "scores-empty" => Answer::json(200, &json!({ "value": [] })),
        "not-onboarded-404" => {
            let text = format!("Secure score 'ascScore' does not exist in scope '{}'", strike.subscription?);
            Answer::json(404, &json!({ "Error": { "Code": "ResourceNotFound", "Message": text } }))
        }
        "throttled" => arm_error(429, "SubscriptionRequestsThrottled", throttled).with("retry-after", "17"),
        "throttled-day" => arm_error(429, "SubscriptionRequestsThrottled", throttled).with("retry-after", "86400"),
        "throttled-once" if strike.strikes == 0 => {
            arm_error(429, "SubscriptionRequestsThrottled", throttled).with("retry-after", "1")
        }
        "throttled-backend" => {
            let text = "Number of requests exceeded the backend storage limit. Please try again after '16' seconds.";
            arm_error(429, "SubscriptionRequestsThrottled", text)
        }
        "throttled-bare" => {
            Answer::json(429, &json!({ "Code": "429", "Message": throttled })).with("retry-after", "17")
        }
        "html" => Answer::text(200, "text/html", "<!DOCTYPE html><html><title>Blocked by policy</title></html>"),
        "empty-body" => json(String::new()),
        "deep-nesting" => json(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
        "oversized" => json(format!("{{\"value\":[],\"filler\":\"{}\"}}", "x".repeat(9 << 20))),
        "invalid-utf8" => Answer::text(200, "application/json", b"{\"value\":[],\"x\":\"\xff\xfe\"}".to_vec()),
        "byte-order-marks" => Answer::json(200, good).marked().marked(),
        "utf-16" => Answer::text(
            200,
            "application/json",
            good.to_string().encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(),
        ),
        "error-200" => {
            Answer { status: 200, ..arm_error(403, "AuthorizationFailed", "The client has no authorization.") }
        }
        "value-missing" => Answer::json(200, &json!({ "items": good["value"] })),
        "redirect-metadata" => Answer::text(307, "text/plain", "")
            .with("location", "http://169.254.169.254/metadata/identity/oauth2/token"),
        "redirect" => Answer::text(302, "text/plain", "").with("location", "https://elsewhere.example/login"),
        _ => return None,
    })
}

/// Answers of scenarios that affect the second list only, and thereby a poll that already read good pages.
fn controls(strike: &Strike<'_>, name: &str, good: &Value, request: &Request) -> Option<Answer> {
    let skip = request.query.get("$skiptoken").map(String::as_str);
    if let Some(link) = link(strike, name, skip) {
        return Some(Answer::json(200, &json!({ "value": good["value"], "nextLink": link })));
    }
    let subscription = strike.subscription?;
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut edited = good.clone();
        edit(&mut edited["value"][0]);
        Some(Answer::json(200, &edited))
    };
    match name {
        "not-onboarded" | "controls-empty" => Some(Answer::json(200, &json!({ "value": [] }))),
        "expand-refused" if request.query.contains_key("$expand") => {
            Some(arm_error(400, "BadRequest", "The query parameter '$expand' is not supported."))
        }
        "page-cut" => {
            let text = good.to_string();
            Some(Answer::text(200, "application/json; charset=utf-8", &text.as_bytes()[..text.len() / 2]))
        }
        "connection-cut" => Some(Answer { cut: true, ..Answer::json(200, good) }),
        "type-wrong" => Some(Answer::text(200, "image/png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec())),
        "echo" => request.bearer.as_deref().map(|bearer| echo(good, bearer)),
        "echo-lines" => request.bearer.as_deref().map(|bearer| echo_in_lines(good, bearer)),
        "echo-piece" | "echo-piece-base64" | "echo-piece-header" => {
            request.bearer.as_deref().map(|bearer| echo_of_a_piece(good, bearer, name))
        }
        "echo-utf16" | "echo-utf16-bare" | "echo-utf32" | "echo-utf7" => {
            request.bearer.as_deref().map(|bearer| echo_in_charset(good, bearer, name))
        }
        "item-incomplete" => edited(&|item| drop(item.as_object_mut().and_then(|item| item.remove("properties")))),
        "item-without-id" => edited(&|item| drop(item.as_object_mut().and_then(|item| item.remove("id")))),
        "number-as-text" => edited(&|item| item["properties"]["score"]["max"] = Value::from("10")),
        "number-huge" | "number-huge-unknown" => {
            let known = name == "number-huge";
            let mut edited = good.clone();
            let properties = &mut edited["value"][0]["properties"];
            *if known { &mut properties["score"]["max"] } else { &mut properties["novel"] } = Value::from("HUGE");
            // A number of this size does not fit into a JSON value.
            Some(Answer::text(200, "application/json", edited.to_string().replacen("\"HUGE\"", "1e400", 1)))
        }
        "item-foreign" => edited(&|item| {
            let id = item["id"].as_str().unwrap_or_default();
            item["id"] = Value::from(id.replacen(subscription, "00000000-0000-4f6b-b1d0-000000000000", 1));
        }),
        "item-other-list" => edited(&|item| {
            let id = item["id"].as_str().unwrap_or_default();
            let score = id.split("/secureScoreControls").next().unwrap_or_default();
            item["id"] = Value::from(score);
            item["type"] = Value::from("Microsoft.Security/secureScores");
        }),
        "item-twice" => {
            let mut edited = good.clone();
            let items = edited["value"].as_array_mut()?;
            items.extend(items.first().cloned());
            Some(Answer::json(200, &edited))
        }
        // Each quotation mark takes two bytes here, two in the event and four in its `raw_data`.
        "item-large" => edited(&|item| item["properties"]["novel"] = Value::from("\"".repeat(5_600))),
        "sum-off" => edited(&|item| item["properties"]["score"]["current"] = Value::from(0)),
        _ if hostile::named(name).is_some_and(hostile::ScriptedService::is_scripted) => {
            Some(Answer { raw: true, ..Answer::json(200, good) })
        }
        _ => None,
    }
}

/// Returns the link of a page to the next one, if the scenario is one of links.
fn link(strike: &Strike<'_>, name: &str, skip: Option<&str>) -> Option<String> {
    let list = controls_path(strike.subscription?);
    let here = |skip: &str| format!("{}{list}&$skiptoken={skip}", strike.url);
    let first = |from: &str, to: &str| here("1").replacen(from, to, 1);
    Some(match name {
        "link-lookalike" => first("/subscriptions", ".evil.example/subscriptions"),
        "link-userinfo" => first("/subscriptions", "@evil.example/subscriptions"),
        "link-private" => "https://10.0.0.1/subscriptions".to_owned(),
        "link-metadata" => "http://2852039166/metadata/instance".to_owned(),
        "link-other-list" => first("secureScoreControls", "secureScores"),
        "link-climbing" => first("secureScoreControls", "../../../tenants"),
        "link-odd" if skip.is_none() => here(ODD),
        "link-fragment" => here("1#2"),
        "link-backslash" => here("1\\2"),
        "link-foreign" => "https://evil.example/subscriptions".to_owned(),
        "link-http" => first("https:", "http:"),
        "link-self" => here(skip.unwrap_or("self")),
        "link-loop" => here(if skip == Some("a") { "b" } else { "a" }),
        "link-endless" => here(&format!("{}", skip.and_then(|skip| skip.parse().ok()).unwrap_or(0) + 1)),
        _ => return None,
    })
}

/// A part of a query with characters that services forget to encode.
const ODD: &str = "2 \"b\" [c]&filter=<d> {e}|^`";

/// A tenant that delegated a subscription.
const OTHER_TENANT: &str = "00000000-7e4a-4b1d-9c55-000000000000";

/// Answers of scenarios that affect the search for subscriptions.
fn search(strike: &Strike<'_>, name: &str, good: &Value, request: &Request) -> Option<Answer> {
    let skip = request.query.get("$skiptoken");
    let (first, rest) = good["value"].as_array()?.split_first()?;
    let page = |link: String| Some(Answer::json(200, &json!({ "value": [first], "nextLink": link })));
    let here = |origin: &str, skip: &str| format!("{origin}/subscriptions?api-version=2022-12-01&$skiptoken={skip}");
    match (name, skip) {
        ("search-link-odd", None) => page(here(strike.url, ODD)),
        ("search-link-odd", Some(_)) => Some(Answer::json(200, &json!({ "value": rest }))),
        ("search-link-foreign", _) => page(here("https://127.0.0.1:1", "2")),
        ("search-refused", _) => {
            let text =
                "The client does not have authorization to perform action 'Microsoft.Resources/subscriptions/read'.";
            Some(arm_error(403, "AuthorizationFailed", text))
        }
        ("search-delegated", _) => {
            let mut edited = good.clone();
            edited["value"][0]["tenantId"] = Value::from(OTHER_TENANT);
            Some(Answer::json(200, &edited))
        }
        ("search-past-due", _) => {
            let mut edited = good.clone();
            edited["value"][0]["state"] = Value::from("warned");
            edited["value"][1]["state"] = Value::from("PastDue");
            Some(Answer::json(200, &edited))
        }
        _ => None,
    }
}
