//! Changes of the configuration: feeds and scopes that are removed, added again, narrowed, or given to another tenant.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use host_harness::config::{self, admission};
use serde_json::Value;
use source_host::contract::Shape;
use source_simulator::answer;
use source_simulator::estate::Estate;

use super::scene::{HOUR, NETWORK, SECOND, Scene, forbidden, list, subscription, told};
use crate::support::stage::Stage;
use crate::support::{NOON, host};

#[tokio::test]
async fn a_subscription_taken_out_of_the_configuration_closes_nothing_and_goes_on_when_it_is_back() {
    let scene = Scene::new(Estate::sized(1, 2));
    let both = format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0), subscription(0, 1)]), ""));
    let one = format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0)]), ""));
    let mut stage = scene.start(&both).await;
    stage.run_until(NOON + 3 * HOUR).await;
    assert_eq!(stage.told().await.len(), 30);
    scene.reload(&mut stage, &one).await;
    stage.run_until(NOON + 9 * HOUR).await;
    assert_eq!(told(&stage.told().await), []);
    let polls = scene.service.times(&subscription(0, 1)).len();
    stage.run_until(NOON + 10 * HOUR).await;
    assert_eq!(scene.service.times(&subscription(0, 1)).len(), polls, "it is not polled");
    scene.reload(&mut stage, &both).await;
    stage.run_until(NOON + 12 * HOUR).await;
    assert!(scene.service.times(&subscription(0, 1)).len() > polls);
    assert_eq!(told(&stage.told().await), [], "its findings are known");
}

#[tokio::test]
async fn a_feed_taken_out_and_put_back_goes_on_where_it_was() {
    let scene = Scene::new(Estate::sized(2, 1));
    let (a, b) = (scene.feed("a", 0, "\"*\"", ""), scene.feed("b", 1, "\"*\"", ""));
    let mut stage = scene.start(&format!("{NETWORK}{a}{b}")).await;
    stage.run_until(NOON + 2 * HOUR).await;
    assert_eq!(stage.told().await.len(), 30);
    scene.reload(&mut stage, &format!("{NETWORK}{b}")).await;
    stage.run_until(NOON + 5 * HOUR).await;
    let polls = scene.service.polls(&subscription(0, 0));
    scene.reload(&mut stage, &format!("{NETWORK}{a}{b}")).await;
    stage.run_until(NOON + 7 * HOUR).await;
    assert_eq!(told(&stage.told().await), []);
    assert!(scene.service.polls(&subscription(0, 0)) >= polls + 2, "it is polled again");
}

#[tokio::test]
async fn a_feed_of_another_tenant_begins_anew() {
    let scene = Scene::new(Estate::sized(1, 1));
    let text = format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0)]), ""));
    let mut stage = scene.start(&text).await;
    stage.run_until(NOON + 2 * HOUR).await;
    assert_eq!(stage.told().await.len(), 15);
    scene.reload(&mut stage, &text.replace("tenant = \"tenant-0\"", "tenant = \"globex\"")).await;
    stage.run_until(NOON + 4 * HOUR).await;
    let events = stage.told().await;
    assert_eq!(events.len(), 15);
    for event in &events {
        assert_eq!(event["activity_name"], "Create", "{event}");
        assert_eq!(event["finding_info"]["first_seen_time"], Value::Null, "the other tenant's times are not known");
        assert_eq!(event["metadata"]["labels"][1], "tenant:globex");
    }
}

#[tokio::test]
async fn narrowing_the_events_and_another_class_close_nothing() {
    let scene = Scene::new(Estate::sized(1, 1));
    let text = |more: &str| format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0)]), more));
    let mut stage = scene.start(&text("")).await;
    stage.run_until(NOON + 2 * HOUR).await;
    assert_eq!(stage.told().await.len(), 15);
    for more in ["events = [\"secure-scores\"]", "class = \"compliance-finding\"", ""] {
        let polls = scene.service.polls(&subscription(0, 0));
        scene.reload(&mut stage, &text(more)).await;
        let end = scene.now.load(Ordering::SeqCst) + 5 * HOUR;
        stage.run_until(end).await;
        assert_eq!(told(&stage.told().await), [], "{more}");
        assert!(scene.service.polls(&subscription(0, 0)) >= polls + 4, "{more}");
    }
    scene.service.world.lock().estate.tenants[0].subscriptions[0].controls[0].unhealthy += 50;
    stage.run_until(NOON + 19 * HOUR).await;
    assert_eq!(stage.told().await.len(), 2, "and what changes is told as before: a control and its score");
}

