//! Services that never answer, refuse, or answer with too much, and credentials that a plugin guesses.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use source_host::contract::Reaction;
use source_host::limits::Limits;
use source_host::network::tokens::Tokens;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture};
use source_host::plugin::call::WaitAsked;

use super::Failing;
use crate::mode::Mode;
use crate::support::NOON;
use crate::support::hostile::{Service, Silent, TOKEN, attempt, open, open_for, short};

#[tokio::test]
async fn a_call_that_waits_for_the_network_ends_in_its_time() {
    let limits = Limits { wall_time: Duration::from_secs(4), ..Limits::default() };
    let words = attempt(Mode::Good, 0, limits, Arc::new(Silent)).await.unwrap_err();
    assert!(words.contains("its limit on total time in fetch-token, 4000 ms"), "{words}");
}

#[tokio::test]
async fn answers_that_are_each_too_large_count_as_what_came_of_them() {
    let most = "its limit on the bodies of all answers in poll, 33554432 bytes";
    for (requests, is_over) in [(3, false), (4, true)] {
        let large = Failing(Err(TransportError::TooLarge(Limits::default().response_body_bytes)));
        let words = attempt(Mode::RequestsInVain, requests, short(), Arc::new(large)).await.unwrap_err();
        assert_eq!(words.contains(most), is_over, "{requests}: {words}");
    }
}

#[tokio::test]
async fn a_guess_is_not_answered_with_what_the_owner_of_the_credential_got() {
    let (service, tokens) = (Arc::new(Service::default()), Arc::new(Tokens::default()));
    let key = "1234567890";
    for (tenant, mode, requests) in [
        ("alice", Mode::Good, 1),
        ("bob", Mode::Good, 1),
        // The request has the same bytes, but the plugin wrote them: it is denied.
        ("mallory", Mode::KeyGuessed, 1),
        ("eve", Mode::KeyGuessed, 1),
        ("carol", Mode::Good, 1),
    ] {
        let settings = json!({ "mode": mode.word(), "amount": 1_234_567_890, "key": key });
        let transport = Arc::clone(&service) as Arc<dyn Transport>;
        let feed = open_for(tenant, settings, short(), transport, Arc::clone(&tokens)).await.unwrap();
        assert_eq!(feed.sign_in().await.is_ok(), mode == Mode::Good, "{tenant}");
        assert_eq!(service.asked.lock().len(), requests, "{tenant}");
    }
    let asked = service.asked.lock();
    assert!(asked.iter().all(|request| request.body == format!("key={key}").as_bytes()), "{asked:?}");
}

#[tokio::test]
async fn others_wait_only_where_an_origin_asks_for_it_and_no_longer() {
    for (mode, status, header, asked) in [
        (Mode::WaitUnasked, 200, None, None),
        // The request is denied, and nobody answers: the wait of an earlier call does not count.
        (Mode::WaitUnasked, 429, Some("17"), None),
        (Mode::Good, 429, None, None),
        (Mode::Good, 429, Some("soon"), None),
        (Mode::Good, 429, Some("17"), Some(17)),
    ] {
        let feed = open(mode, 0, short(), Arc::new(Refusing(status, header))).await.unwrap();
        let scope = &feed.discover().await.unwrap().scopes[0];
        let failure = feed.poll(scope, NOON, None).await.failure.unwrap();
        assert_eq!(failure.reaction, Reaction::Wait, "{mode} {status}");
        let until = |seconds: u64| NOON + seconds * 1_000;
        let expected =
            asked.map(|seconds| WaitAsked { origin: "https://api.example".to_owned(), until: until(seconds) });
        assert_eq!(feed.throttled(), expected, "{mode} {status} {header:?}");
    }
}

/// A transport that returns a token, and then only this status and header.
struct Refusing(u16, Option<&'static str>);

impl Transport for Refusing {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let token = json!({ "access_token": TOKEN, "expires_in": 3_600 }).to_string().into_bytes();
        let headers = self.1.map(|wait| ("retry-after".to_owned(), wait.to_owned())).into_iter().collect();
        let answer = match request.url.path() {
            "/token" => IncomingResponse { status: 200, headers: Vec::new(), body: token },
            _ => IncomingResponse { status: self.0, headers, body: Vec::new() },
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}

#[tokio::test]
async fn a_token_that_is_divided_between_the_name_and_the_value_of_a_header_is_withheld() {
    let (name, value) = TOKEN.split_at(TOKEN.len() / 2);
    let words = attempt(Mode::Good, 0, short(), Arc::new(Dividing(name, value))).await.unwrap_err();
    assert!(words.contains("(credential-echoed, service)"), "{words}");
}

/// A transport that returns a token, and then this header.
struct Dividing(&'static str, &'static str);

impl Transport for Dividing {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let token = json!({ "access_token": TOKEN, "expires_in": 3_600 }).to_string().into_bytes();
        let answer = match request.url.path() {
            "/token" => IncomingResponse { status: 200, headers: Vec::new(), body: token },
            _ => {
                let headers = vec![(format!("x-{}", self.0), self.1.to_owned())];
                IncomingResponse { status: 200, headers, body: b"{}".to_vec() }
            }
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}
