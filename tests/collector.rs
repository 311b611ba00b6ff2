//! The collector on a clock that jumps: shared waits, lost permissions, changing configurations.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use host_harness::collector::NextAttempt;
use host_harness::config;
use host_harness::config::admission;
use parking_lot::Mutex;
use serde_json::{Value, json};
use source_host::contract::Shape;
use source_host::network::{self, IncomingResponse, OutgoingRequest, Transport};
use source_simulator::answer;
use source_simulator::estate::Estate;
use source_simulator::service::World;
use tokio::sync::watch;
use tracing::instrument::WithSubscriber;

use crate::support::stage::{Secrets, Stage};
use crate::support::{NOON, SUBSCRIPTION, host};

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// Returns the answer in place of the service's own, given the path and the time.
type Trouble = Box<dyn Fn(&str, u64) -> Option<answer::Answer> + Send + Sync>;

/// The simulated service without sockets, and the time and path of the requests that it received.
struct Service {
    world: Mutex<World>,
    trouble: Mutex<Trouble>,
    asked: Mutex<Vec<(u64, String)>>,
    now: Arc<AtomicU64>,
    /// Answers to paths that contain this text are held back.
    held: watch::Sender<Option<String>>,
}

impl Transport for Service {
    fn send(&self, request: OutgoingRequest) -> network::TransportFuture<'_> {
        let (now, path) = (self.now.load(Ordering::SeqCst), request.url.path().to_owned());
        self.asked.lock().push((now, path.clone()));
        let trouble = (self.trouble.lock())(&path, now);
        let answer = trouble.unwrap_or_else(|| self.world.lock().answer(&crate::support::asked(&request)));
        let answer::Answer { status, headers, body, .. } = answer;
        let mut held = self.held.subscribe();
        Box::pin(async move {
            let is_free = |held: &Option<String>| held.as_ref().is_none_or(|part| !path.contains(part));
            held.wait_for(is_free).await.unwrap();
            Ok(IncomingResponse { status, headers, body })
        })
    }
}

impl Service {
    /// Returns the times of requests for paths that contain this text.
    fn times(&self, part: &str) -> Vec<u64> {
        let asked = self.asked.lock();
        asked.iter().filter(|(_, path)| path.contains(part)).map(|(now, _)| *now).collect()
    }

    /// Returns the number of requests for a subscription's scores.
    fn polls(&self, subscription: &str) -> usize {
        self.times(&format!("{subscription}/providers/Microsoft.Security/secureScores")).len()
    }

    fn answer_with(&self, trouble: impl Fn(&str, u64) -> Option<answer::Answer> + Send + Sync + 'static) {
        *self.trouble.lock() = Box::new(trouble);
    }
}

/// A folder with a state, a service and a clock.
struct Scene {
    folder: tempfile::TempDir,
    service: Arc<Service>,
    now: Arc<AtomicU64>,
}

impl Scene {
    fn new(estate: Estate) -> Scene {
        let now = Arc::new(AtomicU64::new(NOON));
        let mut world = World::new(estate, None);
        world.url = "https://sim.example".to_owned();
        let service = Service {
            world: Mutex::new(world),
            trouble: Mutex::new(Box::new(|_, _| None)),
            asked: Mutex::default(),
            now: Arc::clone(&now),
            held: watch::Sender::new(None),
        };
        Scene { folder: tempfile::tempdir().unwrap(), service: Arc::new(service), now }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("collector.toml")
    }

    async fn start(&self, text: &str) -> Stage {
        let transport = Arc::clone(&self.service) as Arc<dyn Transport>;
        Stage::start(&self.file(), text, &Secrets::new(), &self.now, transport).await
    }

    async fn reload(&self, stage: &mut Stage, text: &str) {
        stage.reload(&self.file(), text, &Secrets::new(), false).await;
    }

    /// Reloads the same file, as SIGHUP does.
    async fn hang_up(&self, stage: &mut Stage, text: &str) {
        stage.reload(&self.file(), text, &Secrets::new(), true).await;
    }

    /// Writes a feed of the first tenant of the estate.
    fn feed(&self, id: &str, tenant: usize, subscriptions: &str, more: &str) -> String {
        let world = self.service.world.lock();
        let known = &world.estate.tenants[tenant];
        format!(
            "[[feed]]\nid = {id:?}\ntenant = \"tenant-{tenant}\"\n[feed.settings]\nclient_key = {:?}\n\
             client_secret = {:?}\ntoken_url = {:?}\nauthority = \"https://sim.example\"\n\
             endpoint = \"https://sim.example\"\naudience = \"https://sim.example\"\n\
             subscription_id = {subscriptions}\n{more}\n",
            known.client_id, known.client_secret, known.id
        )
    }
}

const NETWORK: &str = "[network]\nallow = [\"https://sim.example\"]\n";

/// Id of a subscription of a tenant of `Estate::sized`, both counted from 0.
fn subscription(tenant: u32, which: u32) -> String {
    let number = tenant + 1;
    format!("{number:08x}-{which:04x}-4f6b-b1d0-{number:012x}")
}

fn list(subscriptions: &[String]) -> String {
    format!("{subscriptions:?}")
}

/// Returns activity and last part of each finding, or the code of an outcome.
fn told(events: &[Value]) -> Vec<(u64, String)> {
    let told = |event: &Value| {
        let finding = event["finding_info"]["uid"].as_str().unwrap().rsplit('/').next().unwrap();
        let what = if finding == "secure-score-collection" { event["status_code"].as_str().unwrap() } else { finding };
        (event["activity_id"].as_u64().unwrap(), what.to_owned())
    };
    events.iter().map(told).collect()
}

fn throttled(seconds: &str) -> Option<answer::Answer> {
    let answer = answer::arm_error(429, "SubscriptionRequestsThrottled", "Number of 'read' requests exceeded.");
    Some(answer.with("retry-after", seconds))
}

fn forbidden() -> Option<answer::Answer> {
    Some(answer::arm_error(403, "AuthorizationFailed", "The client does not have authorization."))
}

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

/// Writes feeds of this many tenants that share one application, each with its own subscription: the set-up of a
/// provider to whom customers delegated their subscriptions.
fn customers(scene: &Scene, count: u32) -> String {
    let feed = |which| {
        let feed = scene.feed(&format!("feed-{which}"), 0, &list(&[subscription(0, which)]), "");
        feed.replacen("\"tenant-0\"", &format!("\"customer-{which}\""), 1)
    };
    format!("{NETWORK}{}", (0..count).map(feed).collect::<String>())
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

fn secret_refused() -> answer::Answer {
    answer::entra_error(401, "invalid_client", 7_000_215, "Invalid client secret provided.", "")
}

/// When data of the feed `a` was last collected, in Unix seconds.
fn last_collected(stage: &Stage) -> u64 {
    let time = stage.metric(r#"collector_last_collected_timestamp_seconds{tenant="tenant-0",feed="a"}"#);
    time.expect("it is always told") as u64
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

/// Returns the CPU time of the collector's loop for applying two searches with this many scopes, all of them new in the
/// second; the number of its turns; and the log.
async fn searched_twice(scopes: usize) -> (Duration, usize, String) {
    let scene = Scene::new(Estate::default());
    std::fs::write(scene.folder.path().join("hostile.wasm"), crate::hostile::hostile_bytes()).unwrap();
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
