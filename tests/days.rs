//! Ten days of a hundred feeds in some seconds: the collector runs on a clock that jumps, against a service that fails,
//! whose scores change, and whose controls come and go. Its events are compared with those of a model.
//! `COLLECTOR_DAYS=30` makes it longer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use host_harness::environment;
use parking_lot::Mutex;
use serde_json::Value;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportFuture};
use source_simulator::answer;
use source_simulator::estate::{Estate, Subscription};
use source_simulator::service::World;

use crate::support::stage::{Secrets, Stage};
use crate::support::{Dice, NOON, leave_for_the_judge};

const HOUR: u64 = 3_600_000;

/// The interval at which the service recomputes.
const STEP: u64 = 8 * HOUR;

/// Hours between two polls, by feed in turn.
const INTERVALS: [u64; 4] = [4, 8, 12, 24];

const TENANTS: u32 = 20;
const SUBSCRIPTIONS: u32 = 5;
const MFA: &str = "34a42fb3-e6db-409c-b56b-7b1db6b8aee0";

/// A problem with a subscription at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The service answers 503.
    Outage,
    /// The application lost its role.
    Forbidden,
    /// Both lists are empty.
    Empty,
    /// The list of subscriptions lacks it.
    Unlisted,
    /// The list of subscriptions says that it is disabled.
    Disabled,
}

/// The history of one subscription.
struct Story {
    /// The subscription after each recomputation.
    steps: Vec<Subscription>,
    /// Start, end and kind of each problem.
    troubles: Vec<(u64, u64, Trouble)>,
}

impl Story {
    fn new(base: &Subscription, searched: bool, days: u64, dice: &mut Dice) -> Story {
        let (mut now, mut gone) = (base.clone(), BTreeMap::new());
        let steps = (0..=days * 3).map(|step| {
            for (index, control) in now.controls.iter_mut().enumerate() {
                if dice.roll(4) == 0 {
                    control.healthy = (control.healthy + dice.roll(4) as u32).saturating_sub(1).max(1);
                    control.unhealthy = (control.unhealthy + dice.roll(4) as u32).saturating_sub(2);
                }
                // Sometimes a large number of resources breaks, and is mended later.
                match dice.roll(40) {
                    0 => control.unhealthy += 20,
                    1 => control.unhealthy = 0,
                    2 if index > 0 => drop(gone.insert(control.id, step + 1 + dice.roll(4))),
                    _ => {}
                }
            }
            let mut seen = now.clone();
            seen.controls.retain(|control| gone.get(control.id).is_none_or(|until| *until <= step));
            seen
        });
        let steps = steps.collect();
        let mut troubles = Vec::new();
        let mut hour = 12 + dice.roll(48);
        while hour < days * 24 {
            let until = hour + 3 + dice.roll(30);
            let kinds = [Trouble::Outage, Trouble::Forbidden, Trouble::Empty, Trouble::Unlisted, Trouble::Disabled];
            let trouble = kinds[dice.roll(if searched { 5 } else { 3 }) as usize];
            troubles.push((NOON + hour * HOUR, NOON + until * HOUR, trouble));
            hour = until + 24 + dice.roll(96);
        }
        Story { steps, troubles }
    }

    fn trouble(&self, now: u64) -> Option<Trouble> {
        self.troubles.iter().find(|(from, until, _)| (*from..*until).contains(&now)).map(|(.., trouble)| *trouble)
    }

    fn at(&self, now: u64) -> &Subscription {
        &self.steps[((now - NOON) / STEP) as usize]
    }
}

/// The requests to the service, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Search { now: u64, subscription: String },
    Poll { now: u64, subscription: String },
}

/// The service, as the stories determine it.
struct Service {
    world: Mutex<World>,
    stories: BTreeMap<String, Story>,
    asked: Mutex<Vec<Asked>>,
    now: Arc<AtomicU64>,
}

