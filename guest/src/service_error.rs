//! Reads the service's own error before its status: any letter case, with or without a wrapper, or no JSON at all.

use serde_json::Value;

use crate::contract::Failure;
use crate::diagnoses::{self, ARM_CODES, Diagnosis, ENTRA_CODES};
use crate::http::Response;
use crate::json::Fault;
use crate::settings::Settings;

/// The service's message is for people; longer than this it is cut.
const MAX_MESSAGE_CHARACTERS: usize = 300;

/// The longest code of the service that is known has 32 characters, its ids have 36.
const MAX_CODE_CHARACTERS: usize = 100;

/// What an error body says.
#[derive(Debug, Default, PartialEq, Eq)]
struct ServiceError {
    /// Entra's `error`, or the `code` of Azure Resource Manager.
    code: Option<String>,
    /// Numbers that Entra adds.
    numbers: Vec<u32>,
    /// For people.
    message: Option<String>,
    /// Entra's id of the request.
    trace_id: Option<String>,
}

impl ServiceError {
    fn read(body: &[u8]) -> ServiceError {
        let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(body) else {
            return ServiceError::default();
        };
        let body = Value::Object(body);
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let code = |value: Option<&Value>| text(value).map(|code| cut(&code, MAX_CODE_CHARACTERS));
        match member(&body, "error") {
            Some(Value::String(error)) => ServiceError {
                code: Some(cut(error, MAX_CODE_CHARACTERS)),
                numbers: numbers(&body),
                message: text(member(&body, "error_description")),
                trace_id: code(member(&body, "trace_id")),
            },
            wrapped => {
                let error = wrapped.filter(|error| error.is_object()).unwrap_or(&body);
                ServiceError {
                    code: code(member(error, "code")),
                    message: text(member(error, "message")),
                    ..ServiceError::default()
                }
            }
        }
    }
}

/// The member of an object whose name fits in any letter case.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn numbers(body: &Value) -> Vec<u32> {
    let numbers = member(body, "error_codes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    numbers.iter().filter_map(|number| number.as_u64().and_then(|number| u32::try_from(number).ok())).collect()
}

/// What the token endpoint's refusal means. Status and `error` decide the reaction; the numbers, which Microsoft may
/// change at any time, choose among the words for it and know three cases that must not be taken for a person's fault.
pub fn entra(settings: &Settings, response: &Response) -> Failure {
    let error = ServiceError::read(&response.body);
    let known =
        error.numbers.iter().find_map(|number| ENTRA_CODES.iter().find(|(code, _)| code == number)).map(|row| row.1);
    let diagnosis = known.unwrap_or(match (response.status, error.code.as_deref()) {
        (429, _) => &diagnoses::TOKEN_THROTTLED,
        (500.., _) | (_, Some("temporarily_unavailable" | "server_error")) => &diagnoses::TOKEN_UNAVAILABLE,
        (300..=399, _) => &diagnoses::REDIRECTED,
        (_, None) => &diagnoses::ANSWER_NOT_JSON,
        _ => &diagnoses::TOKEN_REFUSED,
    });
    let number = error.numbers.first().map(|number| format!("AADSTS{number}"));
    let mut failure = failure(diagnosis, settings, response, &error, "the token endpoint", "");
    failure.service_code = number.or(failure.service_code);
    if diagnosis.code == diagnoses::TOKEN_LOOP.code {
        failure.wait_seconds = failure.wait_seconds.or(Some(LOOP_SECONDS));
    }
    failure
}

/// Entra counts equal requests over five minutes.
const LOOP_SECONDS: u32 = 300;

/// What a refusal of Azure Resource Manager means.
pub fn arm(settings: &Settings, response: &Response, what: &str, subscription: &str) -> Failure {
    let error = ServiceError::read(&response.body);
    let known =
        error.code.as_deref().and_then(|code| ARM_CODES.iter().find(|(known, _)| known.eq_ignore_ascii_case(code)));
    let diagnosis = match (response.status, known) {
        (300..=399, _) => &diagnoses::REDIRECTED,
        (429, _) => &diagnoses::THROTTLED,
        (500.., _) => &diagnoses::SERVICE_UNAVAILABLE,
        (_, Some((_, diagnosis))) => diagnosis,
        (401, None) => &diagnoses::TOKEN_EXPIRED,
        (403, None) => &diagnoses::FORBIDDEN,
        (404, None) if error.code.is_none() => &diagnoses::ANSWER_NOT_JSON,
        _ => &diagnoses::REFUSED,
    };
    failure(diagnosis, settings, response, &error, what, subscription)
}

/// An answer with a good status that is not what was asked for.
pub fn not_understood(settings: &Settings, response: &Response, what: &str, fault: &Fault) -> Failure {
    let diagnosis = match fault {
        Fault { path, .. } if path.is_empty() => &diagnoses::ANSWER_NOT_JSON,
        Fault { wrong_type: true, .. } => &diagnoses::ANSWER_WRONG_TYPE,
        _ => &diagnoses::ANSWER_INCOMPLETE,
    };
    let mut failure = failure(diagnosis, settings, response, &ServiceError::default(), what, "");
    failure.cause = format!("{}: {what}: {fault}", diagnosis.cause);
    failure
}

