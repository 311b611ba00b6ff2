//! The guest's view of an answer: without credentials that the service echoes. Of a token endpoint's answer, the guest
//! sees only known members, with a placeholder for the token.

use std::sync::LazyLock;

use serde_json::{Map, Value};
use url::Url;

use crate::credentials::redact::{Pieces, Search};
use crate::credentials::sealed::placeholder;
use crate::credentials::secret::Secret;
use crate::network::IncomingResponse;
use crate::network::egress::has_fitting_name;
use crate::network::tokens::{TOKEN, is_of_tokens};
use crate::plugin::known::KnownPlugin;

/// Members of a token endpoint's answer that every plugin sees, besides the sealed one: those of OAuth 2.0 (RFC 6749,
/// sections 5.1 and 5.2).
const MEMBERS: &[&str] = &["token_type", "expires_in", "error", "error_description", "error_uri"];

/// Members of an `error` that is an object.
const ERROR_MEMBERS: &[&str] = &["code", "message"];

/// Headers of a token endpoint's answer that every plugin sees, besides ids of the request.
const HEADERS: &[&str] = &["content-type", "date", "location", "retry-after", "server", "via"];

/// The replacement for a body of a token endpoint that is not a JSON object. The plugin may know whether the body began
/// like an HTML page.
const WITHHELD: (&[u8], &[u8]) = (b"<withheld>", b"withheld");

/// The values that were removed from an answer.
#[derive(Default)]
pub struct Sealing {
    /// The token that later calls may use, with its placeholder.
    pub token: Option<(String, Secret)>,
    /// All secrets that must not be in the rest either.
    pub secrets: Vec<Secret>,
}

/// Says whether the form of an answer is that of an answer with a token, whatever the plugin declared it to be.
pub fn holds_token(response: &IncomingResponse) -> bool {
    // Few answers contain the word, in plain form or with escapes, and only those are parsed.
    static NAME: LazyLock<Search> = LazyLock::new(|| Search::new(&[Secret::new(TOKEN)]));
    #[derive(serde::Deserialize)]
    struct TokenAnswer {
        access_token: Option<serde::de::IgnoredAny>,
    }
    may_hold_token(response)
        && (holds(&response.body, TOKEN.as_bytes()) || NAME.is_in(&response.body))
        && serde_json::from_slice::<Value>(response.unmarked())
            .and_then(serde_json::from_value::<TokenAnswer>)
            .is_ok_and(|tokens| tokens.access_token.is_some())
}

/// Says whether an answer has the name of a token, in plain form or perhaps with escapes.
pub(super) fn may_hold_token(response: &IncomingResponse) -> bool {
    holds(&response.body, TOKEN.as_bytes()) || holds(&response.body, br"\u00")
}

fn holds(body: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(body, part).is_some()
}

/// Keeps only the known members of a token endpoint's answer, whatever its status. The host keeps the member `key`; in
/// a successful answer, the plugin gets a placeholder for it.
pub fn sealed(response: &mut IncomingResponse, key: &str, plugin: &KnownPlugin) -> Sealing {
    let is_read = |name: &str| HEADERS.contains(&name) || plugin.token_headers.contains(&name);
    response.headers.retain(|(name, _)| is_read(name) || name.ends_with("request-id"));
    for (_, place) in response.headers.iter_mut().filter(|(name, _)| name == "location") {
        // Some servers return tokens in this header.
        let url = has_fitting_name(place).then(|| Url::parse(place).ok()).flatten();
        *place = url.map_or_else(String::new, |url| url.origin().ascii_serialization());
    }
    let body = response.unmarked();
    let Ok(Value::Object(answer)) = serde_json::from_slice::<Value>(body) else {
        if !response.body.is_empty() {
            let page = body.trim_ascii_start().starts_with(b"<");
            response.body = if page { WITHHELD.0 } else { WITHHELD.1 }.to_vec();
        }
        return Sealing::default();
    };
    let mut sealing = Sealing::default();
    let mut members = Map::new();
    for (name, value) in answer {
        match value {
            Value::String(token) if name == key => {
                let odd = token.chars().find(|character| !is_of_tokens(*character));
                let is_unusable = token.is_empty() || odd.is_some();
                let token = Secret::new(token);
                if !token.expose().is_empty() {
                    sealing.secrets.push(token.clone());
                }
                if is_unusable && response.status == 200 {
                    // The plugin sees the fault in the token, and nothing else of it.
                    members.insert(name, Value::from(odd.map(String::from).unwrap_or_default()));
                } else if response.status == 200 {
                    let placeholder = placeholder();
                    members.insert(name, Value::from(placeholder.clone()));
                    sealing.token = Some((placeholder, token));
                }
            }
            Value::String(token) if name.ends_with("_token") => sealing.secrets.push(Secret::new(token)),
            value if MEMBERS.contains(&name.as_str()) || plugin.token_members.contains(&name.as_str()) => {
                if let Some(value) = plain(value) {
                    members.insert(name, value);
                }
            }
            _ => {}
        }
    }
    response.body = Value::Object(members).to_string().into_bytes();
    sealing
}