impl Service {
    fn answer(&self, request: &OutgoingRequest) -> answer::Answer {
        let now = self.now.load(Ordering::SeqCst);
        let segments: Vec<&str> = request.url.path().trim_matches('/').split('/').collect();
        let unavailable = || answer::arm_error(503, "ServerTimeout", "The request timed out.");
        let mut world = self.world.lock();
        match segments.as_slice() {
            ["subscriptions"] => {
                let token = crate::support::asked(request).bearer.unwrap();
                let tenant = world.tenant_of_token(&token).unwrap();
                let tenant = world.estate.tenants.iter_mut().find(|known| known.id == tenant).unwrap();
                // The first subscription of each tenant is the one that a search looks for.
                let id = tenant.subscriptions[0].id.clone();
                self.asked.lock().push(Asked::Search { now, subscription: id.clone() });
                let trouble = self.stories[&id].trouble(now);
                if trouble == Some(Trouble::Outage) {
                    return unavailable();
                }
                let whole = tenant.subscriptions.clone();
                tenant.subscriptions[0].state = if trouble == Some(Trouble::Disabled) { "Disabled" } else { "Enabled" };
                if trouble == Some(Trouble::Unlisted) {
                    tenant.subscriptions.remove(0);
                }
                let tenant = tenant.id.clone();
                let answer = world.answer(&crate::support::asked(request));
                world.estate.tenants.iter_mut().find(|known| known.id == tenant).unwrap().subscriptions = whole;
                answer
            }
            ["subscriptions", id, .., collection] => {
                let story = &self.stories[*id];
                if *collection == "secureScores" {
                    self.asked.lock().push(Asked::Poll { now, subscription: (*id).to_owned() });
                }
                let subscriptions = world.estate.tenants.iter_mut().flat_map(|tenant| &mut tenant.subscriptions);
                let subscription = subscriptions.into_iter().find(|known| known.id == *id).unwrap();
                *subscription = story.at(now).clone();
                match story.trouble(now) {
                    Some(Trouble::Outage) => return unavailable(),
                    Some(Trouble::Forbidden) => {
                        return answer::arm_error(
                            403,
                            "AuthorizationFailed",
                            "The client does not have authorization.",
                        );
                    }
                    Some(Trouble::Empty) => subscription.controls.clear(),
                    _ => {}
                }
                world.answer(&crate::support::asked(request))
            }
            _ => world.answer(&crate::support::asked(request)),
        }
    }
}

impl Transport for Service {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        let answer::Answer { status, headers, body, .. } = self.answer(&request);
        Box::pin(std::future::ready(Ok(IncomingResponse { status, headers, body })))
    }
}

/// The compared part of an event: time, activity, and the finding or the code of an outcome.
type Told = (u64, u64, String);

/// The expected reports about one scope: written anew from the specification, not from the plugin.
#[derive(Default)]
struct Model {
    findings: BTreeMap<String, Finding>,
    outcome: Option<&'static str>,
    has_state: bool,
    collected: bool,
    snapshot: Option<u64>,
}

#[derive(Clone)]
struct Finding {
    values: String,
    absences: u32,
    closed: bool,
}

/// Cases that a detection must find: time and scope.
type Cases = BTreeSet<(u64, String)>;

#[derive(Default, Debug, PartialEq, Eq)]
struct Detected {
    score_drop: Cases,
    mfa_regressed: Cases,
    control_vanished: Cases,
    gone_silent: Cases,
}

impl Model {
    fn outcome(
        &mut self,
        now: u64,
        scope: &str,
        outcome: Option<&'static str>,
        told: &mut Vec<Told>,
        cases: &mut Detected,
    ) {
        if !self.has_state || outcome == self.outcome {
            return;
        }
        let activity = if self.outcome.is_none() { 1 } else { 2 };
        self.outcome = outcome;
        if self.collected {
            told.push((now, activity, outcome.unwrap_or("collected").to_owned()));
            if outcome.is_some() {
                cases.gone_silent.insert((now, scope.to_owned()));
            }
        }
    }

