//! One feed with many scopes, and its effect on other feeds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use source_host::network::Transport;
use source_simulator::answer;
use source_simulator::estate::Estate;
use tracing::instrument::WithSubscriber;

use super::scene::{HOUR, NETWORK, SECOND, Scene, list, subscription};
use crate::support::NOON;
use crate::support::stage::{Secrets, Stage};

#[tokio::test]
async fn a_tenant_of_many_subscriptions_that_are_slow_delays_no_other() {
    let scene = Scene::new(Estate::sized(2, 200));
    let many: Vec<String> = (0..200).map(|which| subscription(0, which)).collect();
    let (a, b) = (scene.feed("a", 0, &list(&many), ""), scene.feed("b", 1, &list(&[subscription(1, 199)]), ""));
    let mut stage = scene.start(&format!("{NETWORK}{a}{b}")).await;
    scene.service.held.send_replace(Some("/subscriptions/00000001-".to_owned()));
    let other = async {
        while stage.told().await.is_empty() {
            scene.now.fetch_add(SECOND, Ordering::SeqCst);
            stage.collector.start_due();
            let _ = tokio::time::timeout(Duration::from_millis(5), stage.collector.ended()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), other).await.expect("the other one is polled");
    for _ in 0..60 {
        scene.now.fetch_add(SECOND, Ordering::SeqCst);
        stage.collector.start_due();
        let _ = tokio::time::timeout(Duration::from_millis(5), stage.collector.ended()).await;
    }
    let asked = scene.service.times("/subscriptions/00000001-").len();
    assert_eq!(asked, 8, "all places of its tenant are taken, and no other");
    assert_eq!(scene.service.polls(&subscription(1, 199)), 1);
    scene.service.held.send_replace(None);
    stage.run_until(NOON + HOUR).await;
    assert!(many.iter().all(|subscription| scene.service.polls(subscription) >= 1));
}

/// Runs on a separate thread, so that the thread's CPU time is that of the loop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_fresh_scopes_cost_the_loop_ten_times_the_work_in_parts_and_one_line() {
    let (few, _, _) = searched_twice(2_000).await;
    let (many, turns, log) = searched_twice(20_000).await;
    assert!(many < few * 30, "{few:?} for 2,000 scopes, and {many:?} for 20,000");
    assert!(turns >= 80, "others are answered between parts of the work: {turns}");
    let told = log.matches("the settings do not ask for this scope any more").count();
    assert_eq!((told, log.matches("(and 19998 more)").count()), (1, 1), "{} bytes of log", log.len());
}

/// Returns the CPU time of the collector's loop for applying two searches with this many scopes, all of them new in the
/// second; the number of its turns; and the log.
async fn searched_twice(scopes: usize) -> (Duration, usize, String) {
    let scene = Scene::new(Estate::default());
    std::fs::write(scene.folder.path().join("hostile.wasm"), crate::support::hostile::hostile_bytes()).unwrap();
    let token = json!({ "access_token": "the-token-of-this-tenant", "expires_in": 3_600 });
    scene.service.answer_with(move |_, _| Some(answer::Answer::json(200, &token)));
    let secrets = Secrets::from([("KEY".to_owned(), "the-key-of-this-tenant".to_owned())]);
    let feed = |amount: usize| {
        format!(
            "{NETWORK}[[feed]]\nid = \"items\"\ntenant = \"mallory\"\nplugin = \"hostile.wasm\"\n[feed.settings]\n\
             mode = \"scopes-fresh\"\norigin = \"https://sim.example\"\nkey = {{ env = \"KEY\" }}\namount = {amount}\n"
        )
    };
    let log = tempfile::NamedTempFile::new().unwrap();
    let subscriber = tracing_subscriber::fmt().with_writer(Arc::new(log.reopen().unwrap())).finish();
    let transport = Arc::clone(&scene.service) as Arc<dyn Transport>;
    let searches = async {
        let mut stage = Stage::start(&scene.file(), &feed(scopes - 1), &secrets, &scene.now, transport).await;
        let (mut spent, mut turns) = (Duration::ZERO, 0);
        for count in [scopes - 1, scopes] {
            if count == scopes {
                stage.reload(&scene.file(), &feed(count), &secrets, false).await;
            }
            loop {
                let begun = crate::support::time_on_processor();
                stage.collector.start_due();
                if stage.collector.is_idle() {
                    break;
                }
                stage.collector.ended().await;
                spent += crate::support::time_on_processor() - begun;
                turns += 1;
            }
            let polled = stage.metric("collector_scopes{tenant=\"mallory\",feed=\"items\"}");
            assert_eq!(polled, Some(count as f64));
        }
        (spent, turns)
    };
    let (spent, turns) = searches.with_subscriber(subscriber).await;
    (spent, turns, std::fs::read_to_string(log.path()).unwrap())
}
