//! Waits and tokens that feeds share, and the times of retries.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use serde_json::Value;
use source_simulator::answer;
use source_simulator::estate::Estate;

use super::scene::{DAY, HOUR, NETWORK, SECOND, Scene, forbidden, list, subscription, throttled, told};
use crate::support::NOON;

#[tokio::test]
async fn a_retry_after_is_shared_by_all_with_the_credential_and_kept_over_a_restart() {
    let mut estate = Estate::sized(2, 3);
    estate.tenants[1].client_secret = estate.tenants[0].client_secret.clone();
    let scene = Scene::new(estate);
    let text = format!(
        "{NETWORK}{}{}{}",
        scene.feed("a", 0, &list(&[subscription(0, 0), subscription(0, 1)]), ""),
        scene.feed("b", 0, &list(&[subscription(0, 2)]), ""),
        scene.feed("other", 1, &list(&[subscription(1, 0)]), ""),
    );
    let mut stage = scene.start(&text).await;
    stage.run_until(NOON + 2 * HOUR).await;
    let first = subscription(0, 0);
    scene.service.answer_with(move |path, _| if path.contains(&first) { throttled("36000") } else { None });
    stage.run_until(NOON + 4 * HOUR).await;
    let begun = *scene.service.times(&subscription(0, 0)).last().unwrap();
    scene.service.answer_with(|_, _| None);
    stage.run_until(begun + 5 * HOUR).await;
    stage.end().await;
    let mut stage = scene.start(&text).await;
    stage.run_until(begun + 12 * HOUR).await;
    let (until, rest) = (begun + 10 * HOUR, begun + 10 * HOUR + 10 * SECOND);
    for which in 0..3 {
        let times = scene.service.times(&subscription(0, which));
        assert!(times.iter().all(|time| *time <= begun || *time >= until), "{which}: {times:?}");
        assert!(times.iter().any(|time| (until..=rest).contains(time)), "{which} goes on soon after: {times:?}");
    }
    let others =
        scene.service.times(&subscription(1, 0)).into_iter().filter(|time| (begun..until).contains(time)).count();
    assert!(others >= 8 * 3, "another application does not wait, though its secret is equal: {others} requests");
}

#[tokio::test]
async fn a_scope_that_a_wrong_clock_planned_is_polled_soon_by_whoever_takes_it_over() {
    let scene = Scene::new(Estate::sized(1, 1));
    let text = format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0)]), ""));
    scene.now.store(NOON + DAY, Ordering::SeqCst);
    let mut ahead = scene.start(&text).await;
    ahead.run_until(NOON + DAY + 2 * HOUR).await;
    ahead.end().await;
    scene.now.store(NOON, Ordering::SeqCst);
    let mut stage = scene.start(&text).await;
    stage.run_until(NOON + 2 * HOUR).await;
    let times = scene.service.times(&subscription(0, 0));
    assert!(times.iter().any(|time| *time <= NOON + HOUR + HOUR / 2), "{times:?}");
}

#[tokio::test]
async fn a_wait_after_a_failure_that_a_wrong_clock_wrote_is_no_longer_than_it_was() {
    let scene = Scene::new(Estate::sized(1, 1));
    let text = format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0)]), ""));
    scene.now.store(NOON + 5 * HOUR, Ordering::SeqCst);
    scene.service.answer_with(|path, _| path.contains("secureScores").then(|| answer::arm_error(500, "Broken", "no")));
    let mut ahead = scene.start(&text).await;
    ahead.run_until(NOON + 5 * HOUR + 10 * SECOND).await;
    ahead.end().await;
    assert!(scene.service.times("secureScores").iter().any(|time| *time >= NOON + 5 * HOUR));
    scene.now.store(NOON, Ordering::SeqCst);
    let mut stage = scene.start(&text).await;
    stage.run_until(NOON + 120 * SECOND).await;
    let times = scene.service.times("secureScores");
    assert!(times.iter().any(|time| *time <= NOON + 120 * SECOND), "{times:?}");
}

#[tokio::test]
async fn no_uid_comes_twice_when_the_times_of_a_clock_that_was_ahead_come_again() {
    let scene = Scene::new(Estate::sized(1, 1));
    let feed = scene.feed("a", 0, &list(&[subscription(0, 0)]), "emit = \"snapshot\"");
    let text = format!("{NETWORK}{feed}");
    scene.now.store(NOON + 3 * HOUR, Ordering::SeqCst);
    let mut ahead = scene.start(&text).await;
    ahead.run_until(NOON + 6 * HOUR).await;
    let mut events = ahead.told().await;
    ahead.end().await;
    scene.now.store(NOON, Ordering::SeqCst);
    let mut stage = scene.start(&text).await;
    stage.run_until(NOON + 9 * HOUR).await;
    events.extend(stage.told().await);
    let polls = |events: &[Value]| {
        let ids = events.iter().map(|event| event["metadata"]["correlation_uid"].to_string());
        ids.collect::<HashSet<_>>().len()
    };
    assert!(polls(&events) >= 10, "{} polls", polls(&events));
    let uids: HashSet<String> = events.iter().map(|event| event["metadata"]["uid"].to_string()).collect();
    assert_eq!(uids.len(), events.len(), "of {} polls", polls(&events));
}