    fn data(&mut self, now: u64, subscription: &Subscription, told: &mut Vec<Told>, cases: &mut Detected) {
        let scope = subscription.id.clone();
        self.outcome(now, &scope, None, told, cases);
        self.outcome = None;
        let snapshot = self.snapshot.is_none_or(|last| now >= last + 24 * HOUR - 300_000);
        let mut present = BTreeSet::new();
        for item in subscription.scores().into_iter().chain(subscription.control_items(false)) {
            let uid = item["id"].as_str().unwrap().to_lowercase();
            let values = |key: &str| item["properties"][key].to_string();
            let score = &item["properties"]["score"];
            let counts = ["healthyResourceCount", "unhealthyResourceCount", "notApplicableResourceCount"].map(values);
            let values = format!("{} {} {}", score["current"], score["max"], counts.join(" "));
            present.insert(uid.clone());
            let before = self.findings.get(&uid).filter(|finding| !finding.closed).cloned();
            let activity = match &before {
                None => Some(1),
                Some(before) if before.values != values => Some(2),
                Some(_) => snapshot.then_some(99),
            };
            if let (Some(2), Some(before)) = (activity, &before) {
                let number =
                    |values: &str, index: usize| values.split(' ').nth(index).and_then(|text| text.parse::<f64>().ok());
                let moved = |index| Some(number(&values, index)? - number(&before.values, index)?);
                if uid.ends_with("/ascscore") && moved(0).unwrap() <= -3.0 {
                    cases.score_drop.insert((now, scope.clone()));
                }
                if uid.ends_with(MFA) && moved(3).unwrap() > 0.0 {
                    cases.mfa_regressed.insert((now, scope.clone()));
                }
            }
            if let Some(activity) = activity {
                told.push((now, activity, uid.clone()));
            }
            self.findings.insert(uid, Finding { values, absences: 0, closed: false });
        }
        for (uid, finding) in self.findings.iter_mut().filter(|(uid, _)| !present.contains(*uid)) {
            finding.absences += 1;
            if finding.absences == 2 && !finding.closed {
                finding.closed = true;
                told.push((now, 3, uid.clone()));
                cases.control_vanished.insert((now, scope.clone()));
            }
        }
        if snapshot {
            self.snapshot = Some(now);
        }
        (self.has_state, self.collected) = (true, true);
    }
}

