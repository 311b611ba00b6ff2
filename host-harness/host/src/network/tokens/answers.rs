//! What is kept of the answers to one request, and in which form they are given again.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::limits::{CLOCK_STEP, REFUSAL_KEPT, TOKEN_LIFE, TOKEN_RENEWAL, TOKEN_REQUESTS, TOKEN_WINDOW, milliseconds};
use crate::network::tokens::{BudgetSpent, Freshness, Sent, TOKEN, TokenRequest, is_of_tokens};
use crate::network::{IncomingResponse, OutgoingRequest};
use crate::text::guids;

/// Members of an answer that count seconds from now.
const LIFETIMES: &[&str] = &["expires_in", "ext_expires_in", "refresh_in"];

/// Members of an answer that tell one request from another.
const TRACES: &[&str] = &["correlation_id", "timestamp", "trace_id"];

/// The answers to one request that may be given again.
#[derive(Default)]
pub(super) struct Answers {
    /// The last one with a token. A refusal does not take it away: for whoever is not refused with it, it is as good as
    /// before.
    good: Option<Arc<Fetched>>,
    refusal: Option<Arc<Fetched>>,
    /// When a token was last fetched though there was a good one.
    renewed: Option<u64>,
}

/// An answer, for whom it was fetched, and when.
pub(super) struct Fetched {
    answer: IncomingResponse,
    tenant: Arc<str>,
    at: u64,
    life: Option<u64>,
    /// From when on its token is not given any more; none if there is none that can be used.
    renew_at: Option<u64>,
}

impl Answers {
    /// The answer that may be given in place of another request.
    pub(super) fn find(&self, freshness: &Freshness, captures: &str, now: u64) -> Option<&Arc<Fetched>> {
        let is_renewed = self.renewed.is_some_and(|at| now.abs_diff(at) < milliseconds(TOKEN_WINDOW));
        let good = self.good(now).filter(|good| is_renewed || good.suits(freshness, captures));
        let is_kept = |refusal: &&Arc<Fetched>| refusal.age(now).is_some_and(|age| age < milliseconds(REFUSAL_KEPT));
        good.or_else(|| self.refusal.as_ref().filter(is_kept))
    }

    /// The token that is not to be renewed yet.
    pub(super) fn good(&self, now: u64) -> Option<&Arc<Fetched>> {
        let is_good = |good: &&Arc<Fetched>| good.age(now).zip(good.renew_at).is_some_and(|(_, end)| now < end);
        self.good.as_ref().filter(is_good)
    }

    /// Keeps an answer; `renews` says that there was a good token when it was asked for.
    pub(super) fn keep(&mut self, fetched: &Arc<Fetched>, renews: bool) {
        if fetched.renew_at.is_some() {
            (self.good, self.refusal) = (Some(Arc::clone(fetched)), None);
            self.renewed = renews.then_some(fetched.at).or(self.renewed);
        } else if matches!(fetched.answer.status, 200 | 400..=428) {
            self.refusal = Some(Arc::clone(fetched));
        }
    }

    /// Whether any of them may be given again.
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

    /// How long its token is good for, in milliseconds; none if there is none that can be used.
    pub(super) fn life(&self) -> Option<u64> {
        self.life
    }

    /// Its size.
    pub(super) fn bytes(&self) -> usize {
        self.answer.body.len() + self.answer.header_bytes()
    }

    /// None where the clock was set back since. One that asks may have looked at it a little earlier.
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

    /// The answer as it would be now, to whoever asks. Another tenant does not get to see what it has of the request that
    /// brought it.
    pub(super) fn given_to(&self, asked: &TokenRequest, is_kept: bool) -> Sent {
        let response = if *self.tenant == *asked.tenant { self.answer.clone() } else { self.untraced(&asked.likeness) };
        let response = aged(response, self.age(asked.now).unwrap_or_default());
        Sent::Answer { response, renew_at: self.renew_at, is_kept }
    }

    fn untraced(&self, request: &OutgoingRequest) -> IncomingResponse {
        let mut answer = self.answer.clone();
        // Who waits for the same answer waits as long as its service says; such answers are not kept.
        let asks_to_wait = answer.status == 429 || answer.status >= 500;
        answer.headers.retain(|(name, _)| match name.as_str() {
            // Who answers in a service's place says so there.
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

/// Cuts words where an id begins that the request does not have: that of a request stands at their end.
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

/// An answer as it would be after this time, in milliseconds: what counts seconds has counted on.
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

/// How long a token is good for, in milliseconds from when it was fetched; none where nobody can use it.
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

/// What the service would answer to one request more, and the same for people.
pub(super) fn too_often(spent: &BudgetSpent, now: u64) -> Sent {
    let wait_seconds = spent.opens.saturating_sub(now).div_ceil(1_000);
    let why = match spent.life.filter(|life| *life < milliseconds(TOKEN_WINDOW)) {
        Some(life) => format!("the tokens that it gives are good for {} s alone", life / 1_000),
        None => "no token that it gave is of use any more".to_owned(),
    };
    let why = format!(
        "the service was sent {TOKEN_REQUESTS} equal requests for a token within {} s, the most that the host sends, and {why}",
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
