//! Ten days of a hundred feeds in some seconds: the collector runs on a clock that jumps, against a service that fails,
//! whose scores change, and whose controls come and go. Its events are compared with those of a model.
//! `COLLECTOR_DAYS=30` makes it longer.

mod detections;
mod model;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use host_harness::environment;
use serde_json::Value;
use source_host::network::Transport;
use source_simulator::estate::Estate;

use self::model::{Told, expected};
use self::service::{Asked, Service, service};
use crate::support::stage::{Secrets, Stage};
use crate::support::{NOON, leave_for_the_judge};

const HOUR: u64 = 3_600_000;

/// Hours between two polls, by feed in turn.
const INTERVALS: [u64; 4] = [4, 8, 12, 24];

const TENANTS: u32 = 20;
const SUBSCRIPTIONS: u32 = 5;
const MFA: &str = "34a42fb3-e6db-409c-b56b-7b1db6b8aee0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_happens_in_ten_days_is_told_once_and_in_order() {
    let days = environment::text("COLLECTOR_DAYS").map_or(10, |days| days.parse().unwrap());
    let now = Arc::new(AtomicU64::new(NOON));
    let service = Arc::new(service(&now, days));
    let (text, secrets) = configuration();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("days.toml");
    let transport = Arc::clone(&service) as Arc<dyn Transport>;
    let mut stage = Stage::start(&file, &text, &secrets, &now, transport).await;
    stage.run_until(NOON + days * 24 * HOUR).await;

    let events = stage.told().await;
    let lines: Vec<Vec<u8>> =
        events.iter().step_by(events.len() / 400 + 1).map(|event| event.to_string().into_bytes()).collect();
    leave_for_the_judge("days", lines.iter().map(Vec::as_slice));
    let uids: BTreeSet<&str> = events.iter().map(|event| event["metadata"]["uid"].as_str().unwrap()).collect();
    assert_eq!(uids.len(), events.len(), "a uid stands for one event");

    let (expected, cases) = expected(&service);
    assert_eq!(expected.len(), (TENANTS * SUBSCRIPTIONS) as usize, "every subscription was polled");
    check_told(&events, &expected, &service);
    assert_eq!(detections::found(&events), cases);
    let found = [&cases.score_drop, &cases.mfa_regressed, &cases.control_vanished, &cases.gone_silent];
    assert!(found.iter().all(|cases| cases.len() >= 10), "there is something to find: {:?}", found.map(BTreeSet::len));
    let polls = service.asked.lock().iter().filter(|asked| matches!(asked, Asked::Poll { .. })).count();
    eprintln!("{days} days, {polls} polls, {} events", events.len());
    check_rhythm(&service, days);
}

/// Compares the reports of each scope, in order, with those that the model expects.
fn check_told(events: &[Value], expected: &BTreeMap<String, Vec<Told>>, service: &Service) {
    let mut told: BTreeMap<String, Vec<Told>> = expected.keys().map(|scope| (scope.clone(), Vec::new())).collect();
    for event in events {
        told.get_mut(&scope_of(event)).unwrap().push(told_by(event));
    }
    for (scope, expected) in expected {
        let differs = expected.iter().zip(&told[scope]).position(|(expected, told)| expected != told);
        let differs = differs.unwrap_or(expected.len().min(told[scope].len()));
        let around = |list: &[Told]| list.iter().skip(differs.saturating_sub(2)).take(5).cloned().collect::<Vec<_>>();
        let troubles = &service.stories[scope].troubles;
        assert_eq!(around(&told[scope]), around(expected), "{scope}, from event {differs} on, {troubles:?}");
    }
}

/// Returns the compared parts of an event.
fn told_by(event: &Value) -> Told {
    let uid = &event["finding_info"]["uid"];
    let is_outcome = uid.as_str().unwrap().ends_with("/secure-score-collection");
    let what = if is_outcome { &event["status_code"] } else { uid };
    let number = |key: &str| event[key].as_u64().unwrap();
    (number("time"), number("activity_id"), what.as_str().unwrap().to_owned())
}

/// Checks that a scope without problems is polled once an interval, and that problems delay it by the slowest retry at
/// most.
fn check_rhythm(service: &Service, days: u64) {
    for (index, (id, story)) in service.stories.iter().enumerate() {
        let (tenant, which) = (index / SUBSCRIPTIONS as usize, index % SUBSCRIPTIONS as usize);
        let interval = INTERVALS[(tenant + which) % INTERVALS.len()] * HOUR;
        let asked = service.asked.lock();
        let polls = asked.iter().filter_map(|asked| match asked {
            Asked::Poll { now, subscription } if subscription == id && story.trouble(*now).is_none() => Some(*now),
            _ => None,
        });
        let mut polls: Vec<u64> = polls.collect();
        assert!(polls.first().is_some_and(|first| first - NOON < 60_000), "{id}: {:?}", polls.first());
        // A scope that stopped for ever is noticed at the end.
        polls.push(NOON + days * 24 * HOUR);
        for pair in polls.windows(2) {
            let quiet = !story.troubles.iter().any(|(from, until, _)| *from < pair[1] && *until > pair[0]);
            let slowest = if quiet { interval * 3 / 2 } else { interval * 2 + 40 * HOUR };
            assert!(pair[1] - pair[0] <= slowest, "{id}: {} h between polls", (pair[1] - pair[0]) / HOUR);
        }
        assert!(polls.len() as u64 <= days * 24 * HOUR / interval + 20, "{id}: {} polls", polls.len());
    }
}

fn configuration() -> (String, Secrets) {
    let mut text = "[network]\nallow = [\"https://sim.example\"]\n".to_owned();
    let mut secrets = Secrets::new();
    for (index, tenant) in Estate::sized(TENANTS, SUBSCRIPTIONS).tenants.iter().enumerate() {
        secrets.insert(format!("SECRET_{index}"), tenant.client_secret.clone());
        for (which, subscription) in tenant.subscriptions.iter().enumerate() {
            let interval = INTERVALS[(index + which) % INTERVALS.len()];
            let chosen = if searched(index, which) {
                let others: Vec<&str> = tenant.subscriptions[1..].iter().map(|other| other.id.as_str()).collect();
                format!("\"*\"\nexclude_subscriptions = {others:?}")
            } else {
                format!("{:?}", subscription.id)
            };
            text += &format!(
                "[[feed]]\nid = \"feed-{index}-{which}\"\ntenant = \"tenant-{index}\"\ninterval = \"{interval}h\"\n\
                 [feed.settings]\nclient_key = {:?}\nclient_secret = {{ env = \"SECRET_{index}\" }}\n\
                 token_url = {:?}\nauthority = \"https://sim.example\"\nendpoint = \"https://sim.example\"\n\
                 audience = \"https://sim.example\"\nsubscription_id = {chosen}\n",
                tenant.client_id, tenant.id
            );
        }
    }
    (text, secrets)
}

/// Says whether a feed searches: the first feed of every second tenant does; all others name their subscription.
fn searched(tenant: usize, which: usize) -> bool {
    which == 0 && tenant.is_multiple_of(2)
}

fn scope_of(event: &Value) -> String {
    event["cloud"]["account"]["uid"].as_str().unwrap().to_owned()
}
