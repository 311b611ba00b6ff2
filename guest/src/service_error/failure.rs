//! Makes the failure of a call from a diagnosis and an answer.

use super::Call;
use super::body::ServiceError;
use super::words::{MAX_CODE_CHARACTERS, cut, fill, first_line};
use crate::contract::Failure;
use crate::diagnoses::{self, Diagnosis};
use crate::http::Response;

/// Characters of a header that a failure quotes, if another party answered in the service's place.
const MAX_HINT_CHARACTERS: usize = 64;

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

pub(super) fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

pub(super) fn failure(
    diagnosis: &Diagnosis,
    call: Call<'_>,
    response: &Response,
    error: Option<&ServiceError>,
) -> Failure {
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
    // Another party may ask to wait with a status that means a wait, and with no other.
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

/// Headers with the id of a request, that of the service's support first.
const REQUEST_IDS: &[&str] = &["x-ms-correlation-request-id", "x-ms-request-id", "request-id"];

/// Reads `Retry-After` in seconds; a date is counted from the answer's own `Date`, because there is no clock here.
pub(super) fn retry_after_seconds(response: &Response) -> Option<u32> {
    let value = response.header("retry-after")?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(u32::try_from(seconds).unwrap_or(u32::MAX));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(response.header("date")?).ok()?;
    let seconds = until.duration_since(now).unwrap_or_default().as_secs();
    Some(u32::try_from(seconds).unwrap_or(u32::MAX))
}
