//! The expected reports about each scope: a model written anew from the specification, not from the plugin.

use std::collections::{BTreeMap, BTreeSet};

use source_simulator::estate::Subscription;

use super::service::{Asked, Service, Trouble};
use super::{HOUR, MFA};

/// Returns the expected reports about each scope, given the requests to the service.
pub fn expected(service: &Service) -> (BTreeMap<String, Vec<Told>>, Detected) {
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

/// The compared part of an event: time, activity, and the finding or the code of an outcome.
pub type Told = (u64, u64, String);

/// The expected reports about one scope.
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
pub type Cases = BTreeSet<(u64, String)>;

#[derive(Default, Debug, PartialEq, Eq)]
pub struct Detected {
    pub score_drop: Cases,
    pub mfa_regressed: Cases,
    pub control_vanished: Cases,
    pub gone_silent: Cases,
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
