//! Diagnoses of refusals, and of answers that another party gave. The service's own error is read before its status, in
//! any letter case, with or without a wrapper. An answer without such an error comes from another party: a proxy, a
//! firewall, a login page. Such an answer says nothing about the tenant, whatever its status is.

mod body;
mod failure;
#[cfg(test)]
mod tests;
mod words;

use self::body::{ARM_IDS, ServiceError, member, object};
pub use self::failure::request_id;
use self::failure::{failure, media_type};
pub use self::words::{fill, shown};
use crate::challenge;
use crate::contract::Failure;
use crate::diagnoses::{self, ARM_CODES, Diagnosis, ENTRA_PAGE};
use crate::http::Response;
use crate::json::{self, Fault};
use crate::settings::Settings;

/// A call, described for its failures.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    settings: &'a Settings,
    service: Service,
    /// Name of the call for people, such as `the list of secure scores`.
    what: &'a str,
    /// The origin of the request.
    origin: &'a str,
    /// The subscription; `None` if the call is not about one.
    subscription: Option<&'a str>,
}

/// The service whose answer a call waits for.
#[derive(Debug, Clone, Copy)]
enum Service {
    Entra,
    Arm,
}

impl Service {
    /// Says whether an answer has a mark of the service: one of its headers, or a member of its good answers.
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
    /// Describes a call of Entra ID.
    pub fn to_entra(settings: &'a Settings, what: &'a str) -> Call<'a> {
        Call { settings, service: Service::Entra, what, origin: &settings.authority, subscription: None }
    }

    /// Describes a call of Azure Resource Manager.
    pub fn to_arm(settings: &'a Settings, what: &'a str, subscription: Option<&'a str>) -> Call<'a> {
        Call { settings, service: Service::Arm, what, origin: &settings.endpoint, subscription }
    }
}

/// Diagnoses a refusal of Entra ID. Status and `error` decide the reaction. The numbers, which Microsoft may change at
/// any time, choose among the texts, and mark three cases that no person can mend.
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

/// Adds to a fix the page on which Microsoft explains the number, in the form of the links in `error_uri`.
fn explained(fix: &str, number: u32) -> String {
    let words = fix.strip_suffix(ENTRA_PAGE).map_or_else(|| format!("{fix}; more about it: "), str::to_owned);
    format!("{words}{ENTRA_PAGE}?code={number}")
}

/// Seconds over which Entra ID counts equal requests.
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

/// Says whether an answer has an error of Azure Resource Manager, or of a provider behind it.
pub fn is_of_arm(response: &Response) -> bool {
    ServiceError::of_arm(response).is_some()
}

/// Diagnoses an answer with a good status that lacks what the call needs. The service's own error is an error whatever
/// its status is; an answer without a mark of the service comes from another party.
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

/// Makes the failure of a good answer that is unusable, with the reason.
pub fn unusable(diagnosis: &Diagnosis, call: Call<'_>, response: &Response, why: &str) -> Failure {
    let cause = format!("{}: {}: {why}", diagnosis.cause, call.what);
    Failure { cause, ..failure(diagnosis, call, response, None) }
}

/// Says whether a body is an HTML page, an image or the like: the service returns only JSON.
fn is_for_people(response: &Response) -> bool {
    let kind = response.header("content-type").map(media_type);
    kind.is_some_and(|kind| !kind.is_empty() && !kind.to_ascii_lowercase().contains("json"))
        || json::unmarked(&response.body).trim_ascii_start().starts_with(b"<")
}
