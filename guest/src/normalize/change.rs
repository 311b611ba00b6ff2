//! The change of a finding since the previous poll: its fields, its cause and its size, and for a score the controls
//! that moved it. All differences are exact decimals: the parts and the named remainder add up to the whole.

use std::collections::BTreeMap;

use crate::json::write::{Json, MembersWriter, object};
use crate::normalize::subject::Subject;
use crate::normalize::vocabulary::vocabulary;
use crate::number::{Exact, Number};

/// `unmapped.change`.
#[derive(Debug, Clone)]
pub struct Change {
    /// The cause of the event.
    pub reason: Reason,
    /// The values that differ.
    pub fields: Vec<Field>,
    /// All compared values of the previous poll.
    pub previous: Option<Previous>,
    /// New minus previous value, for each number that differs and has no more than 38 digits.
    pub delta: BTreeMap<Field, Exact>,
    /// The controls that moved the score, the largest part first.
    pub drivers: Vec<Driver>,
    /// The parts of further controls, if there are too many to name.
    pub other_controls: Option<Contribution>,
    /// The remainder between the delta and its parts: the service rounds each control separately.
    pub rounding_remainder: Option<Contribution>,
}

vocabulary! {
    /// The cause of a change: of a finding, of a control's part in it, or of a scope's outcome.
    pub enum Reason -> name: &'static str {
        /// The first poll of this kind of finding: nothing is known of the time before.
        Baseline = "baseline",
        /// The control is new.
        ControlAdded = "control-added",
        /// The control is gone.
        ControlRemoved = "control-removed",
        /// The score is new.
        ScoreAdded = "score-added",
        /// The score is gone.
        ScoreRemoved = "score-removed",
        /// The maximum changed.
        Maximum = "maximum",
        /// Resources or their states changed.
        Resources = "resources",
        /// Only the name changed.
        Text = "text",
        /// The scope stopped giving data, gives data again, or gives none for another reason.
        Outcome = "outcome",
        /// No difference: the finding is part of a snapshot.
        None = "none",
    }
}

vocabulary! {
    /// A compared value, with the service's own name. The variants are in alphabetical order, which is that of the members
    /// of `delta`.
    pub enum Field -> name: &'static str {
        /// Points that are reached.
        Current = "current",
        /// Name for people.
        DisplayName = "displayName",
        /// Number of healthy resources.
        HealthyResourceCount = "healthyResourceCount",
        /// Largest possible number of points.
        Max = "max",
        /// Number of resources that do not count.
        NotApplicableResourceCount = "notApplicableResourceCount",
        /// Number of unhealthy resources.
        UnhealthyResourceCount = "unhealthyResourceCount",
    }
}

/// The compared values of the previous poll, with exact numbers.
#[derive(Debug, Clone)]
pub struct Previous {
    time: u64,
    display_name: String,
    current: Option<String>,
    max: Option<String>,
    healthy_resource_count: Option<String>,
    unhealthy_resource_count: Option<String>,
    not_applicable_resource_count: Option<String>,
}

/// The part of one control in the score's change.
#[derive(Debug, Clone)]
pub struct Driver {
    /// Uid of the control's finding.
    pub uid: String,
    /// The control's name for people.
    pub title: String,
    /// The cause of the control's change.
    pub reason: Reason,
    /// The control's part.
    pub part: Contribution,
}

/// A part of a score's change. A member with too many digits is left out, and so is that of the remainder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contribution {
    /// The part of `current`.
    pub current: Option<Exact>,
    /// The part of `max`.
    pub max: Option<Exact>,
}

/// Number of controls that are named; further ones are summed. Microsoft has 16.
const MAX_DRIVERS: usize = 40;

