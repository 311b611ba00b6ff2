use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;
use crate::network::TransportFuture;

/// A transport that returns this answer, with a number in it, once it may, and counts the requests.
struct Endpoint {
    answer: Result<(u16, &'static str), TransportError>,
    may_answer: Semaphore,
    asked: AtomicUsize,
}

impl Endpoint {
    fn new(answer: Result<(u16, &'static str), TransportError>) -> Arc<Endpoint> {
        let (may_answer, asked) = (Semaphore::new(Semaphore::MAX_PERMITS), AtomicUsize::new(0));
        Arc::new(Endpoint { answer, may_answer, asked })
    }

    /// Makes an endpoint that does not answer yet.
    fn slow(answer: Result<(u16, &'static str), TransportError>) -> Arc<Endpoint> {
        Arc::new(Endpoint { answer, may_answer: Semaphore::new(0), asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Transport for Endpoint {
    fn send(&self, _: OutgoingRequest) -> TransportFuture<'_> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            self.may_answer.acquire().await.unwrap().forget();
            let (status, body) = self.answer.clone()?;
            let headers = [("content-type", "application/json"), ("x-ms-request-id", "the-first-ones")];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let body = body.replace("COUNT", &number.to_string()).into_bytes();
            Ok(IncomingResponse { status, headers, body })
        })
    }
}

const HOUR: &str = r#"{"access_token":"tCOUNT","expires_in":3600}"#;

fn request(secret: &str) -> OutgoingRequest {
    let url = "https://login.example/t/token".parse().unwrap();
    OutgoingRequest { method: "POST".to_owned(), url, headers: Vec::new(), body: secret.as_bytes().to_vec() }
}

/// A request of a tenant at this second, which others may share.
fn asked(tenant: &str, second: u64) -> TokenRequest {
    TokenRequest {
        likeness: request("a"),
        signed: Vec::new(),
        is_shared: true,
        plugin: "digest".into(),
        tenant: tenant.into(),
        captures: "access_token".to_owned(),
        freshness: Freshness::Any,
        now: second * 1_000,
    }
}

async fn sent(tokens: &Arc<Tokens>, endpoint: &Arc<Endpoint>, asked: TokenRequest) -> Result<Sent, TransportError> {
    let transport = Arc::clone(endpoint) as Arc<dyn Transport>;
    tokens.send(&transport, asked.likeness.clone(), &asked, |_| {}).await
}

/// The body of the answer.
async fn body(tokens: &Arc<Tokens>, endpoint: &Arc<Endpoint>, asked: TokenRequest) -> String {
    let response = match sent(tokens, endpoint, asked).await.unwrap() {
        Sent::Answer { response, .. } | Sent::TooOften { response, .. } => response,
    };
    String::from_utf8(response.body).unwrap()
}

/// The bodies that one tenant gets at these seconds, each with its freshness.
async fn bodies(endpoint: &Arc<Endpoint>, wishes: impl IntoIterator<Item = (u64, Freshness)>) -> Vec<String> {
    let (tokens, mut bodies) = (Arc::default(), Vec::new());
    for (second, freshness) in wishes {
        bodies.push(body(&tokens, endpoint, TokenRequest { freshness, ..asked("a", second) }).await);
    }
    bodies
}

fn any(seconds: &[u64]) -> Vec<(u64, Freshness)> {
    seconds.iter().map(|second| (*second, Freshness::Any)).collect()
}

fn not(token: &str) -> Freshness {
    Freshness::Not(Secret::new(token))
}

#[tokio::test]
async fn a_token_serves_until_it_is_renewed_before_its_end() {
    let endpoint = Endpoint::new(Ok((200, HOUR)));
    let bodies = bodies(&endpoint, any(&[1_000, 1_100, 4_299, 4_300])).await;
    assert_eq!(endpoint.asked(), 2);
    assert_eq!(bodies[1], r#"{"access_token":"t0","expires_in":3500}"#);
    assert_eq!(bodies[3], r#"{"access_token":"t1","expires_in":3600}"#);
}

#[tokio::test]
async fn a_byte_order_mark_makes_no_difference() {
    let endpoint = Endpoint::new(Ok((200, "\u{feff}{\"access_token\":\"tCOUNT\",\"expires_in\":3600}")));
    let bodies = bodies(&endpoint, any(&[1_000, 1_100])).await;
    assert_eq!((endpoint.asked(), bodies[1].as_str()), (1, r#"{"access_token":"t0","expires_in":3500}"#));
}

#[tokio::test]
async fn a_clock_that_is_set_back_keeps_no_token_for_long() {
    let endpoint = Endpoint::new(Ok((200, HOUR)));
    bodies(&endpoint, any(&[9_000, 8_999, 8_000])).await;
    assert_eq!(endpoint.asked(), 2, "a second is what two may differ by, and not a quarter of an hour");
}

#[tokio::test]
async fn a_short_life_is_renewed_at_its_half() {
    let endpoint = Endpoint::new(Ok((200, r#"{"access_token":"tCOUNT","expires_in":"400"}"#)));
    bodies(&endpoint, any(&[1_000, 1_199, 1_200])).await;
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once_in_five_minutes() {
    let endpoint = Endpoint::new(Ok((200, HOUR)));
    let mut bodies = Vec::new();
    let tokens = Arc::default();
    let mut last = "t0".to_owned();
    bodies.push(body(&tokens, &endpoint, asked("a", 999)).await);
    for second in 1_000..1_400 {
        bodies.push(body(&tokens, &endpoint, TokenRequest { freshness: not(&last), ..asked("a", second) }).await);
        let answer: serde_json::Value = serde_json::from_str(bodies.last().unwrap()).unwrap();
        last = answer["access_token"].as_str().unwrap().to_owned();
    }
    assert_eq!(endpoint.asked(), 3, "one at first, and one every five minutes");
    assert!(bodies[1].contains("t1") && bodies[300].contains("t1") && bodies[301].contains("t2"));
}

#[tokio::test]
async fn who_is_refused_costs_the_others_nothing() {
    let (endpoint, tokens) = (Endpoint::new(Ok((200, HOUR))), Arc::default());
    assert!(body(&tokens, &endpoint, asked("a", 1_000)).await.contains("t0"));
    let refused = |tenant, token: &str, second| TokenRequest { freshness: not(token), ..asked(tenant, second) };
    assert!(body(&tokens, &endpoint, refused("b", "t0", 1_001)).await.contains("t1"));
    // One feed takes the token that another renewed.
    assert!(body(&tokens, &endpoint, refused("c", "t0", 1_400)).await.contains("t1"));
    assert!(body(&tokens, &endpoint, asked("a", 1_500)).await.contains("t1"));
    assert_eq!(endpoint.asked(), 2);
    // A failed renewal does not remove the token.
    for (second, answer) in [(2_000, Ok((503, ""))), (2_400, Err(TransportError::Broken)), (2_800, Ok((401, "{}")))] {
        let broken = Endpoint::new(answer);
        sent(&tokens, &broken, refused("b", "t1", second)).await.ok();
        assert_eq!(broken.asked(), 1);
        assert!(body(&tokens, &endpoint, asked("a", second + 1)).await.contains("t1"));
    }
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test]
async fn a_newer_token_is_a_wish_that_is_heard_once_in_five_minutes() {
    let endpoint = Endpoint::new(Ok((200, HOUR)));
    let wishes = (1_000..1_020).map(|second| (second, Freshness::Since(second * 1_000)));
    let bodies = bodies(&endpoint, any(&[999]).into_iter().chain(wishes)).await;
    assert_eq!(endpoint.asked(), 2);
    assert!(bodies[1..].iter().all(|body| body.contains("t1")), "{bodies:?}");
}

#[tokio::test]
async fn a_service_bears_so_many_requests_from_all_together() {
    let (endpoint, tokens) = (Endpoint::new(Ok((503, ""))), Arc::default());
    let mut statuses = Vec::new();
    for second in 0..8 {
        let one =
            TokenRequest { plugin: format!("plugin-{second}").into(), ..asked(&second.to_string(), 1_000 + second) };
        statuses.push(match sent(&tokens, &endpoint, one).await.unwrap() {
            Sent::Answer { response, .. } => response.status,
            Sent::TooOften { response, .. } => {
                assert_eq!(response.headers[1], ("retry-after".to_owned(), (300 - second).to_string()));
                response.status
            }
        });
    }
    assert_eq!(statuses, [503, 503, 503, 503, 503, 429, 429, 429]);
    assert_eq!(endpoint.asked(), TOKEN_REQUESTS);
    assert!(matches!(sent(&tokens, &endpoint, asked("a", 1_301)).await, Ok(Sent::Answer { .. })));
}

#[tokio::test]
async fn processes_that_share_a_credential_share_the_requests_that_its_service_accepts() {
    for (processes, each) in [(0, 5), (1, 5), (3, 5), (4, 3), (7, 2), (15, 1), (40, 1)] {
        let (endpoint, tokens) = (Endpoint::new(Ok((503, ""))), Arc::<Tokens>::default());
        tokens.share_among(processes);
        for second in 0..8 {
            sent(&tokens, &endpoint, asked("a", 1_000 + second)).await.unwrap();
        }
        assert_eq!(endpoint.asked(), each, "{processes}");
        // When others come, what was sent already counts against the smaller share.
        tokens.share_among(15);
        let Sent::TooOften { response, why } = sent(&tokens, &endpoint, asked("a", 1_010)).await.unwrap() else {
            panic!("one request more was sent")
        };
        let opens = 300 - 10 + each as u64 - 1;
        assert_eq!(response.headers[1], ("retry-after".to_owned(), opens.to_string()));
        assert!(why.starts_with("the service was sent 1 identical requests"), "{why}");
    }
}

#[tokio::test]
async fn whoever_asks_too_often_learns_whether_the_services_tokens_live_too_short() {
    let short = r#"{"access_token":"t","expires_in":20}"#;
    for (answer, why) in
        [((200, short), "its tokens are valid for 20 s only"), ((503, ""), "none of its tokens is usable any more")]
    {
        let (endpoint, tokens) = (Endpoint::new(Ok(answer)), Arc::<Tokens>::default());
        for request in 0..5 {
            let one = asked("a", 1_000 + 20 * request);
            tokens.sweep(one.now);
            assert!(matches!(sent(&tokens, &endpoint, one).await, Ok(Sent::Answer { .. })));
        }
        match sent(&tokens, &endpoint, asked("a", 1_100)).await.unwrap() {
            Sent::TooOften { why: told, response } => {
                assert!(
                    told.starts_with("the service was sent 5 identical requests for a token within 300 s"),
                    "{told}"
                );
                assert!(told.ends_with(why) && response.status == 429, "{told}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_reached_nobody_counts_with_nobody() {
    let tokens = Arc::default();
    let nobody = Endpoint::new(Err(TransportError::Refused));
    for second in 1_000..1_020 {
        assert_eq!(sent(&tokens, &nobody, asked("a", second)).await, Err(TransportError::Refused));
    }
    let silent = Endpoint::new(Err(TransportError::Timeout(30)));
    for second in 1_020..1_040 {
        sent(&tokens, &silent, asked("a", second)).await.ok();
    }
    assert_eq!((nobody.asked(), silent.asked()), (20, TOKEN_REQUESTS));
}

#[tokio::test]
async fn a_refusal_is_given_again_for_a_minute() {
    let endpoint = Endpoint::new(Ok((401, "{}")));
    bodies(&endpoint, any(&[1_000, 1_001, 1_059, 1_060])).await;
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test]
async fn only_what_is_equal_is_shared() {
    let (endpoint, tokens) = (Endpoint::new(Ok((200, HOUR))), Arc::default());
    let with = |change: fn(&mut TokenRequest)| {
        let mut asked = asked("b", 2_000);
        change(&mut asked);
        asked
    };
    body(&tokens, &endpoint, asked("a", 1_000)).await;
    body(&tokens, &endpoint, asked("b", 1_001)).await;
    assert_eq!(endpoint.asked(), 1);
    for (index, one) in [
        with(|asked| asked.is_shared = false),
        with(|asked| asked.plugin = "another".into()),
        with(|asked| asked.likeness.body.push(b'b')),
        with(|asked| asked.likeness.headers.push(("accept".to_owned(), "*/*".to_owned()))),
        with(|asked| asked.likeness.method.push('S')),
        with(|asked| asked.likeness.url.set_query(Some("a"))),
        with(|asked| asked.signed.push("form field key".to_owned())),
    ]
    .into_iter()
    .enumerate()
    {
        body(&tokens, &endpoint, one).await;
        assert_eq!(endpoint.asked(), index + 2, "{index}");
    }
    // A tenant shares its own answers with itself only.
    body(&tokens, &endpoint, with(|asked| asked.is_shared = false)).await;
    body(&tokens, &endpoint, TokenRequest { is_shared: false, ..asked("c", 2_000) }).await;
    assert_eq!(endpoint.asked(), 9);
}

#[tokio::test]
async fn another_tenant_learns_nothing_of_the_request_that_brought_the_answer() {
    let refusal = r#"{"error":"invalid_client","error_codes":[7000215],"trace_id":"x","correlation_id":"x","timestamp":"2026",
        "error_description":"AADSTS7000215: The secret of aaaabbbb-0000-cccc-1111-dddd2222eeee is wrong. Trace ID: 11111111-0000-cccc-1111-dddd2222eeee Timestamp: now"}"#;
    for (status, text) in [
        (401, refusal),
        (200, r#"{"access_token":"11111111-0000-cccc-1111-dddd2222eeee","expires_in":3600,"trace_id":"x"}"#),
    ] {
        let (endpoint, tokens) = (Endpoint::new(Ok((status, text))), Arc::default());
        let asked = |tenant| {
            let likeness = request("client=aaaabbbb-0000-cccc-1111-dddd2222eeee");
            TokenRequest { likeness, ..asked(tenant, 1_000) }
        };
        let answers = [
            sent(&tokens, &endpoint, asked("a")).await,
            sent(&tokens, &endpoint, asked("b")).await,
            sent(&tokens, &endpoint, asked("a")).await,
        ];
        let answers = answers.map(|sent| match sent.unwrap() {
            Sent::Answer { response, .. } => response,
            Sent::TooOften { response, .. } => panic!("{response:?}"),
        });
        assert_eq!(endpoint.asked(), 1);
        assert_eq!(answers[0], answers[2]);
        assert_eq!(answers[1].headers, [("content-type".to_owned(), "application/json".to_owned())]);
        let body: serde_json::Value = serde_json::from_slice(&answers[1].body).unwrap();
        let expected = match status {
            200 => {
                serde_json::json!({ "access_token": "11111111-0000-cccc-1111-dddd2222eeee", "expires_in": 3_600 })
            }
            _ => serde_json::json!({
                "error": "invalid_client", "error_codes": [7_000_215],
                "error_description": "AADSTS7000215: The secret of aaaabbbb-0000-cccc-1111-dddd2222eeee is wrong. Trace ID: ",
            }),
        };
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn all_who_wait_for_an_answer_are_told_how_long_its_service_asks_to_wait() {
    struct Throttled(Semaphore);
    impl Transport for Throttled {
        fn send(&self, _: OutgoingRequest) -> TransportFuture<'_> {
            Box::pin(async move {
                self.0.acquire().await.unwrap().forget();
                let headers = vec![("retry-after".to_owned(), "17".to_owned())];
                Ok(IncomingResponse { status: 429, headers, body: Vec::new() })
            })
        }
    }
    let (tokens, throttled) = (Arc::new(Tokens::default()), Arc::new(Throttled(Semaphore::new(0))));
    let transport = Arc::clone(&throttled) as Arc<dyn Transport>;
    let (first, second) = (asked("a", 1_000), asked("b", 1_000));
    let answers = futures_util::future::join(
        tokens.send(&transport, request("a"), &first, |_| {}),
        tokens.send(&transport, request("a"), &second, |_| {}),
    );
    throttled.0.add_permits(1);
    for answer in <[_; 2]>::from(answers.await) {
        let Ok(Sent::Answer { response, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!(response.headers, [("retry-after".to_owned(), "17".to_owned())]);
    }
}

#[tokio::test]
async fn all_who_wait_get_the_answer_though_the_first_one_goes_away() {
    let (endpoint, tokens) = (Endpoint::slow(Ok((200, HOUR))), Arc::new(Tokens::default()));
    let ask = |tenant: String| {
        let (tokens, endpoint) = (Arc::clone(&tokens), Arc::clone(&endpoint));
        tokio::spawn(async move { body(&tokens, &endpoint, asked(&tenant, 1_000)).await })
    };
    let first = ask("first".to_owned());
    while endpoint.asked() == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.is_err());
    let others: Vec<_> = (0..20).map(|number| ask(number.to_string())).collect();
    endpoint.may_answer.add_permits(1);
    for other in others {
        assert!(other.await.unwrap().contains("t0"));
    }
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test]
async fn a_request_that_breaks_down_in_the_host_ends_those_who_wait_and_no_later_one() {
    struct Broken;
    impl Transport for Broken {
        fn send(&self, _: OutgoingRequest) -> TransportFuture<'_> {
            panic!("a fault of this program")
        }
    }
    let (tokens, broken) = (Arc::new(Tokens::default()), Arc::new(Broken) as Arc<dyn Transport>);
    let lost = tokens.send(&broken, request("a"), &asked("a", 1_000), |_| {}).await;
    assert_eq!(lost, Err(TransportError::other("the request panicked in the host")));
    assert!(body(&tokens, &Endpoint::new(Ok((200, HOUR))), asked("b", 1_001)).await.contains("t0"));
}

#[tokio::test]
async fn ever_other_requests_and_long_answers_do_not_fill_the_host() {
    let (endpoint, tokens) = (Endpoint::new(Ok((200, HOUR))), Arc::default());
    let one = |tenant, number: usize| TokenRequest { likeness: request(&number.to_string()), ..asked(tenant, 5_000) };
    for number in 0..TOKENS_KEPT + 5 {
        body(&tokens, &endpoint, one("greedy", number)).await;
    }
    assert_eq!(tokens.kept.lock().entries.len(), TOKENS_KEPT);
    for _ in 0..2 {
        body(&tokens, &endpoint, one("modest", TOKENS_KEPT + 6)).await;
    }
    assert_eq!(endpoint.asked(), TOKENS_KEPT + 6, "another tenant has room");
    tokens.sweep(6_000_000);
    assert_eq!(tokens.kept.lock().entries.len(), TOKENS_KEPT + 1);
    tokens.sweep(9_000_000);
    assert!(tokens.kept.lock().entries.is_empty() && tokens.kept.lock().begun.is_empty());
    assert!(tokens.sent.lock().is_empty());
    let long = format!(r#"{{"expires_in":3600,"a":"{}"}}"#, "x".repeat(TOKEN_ANSWER_BYTES));
    let endpoint = Endpoint::new(Ok((200, long.leak())));
    bodies(&endpoint, any(&[1_000, 1_001])).await;
    assert_eq!(endpoint.asked(), 2);
}