/// Returns a value that can hide nothing: no object except an error's, and no list except one of numbers.
fn plain(value: Value) -> Option<Value> {
    match value {
        Value::Object(error) => {
            let known = error.into_iter().filter(|(name, value)| {
                value.is_string() && ERROR_MEMBERS.contains(&name.to_ascii_lowercase().as_str())
            });
            Some(Value::Object(known.collect()))
        }
        Value::Array(values) => Some(Value::Array(values.into_iter().filter(Value::is_number).collect())),
        other => Some(other),
    }
}

/// Removes credentials that a service echoes, so that the plugin does not see them. A header whose name holds one is
/// removed.
pub fn scrub(response: &mut IncomingResponse, secrets: &Search) {
    drop_cookies(response);
    if secrets.is_empty() {
        return;
    }
    response.headers.retain(|(name, _)| !secrets.is_in_name(name));
    for (_, value) in &mut response.headers {
        if let Some(clean) = secrets.clean(value.as_bytes()) {
            *value = String::from_utf8_lossy(&clean).into_owned();
        }
    }
    if let Some(clean) = secrets.clean(&response.body) {
        response.body = clean;
    }
}

/// Removes cookies: they are credentials, and no request carries any.
pub(super) fn drop_cookies(response: &mut IncomingResponse) {
    response.headers.retain(|(name, _)| name != "set-cookie");
}

