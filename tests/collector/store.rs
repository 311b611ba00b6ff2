//! A store that refuses writes, states that cannot be read, and the uids of one store.

use std::path::Path;
use std::sync::atomic::Ordering;

use host_harness::collector::NextAttempt;
use source_simulator::estate::Estate;

use super::scene::{DAY, HOUR, NETWORK, SECOND, Scene, list, subscription, throttled, told};
use crate::support::{NOON, SUBSCRIPTION};

#[tokio::test]
async fn a_store_that_takes_nothing_loses_no_event_and_no_wait() {
    let scene = Scene::new(Estate::sized(1, 2));
    let feed = scene.feed("a", 0, &list(&[subscription(0, 0), subscription(0, 1)]), "");
    let mut stage = scene.start(&format!("{NETWORK}{feed}")).await;
    stage.run_until(NOON + 2 * HOUR).await;
    assert_eq!(stage.told().await.len(), 30);
    assert_eq!(stage.collector.health(), Ok(()));
    scene.service.world.lock().estate.tenants[0].subscriptions[1].controls[0].unhealthy += 50;
    stage.disk_is_full.store(true, Ordering::SeqCst);
    stage.run_until(NOON + 4 * HOUR).await;
    assert_eq!(told(&stage.told().await), []);
    assert!(stage.collector.health().is_err_and(|why| why.to_string().contains("the disk is full")));
    assert!(stage.metric("collector_store_failures_total").is_some_and(|failures| failures >= 4.0));

    let first = subscription(0, 0);
    scene.service.answer_with(move |path, _| if path.contains(&first) { throttled("36000") } else { None });
    stage.run_until(NOON + 6 * HOUR).await;
    let begun = *scene.service.times(&subscription(0, 0)).last().unwrap();
    assert!(begun > NOON + 4 * HOUR);
    scene.service.answer_with(|_, _| None);
    stage.disk_is_full.store(false, Ordering::SeqCst);
    stage.run_until(begun + 12 * HOUR).await;
    for which in 0..2 {
        let times = scene.service.times(&subscription(0, which));
        assert!(times.iter().all(|time| *time <= begun || *time >= begun + 10 * HOUR), "{which}: {times:?}");
    }
    assert_eq!(stage.told().await.len(), 2, "the control and its score, once");
    assert_eq!(stage.collector.health(), Ok(()));
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_no_fresh_start() {
    let scene = Scene::new(Estate::sized(1, 1));
    let text = format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0)]), ""));
    let mut stage = scene.start(&text).await;
    stage.run_until(NOON + 60 * SECOND).await;
    assert_eq!(stage.told().await.len(), 15);
    stage.end().await;
    let database = rusqlite::Connection::open(scene.folder.path().join("collector.db")).unwrap();
    database.execute("UPDATE state SET value = CAST('{\"format\":77}' AS BLOB)", []).unwrap();
    drop(database);
    let mut stage = scene.start(&text).await;
    stage.run_until(NOON + DAY).await;
    assert_eq!(told(&stage.told().await), []);
    let failed = stage.metric(r#"collector_polls_total{tenant="tenant-0",feed="a",outcome="state-unusable"}"#).unwrap();
    assert!((4.0..=8.0).contains(&failed), "{failed}");
    let snapshot = stage.collector.snapshot(10);
    let failure = snapshot.rows[0].failure.as_ref().unwrap();
    assert!(failure.cause.contains("found format 77, expected 1"), "{}", failure.cause);
}

#[tokio::test]
async fn a_full_outbox_pauses_the_feeds_that_go_there_and_no_other() {
    let scene = Scene::new(Estate::sized(2, 1));
    let blocked = scene.folder.path().join("blocked");
    std::fs::write(&blocked, "a file where a folder should be").unwrap();
    let sinks = "[[sink]]\nid = \"bad\"\ntype = \"file\"\npath = \"blocked/events.ndjson\"\nmax_outbox_bytes = 1000\n\
                 [[sink]]\nid = \"good\"\ntype = \"stdout\"\n";
    let feed = |id: &str, tenant: usize, sink: &str| {
        let feed = scene.feed(id, tenant, &list(&[subscription(tenant as u32, 0)]), "emit = \"snapshot\"");
        feed.replacen("[feed.settings]", &format!("sinks = [{sink:?}]\n[feed.settings]"), 1)
    };
    let text = format!("{NETWORK}{sinks}{}{}", feed("a", 0, "bad"), feed("b", 1, "good"));
    let mut stage = scene.start(&text).await;
    stage.run_until(NOON + 6 * HOUR).await;
    let polls = |tenant: u32| scene.service.polls(&subscription(tenant, 0));
    assert_eq!(polls(0), 1, "its first poll filled the outbox");
    assert!(polls(1) >= 6);
    assert_eq!(stage.metric(r#"collector_sink_outbox_events{sink="bad"}"#), Some(15.0));
    let paused = stage.collector.snapshot(10).rows.into_iter().find(|row| row.feed == "a").unwrap();
    assert_eq!(paused.next, Some(NextAttempt::WhenThereIsRoom("bad".to_owned())));
    let row = stage.pipeline.deliveries.rows().into_iter().find(|row| row.full_since.is_some()).unwrap();
    assert_eq!((row.sink.as_str(), row.tenant.as_deref(), row.waiting.events), ("bad", Some("tenant-0"), 15));
    std::fs::remove_file(&blocked).unwrap();
    stage.pipeline.deliveries.rest().await;
    stage.collector.resume_paused();
    stage.run_until(NOON + 9 * HOUR).await;
    assert!(polls(0) >= 3, "{}", polls(0));
    stage.pipeline.deliveries.rest().await;
    let lines = std::fs::read_to_string(Path::new(&blocked).join("events.ndjson")).unwrap();
    assert_eq!(lines.lines().count(), polls(0) * 15, "nothing was dropped");
}

#[tokio::test]
async fn the_uids_of_one_collector_are_no_other_ones() {
    let uids = async || {
        let scene = Scene::new(Estate::sized(1, 1));
        let text = format!("{NETWORK}{}", scene.feed("a", 0, &list(&[SUBSCRIPTION.to_owned()]), ""));
        let mut stage = scene.start(&text).await;
        stage.run_until(NOON + 60 * SECOND).await;
        let events = stage.told().await;
        events.iter().map(|event| event["metadata"]["uid"].clone()).collect::<Vec<_>>()
    };
    let first = uids().await;
    let other = uids().await;
    assert_eq!((first.len(), other.len()), (15, 15));
    assert!(first.iter().all(|uid| !other.contains(uid)));
}
