//! The cost of a poll, in numbers that do not depend on the machine, so that speed is not lost unnoticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use azure_secure_score::normalize::normalize;
use azure_secure_score::settings::Settings as NativeSettings;
use host_harness::built_in;
use serde_json::json;
use source_host::contract::{PollResult, Scope};
use source_host::feed::{Feed, Identity, Usage};
use source_host::limits::TOKEN_ANSWER_BYTES;
use source_host::network::egress::Origins;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportFuture};
use source_host::plugin::Plugin;
use source_host::plugin::compiler::Compiler;
use source_host::plugin::engine::{Host, Setup};
use source_host::plugin::tap::tapped;
use source_simulator::estate::Estate;

use super::scene::{DAY, HOUR, NETWORK, SECOND, Scene, Service, list, subscription};
use crate::support::stage::{Secrets, Stage};
use crate::support::{NOON, allocations, cache, reference, settings};

/// The expected numbers, of the poll that `cargo xtask bench` measures: one score, and 25 controls with their definitions,
/// all told again. A number that grows by more than a tenth fails the test. One that shrinks by more than a tenth fails it,
/// too: write the new number here, so that the gain is kept.
const EXPECTED: [(&str, u64); 9] = [
    ("calls of the plugin, each in a fresh instance", 2),
    ("requests", 2),
    ("bytes of answers", 64_823),
    ("bytes that enter the plugin", 148_772),
    ("bytes of events and state", 178_232),
    ("instructions of `poll`", 1_135_907),
    ("instructions of `normalize`", 8_696_121),
    ("allocations of `normalize`, native, a hundred records", 8_703),
    ("transactions of the store, a hundred polls without a change", 100),
];

#[tokio::test]
async fn a_poll_costs_no_more_than_it_did() {
    let [calls, requests, answers, entered, left, polling, normalizing] = counts_of_a_poll().await;
    let found =
        [calls, requests, answers, entered, left, polling, normalizing, allocations_of_records(), transactions().await];
    let bounds = |expected: u64| expected * 9 / 10..=expected * 11 / 10;
    let rows: Vec<String> = EXPECTED
        .iter()
        .zip(found)
        .map(|((name, expected), found)| {
            let mark = if bounds(*expected).contains(&found) { "" } else { "  <- beyond a tenth" };
            format!("{name}: {found}, expected {expected}{mark}")
        })
        .collect();
    let rows = rows.join("\n");
    assert!(!rows.contains("<-"), "{rows}");
}

/// A transport that answers from memory.
struct Memory;

impl Transport for Memory {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let path = request.url.path();
        let body = if path.ends_with("/secureScores") {
            reference::scores()
        } else if path.ends_with("/secureScoreControls") {
            reference::controls()
        } else {
            br#"{"token_type":"Bearer","expires_in":3599,"access_token":"a-token-of-the-test"}"#.to_vec()
        };
        let headers = vec![("content-type".to_owned(), "application/json; charset=utf-8".to_owned())];
        Box::pin(std::future::ready(Ok(IncomingResponse { status: 200, headers, body })))
    }
}

/// Returns the counts of the poll, in the order of [`EXPECTED`].
async fn counts_of_a_poll() -> [u64; 7] {
    let setup =
        Setup { cache: Some(cache()), compiler: Compiler::ThisProcess, counts_instructions: true, ..Setup::default() };
    let entered = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&entered);
    let tap = Arc::new(move |_: &str, bytes: &[u8]| {
        counter.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    });
    let plugin = tapped(Plugin::from_bytes(&Host::new(setup).unwrap(), built_in::COMPONENT).unwrap(), tap);
    let allowed = Origins::new(built_in::ORIGINS.iter().copied()).unwrap();
    let identity = Identity::new("contoso", "contoso-scores", allowed, Memory).at(|| reference::NOON);
    let settings = settings(json!({ "emit": "snapshot" }));
    let settings = source_host::Settings::new(settings, Default::default());
    let feed = Feed::open(plugin, settings, identity).await.unwrap();
    let azure_secure_score::contract::Scope { id, name, owner, plugin_data } = reference::scope();
    let scope = Scope { id, name, owner, plugin_data };
    // The first poll fetches the token, and makes the state.
    let first = feed.poll(&scope, reference::NOON, None).await.batch.unwrap();
    feed.take_usage();
    entered.store(0, Ordering::SeqCst);
    let (pages, _) = feed.pages(&scope).await.unwrap();
    let polling = feed.take_usage();
    let result = PollResult::Pages(pages);
    let batch = feed.normalize(&scope, reference::NOON + 1, &result, Some(&first.state)).await.unwrap();
    let normalizing = feed.take_usage();
    assert_eq!(batch.events.len(), 26);
    let sent = |usage: &Usage| usage.requests.iter().sum::<u64>();
    let bodies = batch.events.iter().map(|event| event.body.len()).sum::<usize>();
    [
        polling.calls + normalizing.calls,
        sent(&polling) + sent(&normalizing),
        polling.response_bytes,
        entered.load(Ordering::SeqCst),
        (bodies + batch.state.len()) as u64,
        polling.instructions,
        normalizing.instructions,
    ]
}

