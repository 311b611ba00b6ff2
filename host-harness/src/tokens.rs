//! Answers of token endpoints, kept for all feeds of one tenant: the same request is not sent again while its token is
//! good, nor more often than a service bears. Entra ID refuses the sixteenth equal request within five minutes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::limits::{
    REFUSAL_KEPT, TOKEN_ANSWER_BYTES, TOKEN_RENEWAL, TOKEN_REQUESTS, TOKEN_WINDOW, TOKENS_KEPT, milliseconds,
};
use crate::transport::{IncomingResponse, OutgoingRequest, Transport, TransportError};

/// Members of an answer that count seconds from now.
const LIFETIMES: &[&str] = &["expires_in", "ext_expires_in", "refresh_in"];

/// The kept answers of one tenant.
#[derive(Debug, Default)]
pub struct Tokens {
    counts: Arc<Counts>,
    kept: Mutex<HashMap<Digest32, Arc<tokio::sync::Mutex<Kept>>>>,
}

/// How often each request was sent lately, by whatever tenant: a service counts by credential.
#[derive(Debug, Default)]
pub struct Counts {
    sent: Mutex<HashMap<Digest32, VecDeque<u64>>>,
}

/// Names a request.
pub type Digest32 = [u8; 32];

/// The last answer, and when it came in Unix milliseconds.
#[derive(Debug, Default)]
struct Kept {
    last: Option<(u64, IncomingResponse)>,
    /// When one was last sent because a token was refused.
    renewed: Option<u64>,
}

/// What became of a request for a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// The service's answer, now or earlier.
    Answer(IncomingResponse),
    /// The host's own, in its place: the same was asked too often.
    TooOften(IncomingResponse),
}

impl Sent {
    /// The answer, whoever gave it.
    pub fn response(self) -> IncomingResponse {
        match self {
            Sent::Answer(response) | Sent::TooOften(response) => response,
        }
    }
}

impl Tokens {
    /// Answers of a tenant of its own, counted together with those of others.
    pub fn counted(counts: &Arc<Counts>) -> Tokens {
        Tokens { counts: Arc::clone(counts), kept: Mutex::default() }
    }

    /// Sends a request for a token, or gives the answer of an earlier one. A token that was fetched before `after` is
    /// given again only where the service bears no further request. One that was refused, where `after` is the most that
    /// there is, is not, and the answer is 429 in the service's place until it bears another request; but a token that was
    /// fetched for that reason within the window is as good as the next one would be.
    pub async fn send(
        &self,
        transport: &dyn Transport,
        request: OutgoingRequest,
        after: u64,
        now: u64,
    ) -> Result<Sent, TransportError> {
        let name = digest(&request);
        self.send_as(name, transport, request, after, now, |_| {}).await
    }

    /// The same for a request whose answer is kept under another name than its own digest, and without what no later call
    /// would know for a secret.
    pub async fn send_as(
        &self,
        digest: Digest32,
        transport: &dyn Transport,
        request: OutgoingRequest,
        after: u64,
        now: u64,
        clean: impl FnOnce(&mut IncomingResponse) + Send,
    ) -> Result<Sent, TransportError> {
        let entry = self.entry(digest);
        // Equal requests that come at the same time wait for the first one's answer.
        let mut kept = entry.lock().await;
        let is_renewed =
            after == u64::MAX && kept.renewed.is_some_and(|at| now.abs_diff(at) < milliseconds(TOKEN_WINDOW));
        if let Some(answer) = kept.answer(if is_renewed { 0 } else { after }, now) {
            return Ok(Sent::Answer(answer));
        }
        if let Err(opens) = self.counts.count(digest, now) {
            let older = kept.answer(0, now).filter(|_| after < u64::MAX);
            return Ok(older.map_or_else(|| Sent::TooOften(too_often(opens.saturating_sub(now))), Sent::Answer));
        }
        let mut answer = transport.send(request).await?;
        kept.renewed = (after == u64::MAX).then_some(now).or(kept.renewed);
        // What a plugin asks its own endpoint for, and gets there, must not fill the host.
        let header_bytes: usize = answer.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if answer.body.len() + header_bytes <= TOKEN_ANSWER_BYTES {
            clean(&mut answer);
            kept.last = Some((now, answer.clone()));
        }
        Ok(Sent::Answer(answer))
    }

    /// Where the answer to a request is kept; where there are too many, one that is forgotten at once.
    fn entry(&self, digest: Digest32) -> Arc<tokio::sync::Mutex<Kept>> {
        let mut kept = lock(&self.kept);
        if kept.len() >= TOKENS_KEPT && !kept.contains_key(&digest) {
            return Arc::default();
        }
        Arc::clone(kept.entry(digest).or_default())
    }

    /// Forgets what would not be given again, and nobody waits for.
    pub fn sweep(&self, now: u64) {
        let is_wanted = |kept: &Arc<tokio::sync::Mutex<Kept>>| Arc::strong_count(kept) > 1;
        lock(&self.kept)
            .retain(|_, kept| is_wanted(kept) || kept.try_lock().map_or(true, |kept| kept.answer(0, now).is_some()));
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        lock(&self.kept).is_empty()
    }
}

impl Counts {
    /// Counts a request that is about to be sent; the error is when there is room for it.
    fn count(&self, digest: Digest32, now: u64) -> Result<(), u64> {
        let window = milliseconds(TOKEN_WINDOW);
        let mut sent = lock(&self.sent);
        let times = sent.entry(digest).or_default();
        times.retain(|sent| (now.saturating_sub(window) + 1..=now).contains(sent));
        match times.front() {
            Some(first) if times.len() >= TOKEN_REQUESTS => Err(first + window),
            _ => {
                times.push_back(now);
                Ok(())
            }
        }
    }