fn failure(
    diagnosis: &Diagnosis,
    settings: &Settings,
    response: &Response,
    error: &ServiceError,
    what: &str,
    subscription: &str,
) -> Failure {
    let mut detail = format!("{what} answered {}", response.status);
    if let Some(code) = &error.code {
        detail.push_str(&format!(" {code}"));
    }
    if let Some(location) = response.header("location").filter(|_| (300..400).contains(&response.status)) {
        detail.push_str(&format!(" to {}", first_line(location)));
    }
    if let Some(message) = &error.message {
        detail.push_str(&format!(", \"{}\"", first_line(message)));
    }
    let failure = diagnosis.failure(&detail);
    Failure {
        fix: failure.fix.map(|fix| fill(&fix, settings, subscription)),
        status: Some(response.status),
        wait_seconds: retry_after_seconds(response),
        service_code: error.code.clone(),
        request_id: ["x-ms-correlation-request-id", "x-ms-request-id", "request-id"]
            .iter()
            .find_map(|name| response.header(name))
            .map(|id| cut(id, MAX_CODE_CHARACTERS))
            .or_else(|| error.trace_id.clone()),
        ..failure
    }
}

/// Puts the values of this feed into a fix.
pub fn fill(fix: &str, settings: &Settings, subscription: &str) -> String {
    let subscription = if subscription.is_empty() { "YOUR-SUBSCRIPTION-ID" } else { subscription };
    fix.replace("{client}", &settings.client_id)
        .replace("{tenant}", &settings.tenant)
        .replace("{subscription}", subscription)
        .replace("{endpoint}", &settings.endpoint)
}

/// Entra appends trace id and time on lines of their own; they stand elsewhere in the failure.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    shown(line.split(" Trace ID: ").next().unwrap_or_default())
}

/// What others wrote, as a part of a sentence.
pub fn shown(text: &str) -> String {
    cut(text, MAX_MESSAGE_CHARACTERS)
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().filter(|character| !character.is_control()).take(characters).collect()
}