/// Returns the number of allocations of a hundred records in the plugin's code, compiled natively.
fn allocations_of_records() -> u64 {
    let (text, poll_result) = (reference::settings(&[("emit", "snapshot")]), reference::poll_result());
    let run = |state: Option<&[u8]>| {
        normalize(&NativeSettings::trusted(&text).unwrap(), &reference::context(1), &poll_result, state).unwrap()
    };
    let first = run(None);
    let mut events = 0;
    let allocations = allocations::of(|| events = run(Some(&first.state)).events.len() as u64);
    allocations * 100 / events
}

/// Returns the number of transactions of a hundred polls in which nothing changes.
async fn transactions() -> u64 {
    let scene = Scene::new(Estate::sized(1, 1));
    let feed = scene.feed("a", 0, &list(&[subscription(0, 0)]), "");
    let mut stage = scene.start(&format!("{NETWORK}{feed}")).await;
    stage.run_until(NOON + 2 * HOUR).await;
    stage.told().await;
    let now = |stage: &Stage| {
        let polls = scene.service.polls(&subscription(0, 0));
        (stage.writes.load(Ordering::SeqCst) as u64, polls as u64)
    };
    let (writes, polls) = now(&stage);
    stage.run_until(NOON + DAY).await;
    let (all_writes, all_polls) = now(&stage);
    assert!(all_polls > polls, "{polls} polls");
    (all_writes - writes) * 100 / (all_polls - polls)
}

/// The simulated service, whose answers with a token are too long to be kept: each feed that is opened asks for one.
struct LongTokens(Arc<Service>);

impl Transport for LongTokens {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let asks_for_token = request.url.path().contains("/oauth2/");
        Box::pin(async move {
            let mut answer = self.0.send(request).await?;
            if asks_for_token {
                let members = answer.body.split_off(1);
                answer.body =
                    [format!("{{\"padding\":\"{}\",", "x".repeat(TOKEN_ANSWER_BYTES)).into(), members].concat();
            }
            Ok(answer)
        })
    }
}

#[tokio::test]
async fn a_feed_stays_open_between_polls_that_follow_each_other() {
    let scene = Scene::new(Estate::sized(1, 1));
    let feed = scene.feed("a", 0, &list(&[subscription(0, 0)]), "");
    let text = format!("{NETWORK}{}", feed.replace("[feed.settings]", "interval = \"5s\"\n[feed.settings]"));
    let transport = Arc::new(LongTokens(Arc::clone(&scene.service)));
    let mut stage = Stage::start(&scene.file(), &text, &Secrets::new(), &scene.now, transport).await;
    // The host sends five equal requests for a token in five minutes: one for each poll would end the polls.
    stage.run_until(NOON + 120 * SECOND).await;
    let (polls, opened) = (scene.service.polls(&subscription(0, 0)), scene.service.times("/oauth2/").len());
    assert!(polls >= 20 && (2..=5).contains(&opened), "opened {opened} times for {polls} polls in two minutes");
}

#[tokio::test]
async fn a_reload_closes_a_feed_that_was_left_open_and_has_a_poll_in_flight() {
    let scene = Scene::new(Estate::sized(1, 2));
    let feed = scene.feed("a", 0, &list(&[subscription(0, 0), subscription(0, 1)]), "");
    let text = format!("{NETWORK}{}", feed.replace("[feed.settings]", "interval = \"5s\"\n[feed.settings]"));
    let transport = Arc::new(LongTokens(Arc::clone(&scene.service)));
    let mut stage = Stage::start(&scene.file(), &text, &Secrets::new(), &scene.now, transport).await;
    stage.run_until(NOON + 10 * SECOND).await;
    let step = async |stage: &mut Stage| {
        stage.collector.start_due();
        let _ = tokio::time::timeout(Duration::from_millis(5), stage.collector.ended()).await;
        scene.now.fetch_add(SECOND / 10, Ordering::SeqCst);
    };
    let (service, [held, other]) = (&scene.service, [0, 1].map(|which| subscription(0, which)));
    let part = format!("{held}/providers/Microsoft.Security/secureScores");
    let polls = service.polls(&held);
    service.held.send_replace(Some(part));
    while service.polls(&held) == polls {
        step(&mut stage).await;
    }
    let (opened, polls) = (service.times("/oauth2/").len(), service.polls(&other));
    scene.reload(&mut stage, &text).await;
    while service.polls(&other) < polls + 2 {
        step(&mut stage).await;
    }
    assert_eq!(service.times("/oauth2/").len(), opened + 1);
    service.held.send_replace(None);
}