/// The same for an answer that others also get: if a part of a secret remains, the whole body is removed.
pub(super) fn scrub_wholly(response: &mut IncomingResponse, secrets: &[Secret]) {
    scrub(response, &Search::new(secrets));
    let pieces = Pieces::of(secrets);
    response.headers.retain(|(_, value)| !pieces.are_in(value.as_bytes()));
    if pieces.are_in(&response.body) {
        response.body = WITHHELD.1.to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = "eyJ0eXAi.real-token.of~tests";

    #[test]
    fn a_redirect_of_a_token_endpoint_names_the_host_alone() {
        let place = format!("https://elsewhere.example/{REAL}?code={REAL}#access_token={REAL}");
        let (response, _) = answered(302, &[("location", &place)], "");
        assert_eq!(response.headers, [("location".to_owned(), "https://elsewhere.example".to_owned())]);
    }

    /// A plugin that reads more members than those of the standard.
    const READER: KnownPlugin = KnownPlugin {
        token_members: &["error_codes", "trace_id"],
        token_headers: &["x-server"],
        ..KnownPlugin::UNKNOWN
    };

    fn answered(status: u16, headers: &[(&str, &str)], body: &str) -> (IncomingResponse, Sealing) {
        answered_to(&READER, status, headers, body)
    }

    fn answered_to(
        plugin: &KnownPlugin,
        status: u16,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (IncomingResponse, Sealing) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut response = IncomingResponse { status, headers, body: body.as_bytes().to_vec() };
        let sealing = sealed(&mut response, TOKEN, plugin);
        scrub(&mut response, &Search::new(&sealing.secrets));
        (response, sealing)
    }

    fn text(response: &IncomingResponse) -> String {
        String::from_utf8(response.body.clone()).unwrap()
    }

    #[test]
    fn a_token_is_replaced_and_what_is_unknown_is_left_out() {
        let body = format!(
            r#"{{"access_token":"{REAL}","expires_in":"3599","id_token":"x","extra":{{"a":"{REAL}"}},"token_type":"Bearer"}}"#
        );
        let headers = [("set-cookie", "esctx=1"), ("x-ms-request-id", "7"), ("content-type", "application/json")];
        let (response, sealing) = answered(200, &headers, &body);
        let (placeholder, token) = sealing.token.unwrap();
        assert_eq!(token.expose(), REAL);
        let expected = format!(r#"{{"access_token":"{placeholder}","expires_in":"3599","token_type":"Bearer"}}"#);
        assert_eq!(
            serde_json::from_str::<Value>(&text(&response)).unwrap(),
            serde_json::from_str::<Value>(&expected).unwrap()
        );
        let names: Vec<&str> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-ms-request-id", "content-type"]);
    }

    #[test]
    fn a_byte_order_mark_hides_no_token() {
        let (response, sealing) =
            answered(200, &[], &format!("\u{feff}{{\"access_token\":\"{REAL}\",\"expires_in\":1}}"));
        let (placeholder, token) = sealing.token.unwrap();
        assert_eq!(token.expose(), REAL);
        assert_eq!(text(&response), format!(r#"{{"access_token":"{placeholder}","expires_in":1}}"#));
        assert_eq!(text(&answered(403, &[], "\u{feff}<html>").0), "<withheld>");
    }

    #[test]
    fn a_token_that_is_given_twice_is_found_the_second_time() {
        let percent = REAL.replace('~', "%7E");
        let body = format!(r#"{{"error_description":"{percent} and {REAL}","access_token":"{REAL}"}}"#);
        let (response, _) = answered(200, &[("date", &percent), ("retry-after", REAL)], &body);
        assert!(text(&response).contains("[redacted] and [redacted]"), "{}", text(&response));
        assert!(response.headers.iter().all(|(_, value)| value == "[redacted]"), "{:?}", response.headers);
    }

    #[test]
    fn no_other_answer_of_a_token_endpoint_gives_a_token_either() {
        for status in [200, 201, 400, 401, 500] {
            for body in [
                format!("access_token={REAL}&expires_in=3599"),
                format!("\"{REAL}\""),
                format!("[{{\"access_token\":\"{REAL}\"}}]"),
                format!(r#"{{"data":{{"access_token":"{REAL}"}}}}"#),
                format!(r#"{{"error":{{"access_token":"{REAL}","innerError":"{REAL}"}},"error_codes":["{REAL}"]}}"#),
                format!(r#"{{"access_token":["{REAL}"]}}"#),
                format!("<html>{REAL}</html>"),
                format!(r#"{{"acce\u0073s_token":"x","access_token":"{REAL}"}}"#),
            ] {
                let (response, _) = answered(status, &[("x-token", REAL)], &body);
                assert!(!text(&response).contains(REAL) && !text(&response).contains("eyJ0"), "{status} {body}");
                assert!(response.headers.is_empty());
            }
        }
        let (response, sealing) = answered(400, &[], &format!(r#"{{"access_token":"{REAL}","error":"no {REAL}"}}"#));
        assert_eq!((text(&response).as_str(), sealing.token.is_none()), (r#"{"error":"no [redacted]"}"#, true));
    }

    #[test]
    fn what_a_refusal_says_is_kept() {
        let body = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid.","error_codes":[7000215],"claims":"{}"}"#;
        let (response, _) = answered(401, &[], body);
        let expected =
            r#"{"error":"invalid_client","error_codes":[7000215],"error_description":"AADSTS7000215: Invalid."}"#;
        assert_eq!(
            serde_json::from_str::<Value>(&text(&response)).unwrap(),
            serde_json::from_str::<Value>(expected).unwrap()
        );
        let body = r#"{"error":{"code":"BadRequest","message":"m","target":"t"}}"#;
        assert_eq!(text(&answered(400, &[], body).0), r#"{"error":{"code":"BadRequest","message":"m"}}"#);
    }

    #[test]
    fn what_is_no_standards_is_seen_by_a_plugin_that_is_known_to_read_it() {
        let headers = [("x-server", "a"), ("x-other", "b"), ("retry-after", "1")];
        let body = r#"{"error":"invalid_client","error_codes":[7],"trace_id":"t","other":"o"}"#;
        for (plugin, members, seen) in [
            (READER, r#"{"error":"invalid_client","error_codes":[7],"trace_id":"t"}"#, vec!["x-server", "retry-after"]),
            (KnownPlugin::UNKNOWN, r#"{"error":"invalid_client"}"#, vec!["retry-after"]),
        ] {
            let (response, _) = answered_to(&plugin, 401, &headers, body);
            assert_eq!(text(&response), members);
            assert_eq!(response.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), seen);
        }
    }

    #[test]
    fn an_answer_with_a_token_is_known_by_its_form() {
        let holds =
            |body: &str| holds_token(&IncomingResponse { body: body.as_bytes().to_vec(), ..Default::default() });
        assert!(holds("\u{feff}{\"access_token\":\"t\"}"));
        assert!(holds(r#"{"access_token":"t"}"#) && holds(r#" {"a":1,"acce\u0073s_token":"t"}"#));
        assert!(!holds(r#"{"value":[{"access_token":"t"}]}"#) && !holds("access_token") && !holds("[]"));
    }
}
