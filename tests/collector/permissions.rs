//! Lost permissions, and scopes without data.

use host_harness::collector::NextAttempt;
use source_simulator::answer;
use source_simulator::estate::Estate;

use super::scene::{HOUR, NETWORK, Scene, forbidden, list, secret_refused, subscription, told};
use crate::support::NOON;
use crate::support::stage::Stage;

#[tokio::test]
async fn one_forbidden_scope_stops_no_other_and_is_told_once() {
    let scene = Scene::new(Estate::sized(1, 2));
    let feed = scene.feed("a", 0, &list(&[subscription(0, 0), subscription(0, 1)]), "");
    let mut stage = scene.start(&format!("{NETWORK}{feed}")).await;
    stage.run_until(NOON + HOUR).await;
    assert_eq!(stage.told().await.len(), 30);
    let polls: usize = (0..2).map(|which| scene.service.polls(&subscription(0, which))).sum();
    let summary = format!("in 60 min: {polls} polls, 0 of them failed; 30 events, 30 delivered");
    assert_eq!(stage.collector.summary(), Some(summary));
    assert_eq!(stage.collector.summary(), None, "the next hour has begun");
    let lost = subscription(0, 0);
    scene.service.answer_with(move |path, _| if path.contains(&lost) { forbidden() } else { None });
    stage.run_until(NOON + 20 * HOUR).await;
    assert_eq!(told(&stage.told().await), [(1, "forbidden".to_owned())]);
    let summary = stage.collector.summary().unwrap();
    assert!(summary.starts_with("in 1140 min: ") && summary.contains(" forbidden); "), "{summary}");
    let polls = scene.service.polls(&subscription(0, 1));
    assert!((19..=21).contains(&polls), "{polls}");
    let refused = scene.service.times(&subscription(0, 0)).into_iter().filter(|time| *time > NOON + HOUR).count();
    assert!((4..=8).contains(&refused), "retried slowly: {refused}");
    assert_eq!(
        stage.metric(r#"collector_polls_total{tenant="tenant-0",feed="a",outcome="fix-scope"}"#),
        Some(refused as f64)
    );
    scene.service.answer_with(|_, _| None);
    stage.run_until(NOON + 27 * HOUR).await;
    let events = told(&stage.told().await);
    assert!(events.contains(&(2, "collected".to_owned())), "{events:?}");
}

#[tokio::test]
async fn a_feed_that_never_collected_says_so_and_one_scope_of_several_is_enough() {
    let scene = Scene::new(Estate::sized(1, 2));
    let text = scene.feed("a", 0, &list(&[subscription(0, 0), subscription(0, 1)]), "");
    let text = format!("{NETWORK}{text}");
    let mut stage = scene.start(&text).await;
    assert_eq!(last_collected(&stage), 0, "before the first poll");
    let failing = subscription(0, 0);
    scene.service.answer_with(move |path, _| if path.contains(&failing) { forbidden() } else { None });
    stage.run_until(NOON + HOUR).await;
    assert_eq!(last_collected(&stage), 0, "of one scope nothing was ever collected");
    let failing = stage.metric(r#"collector_failing_scopes{fault="tenant"}"#);
    assert_eq!(failing, Some(1.0));
    scene.service.answer_with(|_, _| None);
    stage.run_until(NOON + 12 * HOUR).await;
    let collected = last_collected(&stage) * 1_000;
    assert!(collected > NOON + 10 * HOUR, "{collected}");
    stage.end().await;
    let stage = scene.start(&text).await;
    assert_eq!(last_collected(&stage) * 1_000, collected, "a restart does not forget it");
}

#[tokio::test]
async fn a_scope_with_nothing_to_collect_hides_no_other_and_calls_nobody() {
    let scene = Scene::new(Estate::sized(1, 2));
    let feed = scene.feed("a", 0, &list(&[subscription(0, 0), subscription(0, 1)]), "");
    let empty = subscription(0, 0);
    scene.service.answer_with(move |path, _| {
        let is_list = path.contains(&empty) && path.contains("Microsoft.Security");
        is_list.then(|| answer::arm_error(404, "ResourceNotFound", "There is no score."))
    });
    let mut stage = scene.start(&format!("{NETWORK}{feed}")).await;
    stage.run_until(NOON + HOUR).await;
    assert!(last_collected(&stage) * 1_000 >= NOON, "the other was collected");
    for fault in ["tenant", "operator", "service"] {
        assert_eq!(stage.metric(&format!("collector_failing_scopes{{fault={fault:?}}}")), Some(0.0));
    }
    let snapshot = stage.collector.snapshot(10);
    assert_eq!((snapshot.scopes, snapshot.failing_scopes, snapshot.failing_feeds), (2, 1, 0));
}

#[tokio::test]
async fn a_scope_that_waits_for_its_feed_is_not_shown_as_due() {
    let scene = Scene::new(Estate::sized(1, 1));
    let text = format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0)]), ""));
    let mut stage = scene.start(&text).await;
    stage.run_until(NOON + HOUR).await;
    let next =
        |stage: &Stage| stage.collector.snapshot(10).rows.into_iter().find(|row| row.scope.is_some()).unwrap().next;
    assert!(matches!(next(&stage), Some(NextAttempt::At(due)) if due > NOON + HOUR), "{:?}", next(&stage));
    scene.service.answer_with(|path, _| path.contains("/token").then(secret_refused));
    stage.run_until(NOON + 20 * HOUR).await;
    assert_eq!(next(&stage), Some(NextAttempt::AfterSearch));
    assert_eq!(stage.collector.snapshot(10).failing_feeds, 1);
}

#[tokio::test]
async fn a_scope_that_refuses_every_token_stops_no_other() {
    let scene = Scene::new(Estate::sized(1, 2));
    let feed = scene.feed("a", 0, &list(&[subscription(0, 0), subscription(0, 1)]), "");
    let mut stage = scene.start(&format!("{NETWORK}{feed}")).await;
    stage.run_until(NOON + HOUR).await;
    assert_eq!(stage.told().await.len(), 30);
    let refusing = subscription(0, 0);
    scene.service.answer_with(move |path, _| {
        path.contains(&refusing).then(|| answer::arm_error(401, "InvalidAuthenticationToken", "It is not accepted."))
    });
    stage.run_until(NOON + 12 * HOUR).await;
    assert_eq!(told(&stage.told().await), [(1, "token-expired".to_owned())]);
    assert!(scene.service.polls(&subscription(0, 1)) >= 11);
    let refused = scene.service.times(&subscription(0, 0)).into_iter().filter(|time| *time > NOON + HOUR).count();
    assert!((4..=12).contains(&refused), "retried slowly, each time with a second token: {refused}");
}

/// When data of the feed `a` was last collected, in Unix seconds.
fn last_collected(stage: &Stage) -> u64 {
    let time = stage.metric(r#"collector_last_collected_timestamp_seconds{tenant="tenant-0",feed="a"}"#);
    time.expect("it is always told") as u64
}
