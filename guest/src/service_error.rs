//! Diagnoses of refusals, and of answers that another party gave. The service's own error is read before its status, in any
//! letter case, with or without a wrapper. An answer without such an error is another party's: a proxy's, a firewall's, a
//! login page. Whatever the status of such an answer is, it says nothing about the tenant.

use serde_json::Value;

use crate::challenge;
use crate::contract::Failure;
use crate::diagnoses::{self, ARM_CODES, Diagnosis, ENTRA_PAGE};
use crate::http::Response;
use crate::json::{self, Fault};
use crate::settings::Settings;

/// The service's message is for people; longer than this it is cut.
const MAX_MESSAGE_CHARACTERS: usize = 300;

/// The longest code of the service that is known has 32 characters, its ids have 36.
const MAX_CODE_CHARACTERS: usize = 100;

/// The longest part of a header that a failure quotes, where another party answered in the service's place.
const MAX_HINT_CHARACTERS: usize = 64;

/// A call, as its failures tell of it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    settings: &'a Settings,
    service: Service,
    /// For people, such as `the list of secure scores`.
    what: &'a str,
    /// The origin that the request went to.
    origin: &'a str,
    /// Empty where the call is about no subscription.
    subscription: &'a str,
}

/// The service whose answer a call waits for.
#[derive(Debug, Clone, Copy)]
enum Service {
    Entra,
    Arm,
}

impl Service {
    /// Whether an answer has a mark of the service: a header that it signs with, or a member that its good answers have.
    fn signed(self, response: &Response) -> bool {
        let (header, members) = match self {
            Service::Entra => ("x-ms-ests-server", &["access_token", "token_type", "issuer"][..]),
            Service::Arm => ("x-ms-routing-request-id", &["value"][..]),
        };
        ARM_IDS.iter().chain([&header]).any(|name| response.header(name).is_some())
            || object(response).is_some_and(|body| members.iter().any(|name| member(&body, name).is_some()))
    }
}

impl<'a> Call<'a> {
    /// A call of Entra ID.
    pub fn to_entra(settings: &'a Settings, what: &'a str) -> Call<'a> {
        Call { settings, service: Service::Entra, what, origin: &settings.authority, subscription: "" }
    }

    /// A call of Azure Resource Manager.
    pub fn to_arm(settings: &'a Settings, what: &'a str, subscription: &'a str) -> Call<'a> {
        Call { settings, service: Service::Arm, what, origin: &settings.endpoint, subscription }
    }
}

/// The service's own error, read from the body.
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

/// The values that OAuth 2.0 and Entra ID define for `error`. Others, which Entra ID may add, come with a number.
const OAUTH_ERRORS: &[&str] = &[
    "access_denied",
    "consent_required",
    "interaction_required",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_resource",
    "invalid_scope",
    "invalid_tenant",
    "login_required",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
];

/// Entra ID numbers its errors from here on; a smaller number is a status.
const LEAST_NUMBER: u32 = 10_000;

impl ServiceError {
    /// The error of Entra ID in an answer; none if Entra ID did not write it.
    fn of_entra(response: &Response) -> Option<ServiceError> {
        let body = object(response)?;
        let error = member(&body, "error")?.as_str()?;
        let message = text(member(&body, "error_description"));
        let numbers = numbers(&body, message.as_deref());
        let trace_id = text(member(&body, "trace_id")).map(|id| cut(&id, MAX_CODE_CHARACTERS));
        // Every server of OAuth 2.0 has these words; Entra ID adds its numbers, or the id of the request.
        let own = !matches!(response.status, 407 | 511)
            && (numbers.iter().any(|number| *number >= LEAST_NUMBER)
                || message.as_ref().is_some_and(|message| message.starts_with("AADSTS"))
                || OAUTH_ERRORS.contains(&error)
                    && (trace_id.is_some() || ARM_IDS.iter().any(|name| response.header(name).is_some())));
        own.then(|| ServiceError { code: Some(cut(error, MAX_CODE_CHARACTERS)), numbers, message, trace_id })
    }