/// Returns the compared numbers, with their names in a change.
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
    /// Makes a change that has only a reason.
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

    /// Returns the difference between two polls; `None` if no compared value differs. `seen` is when `before` was seen.
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

    /// Adds the controls that moved a score, and the remainder. A score that did not move needs no explanation.
    pub fn explain(&mut self, mut drivers: Vec<Driver>) {
        if !self.fields.contains(&Field::Current) && !self.fields.contains(&Field::Max) {
            return;
        }
        self.rounding_remainder = Some(self.total().minus(sum(&drivers))).filter(|remainder| !remainder.is_unknown());
        let reasons = [Reason::ControlAdded, Reason::ControlRemoved];
        if let Some(reason) = reasons.into_iter().find(|reason| drivers.iter().any(|driver| driver.reason == *reason)) {
            self.reason = reason;
        }
        // Controls whose part is unknown come last.
        let size = |driver: &Driver| driver.part.current.map(Exact::magnitude);
        drivers.sort_by(|left, right| size(right).cmp(&size(left)).then_with(|| left.uid.cmp(&right.uid)));
        let rest = drivers.split_off(drivers.len().min(MAX_DRIVERS));
        self.other_controls = (!rest.is_empty()).then(|| sum(&rest));
        self.drivers = drivers;
    }

    /// The same change with the parts of all controls in one, if their names take too much space.
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
    /// Takes the values of a finding that was last seen at `seen`.
    pub fn of(subject: &Subject<'_>, seen: u64) -> Previous {
        let [current, max, healthy, unhealthy, not_applicable] =
            numbers(subject).map(|(_, number)| number.map(|number| number.text().to_owned()));
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

    /// Returns the part of a control between `before` and `after`; `None` if it did not move. A control without points
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

    fn members(&self, members: &mut MembersWriter<'_>) {
        members.optional("current", self.current.as_ref());
        members.optional("max", self.max.as_ref());
    }

    fn is_unknown(self) -> bool {
        self.current.is_none() && self.max.is_none()
    }
}

impl Json for Change {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |change| {
            change.member("reason", self.reason.name());
            if !self.fields.is_empty() {
                change.member("fields", self.fields.as_slice());
            }
            change.optional("previous", self.previous.as_ref());
            if !self.delta.is_empty() {
                change.object("delta", |delta| {
                    self.delta.iter().for_each(|(field, difference)| delta.member(field.name(), difference));
                });
            }
            if !self.drivers.is_empty() {
                change.member("drivers", self.drivers.as_slice());
            }
            change.optional("other_controls", self.other_controls.as_ref());
            change.optional("rounding_remainder", self.rounding_remainder.as_ref());
        });
    }
}

impl Json for Field {
    fn write(&self, out: &mut Vec<u8>) {
        self.name().write(out);
    }
}

impl Json for Previous {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |previous| {
            previous.member("time", &self.time);
            previous.member("displayName", &self.display_name);
            let mut number = |key: &'static str, number: &Option<String>| {
                if let Some(number) = number {
                    previous.foreign(key, number);
                }
            };
            number("current", &self.current);
            number("max", &self.max);
            number("healthyResourceCount", &self.healthy_resource_count);
            number("unhealthyResourceCount", &self.unhealthy_resource_count);
            number("notApplicableResourceCount", &self.not_applicable_resource_count);
        });
    }
}

impl Json for Driver {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |driver| {
            driver.member("uid", &self.uid);
            driver.member("title", &self.title);
            driver.member("reason", self.reason.name());
            self.part.members(driver);
        });
    }
}

impl Json for Contribution {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |contribution| self.members(contribution));
    }
}

/// Returns new minus previous value, where a missing number is zero; `None` if there are too many digits.
fn difference(old: Option<Number<'_>>, new: Option<Number<'_>>) -> Option<Exact> {
    if let (Some(old), Some(new)) = (old, new)
        && old.equals(new)
    {
        return Some(Exact::ZERO);
    }
    let exact = |number: Option<Number<'_>>| number.map_or(Some(Exact::ZERO), Exact::of);
    exact(new)?.minus(exact(old)?)
}

/// Returns the reason why a control moved its score.
pub fn driver_reason(before: Option<&Subject<'_>>, after: Option<&Subject<'_>>, part: Contribution) -> Reason {
    match (before, after) {
        (None, _) => Reason::ControlAdded,
        (_, None) => Reason::ControlRemoved,
        _ if part.max != Some(Exact::ZERO) => Reason::Maximum,
        _ => Reason::Resources,
    }
}