/// `Retry-After` in seconds; a date is counted from the answer's own `Date`, since there is no clock here.
fn retry_after_seconds(response: &Response) -> Option<u32> {
    let value = response.header("retry-after")?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(u32::try_from(seconds).unwrap_or(u32::MAX));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(response.header("date")?).ok()?;
    let seconds = until.duration_since(now).unwrap_or_default().as_secs();
    Some(u32::try_from(seconds).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Reaction;

    fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Response { status, headers, body: body.as_bytes().to_vec() }
    }

    fn arm_code(status: u16, body: &str) -> String {
        arm(&Settings::sample(), &response(status, &[], body), "the page", "s").code
    }

    fn entra_code(status: u16, body: &str) -> String {
        entra(&Settings::sample(), &response(status, &[], body)).code
    }

    #[test]
    fn an_error_is_read_in_either_case_wrapped_or_bare() {
        for body in [
            r#"{"error":{"code":"SubscriptionNotFound","message":"m"}}"#,
            r#"{"Error":{"Code":"SubscriptionNotFound","Message":"m"}}"#,
            r#"{"Code":"SubscriptionNotFound","Message":"m"}"#,
            r#"{"code":"subscriptionnotfound"}"#,
        ] {
            assert_eq!(arm_code(404, body), "not-found", "{body}");
        }
    }

    #[test]
    fn what_is_no_json_goes_by_its_status() {
        for (status, code) in [
            (301, "redirected"),
            (401, "token-expired"),
            (403, "forbidden"),
            (404, "answer-not-json"),
            (418, "refused"),
            (429, "throttled"),
            (500, "service-unavailable"),
            (504, "service-unavailable"),
        ] {
            assert_eq!(arm_code(status, "<html>"), code, "{status}");
        }
    }

    #[test]
    fn each_code_of_azure_resource_manager_has_its_words() {
        for (code, diagnosis) in ARM_CODES {
            assert_eq!(arm_code(404, &format!(r#"{{"error":{{"code":"{code}"}}}}"#)), diagnosis.code);
        }
    }

    #[test]
    fn a_server_fault_is_nobodys_to_mend_whatever_it_says() {
        assert_eq!(arm_code(503, r#"{"error":{"code":"AuthorizationFailed"}}"#), "service-unavailable");
        assert_eq!(arm_code(429, r#"{"Code":"429","Message":"wait"}"#), "throttled");
    }

    #[test]
    fn each_number_of_entra_has_its_words() {
        for (number, diagnosis) in ENTRA_CODES {
            let body = format!(r#"{{"error":"invalid_client","error_codes":[{number}]}}"#);
            assert_eq!(entra_code(400, &body), diagnosis.code, "{number}");
        }
    }

    #[test]
    fn an_unknown_number_goes_by_status_and_error() {
        for (status, error, code) in [
            (400, "invalid_client", "token-refused"),
            (400, "temporarily_unavailable", "token-unavailable"),
            (503, "anything", "token-unavailable"),
            (429, "anything", "token-throttled"),
        ] {
            let body = format!(r#"{{"error":"{error}","error_codes":[1]}}"#);
            assert_eq!(entra_code(status, &body), code, "{status} {error}");
        }
        assert_eq!(entra_code(200, "<html>"), "answer-not-json");
    }

    #[test]
    fn a_failure_carries_what_the_service_said() {
        let body = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid.\r\nTrace ID: t","error_codes":[7000215],"trace_id":"t"}"#;
        let failure = entra(&Settings::sample(), &response(401, &[("retry-after", "17")], body));
        assert_eq!(failure.reaction, Reaction::MendFeed);
        assert_eq!(failure.service_code.as_deref(), Some("AADSTS7000215"));
        assert_eq!(failure.request_id.as_deref(), Some("t"));
        assert_eq!(failure.wait_seconds, Some(17));
        assert!(failure.cause.ends_with("the token endpoint answered 401 invalid_client, \"AADSTS7000215: Invalid.\""));
        assert!(failure.fix.is_some_and(|fix| fix.contains(&Settings::sample().client_id)));
    }

    #[test]
    fn a_refusal_of_the_api_carries_code_and_message_and_status() {
        let body = r#"{"error":{"code":"Novel","message":"Not today."}}"#;
        let failure = arm(&Settings::sample(), &response(404, &[("x-ms-request-id", "r")], body), "the page", "s");
        assert_eq!((failure.code.as_str(), failure.status), ("refused", Some(404)));
        assert_eq!((failure.service_code.as_deref(), failure.request_id.as_deref()), (Some("Novel"), Some("r")));
        assert!(failure.cause.ends_with("the page answered 404 Novel, \"Not today.\""), "{}", failure.cause);
    }

    #[test]
    fn a_redirect_is_named_with_where_it_leads() {
        let redirect = response(302, &[("location", "https://proxy.example/")], "");
        let settings = Settings::sample();
        for failure in [entra(&settings, &redirect), arm(&settings, &redirect, "the page", "s")] {
            assert_eq!(failure.code, "redirected");
            assert!(failure.cause.ends_with("answered 302 to https://proxy.example/"), "{}", failure.cause);
        }
        let moved = response(400, &[("location", "https://proxy.example/")], "");
        assert!(!arm(&settings, &moved, "the page", "s").cause.contains("proxy"));
    }

    #[test]
    fn too_many_equal_requests_wait_as_long_as_they_are_counted() {
        let waits = |number: u32, headers: &[(&str, &str)]| {
            let body = format!(r#"{{"error":"invalid_request","error_codes":[{number}]}}"#);
            entra(&Settings::sample(), &response(400, headers, &body)).wait_seconds
        };
        assert_eq!(waits(50_196, &[]), Some(300));
        assert_eq!(waits(50_196, &[("retry-after", "17")]), Some(17));
        assert_eq!(waits(90_055, &[]), None);
    }

    #[test]
    fn a_good_answer_that_is_none_says_what_is_wrong_with_it() {
        let code = |path: &str, wrong_type: bool| {
            let fault = Fault { path: path.to_owned(), found: "x".to_owned(), expected: "y".to_owned(), wrong_type };
            not_understood(&Settings::sample(), &response(200, &[], ""), "the page", &fault).code
        };
        assert_eq!(code("", false), "answer-not-json");
        assert_eq!(code("value", true), "answer-wrong-type");
        assert_eq!(code("value", false), "answer-incomplete");
    }

    #[test]
    fn what_the_service_wrote_is_cut_and_stays_on_one_line() {
        let long = "é\\n".repeat(5_000);
        for body in [
            format!(r#"{{"error":"{long}","error_description":"{long}","trace_id":"{long}"}}"#),
            format!(r#"{{"code":"{long}","message":"{long}"}}"#),
        ] {
            let response = response(302, &[("location", &long), ("x-ms-request-id", &long)], &body);
            for failure in [entra(&Settings::sample(), &response), arm(&Settings::sample(), &response, "the page", "s")]
            {
                let words = [Some(failure.cause), failure.service_code, failure.request_id];
                for words in words.into_iter().flatten() {
                    assert!(words.chars().count() < 1_000, "{} bytes", words.len());
                    assert!(!words.contains('\n'));
                }
            }
        }
    }

    #[test]
    fn a_date_to_wait_for_counts_from_the_answers_own_date() {
        let headers = [("retry-after", "Mon, 23 Nov 2026 10:00:30 GMT"), ("date", "Mon, 23 Nov 2026 10:00:00 GMT")];
        assert_eq!(retry_after_seconds(&response(429, &headers, "")), Some(30));
        assert_eq!(retry_after_seconds(&response(429, &headers[..1], "")), None);
        assert_eq!(retry_after_seconds(&response(429, &[("retry-after", "86400")], "")), Some(86_400));
    }
}