    /// The error of Azure Resource Manager or of a provider behind it; none if they did not write it.
    fn of_arm(response: &Response) -> Option<ServiceError> {
        let body = object(response)?;
        let error = match member(&body, "error") {
            None => &body,
            Some(error) => error,
        };
        // Some providers give the status as their code.
        let number = || member(error, "code")?.as_u64().map(|number| number.to_string());
        let code = text(member(error, "code")).or_else(number)?;
        // Gateways of all kinds answer in JSON, too. The service's own codes are words run together, and of its providers
        // that write others the answer has the id of the request.
        let own = !matches!(response.status, 407 | 511)
            && (is_arm_code(&code) || ARM_IDS.iter().any(|name| response.header(name).is_some()));
        own.then(|| ServiceError {
            code: Some(cut(&code, MAX_CODE_CHARACTERS)),
            message: text(member(error, "message")),
            ..ServiceError::default()
        })
    }
}

/// Whether a code is one that is known, or spelled as they are: at least two words, run together, each with a capital.
fn is_arm_code(code: &str) -> bool {
    let is_known = ARM_CODES.iter().any(|(known, _)| known.eq_ignore_ascii_case(code));
    let capitals = code.bytes().filter(u8::is_ascii_uppercase).count();
    let has_words = code.starts_with(|first: char| first.is_ascii_uppercase())
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && code.bytes().any(|byte| byte.is_ascii_lowercase())
        && capitals >= 2;
    is_known || has_words
}

/// The body, where it is a JSON object.
fn object(response: &Response) -> Option<Value> {
    let body = serde_json::from_slice::<Value>(json::unmarked(&response.body)).ok()?;
    body.is_object().then_some(body)
}

