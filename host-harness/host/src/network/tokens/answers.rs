//! The kept answers to one request, and the form in which they are given again.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::limits::{CLOCK_STEP, REFUSAL_KEPT, TOKEN_LIFE, TOKEN_RENEWAL, TOKEN_WINDOW, milliseconds};
use crate::network::tokens::{BudgetSpent, Freshness, Sent, TOKEN, TokenRequest, is_of_tokens};
use crate::network::{IncomingResponse, OutgoingRequest};
use crate::text::guids;

/// Members of an answer that count seconds from now.
const LIFETIMES: &[&str] = &["expires_in", "ext_expires_in", "refresh_in"];

/// Members of an answer that identify one request.
const TRACES: &[&str] = &["correlation_id", "timestamp", "trace_id"];

/// The answers to one request that may be given again.
#[derive(Default)]
pub(super) struct Answers {
    /// The last answer with a token. A refusal does not remove it: for requests that are not refused with it, the token
    /// is still valid.
    good: Option<Arc<Fetched>>,
    refusal: Option<Arc<Fetched>>,
    /// When a token was last fetched although there was a valid one.
    renewed: Option<u64>,
}

/// An answer, the tenant that fetched it, and when.
pub(super) struct Fetched {
    answer: IncomingResponse,
    tenant: Arc<str>,
    at: u64,
    life: Option<u64>,
    /// The time from which the token is not given any more, in Unix milliseconds; `None` if the answer has no usable
    /// token.
    renew_at: Option<u64>,
}

impl Answers {
    /// Returns the answer that may be given in place of another request.
    pub(super) fn find(&self, freshness: &Freshness, captures: &str, now: u64) -> Option<&Arc<Fetched>> {
        let is_renewed = self.renewed.is_some_and(|at| now.abs_diff(at) < milliseconds(TOKEN_WINDOW));
        let good = self.good(now).filter(|good| is_renewed || good.suits(freshness, captures));
        let is_kept = |refusal: &&Arc<Fetched>| refusal.age(now).is_some_and(|age| age < milliseconds(REFUSAL_KEPT));
        good.or_else(|| self.refusal.as_ref().filter(is_kept))
    }

    /// Returns the answer whose token need not be renewed yet.
    pub(super) fn good(&self, now: u64) -> Option<&Arc<Fetched>> {
        let is_good = |good: &&Arc<Fetched>| good.age(now).zip(good.renew_at).is_some_and(|(_, end)| now < end);
        self.good.as_ref().filter(is_good)
    }

    /// Keeps an answer; `renews` says that there was a valid token when it was requested.
    pub(super) fn keep(&mut self, fetched: &Arc<Fetched>, renews: bool) {
        if fetched.renew_at.is_some() {
            (self.good, self.refusal) = (Some(Arc::clone(fetched)), None);
            self.renewed = renews.then_some(fetched.at).or(self.renewed);
        } else if matches!(fetched.answer.status, 200 | 400..=428) {
            self.refusal = Some(Arc::clone(fetched));
        }
    }

    /// Says whether any of the answers may be given again.
    pub(super) fn is_of_use(&self, now: u64) -> bool {
        self.find(&Freshness::Any, "", now).is_some()
    }
}

impl Fetched {
    pub(super) fn new(answer: IncomingResponse, tenant: Arc<str>, at: u64) -> Fetched {
        let life = if answer.status == 200 { lifetime(&answer) } else { None };
        let renew_at =
            life.map(|life| at.saturating_add(life.saturating_sub(milliseconds(TOKEN_RENEWAL)).max(life / 2)));
        Fetched { answer, tenant, at, life, renew_at }
    }

    /// The lifetime of the token, in milliseconds; `None` if the answer has no usable token.
    pub(super) fn life(&self) -> Option<u64> {
        self.life
    }

    /// Bytes of the answer.
    pub(super) fn bytes(&self) -> usize {
        self.answer.body.len() + self.answer.header_bytes()
    }

    /// The age in milliseconds; `None` if the clock was set back since. A concurrent request may have read the clock a
    /// little earlier.
    fn age(&self, now: u64) -> Option<u64> {
        (self.at <= now + milliseconds(CLOCK_STEP)).then(|| now.saturating_sub(self.at))
    }

    fn suits(&self, freshness: &Freshness, captures: &str) -> bool {
        match freshness {
            Freshness::Any => true,
            Freshness::Since(time) => self.at >= *time,
            Freshness::Not(refused) => {
                let body = serde_json::from_slice::<Value>(self.answer.unmarked());
                body.is_ok_and(|body| body[captures] != *refused.expose())
            }
        }
    }