#[tokio::test]
async fn a_lost_subscription_that_is_then_excluded_is_not_told_again() {
    let scene = Scene::new(Estate::sized(1, 2));
    let all = format!("{NETWORK}{}", scene.feed("a", 0, "\"*\"", ""));
    let more = format!("exclude_subscriptions = [{:?}]", subscription(0, 1));
    let fewer = format!("{NETWORK}{}", scene.feed("a", 0, "\"*\"", &more));
    let mut stage = scene.start(&all).await;
    stage.run_until(NOON + HOUR).await;
    assert_eq!(stage.told().await.len(), 30);
    scene.service.world.lock().estate.tenants[0].subscriptions[1].state = "Disabled";
    stage.run_until(NOON + 4 * HOUR).await;
    assert_eq!(told(&stage.told().await), [(1, "disabled".to_owned())]);
    scene.reload(&mut stage, &fewer).await;
    stage.run_until(NOON + 8 * HOUR).await;
    let searches = scene.service.times("/subscriptions").len();
    stage.end().await;
    let mut stage = scene.start(&fewer).await;
    stage.run_until(NOON + 12 * HOUR).await;
    assert_eq!(told(&stage.told().await), []);
    assert!(scene.service.times("/subscriptions").len() >= searches + 3, "it searched again");
}

#[tokio::test]
async fn a_search_that_fails_after_the_settings_changed_makes_nothing_seem_lost() {
    let scene = Scene::new(Estate::sized(1, 2));
    let all = format!("{NETWORK}{}", scene.feed("a", 0, "\"*\"", ""));
    let fewer = format!(
        "{NETWORK}{}",
        scene.feed("a", 0, "\"*\"", &format!("exclude_subscriptions = [{:?}]", subscription(0, 1)))
    );
    let mut stage = scene.start(&all).await;
    stage.run_until(NOON + HOUR).await;
    assert_eq!(stage.told().await.len(), 30);
    scene.service.answer_with(|path, now| {
        (path == "/subscriptions" && now < NOON + HOUR + 40 * SECOND)
            .then(|| answer::arm_error(503, "ServerTimeout", "The request timed out."))
    });
    let (left, out) = (scene.service.polls(&subscription(0, 0)), scene.service.polls(&subscription(0, 1)));
    scene.reload(&mut stage, &fewer).await;
    stage.run_until(NOON + 8 * HOUR).await;
    assert_eq!(told(&stage.told().await), []);
    assert!(scene.service.polls(&subscription(0, 0)) >= left + 6);
    assert!(scene.service.polls(&subscription(0, 1)) <= out + 1, "it was taken out");
}

#[tokio::test]
async fn a_list_of_subscriptions_that_is_refused_loses_none_of_them() {
    let scene = Scene::new(Estate::sized(1, 2));
    let mut stage = scene.start(&format!("{NETWORK}{}", scene.feed("a", 0, "\"*\"", ""))).await;
    stage.run_until(NOON + HOUR).await;
    assert_eq!(stage.told().await.len(), 30);
    scene.service.answer_with(|path, _| if path == "/subscriptions" { forbidden() } else { None });
    stage.run_until(NOON + 12 * HOUR).await;
    assert_eq!(told(&stage.told().await), []);
    assert!((0..2).all(|which| scene.service.polls(&subscription(0, which)) >= 11));
    let snapshot = stage.collector.snapshot(10);
    let of_feed = snapshot.rows.iter().find(|row| row.scope.is_none()).unwrap();
    assert_eq!(of_feed.failure.as_ref().unwrap().code, "list-refused", "and it is shown");
    assert_eq!((snapshot.feeds, snapshot.failing_feeds), (1, 1));
    assert_eq!(snapshot.scopes + snapshot.failing_feeds, snapshot.total, "as a feed, and as no scope");
}