/// The member of an object whose name fits in any letter case.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The numbers of an error of Entra ID; where there is no list of them, the one that begins the message.
fn numbers(body: &Value, message: Option<&str>) -> Vec<u32> {
    let numbers = member(body, "error_codes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let numbers = numbers.iter().filter_map(|number| number.as_u64().and_then(|number| u32::try_from(number).ok()));
    let numbers: Vec<u32> = numbers.collect();
    let begin = message.and_then(|message| message.strip_prefix("AADSTS"));
    let told = begin.and_then(|begin| begin.split(|end: char| !end.is_ascii_digit()).next()?.parse().ok());
    if numbers.is_empty() { told.into_iter().collect() } else { numbers }
}

/// Diagnoses a refusal of Entra ID. Status and `error` decide the reaction. The numbers, which Microsoft may change at any
/// time, choose among the words, and mark three cases that are not a person's fault.
pub fn entra(call: Call<'_>, response: &Response) -> Failure {
    let error = ServiceError::of_entra(response);
    let numbers = error.as_ref().map(|error| error.numbers.as_slice()).unwrap_or_default();
    let known = numbers.iter().copied().find_map(diagnoses::of_entra);
    let diagnosis = known.unwrap_or(match (response.status, error.as_ref().map(|error| error.code.as_deref())) {
        (201..=299, _) => &diagnoses::STATUS_UNEXPECTED,
        (300..=399, _) => &diagnoses::REDIRECTED,
        (429, _) => &diagnoses::TOKEN_THROTTLED,
        (_, None) => &diagnoses::NOT_THE_SERVICE,
        (500.., _) | (_, Some(Some("temporarily_unavailable" | "server_error"))) => &diagnoses::TOKEN_UNAVAILABLE,
        _ => &diagnoses::TOKEN_REFUSED,
    });
    let mut failure = failure(diagnosis, call, response, error.as_ref());
    if let Some(number) = numbers.first() {
        failure.service_code = Some(format!("AADSTS{number}"));
        failure.fix = failure.fix.map(|fix| explained(&fix, *number));
    }
    if diagnosis.code == diagnoses::TOKEN_LOOP.code {
        failure.wait_seconds = failure.wait_seconds.or(Some(LOOP_SECONDS));
    }
    failure
}

/// A fix with the page on which Microsoft explains the number, as it is linked in `error_uri`.
fn explained(fix: &str, number: u32) -> String {
    let words = fix.strip_suffix(ENTRA_PAGE).map_or_else(|| format!("{fix}; more about it: "), str::to_owned);
    format!("{words}{ENTRA_PAGE}?code={number}")
}

/// Entra counts equal requests over five minutes.
const LOOP_SECONDS: u32 = 300;

/// Diagnoses a refusal of Azure Resource Manager.
pub fn arm(call: Call<'_>, response: &Response) -> Failure {
    let mut error = ServiceError::of_arm(response);
    let code = error.as_ref().and_then(|error| error.code.as_deref());
    let known = code.and_then(|code| ARM_CODES.iter().find(|(known, _)| known.eq_ignore_ascii_case(code)));
    let diagnosis = match (response.status, known) {
        (201..=299, _) => &diagnoses::STATUS_UNEXPECTED,
        (300..=399, _) => &diagnoses::REDIRECTED,
        (429, _) => &diagnoses::THROTTLED,
        (401, known) if known.is_none_or(|(_, known)| known.code == diagnoses::TOKEN_EXPIRED.code) => {
            match challenge::bearer(response) {
                Some(bearer) if bearer.wants_claims => {
                    let error = error.get_or_insert_default();
                    error.code.get_or_insert_with(|| "insufficient_claims".to_owned());
                    &diagnoses::CLAIMS_CHALLENGE
                }
                _ if error.is_some() => &diagnoses::TOKEN_EXPIRED,
                Some(_) => &diagnoses::TOKEN_CHALLENGED,
                None => &diagnoses::NOT_THE_SERVICE,
            }
        }
        _ if error.is_none() => &diagnoses::NOT_THE_SERVICE,
        (408 | 500.., _) => &diagnoses::SERVICE_UNAVAILABLE,
        (_, Some((_, diagnosis))) => diagnosis,
        (403, None) => &diagnoses::FORBIDDEN,
        _ => &diagnoses::REFUSED,
    };
    failure(diagnosis, call, response, error.as_ref())
}

/// Whether an answer has an error of Azure Resource Manager, or of a provider behind it.
pub fn is_of_arm(response: &Response) -> bool {
    ServiceError::of_arm(response).is_some()
}

/// Diagnoses an answer with a good status that does not hold what the call needs. The service's own error is an error
/// whatever its status is; an answer without a mark of the service is another party's.
pub fn not_understood(call: Call<'_>, response: &Response, fault: &Fault) -> Failure {
    match call.service {
        Service::Entra if ServiceError::of_entra(response).is_some() => return entra(call, response),
        Service::Arm if ServiceError::of_arm(response).is_some() => return arm(call, response),
        _ => {}
    }
    let is_for_people = fault.path.is_empty() && is_for_people(response);
    if is_for_people || !call.service.signed(response) {
        let mut failure = failure(&diagnoses::NOT_THE_SERVICE, call, response, None);
        failure.cause.push_str(&format!(": {fault}"));
        return failure;
    }
    unusable(fault.diagnosis(), call, response, &fault.to_string())
}

/// A good answer of the service that is of no use, and why.
pub fn unusable(diagnosis: &Diagnosis, call: Call<'_>, response: &Response, why: &str) -> Failure {
    let cause = format!("{}: {}: {why}", diagnosis.cause, call.what);
    Failure { cause, ..failure(diagnosis, call, response, None) }
}

/// Whether a body is a page, an image or the like: the service gives nothing but JSON.
fn is_for_people(response: &Response) -> bool {
    let kind = response.header("content-type").map(media_type);
    kind.is_some_and(|kind| !kind.is_empty() && !kind.to_ascii_lowercase().contains("json"))
        || json::unmarked(&response.body).trim_ascii_start().starts_with(b"<")
}

/// Describes the party that answered in the service's place: the kind of its body, and the name that it gives itself.
fn hints(response: &Response) -> String {
    let hint = |text: &str| cut(text, MAX_HINT_CHARACTERS);
    let kind = response.header("content-type").map(media_type).filter(|kind| !kind.is_empty());
    let mut hints = match (kind, response.body.is_empty()) {
        (_, true) => " with an empty body".to_owned(),
        (Some(kind), false) => format!(" with {}", hint(kind)),
        (None, false) => " with a body of no stated type".to_owned(),
    };
    for name in ["server", "via"] {
        if let Some(value) = response.header(name).map(hint).filter(|value| !value.is_empty()) {
            hints.push_str(&format!(", {name} {value:?}"));
        }
    }
    hints
}

fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn failure(diagnosis: &Diagnosis, call: Call<'_>, response: &Response, error: Option<&ServiceError>) -> Failure {
    let mut detail = format!("{} answered {}", call.what, response.status);
    let location = response.header("location").filter(|_| (300..400).contains(&response.status));
    match (error, location) {
        (Some(ServiceError { code: Some(code), .. }), _) => detail.push_str(&format!(" {code}")),
        (None, None) => detail.push_str(&hints(response)),
        _ => {}
    }
    if let Some(location) = location {
        detail.push_str(&format!(" to {}", first_line(location)));
    }
    if let Some(message) = error.and_then(|error| error.message.as_deref()) {
        detail.push_str(&format!(", \"{}\"", first_line(message)));
    }
    let failure = diagnosis.failure(&detail);
    // Somebody else may ask to wait for a status that says so by itself, and for no other.
    let is_own = diagnosis.code != diagnoses::NOT_THE_SERVICE.code;
    let fix = failure.fix.map(|fix| fix.replace("{endpoint}", call.origin));
    Failure {
        fix: fix.map(|fix| fill(&fix, call.settings, call.subscription)),
        status: Some(response.status),
        wait_seconds: retry_after_seconds(response).filter(|_| is_own || matches!(response.status, 429 | 503)),
        service_code: error.and_then(|error| error.code.clone()),
        request_id: request_id(response).or_else(|| error.and_then(|error| error.trace_id.clone())),
        ..failure
    }
}

/// The service's id of a request.
pub fn request_id(response: &Response) -> Option<String> {
    let id = REQUEST_IDS.iter().find_map(|name| response.header(name));
    id.map(|id| cut(id, MAX_CODE_CHARACTERS))
}

/// Headers with the id of a request, the one that support wants first.
const REQUEST_IDS: &[&str] = &["x-ms-correlation-request-id", "x-ms-request-id", "request-id"];

/// Headers with which Azure Resource Manager signs its answers.
const ARM_IDS: &[&str] = &["x-ms-correlation-request-id", "x-ms-request-id", "x-ms-failure-cause"];

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

/// Makes text of others fit into a sentence: cut, and on one line.
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

    fn of_arm(response: &Response) -> Failure {
        arm(Call::to_arm(&Settings::sample(), "the page", "s"), response)
    }

    fn of_entra(response: &Response) -> Failure {
        entra(Call::to_entra(&Settings::sample(), "the token endpoint"), response)
    }

    fn arm_code(status: u16, body: &str) -> String {
        of_arm(&response(status, &[], body)).code
    }

    fn entra_code(status: u16, body: &str) -> String {
        of_entra(&response(status, &[], body)).code
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

    /// Bodies that neither Entra ID nor Azure Resource Manager writes.
    const FOREIGN: &[&str] = &[
        "",
        "<!DOCTYPE html><h2>The request is blocked.</h2>",
        "Forbidden",
        "\"AuthorizationFailed\"",
        "[{\"error\":{\"code\":\"AuthorizationFailed\"}}]",
        "{}",
        r#"{"message":"Forbidden"}"#,
        r#"{"error":"Forbidden","message":"not here","path":"/","status":403}"#,
        r#"{"error":"forbidden","error_description":"blocked by policy"}"#,
        r#"{"error":{"code":403,"message":"Forbidden","status":"PERMISSION_DENIED"}}"#,
        r#"{"error":{"code":"403","message":"Forbidden"}}"#,
        r#"{"error":{"message":"Forbidden"}}"#,
        r#"{"error":{"code":""}}"#,
        r#"{"error":null}"#,
        r#"{"statusCode":401,"message":"Access denied due to missing subscription key."}"#,
        r#"{"fault":{"code":900901,"message":"Invalid Credentials"}}"#,
        r#"{"error":{"code":"AuthorizationFailed","message":"cut he"#,
    ];

    #[test]
    fn without_the_services_own_error_somebody_else_answered() {
        for status in [400, 401, 403, 404, 407, 409, 418, 451, 500, 502, 503, 504, 520] {
            for body in FOREIGN {
                let answer = response(status, &[("content-type", "text/html; charset=utf-8")], body);
                for failure in [of_arm(&answer), of_entra(&answer)] {
                    assert_eq!(failure.code, "not-the-service", "{status} {body}");
                    assert_eq!(failure.reaction, Reaction::TryLater);
                    assert_eq!((failure.status, failure.service_code), (Some(status), None));
                }
            }
        }
    }

    #[test]
    fn the_error_of_one_service_is_none_of_the_other() {
        assert_eq!(arm_code(403, r#"{"error":"invalid_client","error_codes":[7000215]}"#), "not-the-service");
        assert_eq!(entra_code(403, r#"{"error":{"code":"AuthorizationFailed"}}"#), "not-the-service");
    }

    #[test]
    fn who_answered_is_told_in_a_few_words() {
        let long = "x".repeat(1_000);
        let page = "<html>a page that nobody has to read</html>";
        let cause = |headers: &[(&str, &str)], body: &str| of_arm(&response(403, headers, body)).cause;
        for (headers, body, end) in [
            (
                &[("content-type", "text/html; charset=utf-8"), ("server", "Gate\"way\n"), ("via", "1.1 proxy")][..],
                page,
                "the page answered 403 with text/html, server \"Gate\\\"way\", via \"1.1 proxy\"",
            ),
            (&[], page, "answered 403 with a body of no stated type"),
            (&[("content-type", "text/html")], "", "answered 403 with an empty body"),
            (&[("server", &long)], page, &format!("server \"{}\"", &long[..64])),
        ] {
            let cause = cause(headers, body);
            assert!(cause.ends_with(end), "{cause}");
            assert!(!cause.contains("nobody has to read"));
        }
        let entra = of_entra(&response(403, &[], page));
        assert!(entra.fix.is_some_and(|fix| fix.contains("curl -i https://login.microsoftonline.com ")));
        let arm = of_arm(&response(403, &[], page));
        assert!(arm.fix.is_some_and(|fix| fix.contains("curl -i https://management.azure.com ")));
    }

    #[test]
    fn whoever_asks_to_wait_is_obeyed() {
        for (status, code) in [(429, ["throttled", "token-throttled"]), (503, ["not-the-service"; 2])] {
            for body in FOREIGN {
                let answer = response(status, &[("retry-after", "90")], body);
                let failures = [of_arm(&answer), of_entra(&answer)];
                assert_eq!(failures.each_ref().map(|failure| failure.wait_seconds), [Some(90); 2]);
                assert_eq!(failures.map(|failure| failure.code), code);
            }
        }
    }

    #[test]
    fn a_challenge_renews_the_token_whoever_wrote_the_body() {
        let own = r#"{"error":{"code":"InvalidAuthenticationToken"}}"#;
        let claims = "Bearer realm=\"\", error=\"insufficient_claims\", claims=\"e30=\"";
        for (challenge, body, code, service_code) in [
            ("Basic realm=\"x\", bearer realm=\"y\"", "<html>", "token-challenged", None),
            ("Bearer", "", "token-challenged", None),
            ("Bearer", own, "token-expired", Some("InvalidAuthenticationToken")),
            ("Basic realm=\"x\"", own, "token-expired", Some("InvalidAuthenticationToken")),
            (claims, own, "claims-challenge", Some("InvalidAuthenticationToken")),
            (claims, "", "claims-challenge", Some("insufficient_claims")),
        ] {
            let failure = of_arm(&response(401, &[("www-authenticate", challenge)], body));
            assert_eq!((failure.code.as_str(), failure.reaction), (code, Reaction::RenewToken), "{challenge} {body}");
            assert_eq!(failure.service_code.as_deref(), service_code, "{challenge} {body}");
        }
        let other = of_arm(&response(401, &[("www-authenticate", "Negotiate")], "<html>"));
        assert_eq!(other.code, "not-the-service");
        let tenant = r#"{"error":{"code":"InvalidAuthenticationTokenTenant"}}"#;
        assert_eq!(of_arm(&response(401, &[("www-authenticate", "Bearer")], tenant)).code, "wrong-tenant");
    }

    #[test]
    fn the_services_own_error_goes_by_its_status_where_its_code_is_not_known() {
        for (status, code) in [
            (400, "refused"),
            (401, "token-expired"),
            (403, "forbidden"),
            (404, "refused"),
            (408, "service-unavailable"),
            (500, "service-unavailable"),
            (504, "service-unavailable"),
        ] {
            assert_eq!(arm_code(status, r#"{"error":{"code":"NovelCode","message":"m"}}"#), code, "{status}");
            let short = response(status, &[("x-ms-request-id", "r")], r#"{"error":{"code":"Novel","message":"m"}}"#);
            assert_eq!(of_arm(&short).code, code, "{status}");
        }
        let bare = r#"{"Code":"400","Message":"m","Target":null}"#;
        assert_eq!(of_arm(&response(400, &[("x-ms-request-id", "r")], bare)).code, "refused");
        assert_eq!(arm_code(400, bare), "not-the-service");
        let number = r#"{"error":{"code":403,"message":"m"}}"#;
        let failure = of_arm(&response(403, &[("x-ms-request-id", "r")], number));
        assert_eq!((failure.code.as_str(), failure.service_code.as_deref()), ("forbidden", Some("403")));
        assert_eq!(arm_code(403, number), "not-the-service");
    }

    #[test]
    fn json_of_a_gateway_is_nobodys_refusal() {
        for code in ["access_denied", "rest_forbidden", "ERR_ACCESS_DENIED", "POLICY_VIOLATION", "Forbidden", "blocked"]
        {
            for status in [400, 401, 403, 404, 407] {
                assert_eq!(arm_code(status, &format!(r#"{{"error":{{"code":"{code}"}}}}"#)), "not-the-service");
                assert_eq!(arm_code(status, &format!(r#"{{"code":"{code}","message":"m"}}"#)), "not-the-service");
            }
        }
        for error in ["access_denied", "invalid_request", "invalid_client"] {
            let body = format!(r#"{{"error":"{error}","error_description":"The gateway refuses."}}"#);
            assert_eq!(entra_code(403, &body), "not-the-service");
        }
        assert_eq!(entra_code(403, r#"{"error":"blocked","error_codes":[403]}"#), "not-the-service");
        // A proxy signs with these, whatever its body says.
        for status in [407, 511] {
            assert_eq!(arm_code(status, r#"{"error":{"code":"ProxyAuthRequired"}}"#), "not-the-service");
            assert_eq!(entra_code(status, r#"{"error":"a","error_codes":[7000215]}"#), "not-the-service");
        }
    }

    #[test]
    fn somebody_else_may_ask_to_wait_for_a_status_that_says_so_and_no_other() {
        let wait = |status| of_arm(&response(status, &[("retry-after", "7200")], "<html>")).wait_seconds;
        assert_eq!([429, 503, 403, 404, 500].map(wait), [Some(7200), Some(7200), None, None, None]);
    }

    #[test]
    fn a_success_of_another_kind_is_tried_later() {
        for status in [201, 202, 203, 204, 206, 207, 226, 299] {
            for body in ["", "<html>", r#"{"value":[]}"#, r#"{"error":{"code":"AuthorizationFailed"}}"#] {
                for failure in [of_arm(&response(status, &[], body)), of_entra(&response(status, &[], body))] {
                    assert_eq!((failure.code.as_str(), failure.reaction), ("status-unexpected", Reaction::TryLater));
                }
            }
        }
    }

    #[test]
    fn a_byte_order_mark_before_an_error_hides_nothing() {
        let marked = |body: &str| format!("\u{feff}{body}");
        assert_eq!(arm_code(404, &marked(r#"{"error":{"code":"SubscriptionNotFound"}}"#)), "not-found");
        let body = marked(r#"{"error":"invalid_client","error_codes":[7000222]}"#);
        assert_eq!(entra_code(401, &body), "secret-expired");
    }

    #[test]
    fn each_code_of_azure_resource_manager_has_its_words() {
        for (code, diagnosis) in diagnoses::ARM_CODES {
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
        for (number, diagnosis) in diagnoses::ENTRA_CODES {
            let body = format!(r#"{{"error":"invalid_client","error_codes":[{number}]}}"#);
            assert_eq!(entra_code(400, &body), diagnosis.code, "{number}");
        }
        for number in [53_004, 53_099, 530_031] {
            let body = format!(r#"{{"error":"invalid_grant","error_codes":[{number}]}}"#);
            assert_eq!(entra_code(400, &body), "conditional-access", "{number}");
        }
    }

    #[test]
    fn a_number_is_told_with_the_page_that_explains_it() {
        let fix = |number: u32| {
            let body = format!(r#"{{"error":"invalid_client","error_codes":[{number}]}}"#);
            of_entra(&response(401, &[], &body)).fix.unwrap()
        };
        assert_eq!(fix(99_999), "look the AADSTS code up: https://login.microsoftonline.com/error?code=99999");
        for (number, _) in diagnoses::ENTRA_CODES.iter().filter(|(_, diagnosis)| !diagnosis.fix.is_empty()) {
            let page = format!("; more about it: https://login.microsoftonline.com/error?code={number}");
            assert!(fix(*number).ends_with(&page), "{number}");
        }
        let unnumbered = of_entra(&response(400, &[], r#"{"error":"invalid_client","trace_id":"t"}"#));
        assert!(unnumbered.fix.is_some_and(|fix| fix.ends_with("https://login.microsoftonline.com/error")));
    }

    #[test]
    fn an_unknown_number_goes_by_status_and_error() {
        for (status, error, code) in [
            (400, "invalid_client", "token-refused"),
            (400, "temporarily_unavailable", "token-unavailable"),
            (503, "anything", "token-unavailable"),
            (429, "anything", "token-throttled"),
        ] {
            let body = format!(r#"{{"error":"{error}","error_codes":[99999]}}"#);
            assert_eq!(entra_code(status, &body), code, "{status} {error}");
        }
        assert_eq!(entra_code(200, "<html>"), "not-the-service");
        assert_eq!(
            entra_code(400, r#"{"error":"invalid_client","error_description":"AADSTS7000222: Expired."}"#),
            "secret-expired"
        );
    }

    #[test]
    fn a_failure_carries_what_the_service_said() {
        let body = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid.\r\nTrace ID: t","error_codes":[7000215],"trace_id":"t"}"#;
        let failure = of_entra(&response(401, &[("retry-after", "17")], body));
        assert_eq!(failure.reaction, Reaction::FixFeed);
        assert_eq!(failure.service_code.as_deref(), Some("AADSTS7000215"));
        assert_eq!(failure.request_id.as_deref(), Some("t"));
        assert_eq!(failure.wait_seconds, Some(17));
        assert!(failure.cause.ends_with("the token endpoint answered 401 invalid_client, \"AADSTS7000215: Invalid.\""));
        assert!(failure.fix.is_some_and(|fix| fix.contains(&Settings::sample().client_id)));
    }

    #[test]
    fn a_refusal_of_the_api_carries_code_and_message_and_status() {
        let body = r#"{"error":{"code":"Novel","message":"Not today."}}"#;
        let failure = of_arm(&response(404, &[("x-ms-request-id", "r")], body));
        assert_eq!((failure.code.as_str(), failure.status), ("refused", Some(404)));
        assert_eq!((failure.service_code.as_deref(), failure.request_id.as_deref()), (Some("Novel"), Some("r")));
        assert!(failure.cause.ends_with("the page answered 404 Novel, \"Not today.\""), "{}", failure.cause);
    }

    #[test]
    fn a_redirect_is_named_with_where_it_leads() {
        let redirect = response(302, &[("location", "https://proxy.example/")], "");
        for failure in [of_entra(&redirect), of_arm(&redirect)] {
            assert_eq!((failure.code.as_str(), failure.reaction), ("redirected", Reaction::TryLater));
            assert!(failure.cause.ends_with("answered 302 to https://proxy.example/"), "{}", failure.cause);
        }
        let moved = response(400, &[("location", "https://proxy.example/")], "");
        assert!(!of_arm(&moved).cause.contains("proxy.example"));
    }

    #[test]
    fn too_many_equal_requests_wait_as_long_as_they_are_counted() {
        let waits = |number: u32, headers: &[(&str, &str)]| {
            let body = format!(r#"{{"error":"invalid_request","error_codes":[{number}]}}"#);
            of_entra(&response(400, headers, &body)).wait_seconds
        };
        assert_eq!(waits(50_196, &[]), Some(300));
        assert_eq!(waits(50_196, &[("retry-after", "17")]), Some(17));
        assert_eq!(waits(90_055, &[]), None);
    }

    #[test]
    fn a_good_answer_that_is_none_says_what_is_wrong_with_it() {
        let code = |path: &str, wrong_type: bool| {
            let fault = Fault { path: path.to_owned(), found: "x".to_owned(), expected: "y".to_owned(), wrong_type };
            let signed = response(200, &[("x-ms-request-id", "r")], "");
            not_understood(Call::to_arm(&Settings::sample(), "the page", "s"), &signed, &fault).code
        };
        assert_eq!(code("", false), "answer-not-json");
        assert_eq!(code("value", true), "answer-wrong-type");
        assert_eq!(code("value", false), "answer-incomplete");
    }

    #[test]
    fn a_page_for_people_is_nobody_elses_list() {
        let fault = Fault::document("HTML or XML", "a JSON object");
        let failure = |headers: &[(&str, &str)], body: &str| {
            not_understood(Call::to_arm(&Settings::sample(), "the page", "s"), &response(200, headers, body), &fault)
        };
        for (headers, body) in [
            (&[][..], "\u{feff} <html>"),
            (&[("content-type", "text/html")], "Sign in"),
            (&[("content-type", "image/png")], "\u{89}PNG"),
        ] {
            let failure = failure(headers, body);
            assert_eq!((failure.code.as_str(), failure.reaction), ("not-the-service", Reaction::TryLater));
            assert!(failure.cause.ends_with("found HTML or XML, expected a JSON object"), "{}", failure.cause);
        }
        for kind in ["application/json", "text/json; charset=utf-8", "application/problem+JSON", ""] {
            let headers = [("content-type", kind), ("x-ms-request-id", "r")];
            assert_eq!(failure(&headers, "{\"value\":").code, "answer-not-json", "{kind}");
        }
    }

    fn unfit_code(call: Call<'_>, headers: &[(&str, &str)], body: &str) -> String {
        not_understood(call, &response(200, headers, body), &Fault::unfit("value", None, "a list")).code
    }

    #[test]
    fn json_without_a_mark_of_the_service_is_somebody_elses() {
        let settings = Settings::sample();
        let calls = [Call::to_arm(&settings, "the page", "s"), Call::to_entra(&settings, "the token endpoint")];
        for call in calls {
            for (kind, body) in [
                ("application/captive+json", r#"{"captive":true,"user-portal-url":"https://portal.example"}"#),
                ("application/json", "{}"),
                ("application/json", ""),
                ("application/json", r#"{"error":"Forbidden"}"#),
                ("application/json", r#"{"error":{"code":403,"message":"Forbidden"}}"#),
                ("text/plain", "sign in first"),
                ("", "sign in first"),
            ] {
                assert_eq!(unfit_code(call, &[("content-type", kind)], body), "not-the-service", "{body}");
            }
            for header in ["x-ms-request-id", "x-ms-correlation-request-id"] {
                assert_eq!(unfit_code(call, &[(header, "r")], "{}"), "answer-incomplete", "{header}");
            }
        }
        assert_eq!(unfit_code(calls[0], &[], r#"{"value":{}}"#), "answer-incomplete");
        assert_eq!(unfit_code(calls[1], &[], r#"{"access_token":""}"#), "answer-incomplete");
        assert_eq!(unfit_code(calls[0], &[], r#"{"Value":{}}"#), "answer-incomplete", "in any letter case");
        assert_eq!(unfit_code(calls[1], &[], r#"{"Access_Token":""}"#), "answer-incomplete", "in any letter case");
    }

    #[test]
    fn an_error_of_the_service_goes_by_its_code_though_its_status_is_200() {
        let settings = Settings::sample();
        let arm = |code: &str| {
            let body = format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
            unfit_code(Call::to_arm(&settings, "the page", "s"), &[], &body)
        };
        for (code, expected) in [
            ("AuthorizationFailed", "forbidden"),
            ("SubscriptionNotFound", "not-found"),
            ("SubscriptionRequestsThrottled", "throttled"),
            ("InternalServerError", "service-unavailable"),
            ("ExpiredAuthenticationToken", "token-expired"),
            ("NovelRefusal", "refused"),
        ] {
            assert_eq!(arm(code), expected, "{code}");
        }
        let entra = |body: &str| {
            let answer = response(200, &[], body);
            let call = Call::to_entra(&settings, "the token endpoint");
            not_understood(call, &answer, &Fault::unfit("access_token", None, "a string"))
        };
        let failure = entra(r#"{"error":"invalid_client","error_codes":[7000215],"trace_id":"t"}"#);
        assert_eq!((failure.code.as_str(), failure.service_code.as_deref()), ("secret-invalid", Some("AADSTS7000215")));
        assert_eq!(entra(r#"{"error":"invalid_client","trace_id":"t"}"#).code, "token-refused");
        assert_eq!(entra(r#"{"error":"temporarily_unavailable","trace_id":"t"}"#).code, "token-unavailable");
    }

    #[test]
    fn what_the_service_wrote_is_cut_and_stays_on_one_line() {
        let long = "é\\n".repeat(5_000);
        for body in [
            format!(r#"{{"error":"{long}","error_description":"{long}","trace_id":"{long}"}}"#),
            format!(r#"{{"code":"{long}","message":"{long}"}}"#),
        ] {
            let response = response(302, &[("location", &long), ("x-ms-request-id", &long)], &body);
            for failure in [of_entra(&response), of_arm(&response)] {
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
