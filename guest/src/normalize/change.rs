//! The change of a finding since the previous poll: its fields, its cause and its size, and for a score the controls that
//! moved it. All differences are exact decimals: the parts and the named remainder add up to the whole.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::normalize::subject::Subject;
use crate::number::{Exact, Number};

/// `unmapped.change`.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// The cause of the event.
    pub reason: Reason,
    /// The values that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
    /// All compared values as they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// New minus previous value, for each number that differs and has no more than 38 digits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub delta: BTreeMap<Field, Exact>,
    /// The controls that moved the score, the largest part first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drivers: Vec<Driver>,
    /// The parts of further controls, where there are too many to name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_controls: Option<Contribution>,
    /// The remainder between the delta and its parts: the service rounds each control by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounding_remainder: Option<Contribution>,
}

/// The cause of a change: of a finding, of a control's part in one, or of what a scope gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The first poll of this kind of finding: nothing is known of the time before.
    Baseline,
    /// The control is new.
    ControlAdded,
    /// The control is gone.
    ControlRemoved,
    /// The score is new.
    ScoreAdded,
    /// The score is gone.
    ScoreRemoved,
    /// Another maximum.
    Maximum,
    /// Other resources, or another state of theirs.
    Resources,
    /// Only the name is another.
    Text,
    /// The scope gives no data any more, gives data again, or gives none for another reason.
    Outcome,
    /// No difference: the finding is part of a snapshot.
    None,
}

/// A compared value, under the service's own name. The variants stand in the order of the alphabet, which is that of
/// the members of `delta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Field {
    /// Points reached.
    Current,
    /// Name for people.
    DisplayName,
    /// Count of resources.
    HealthyResourceCount,
    /// Points that there are.
    Max,
    /// Count of resources.
    NotApplicableResourceCount,
    /// Count of resources.
    UnhealthyResourceCount,
}

/// The compared values of the previous poll, numbers to the letter.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Previous {
    time: u64,
    display_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthy_resource_count: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unhealthy_resource_count: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_applicable_resource_count: Option<Box<RawValue>>,
}

/// The part of one control in the score's change.
#[derive(Debug, Clone, Serialize)]
pub struct Driver {
    /// Uid of the control's finding.
    pub uid: String,
    /// The control's name for people.
    pub title: String,
    /// The cause of the control's change.
    pub reason: Reason,
    /// Its part.
    #[serde(flatten)]
    pub part: Contribution,
}

/// A part of a score's change; a member that has too many digits is left out, and with it the remainder's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Contribution {
    /// Of `current`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<Exact>,
    /// Of `max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Exact>,
}

/// More controls than this are summed up: Microsoft has 16.
const MAX_DRIVERS: usize = 40;

/// A number as JSON, to the letter.
fn raw(number: &str) -> Box<RawValue> {
    match RawValue::from_string(number.to_owned()) {
        Ok(raw) => raw,
        // Only a state that somebody edited holds something else.
        Err(_) => RawValue::NULL.to_owned(),
    }
}

