//! The service's own error in the body of an answer.

use serde_json::Value;

use super::words::{MAX_CODE_CHARACTERS, cut};
use crate::diagnoses::ARM_CODES;
use crate::http::Response;
use crate::json;

/// The service's own error in a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ServiceError {
    /// Entra's `error`, or the `code` of Azure Resource Manager.
    pub code: Option<String>,
    /// AADSTS numbers, which Entra ID adds.
    pub numbers: Vec<u32>,
    /// Text for people.
    pub message: Option<String>,
    /// Entra's id of the request.
    pub trace_id: Option<String>,
}

/// The values that OAuth 2.0 and Entra ID define for `error`. New values of Entra ID come with a number.
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

/// The smallest number of Entra ID's errors; a smaller number is a status.
const LEAST_NUMBER: u32 = 10_000;

impl ServiceError {
    /// Reads the error of Entra ID in an answer; `None` if Entra ID did not write it.
    pub fn of_entra(response: &Response) -> Option<ServiceError> {
        let body = object(response)?;
        let error = member(&body, "error")?.as_str()?;
        let message = text(member(&body, "error_description"));
        let numbers = numbers(&body, message.as_deref());
        let trace_id = text(member(&body, "trace_id")).map(|id| cut(&id, MAX_CODE_CHARACTERS));
        // Every server of OAuth 2.0 uses these words; Entra ID adds its numbers, or the id of the request.
        let own = !matches!(response.status, 407 | 511)
            && (numbers.iter().any(|number| *number >= LEAST_NUMBER)
                || message.as_ref().is_some_and(|message| message.starts_with("AADSTS"))
                || OAUTH_ERRORS.contains(&error)
                    && (trace_id.is_some() || ARM_IDS.iter().any(|name| response.header(name).is_some())));
        own.then(|| ServiceError { code: Some(cut(error, MAX_CODE_CHARACTERS)), numbers, message, trace_id })
    }

    /// Reads the error of Azure Resource Manager or of a provider behind it; `None` if they did not write it.
    pub fn of_arm(response: &Response) -> Option<ServiceError> {
        let body = object(response)?;
        let error = match member(&body, "error") {
            None => &body,
            Some(error) => error,
        };
        // Some providers use the status as their code.
        let number = || member(error, "code")?.as_u64().map(|number| number.to_string());
        let code = text(member(error, "code")).or_else(number)?;
        // Gateways of all kinds answer in JSON, too. The service's own codes are words joined together; answers of
        // providers with other codes have the id of the request.
        let own = !matches!(response.status, 407 | 511)
            && (is_arm_code(&code) || ARM_IDS.iter().any(|name| response.header(name).is_some()));
        own.then(|| ServiceError {
            code: Some(cut(&code, MAX_CODE_CHARACTERS)),
            message: text(member(error, "message")),
            ..ServiceError::default()
        })
    }
}

/// Says whether a code is known, or has the form of known ones: at least two words joined together, each with a
/// capital.
fn is_arm_code(code: &str) -> bool {
    let is_known = ARM_CODES.iter().any(|(known, _)| known.eq_ignore_ascii_case(code));
    let capitals = code.bytes().filter(u8::is_ascii_uppercase).count();
    let has_words = code.starts_with(|first: char| first.is_ascii_uppercase())
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && code.bytes().any(|byte| byte.is_ascii_lowercase())
        && capitals >= 2;
    is_known || has_words
}

/// Returns the body, if it is a JSON object.
pub(super) fn object(response: &Response) -> Option<Value> {
    let body = serde_json::from_slice::<Value>(json::unmarked(&response.body)).ok()?;
    body.is_object().then_some(body)
}

/// Returns the member of an object with this name in any letter case.
pub(super) fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Returns the numbers of Entra ID's error; if there is no list of them, the number at the beginning of the message.
fn numbers(body: &Value, message: Option<&str>) -> Vec<u32> {
    let numbers = member(body, "error_codes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let numbers = numbers.iter().filter_map(|number| number.as_u64().and_then(|number| u32::try_from(number).ok()));
    let numbers: Vec<u32> = numbers.collect();
    let begin = message.and_then(|message| message.strip_prefix("AADSTS"));
    let told = begin.and_then(|begin| begin.split(|end: char| !end.is_ascii_digit()).next()?.parse().ok());
    if numbers.is_empty() { told.into_iter().collect() } else { numbers }
}

/// Headers with which Azure Resource Manager signs its answers.
pub(super) const ARM_IDS: &[&str] = &["x-ms-correlation-request-id", "x-ms-request-id", "x-ms-failure-cause"];