#[tokio::test]
async fn a_page_of_somebody_else_blames_nobody_and_is_tried_again_within_minutes() {
    for place in ["secureScores", "/subscriptions", "/token", "openid-configuration"] {
        for status in [401, 403, 404, 407, 502] {
            let scene = Scene::new(Estate::sized(1, 2));
            let feed = scene.feed("a", 0, "\"*\"", "");
            let feed = feed
                .replace("token_url = \"00000001-7e4a-4b1d-9c55-000000000001\"", "token_url = \"tenant-1.example\"");
            assert!(feed.contains("tenant-1.example"));
            let mut stage = scene.start(&format!("{NETWORK}{feed}")).await;
            stage.run_until(NOON + 2 * HOUR).await;
            assert_eq!(stage.told().await.len(), 30);
            let page = move || Some(answer::Answer::text(status, "text/html", "<h2>The request is blocked.</h2>"));
            scene.service.answer_with(move |path, _| if path.ends_with(place) { page() } else { None });
            stage.run_until(NOON + 12 * HOUR).await;
            assert_eq!(told(&stage.told().await), [], "{status} of {place}");
            let begun = scene.now.load(Ordering::SeqCst);
            scene.service.answer_with(|_, _| None);
            // The end is after the longest pause between two attempts.
            stage.run_until(begun + 2 * HOUR).await;
            let polled = scene.service.times("secureScoreControls");
            assert!(polled.iter().any(|time| *time > begun), "{status} of {place}");
            assert!(told(&stage.told().await).iter().all(|(activity, _)| *activity != 3), "nothing vanished");
        }
    }
}

#[tokio::test]
async fn a_page_of_somebody_else_is_met_again_soon() {
    let scene = Scene::new(Estate::sized(1, 1));
    let feed = scene.feed("a", 0, &list(&[subscription(0, 0)]), "");
    let mut stage = scene.start(&format!("{NETWORK}{feed}")).await;
    let page = || Some(answer::Answer::text(403, "text/html", "<h2>The request is blocked.</h2>"));
    scene.service.answer_with(move |path, _| if path.contains("Microsoft.Security") { page() } else { None });
    stage.run_until(NOON + HOUR / 4).await;
    let times = scene.service.times("Microsoft.Security");
    assert!(times.len() >= 4, "within a quarter of an hour: {times:?}");
}

#[tokio::test]
async fn a_wrong_secret_is_tried_slowly_and_at_once_when_the_configuration_changes() {
    let scene = Scene::new(Estate::sized(1, 1));
    let good = format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0)]), ""));
    let bad = good.replace("sim~tenant-1~", "sim~other~");
    let mut stage = scene.start(&bad).await;
    stage.run_until(NOON + DAY).await;
    assert_eq!(stage.told().await, Vec::<Value>::new());
    let attempts = scene.service.times("/token").len();
    assert!((4..=8).contains(&attempts), "{attempts}");
    scene.reload(&mut stage, &bad).await;
    stage.run_until(NOON + DAY + 60 * SECOND).await;
    assert_eq!(scene.service.times("/token").len(), attempts, "nothing changed");
    scene.reload(&mut stage, &good).await;
    stage.run_until(NOON + DAY + 2 * 60 * SECOND).await;
    assert_eq!(stage.told().await.len(), 15);
    assert!(scene.service.times(&subscription(0, 0))[0] < NOON + DAY + 65 * SECOND);
}

#[tokio::test]
async fn what_waits_for_a_person_is_tried_at_once_after_a_restart_with_another_configuration() {
    let scene = Scene::new(Estate::sized(1, 1));
    let text = |more: &str| format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0)]), more));
    let mut stage = scene.start(&text("")).await;
    scene.service.answer_with(|path, _| if path.contains("Microsoft.Security") { forbidden() } else { None });
    stage.run_until(NOON + 12 * HOUR).await;
    stage.end().await;
    let before = scene.service.times("Microsoft.Security").len();
    let mut stage = scene.start(&text("")).await;
    stage.run_until(NOON + 12 * HOUR + 60 * SECOND).await;
    stage.end().await;
    assert_eq!(scene.service.times("Microsoft.Security").len(), before, "the same configuration waits on");
    let mut stage = scene.start(&text("definitions = \"none\"")).await;
    stage.run_until(NOON + 12 * HOUR + 2 * 60 * SECOND).await;
    assert_eq!(scene.service.times("Microsoft.Security").len(), before + 1);
}