/// The numbers that are compared, under the names that they have in a change.
fn numbers<'a>(subject: &Subject<'a>) -> [(Field, Option<Number<'a>>); 5] {
    [
        (Field::Current, subject.score.and_then(|score| score.current)),
        (Field::Max, subject.score.and_then(|score| score.max)),
        (Field::HealthyResourceCount, subject.counts.healthy),
        (Field::UnhealthyResourceCount, subject.counts.unhealthy),
        (Field::NotApplicableResourceCount, subject.counts.not_applicable),
    ]
}

impl Change {
    /// A change that is nothing but its reason.
    pub fn only(reason: Reason) -> Change {
        Change {
            reason,
            fields: Vec::new(),
            previous: None,
            delta: BTreeMap::new(),
            drivers: Vec::new(),
            other_controls: None,
            rounding_remainder: None,
        }
    }

    /// The difference between two polls; none if nothing that counts differs. `seen` is when `before` was seen.
    pub fn between(before: &Subject<'_>, seen: u64, after: &Subject<'_>) -> Option<Change> {
        let mut fields = Vec::new();
        let mut delta = BTreeMap::new();
        for ((field, old), (_, new)) in numbers(before).into_iter().zip(numbers(after)) {
            let same = match (old, new) {
                (Some(old), Some(new)) => old.equals(new),
                (None, None) => true,
                _ => false,
            };
            if same {
                continue;
            }
            fields.push(field);
            let difference = || Exact::of(new?)?.minus(Exact::of(old?)?);
            if let Some(difference) = difference() {
                delta.insert(field, difference);
            }
        }
        if before.title != after.title {
            fields.push(Field::DisplayName);
        }
        let reason = match fields.as_slice() {
            [] => return None,
            fields if fields.contains(&Field::Max) => Reason::Maximum,
            [Field::DisplayName] => Reason::Text,
            _ => Reason::Resources,
        };
        Some(Change { fields, previous: Some(Previous::of(before, seen)), delta, ..Change::only(reason) })
    }

    /// Adds the controls that moved a score, and what they leave unexplained. A score that did not move needs no
    /// explanation.
    pub fn explain(&mut self, mut drivers: Vec<Driver>) {
        if !self.fields.contains(&Field::Current) && !self.fields.contains(&Field::Max) {
            return;
        }
        self.rounding_remainder = Some(self.total().minus(sum(&drivers))).filter(|remainder| !remainder.is_unknown());
        let reasons = [Reason::ControlAdded, Reason::ControlRemoved];
        if let Some(reason) = reasons.into_iter().find(|reason| drivers.iter().any(|driver| driver.reason == *reason)) {
            self.reason = reason;
        }
        // Those whose part is not known come last.
        let size = |driver: &Driver| driver.part.current.map(Exact::magnitude);
        drivers.sort_by(|left, right| size(right).cmp(&size(left)).then_with(|| left.uid.cmp(&right.uid)));
        let rest = drivers.split_off(drivers.len().min(MAX_DRIVERS));
        self.other_controls = (!rest.is_empty()).then(|| sum(&rest));
        self.drivers = drivers;
    }

    /// The same with the parts of all controls in one, where their names take too much room.
    pub fn summed(&self) -> Change {
        let rest = self.other_controls.unwrap_or(Contribution::ZERO);
        let other_controls = (!self.drivers.is_empty()).then(|| sum(&self.drivers).plus(rest));
        Change { drivers: Vec::new(), other_controls, ..self.clone() }
    }

    /// The whole change of a score; zero for a field that is equal.
    fn total(&self) -> Contribution {
        let of = |field| if self.fields.contains(&field) { self.delta.get(&field).copied() } else { Some(Exact::ZERO) };
        Contribution { current: of(Field::Current), max: of(Field::Max) }
    }
}

fn sum(drivers: &[Driver]) -> Contribution {
    drivers.iter().fold(Contribution::ZERO, |sum, driver| sum.plus(driver.part))
}

impl Previous {
    /// The values of a finding as it was `seen`.
    pub fn of(subject: &Subject<'_>, seen: u64) -> Previous {
        let [current, max, healthy, unhealthy, not_applicable] =
            numbers(subject).map(|(_, number)| number.map(|number| raw(number.text())));
        Previous {
            time: seen,
            display_name: subject.title.clone().into_owned(),
            current,
            max,
            healthy_resource_count: healthy,
            unhealthy_resource_count: unhealthy,
            not_applicable_resource_count: not_applicable,
        }
    }
}

impl Contribution {
    const ZERO: Contribution = Contribution { current: Some(Exact::ZERO), max: Some(Exact::ZERO) };

    /// The part of a control that was (`before`) and is (`after`); none if it did not move. A control without points
    /// adds none to its score.
    pub fn between(before: Option<&Subject<'_>>, after: Option<&Subject<'_>>) -> Option<Contribution> {
        let before = before.and_then(|subject| subject.score);
        let after = after.and_then(|subject| subject.score);
        let part = Contribution {
            current: difference(before.and_then(|score| score.current), after.and_then(|score| score.current)),
            max: difference(before.and_then(|score| score.max), after.and_then(|score| score.max)),
        };
        (part != Contribution::ZERO).then_some(part)
    }

    fn plus(self, other: Contribution) -> Contribution {
        let plus = |left: Option<Exact>, right: Option<Exact>| left?.plus(right?);
        Contribution { current: plus(self.current, other.current), max: plus(self.max, other.max) }
    }

    fn minus(self, other: Contribution) -> Contribution {
        let minus = |left: Option<Exact>, right: Option<Exact>| left?.minus(right?);
        Contribution { current: minus(self.current, other.current), max: minus(self.max, other.max) }
    }

    fn is_unknown(self) -> bool {
        self.current.is_none() && self.max.is_none()
    }
}

/// New minus previous value, where no number is nothing; none if there are too many digits.
fn difference(old: Option<Number<'_>>, new: Option<Number<'_>>) -> Option<Exact> {
    if let (Some(old), Some(new)) = (old, new)
        && old.equals(new)
    {
        return Some(Exact::ZERO);
    }
    let exact = |number: Option<Number<'_>>| number.map_or(Some(Exact::ZERO), Exact::of);
    exact(new)?.minus(exact(old)?)
}

/// The cause for which a control moved its score.
pub fn driver_reason(before: Option<&Subject<'_>>, after: Option<&Subject<'_>>, part: Contribution) -> Reason {
    match (before, after) {
        (None, _) => Reason::ControlAdded,
        (_, None) => Reason::ControlRemoved,
        _ if part.max != Some(Exact::ZERO) => Reason::Maximum,
        _ => Reason::Resources,
    }
}