    /// The answer for a request that is made now. Another tenant does not see the parts that identify the request that
    /// fetched the answer.
    pub(super) fn given_to(&self, asked: &TokenRequest, is_kept: bool) -> Sent {
        let response = if *self.tenant == *asked.tenant { self.answer.clone() } else { self.untraced(&asked.likeness) };
        let response = aged(response, self.age(asked.now).unwrap_or_default());
        Sent::Answer { response, renew_at: self.renew_at, is_kept }
    }

    fn untraced(&self, request: &OutgoingRequest) -> IncomingResponse {
        let mut answer = self.answer.clone();
        // Tenants that wait for the same answer wait as long as its service asks; such answers are not kept.
        let asks_to_wait = answer.status == 429 || answer.status >= 500;
        answer.headers.retain(|(name, _)| match name.as_str() {
            // A machine that answers in a service's place shows itself in these headers.
            "content-type" | "server" | "via" => true,
            "date" | "retry-after" => asks_to_wait,
            _ => false,
        });
        change(&mut answer, |members| {
            members.retain(|name, _| !TRACES.contains(&name.as_str()));
            if self.answer.status != 200 {
                let request =
                    format!("{} {}", request.url, String::from_utf8_lossy(&request.body)).to_ascii_lowercase();
                members.values_mut().for_each(|value| cut_traces(value, &request));
            }
        });
        answer
    }
}

/// Cuts a text before the first id that is not in the request: the ids of a request are at the end.
fn cut_traces(value: &mut Value, request: &str) {
    match value {
        Value::String(text) => {
            let trace = guids(text).find(|id| !request.contains(&id.to_ascii_lowercase()));
            if let Some(place) = trace.and_then(|trace| text.find(trace)) {
                text.truncate(place);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| cut_traces(value, request)),
        Value::Object(members) => members.values_mut().for_each(|value| cut_traces(value, request)),
        _ => {}
    }
}

/// Changes the members of an answer that is an object.
fn change(answer: &mut IncomingResponse, change: impl FnOnce(&mut Map<String, Value>)) {
    if let Ok(Value::Object(mut members)) = serde_json::from_slice::<Value>(answer.unmarked()) {
        change(&mut members);
        answer.body = Value::Object(members).to_string().into_bytes();
    }
}

/// The answer after this time, in milliseconds: members that count seconds are reduced.
fn aged(mut answer: IncomingResponse, age: u64) -> IncomingResponse {
    if age >= 1_000 {
        change(&mut answer, |members| {
            for name in LIFETIMES {
                if let Some(value) = members.get_mut(*name)
                    && let Some(life) = seconds(value)
                {
                    *value = Value::from(life.saturating_sub(age / 1_000));
                }
            }
        });
    }
    answer
}

/// The lifetime of an answer's token, in milliseconds from the fetch; `None` if the token is unusable.
fn lifetime(answer: &IncomingResponse) -> Option<u64> {
    let body: Value = serde_json::from_slice(answer.unmarked()).ok()?;
    let token = body.get(TOKEN).and_then(Value::as_str);
    if token.is_some_and(|token| token.is_empty() || !token.chars().all(is_of_tokens)) {
        return None;
    }
    let kind = body.get("token_type").and_then(Value::as_str).filter(|kind| !kind.is_empty());
    if kind.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return None;
    }
    let life = match body.get("expires_in").filter(|life| !life.is_null()) {
        Some(life) => seconds(life)?,
        None => token.map(|_| TOKEN_LIFE.as_secs())?,
    };
    (life > 0).then(|| life.saturating_mul(1_000))
}

/// Whole seconds of a number, or of a number in a text.
fn seconds(value: &Value) -> Option<u64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast stops at both ends")]
    (!number.is_nan()).then_some(number as u64)
}

/// The answer that the service would give to one request more, and its explanation for people.
pub(super) fn too_often(spent: &BudgetSpent, now: u64) -> Sent {
    let wait_seconds = spent.opens.saturating_sub(now).div_ceil(1_000);
    let why = match spent.life.filter(|life| *life < milliseconds(TOKEN_WINDOW)) {
        Some(life) => format!("its tokens are valid for {} s only", life / 1_000),
        None => "none of its tokens is usable any more".to_owned(),
    };
    let why = format!(
        "the service was sent {} identical requests for a token within {} s, the most that the host sends, and {why}",
        spent.budget,
        TOKEN_WINDOW.as_secs()
    );
    let body = serde_json::json!({ "error": "temporarily_unavailable", "error_description": why });
    let headers = [("content-type", "application/json".to_owned()), ("retry-after", wait_seconds.to_string())];
    let response = IncomingResponse {
        status: 429,
        headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        body: body.to_string().into_bytes(),
    };
    Sent::TooOften { response, why }
}