#[tokio::test]
async fn what_waits_for_a_person_is_tried_at_once_when_somebody_asks() {
    let scene = Scene::new(Estate::sized(1, 1));
    let text = format!("{NETWORK}{}", scene.feed("a", 0, &list(&[subscription(0, 0)]), ""));
    let mut stage = scene.start(&text).await;
    scene.service.answer_with(|path, _| if path.contains("Microsoft.Security") { forbidden() } else { None });
    stage.run_until(NOON + 12 * HOUR).await;
    let polls = || scene.service.polls(&subscription(0, 0));
    let before = polls();
    scene.hang_up(&mut stage, &text).await;
    stage.run_until(NOON + 12 * HOUR + 60 * SECOND).await;
    assert_eq!(polls(), before + 1);
    // A collector that just started has not searched yet.
    stage.end().await;
    let mut stage = scene.start(&text).await;
    scene.hang_up(&mut stage, &text).await;
    stage.run_until(NOON + 12 * HOUR + 2 * 60 * SECOND).await;
    assert_eq!(polls(), before + 2);
    // Another interval is a change, too.
    let faster = text.replacen("[feed.settings]", "interval = \"30m\"\n[feed.settings]", 1);
    scene.reload(&mut stage, &faster).await;
    stage.run_until(NOON + 12 * HOUR + 3 * 60 * SECOND).await;
    assert_eq!(polls(), before + 3);
}

#[tokio::test]
async fn requests_for_tokens_stay_far_below_the_services_limit() {
    let scene = Scene::new(Estate::sized(1, 30));
    let feeds: String = (0..30)
        .map(|which| {
            let feed = scene.feed(&format!("feed-{which}"), 0, &list(&[subscription(0, which)]), "");
            feed.replacen("[feed.settings]", "interval = \"5m\"\n[feed.settings]", 1)
        })
        .collect();
    let mut stage = scene.start(&format!("{NETWORK}{feeds}")).await;
    // Every second subscription is forbidden, and every token is refused for some hours.
    scene.service.answer_with(|path, now| match path {
        _ if !path.contains("Microsoft.Security") => None,
        _ if now / HOUR % 4 == 3 => {
            Some(answer::arm_error(401, "ExpiredAuthenticationToken", "The access token expiry is earlier."))
        }
        _ if u32::from_str_radix(&path[24..28], 16).unwrap() % 2 == 0 => forbidden(),
        _ => None,
    });
    stage.run_until(NOON + 12 * HOUR).await;
    let times = scene.service.times("/token");
    assert!(times.len() > 20, "{}", times.len());
    for (index, time) in times.iter().enumerate() {
        let window = times[index..].iter().take_while(|later| **later < time + 300 * SECOND).count();
        assert!(window <= 5, "{window} requests within 5 minutes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_tenants_with_one_application_sign_in_once() {
    const TENANTS: u32 = 500;
    let scene = Scene::new(Estate::sized(1, TENANTS));
    let mut stage = scene.start(&customers(&scene, TENANTS)).await;
    stage.run_until(NOON + 60 * SECOND).await;
    assert_eq!(scene.service.times("/token").len(), 1);
    let polls = |which| scene.service.polls(&subscription(0, which));
    assert_eq!((0..TENANTS).map(polls).collect::<Vec<_>>(), vec![1; 500], "each at its place");
    assert_eq!(stage.collector.snapshot(1).failing_scopes, 0);
}

#[tokio::test]
async fn a_tenant_that_is_forbidden_costs_those_with_its_application_no_token() {
    let scene = Scene::new(Estate::sized(1, 12));
    let mut stage = scene.start(&customers(&scene, 12)).await;
    let (forbidden_one, refusing) = (subscription(0, 3), subscription(0, 4));
    scene.service.answer_with(move |path, _| match path {
        _ if path.contains(&forbidden_one) => forbidden(),
        _ if path.contains(&refusing) => {
            Some(answer::arm_error(401, "InvalidAuthenticationToken", "It is not accepted."))
        }
        _ => None,
    });
    stage.run_until(NOON + 12 * HOUR).await;
    let times = scene.service.times("/token");
    assert!(
        times.len() <= 14 + 12,
        "one for each 55 minutes, and one for each time that a token is refused: {times:?}"
    );
    assert!(
        times.windows(2).all(|pair| pair[1] - pair[0] >= 300 * SECOND || pair[0] < NOON + 60 * SECOND),
        "{times:?}"
    );
    for which in (0..12).filter(|which| ![3, 4].contains(which)) {
        assert!(scene.service.polls(&subscription(0, which)) >= 12, "{which}");
    }
}

/// Writes feeds of this many tenants that share one application, each with its own subscription: the set-up of a
/// provider to whom customers delegated their subscriptions.
fn customers(scene: &Scene, count: u32) -> String {
    let feed = |which| {
        let feed = scene.feed(&format!("feed-{which}"), 0, &list(&[subscription(0, which)]), "");
        feed.replacen("\"tenant-0\"", &format!("\"customer-{which}\""), 1)
    };
    format!("{NETWORK}{}", (0..count).map(feed).collect::<String>())
}