/// Returns the expected reports about each scope, given the requests to the service.
fn expected(service: &Service) -> (BTreeMap<String, Vec<Told>>, Detected) {
    let mut models: BTreeMap<String, Model> = BTreeMap::new();
    let (mut told, mut cases) = (BTreeMap::<String, Vec<Told>>::new(), Detected::default());
    for asked in service.asked.lock().iter() {
        let (Asked::Search { now, subscription } | Asked::Poll { now, subscription }) = asked;
        let (now, story) = (*now, &service.stories[subscription]);
        let model = models.entry(subscription.clone()).or_default();
        let told = told.entry(subscription.clone()).or_default();
        let outcome = match (asked, story.trouble(now)) {
            (_, Some(Trouble::Outage)) => continue,
            (Asked::Search { .. }, Some(Trouble::Unlisted)) => "no-longer-discovered",
            (Asked::Search { .. }, Some(Trouble::Disabled)) => "disabled",
            (Asked::Search { .. }, _) => continue,
            (Asked::Poll { .. }, Some(Trouble::Forbidden)) => "forbidden",
            (Asked::Poll { .. }, Some(Trouble::Empty)) => {
                let had_state = std::mem::replace(&mut model.has_state, true);
                if had_state {
                    model.outcome(now, subscription, Some("not-onboarded"), told, &mut cases);
                }
                model.outcome = Some("not-onboarded");
                continue;
            }
            (Asked::Poll { .. }, _) => {
                model.data(now, story.at(now), told, &mut cases);
                continue;
            }
        };
        model.outcome(now, subscription, Some(outcome), told, &mut cases);
    }
    (told, cases)
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

fn service(now: &Arc<AtomicU64>, days: u64) -> Service {
    let estate = Estate::sized(TENANTS, SUBSCRIPTIONS);
    let mut dice = Dice::new(42);
    let mut stories = BTreeMap::new();
    for (index, tenant) in estate.tenants.iter().enumerate() {
        for (which, subscription) in tenant.subscriptions.iter().enumerate() {
            let story = Story::new(subscription, searched(index, which), days, &mut dice);
            stories.insert(subscription.id.clone(), story);
        }
    }
    let mut world = World::new(estate, None);
    world.url = "https://sim.example".to_owned();
    Service { world: Mutex::new(world), stories, asked: Mutex::default(), now: Arc::clone(now) }
}

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
    let mut told: BTreeMap<String, Vec<Told>> = expected.keys().map(|scope| (scope.clone(), Vec::new())).collect();
    for event in &events {
        let uid = event["finding_info"]["uid"].as_str().unwrap();
        let what = if uid.ends_with("/secure-score-collection") {
            &event["status_code"]
        } else {
            &event["finding_info"]["uid"]
        };
        let told_of = (
            event["time"].as_u64().unwrap(),
            event["activity_id"].as_u64().unwrap(),
            what.as_str().unwrap().to_owned(),
        );
        told.get_mut(&scope_of(event)).unwrap().push(told_of);
    }
    assert_eq!(told.len(), (TENANTS * SUBSCRIPTIONS) as usize, "every subscription was polled");
    for (scope, expected) in &expected {
        let differs = expected.iter().zip(&told[scope]).position(|(expected, told)| expected != told);
        let differs = differs.unwrap_or(expected.len().min(told[scope].len()));
        let around = |list: &[Told]| list.iter().skip(differs.saturating_sub(2)).take(5).cloned().collect::<Vec<_>>();
        assert_eq!(
            around(&told[scope]),
            around(expected),
            "{scope}, from event {differs} on, {:?}",
            service.stories[scope].troubles
        );
    }

    let mut detected = Detected::default();
    for event in &events {
        let case = (event["time"].as_u64().unwrap(), scope_of(event));
        for (matches, cases) in [
            (score_drop(event), &mut detected.score_drop),
            (mfa_regressed(event), &mut detected.mfa_regressed),
            (control_vanished(event), &mut detected.control_vanished),
            (gone_silent(event), &mut detected.gone_silent),
        ] {
            if matches {
                cases.insert(case.clone());
            }
        }
    }
    assert_eq!(detected, cases);
    let found = [&cases.score_drop, &cases.mfa_regressed, &cases.control_vanished, &cases.gone_silent];
    assert!(found.iter().all(|cases| cases.len() >= 10), "there is something to find: {:?}", found.map(BTreeSet::len));
    let polls = service.asked.lock().iter().filter(|asked| matches!(asked, Asked::Poll { .. })).count();
    eprintln!("{days} days, {polls} polls, {} events", events.len());
    check_rhythm(&service, days);
}

fn scope_of(event: &Value) -> String {
    event["cloud"]["account"]["uid"].as_str().unwrap().to_owned()
}

// Detections: one line each, on one event.

fn score_drop(event: &Value) -> bool {
    event["finding_info"]["types"][0] == "Secure Scores"
        && event["unmapped"]["change"]["delta"]["current"].as_f64().is_some_and(|delta| delta <= -3.0)
}

fn mfa_regressed(event: &Value) -> bool {
    event["finding_info"]["uid"].as_str().unwrap().ends_with(MFA)
        && event["unmapped"]["change"]["delta"]["unhealthyResourceCount"].as_f64() > Some(0.0)
}

fn control_vanished(event: &Value) -> bool {
    event["finding_info"]["types"][0] == "Secure Score Controls" && event["activity_name"] == "Close"
}

fn gone_silent(event: &Value) -> bool {
    event["compliance"]["control"] == "Secure Score collection" && event["compliance"]["status"] == "Warning"
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
