//! Answers of token endpoints, kept for all feeds of one tenant: the same request is not sent again while its token is
//! good, nor more often than a service bears. Entra ID refuses the sixteenth equal request within five minutes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::limits::{REFUSAL_KEPT, TOKEN_RENEWAL, TOKEN_REQUESTS, TOKEN_WINDOW};
use crate::transport::{IncomingResponse, OutgoingRequest, Transport, TransportError};

/// Members of an answer that count seconds from now.
const LIFETIMES: &[&str] = &["expires_in", "ext_expires_in", "refresh_in"];

/// The kept answers of one tenant.
#[derive(Debug, Default)]
pub struct Tokens {
    kept: Mutex<HashMap<[u8; 32], Arc<tokio::sync::Mutex<Kept>>>>,
}

/// What is known of one request. All times are Unix milliseconds.
#[derive(Debug, Default)]
struct Kept {
    sent: VecDeque<u64>,
    last: Option<(u64, IncomingResponse)>,
}

impl Tokens {
    /// Sends a request for a token, or gives the answer of an earlier one. A token that was fetched before `after` is
    /// not given again if the service bears another request.
    pub async fn send(
        &self,
        transport: &dyn Transport,
        request: OutgoingRequest,
        after: u64,
        now: u64,
    ) -> Result<IncomingResponse, TransportError> {
        let entry = Arc::clone(self.lock().entry(digest(&request)).or_default());
        // Equal requests that come at the same time wait for the first one's answer.
        let mut kept = entry.lock().await;
        if let Some(answer) = kept.answer(after, now) {
            return Ok(answer);
        }
        let answer = transport.send(request).await?;
        kept.sent.push_back(now);
        kept.last = Some((now, answer.clone()));
        Ok(answer)
    }

    /// Forgets what would not be given again.
    pub fn sweep(&self, now: u64) {
        self.lock().retain(|_, kept| kept.try_lock().is_ok_and(|mut kept| kept.answer(0, now).is_some()));
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Arc<tokio::sync::Mutex<Kept>>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn answer(&mut self, after: u64, now: u64) -> Option<IncomingResponse> {
        let begin = now.saturating_sub(milliseconds(TOKEN_WINDOW));
        while self.sent.front().is_some_and(|sent| *sent < begin) {
            self.sent.pop_front();
        }
        let (fetched, answer) = self.last.as_ref()?;
        let age = now.saturating_sub(*fetched);
        let good = match answer.status {
            200 => lifetime(answer).is_some_and(|life| {
                *fetched >= after && age < life.saturating_sub(milliseconds(TOKEN_RENEWAL)).max(life / 2)
            }),
            400..=428 => age < milliseconds(REFUSAL_KEPT),
            _ => false,
        };
        (good || self.sent.len() >= TOKEN_REQUESTS).then(|| aged(answer, age))
    }
}

/// How long a token is good for, in milliseconds from when it was fetched.
fn lifetime(answer: &IncomingResponse) -> Option<u64> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    seconds(body.get("expires_in")?)?.checked_mul(1_000)
}

/// A number, or a number in a text.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// An answer as it would be now: what counts seconds has counted on.
fn aged(answer: &IncomingResponse, age: u64) -> IncomingResponse {
    let mut answer = answer.clone();
    if age >= 1_000
        && let Ok(Value::Object(mut body)) = serde_json::from_slice::<Value>(&answer.body)
    {
        for name in LIFETIMES {
            if let Some(value) = body.get_mut(*name)
                && let Some(life) = seconds(value)
            {
                *value = Value::from(life.saturating_sub(age / 1_000));
            }
        }
        answer.body = Value::Object(body).to_string().into_bytes();
    }
    answer
}

fn digest(request: &OutgoingRequest) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [request.method.as_bytes(), request.url.as_str().as_bytes(), &request.body] {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    for (name, value) in &request.headers {
        digest.update(format!("{name}: {value}\n").as_bytes());
    }
    digest.finalize().into()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::transport::Answer;

    /// Answers with this status and body, and counts.
    struct Endpoint(u16, &'static str, AtomicUsize);

    impl Transport for Endpoint {
        fn send(&self, _: OutgoingRequest) -> Answer<'_> {
            let count = self.2.fetch_add(1, Ordering::SeqCst);
            let body = self.1.replace("COUNT", &count.to_string()).into_bytes();
            Box::pin(std::future::ready(Ok(IncomingResponse { status: self.0, headers: Vec::new(), body })))
        }
    }

    fn request(secret: &str) -> OutgoingRequest {
        let url = "https://login.example/t/token".parse().unwrap();
        OutgoingRequest { method: "POST".to_owned(), url, headers: Vec::new(), body: secret.as_bytes().to_vec() }
    }

    /// Asks at each of these seconds, each time for a token from after that second, and gives the bodies.
    async fn asked(endpoint: &Endpoint, times: &[(u64, u64)]) -> Vec<String> {
        let tokens = Tokens::default();
        let mut bodies = Vec::new();
        for (now, after) in times {
            let answer = tokens.send(endpoint, request("a"), after * 1_000, now * 1_000).await.unwrap();
            bodies.push(String::from_utf8(answer.body).unwrap());
        }
        bodies
    }

    const HOUR: &str = r#"{"access_token":"tCOUNT","expires_in":3600}"#;

    #[tokio::test]
    async fn a_token_serves_until_it_is_renewed_before_its_end() {
        let endpoint = Endpoint(200, HOUR, AtomicUsize::new(0));
        let bodies = asked(&endpoint, &[(1_000, 0), (1_100, 0), (4_299, 0), (4_300, 0)]).await;
        assert_eq!(endpoint.2.load(Ordering::SeqCst), 2);
        assert_eq!(bodies[1], r#"{"access_token":"t0","expires_in":3500}"#);
        assert_eq!(bodies[3], r#"{"access_token":"t1","expires_in":3600}"#);
    }

    #[tokio::test]
    async fn a_fresh_token_is_fetched_on_demand_but_not_without_end() {
        let endpoint = Endpoint(200, HOUR, AtomicUsize::new(0));
        let times: Vec<(u64, u64)> = (0..200).map(|second| (1_000 + second, 1_000 + second)).collect();
        asked(&endpoint, &times).await;
        assert_eq!(endpoint.2.load(Ordering::SeqCst), TOKEN_REQUESTS);
    }

    #[tokio::test]
    async fn a_refusal_is_given_again_for_a_minute() {
        let endpoint = Endpoint(401, "{}", AtomicUsize::new(0));
        asked(&endpoint, &[(1_000, 0), (1_001, 0), (1_059, 0), (1_060, 0)]).await;
        assert_eq!(endpoint.2.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn another_request_has_an_answer_of_its_own() {
        let endpoint = Endpoint(200, HOUR, AtomicUsize::new(0));
        let tokens = Tokens::default();
        for secret in ["a", "b", "a"] {
            tokens.send(&endpoint, request(secret), 0, 5_000).await.unwrap();
        }
        assert_eq!(endpoint.2.load(Ordering::SeqCst), 2);
        tokens.sweep(6_000);
        assert!(!tokens.is_empty());
        tokens.sweep(9_000_000);
        assert!(tokens.is_empty());
    }
}