    /// Forgets what was sent long ago.
    pub fn sweep(&self, now: u64) {
        let begin = now.saturating_sub(milliseconds(TOKEN_WINDOW));
        lock(&self.sent).retain(|_, times| times.back().is_some_and(|last| *last > begin));
    }
}

impl Kept {
    /// The answer as it would be now, if it may be given again.
    fn answer(&self, after: u64, now: u64) -> Option<IncomingResponse> {
        let (fetched, answer) = self.last.as_ref()?;
        let age = now.checked_sub(*fetched)?;
        let good = match answer.status {
            200 => lifetime(answer).is_some_and(|life| {
                *fetched >= after && age < life.saturating_sub(milliseconds(TOKEN_RENEWAL)).max(life / 2)
            }),
            400..=428 => age < milliseconds(REFUSAL_KEPT),
            _ => false,
        };
        good.then(|| aged(answer, age))
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the service would answer to one request more.
fn too_often(milliseconds: u64) -> IncomingResponse {
    let words = format!(
        "the host sends no more than {TOKEN_REQUESTS} equal requests for a token within {} s",
        TOKEN_WINDOW.as_secs()
    );
    let body = serde_json::json!({ "error": "temporarily_unavailable", "error_description": words });
    let headers =
        [("content-type", "application/json".to_owned()), ("retry-after", milliseconds.div_ceil(1_000).to_string())];
    IncomingResponse {
        status: 429,
        headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        body: body.to_string().into_bytes(),
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

/// Names a request by all that is in it.
pub fn digest(request: &OutgoingRequest) -> Digest32 {
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
            let answer =
                tokens.send(endpoint, request("a"), after.saturating_mul(1_000), now * 1_000).await.unwrap().response();
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
        let times: Vec<(u64, u64)> = (0..400).map(|second| (1_000 + second, u64::MAX)).collect();
        let bodies = asked(&endpoint, &[&[(999, 0)], &*times].concat()).await;
        assert_eq!(endpoint.2.load(Ordering::SeqCst), 3, "one at first, and one every five minutes");
        assert!(bodies[1].contains("t1") && bodies[300].contains("t1") && bodies[301].contains("t2"));
    }

    #[tokio::test]
    async fn a_token_that_is_refused_is_not_given_again_though_the_service_bears_no_more() {
        let endpoint = Endpoint(200, HOUR, AtomicUsize::new(0));
        let often = (0..5).map(|second| (1_000 + second, 1_000 + second)).collect::<Vec<_>>();
        let bodies = asked(&endpoint, &[&*often, &[(1_010, u64::MAX)]].concat()).await;
        assert_eq!(endpoint.2.load(Ordering::SeqCst), TOKEN_REQUESTS);
        assert!(bodies[5].contains("no more than 5 equal requests"), "{}", bodies[5]);
    }

    #[tokio::test]
    async fn an_older_token_is_better_than_none() {
        let endpoint = Endpoint(200, HOUR, AtomicUsize::new(0));
        let times: Vec<(u64, u64)> = (0..20).map(|second| (1_000 + second, 999 + second)).collect();
        let bodies = asked(&endpoint, &times).await;
        assert_eq!(endpoint.2.load(Ordering::SeqCst), TOKEN_REQUESTS);
        assert!(bodies[19].contains("\"t4\""), "{}", bodies[19]);
    }

    #[tokio::test]
    async fn tenants_with_one_credential_are_counted_together_and_answered_apart() {
        let endpoint = Endpoint(200, HOUR, AtomicUsize::new(0));
        let counts = Arc::new(Counts::default());
        let mut statuses = Vec::new();
        for second in 0..8 {
            let tenant = Tokens::counted(&counts);
            statuses.push(tenant.send(&endpoint, request("a"), 0, 1_000_000 + second).await.unwrap().response().status);
        }
        assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
        assert_eq!(endpoint.2.load(Ordering::SeqCst), TOKEN_REQUESTS);
        let later = Tokens::counted(&counts).send(&endpoint, request("a"), 0, 1_300_001).await.unwrap().response();
        assert_eq!(later.status, 200);
    }

    #[tokio::test]
    async fn a_refusal_is_given_again_for_a_minute() {
        let endpoint = Endpoint(401, "{}", AtomicUsize::new(0));
        asked(&endpoint, &[(1_000, 0), (1_001, 0), (1_059, 0), (1_060, 0)]).await;
        assert_eq!(endpoint.2.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn ever_other_requests_and_long_answers_do_not_fill_the_host() {
        let endpoint = Endpoint(200, HOUR, AtomicUsize::new(0));
        let tokens = Tokens::default();
        for number in 0..TOKENS_KEPT + 5 {
            tokens.send(&endpoint, request(&number.to_string()), 0, 5_000).await.unwrap();
        }
        assert_eq!(lock(&tokens.kept).len(), TOKENS_KEPT);
        let long = format!(r#"{{"expires_in":3600,"a":"{}"}}"#, "x".repeat(TOKEN_ANSWER_BYTES));
        let endpoint = Endpoint(200, long.leak(), AtomicUsize::new(0));
        asked(&endpoint, &[(1_000, 0), (1_001, 0)]).await;
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
