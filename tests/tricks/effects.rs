//! Tricks without an effect: the calls that they leave as they were.

use std::sync::Arc;
use std::time::Duration;

use host_harness::metrics::{Metrics, MetricsLevel};
use host_harness::store::Outboxes;
use serde_json::{Value, json};
use source_host::contract::{Notice, Reaction};
use source_host::feed::FeedError;
use source_host::limits::Limits;
use source_host::network::{Nowhere, Transport};

use super::Failing;
use crate::mode::Mode;
use crate::support::hostile::{Service, hostile, open, open_with, polled, short};
use crate::support::{NOON, plugin};

#[tokio::test]
async fn without_a_mode_it_is_a_good_plugin() {
    let (batch, asked) = polled(Mode::Good, 0, short(), 0).await;
    let batch = batch.unwrap();
    assert_eq!((batch.events.len(), batch.state), (2, b"1 4".to_vec()));
    assert_eq!(asked.len(), 5);
}

/// A case without an effect is also run where its effect would appear.
#[tokio::test]
async fn what_ends_with_nothing_has_no_more_effect_than_its_row_says() {
    let good = || Arc::new(Service::default()) as Arc<dyn Transport>;
    let opened = async |mode: Mode| open(mode, 0, short(), good()).await.unwrap();

    let scopes = opened(Mode::ScopesAlike).await.discover().await.unwrap().scopes;
    assert_eq!(scopes.len(), 1, "it is polled once");
    let scope = &scopes[0];

    let wrong = json!({ "mode": Mode::ProblemsOneByOne.word(), "amount": "many", "other": 1 });
    let told = async |settings: Value| match open_with(settings, short(), good()).await {
        Err(FeedError::Settings(problems)) => problems.len(),
        _ => 0,
    };
    let all = json!({ "mode": "", "amount": "many", "other": 1 });
    assert_eq!((told(wrong).await, told(all).await), (1, 2), "the others are told next time");

    for (mode, reaction, code) in [
        (Mode::Good, Reaction::TryLater, "service-fault"),
        (Mode::ReactionOdd, Reaction::NoData, "service-fault"),
        (Mode::CodeUnlisted, Reaction::TryLater, "unheard-of"),
    ] {
        let feed = open(mode, 0, short(), Arc::new(Failing(Ok(503)))).await.unwrap();
        let polled = feed.poll(scope, NOON, None).await;
        let failure = polled.failure.unwrap();
        assert_eq!((failure.reaction, failure.code.as_str()), (reaction, code), "{mode}");
        assert_eq!(polled.batch, None, "{mode}");
    }

    for (mode, is_taken) in [(Mode::Good, false), (Mode::StateFreshStart, true)] {
        let polled = opened(mode).await.poll(scope, NOON, Some(b"the state of somebody else")).await;
        assert_eq!(polled.batch.is_some(), is_taken, "{mode}");
    }

    let metrics = Metrics::default();
    metrics.configure([("t", "f", &[][..])].into_iter());
    let notice = |code: u32| Notice { code: format!("code-{code}"), message: String::new() };
    let notices: Vec<Notice> = (0..100).map(notice).collect();
    metrics.feed("t", "f", |counts| counts.polled(None, 0, &notices));
    let page = metrics.text(Outboxes::default(), MetricsLevel::Feed);
    let counted: Vec<&str> = page.lines().filter(|line| line.starts_with("collector_notices_total{")).collect();
    assert_eq!(counted.len(), 65, "at most 64 are counted, and the others together");
    assert!(counted.iter().any(|line| line.ends_with("code=\"other\"} 36")), "{counted:?}");
}

#[tokio::test]
async fn no_instance_remembers_an_earlier_call() {
    let batch = polled(Mode::MemoryOfCalls, 0, short(), 0).await.0.unwrap();
    assert_eq!(batch.state, b"1 0");
}

#[tokio::test]
async fn the_clock_of_a_pure_call_stands_still() {
    let batch = polled(Mode::ClockInEvent, 0, short(), 0).await.0.unwrap();
    assert_eq!(batch.events.last().unwrap().body, b"{\"class_uid\":2003,\"now\":0}");
}

/// Another thread refuses what a plugin asks for: how long that takes must not show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_has_no_dice_for_its_plan() {
    for mode in [Mode::PlanByChance, Mode::PlanByRace] {
        let mut plans = Vec::new();
        for _ in 0..16 {
            let feed = open(mode, 0, short(), Arc::new(Nowhere)).await.unwrap();
            plans.push(feed.plan().shapes.clone());
        }
        assert!(plans.iter().all(|plan| *plan == plans[0]), "{mode}");
    }
}

/// Six calls that loop, six that wait, six that flood and six that take memory, and beside them a tenant that polls
/// every 20 ms, all on the same threads. If a poll had to wait for the loops, which take 9 s at least, it would miss
/// the deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_tenant_polls_beside_them_without_a_missed_deadline() {
    const DEADLINE: Duration = Duration::from_secs(6);
    let (_, _) = (hostile(), plugin());
    let limits = Limits { cpu_time: Duration::from_secs(3), wall_time: Duration::from_secs(30), ..short() };
    let attacks = [Mode::Loop, Mode::Wait, Mode::LogLines, Mode::Memory].into_iter().cycle().take(24);
    let attacks: Vec<_> = attacks.map(|mode| tokio::spawn(polled(mode, 1_000_000, limits.clone(), 0))).collect();
    let good = tokio::spawn(async move {
        let (mut polls, mut latest) = (0, Duration::ZERO);
        while polls < 20 || attacks.iter().any(|attack| !attack.is_finished()) {
            let begun = std::time::Instant::now();
            let batch = polled(Mode::Good, 0, Limits::default(), 0).await.0.unwrap();
            assert_eq!(batch.events.len(), 2);
            latest = latest.max(begun.elapsed());
            polls += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        latest
    });
    let latest = good.await.unwrap();
    assert!(latest < DEADLINE, "{latest:?}");
}