#[tokio::test]
async fn another_plan_for_the_same_settings_is_a_failure_and_the_admitted_one_stays_in_force() {
    let scene = Scene::new(Estate::sized(1, 1));
    let text = |more: &str| format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0)]), more));
    let mut stage = scene.start(&text("")).await;
    stage.run_until(NOON + HOUR).await;
    let plan = |stage: &Stage| stage.collector.admitted("a").unwrap().plan_digest().unwrap();
    let admitted = plan(&stage);
    let failures = |stage: &Stage| {
        let rows = stage.collector.snapshot(10).rows.into_iter().filter(|row| row.scope.is_none());
        rows.filter_map(|row| row.failure).map(|failure| failure.code).collect::<Vec<_>>()
    };
    // Returns the failures after a reload in which the plugin declares one more request.
    let lie = async |stage: &mut Stage, interval: &str| {
        let with = text("").replacen("[feed.settings]", &format!("{interval}[feed.settings]"), 1);
        let config = config::parse(&scene.file(), &with, None, &|_| None);
        let checked = admission::check(&host(), config, None, &stage.pipeline.clock).await.unwrap();
        let feeds = checked.feeds.iter().map(|feed| {
            let mut feed = feed.copied();
            let mut shapes = feed.plan.as_ref().unwrap().plan().shapes;
            shapes.push(Shape { method: "POST".to_owned(), ..shapes[0].clone() });
            shapes.reverse();
            feed.keep_plan(&shapes);
            Arc::new(feed)
        });
        stage.collector.reload(feeds.collect(), &[], 64, 8, false);
    };
    for interval in ["", "interval = \"30m\"\n"] {
        lie(&mut stage, interval).await;
        assert_eq!((failures(&stage), plan(&stage)), (vec!["plan-changed".to_owned()], admitted.clone()), "{interval}");
    }
    let interval = stage.collector.admitted("a").unwrap().interval;
    assert_eq!(interval, Duration::from_secs(1_800), "when it is polled may change");
    let before = scene.service.polls(&subscription(0, 0));
    stage.run_until(NOON + 2 * HOUR).await;
    assert!(scene.service.polls(&subscription(0, 0)) > before, "it goes on");
    assert_eq!(failures(&stage), ["plan-changed"]);
    scene.reload(&mut stage, &text("")).await;
    assert_eq!((failures(&stage), plan(&stage)), (vec![], admitted.clone()));
    // Other settings have another plan.
    lie(&mut stage, "").await;
    scene.reload(&mut stage, &text("emit = \"changes\"")).await;
    assert_eq!(failures(&stage), Vec::<String>::new());
}

#[tokio::test]
async fn a_poll_in_flight_ends_as_it_began_while_the_configuration_changes() {
    let scene = Scene::new(Estate::sized(1, 1));
    let text = |more: &str| format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0)]), more));
    let mut stage = scene.start(&text("")).await;
    scene.service.held.send_replace(Some("secureScoreControls".to_owned()));
    while scene.service.times("secureScoreControls").is_empty() {
        stage.collector.start_due();
        let _ = tokio::time::timeout(Duration::from_millis(5), stage.collector.ended()).await;
        if let Some(due) = stage.collector.next_due().filter(|_| stage.collector.is_idle()) {
            scene.now.fetch_max(due, Ordering::SeqCst);
        }
    }
    scene.reload(&mut stage, &text("raw = \"hash\"")).await;
    scene.service.held.send_replace(None);
    stage.run_until(NOON + HOUR).await;
    let events = stage.told().await;
    assert_eq!(events.len(), 15, "the poll was kept, and the next one found nothing new");
    assert!(events.iter().all(|event| event["raw_data"].is_string()), "with the settings that it began with");
    assert_eq!(scene.service.polls(&subscription(0, 0)), 2);
}
