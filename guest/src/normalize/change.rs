//! What changed since the previous poll, why, and by how much; on a score, which controls moved it. All differences
//! are exact decimals: the parts and the named remainder add up to the whole.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::Number;
use crate::normalize::subject::Subject;

/// `unmapped.change`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Change {
    /// `baseline`, `control-added`, `control-removed`, `score-added`, `score-removed`, `maximum`, `resources`, `text` or
    /// `none`.
    pub reason: &'static str,
    /// What differs: `current`, `max`, the three counts and `displayName`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<&'static str>,
    /// All compared values as they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// New minus previous value, for each number that differs and is no longer than 28 digits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub delta: BTreeMap<&'static str, Exact>,
    /// The controls that moved the score, the largest part first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drivers: Vec<Driver>,
    /// The parts of further controls, where there are too many to name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_controls: Option<Part>,
    /// What the parts leave of the delta: the service rounds each control by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounding_remainder: Option<Part>,
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

/// What one control added to the score's change.
#[derive(Debug, Clone, Serialize)]
pub struct Driver {
    /// Uid of the control's finding.
    pub uid: String,
    /// What people call it.
    pub title: String,
    /// `control-added`, `control-removed`, `maximum` or `resources`.
    pub reason: &'static str,
    /// Its part.
    #[serde(flatten)]
    pub part: Part,
}

/// A part of a score's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Part {
    /// Of `current`.
    pub current: Exact,
    /// Of `max`.
    pub max: Exact,
}

/// A decimal that is written to the last digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Exact(pub Decimal);

impl Serialize for Exact {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        raw(&self.0.normalize().to_string()).serialize(serializer)
    }
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
fn numbers<'a>(subject: &Subject<'a>) -> [(&'static str, Option<Number<'a>>); 5] {
    [
        ("current", subject.score.and_then(|score| score.current)),
        ("max", subject.score.and_then(|score| score.max)),
        ("healthyResourceCount", subject.counts.healthy),
        ("unhealthyResourceCount", subject.counts.unhealthy),
        ("notApplicableResourceCount", subject.counts.not_applicable),
    ]
}

impl Change {
    /// A change that is nothing but its reason.
    pub fn only(reason: &'static str) -> Change {
        Change { reason, ..Change::default() }
    }

    /// The difference between two polls; none if nothing that counts differs. `seen` is when `before` was seen.
    pub fn between(before: &Subject<'_>, seen: u64, after: &Subject<'_>) -> Option<Change> {
        let mut fields = Vec::new();
        let mut delta = BTreeMap::new();
        for ((name, old), (_, new)) in numbers(before).into_iter().zip(numbers(after)) {
            let same = match (old, new) {
                (Some(old), Some(new)) => old.equals(new),
                (None, None) => true,
                _ => false,
            };
            if same {
                continue;
            }
            fields.push(name);
            let difference = || new?.decimal()?.checked_sub(old?.decimal()?);
            if let Some(difference) = difference() {
                delta.insert(name, Exact(difference));
            }
        }
        if before.title != after.title {
            fields.push("displayName");
        }
        let reason = match fields.as_slice() {
            [] => return None,
            fields if fields.contains(&"max") => "maximum",
            ["displayName"] => "text",
            _ => "resources",
        };
        Some(Change { reason, fields, previous: Some(Previous::of(before, seen)), delta, ..Change::default() })
    }

    /// Adds the controls that moved a score, and what they leave unexplained.
    pub fn explain(&mut self, mut drivers: Vec<Driver>) {
        let (Some(total), false) =
            (self.delta.get("current").or(self.delta.get("max")).map(|_| self.total()), drivers.is_empty())
        else {
            return;
        };
        let sum = drivers.iter().try_fold(Part::default(), |sum, driver| sum.plus(driver.part));
        drivers.sort_by(|left, right| {
            right.part.current.0.abs().cmp(&left.part.current.0.abs()).then_with(|| left.uid.cmp(&right.uid))
        });
        let rest = drivers.split_off(drivers.len().min(MAX_DRIVERS));
        self.other_controls = if rest.is_empty() {
            None
        } else {
            rest.iter().try_fold(Part::default(), |sum, driver| sum.plus(driver.part))
        };
        self.rounding_remainder = sum.and_then(|sum| total.minus(sum));
        if drivers.iter().chain(&rest).any(|driver| driver.reason == "control-added") {
            self.reason = "control-added";
        } else if drivers.iter().chain(&rest).any(|driver| driver.reason == "control-removed") {
            self.reason = "control-removed";
        }
        self.drivers = drivers;
    }

    fn total(&self) -> Part {
        let of = |name| self.delta.get(name).copied().unwrap_or_default();
        Part { current: of("current"), max: of("max") }
    }
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

impl Part {
    /// The part of a control that was (`before`) and is (`after`); none if it did not move or its numbers are unknown.
    pub fn between(before: Option<&Subject<'_>>, after: Option<&Subject<'_>>) -> Option<Part> {
        let points = |subject: Option<&Subject<'_>>| {
            subject.map_or(Some((Decimal::ZERO, Decimal::ZERO)), |subject| subject.points())
        };
        let ((old_current, old_max), (current, max)) = (points(before)?, points(after)?);
        let part = Part { current: Exact(current.checked_sub(old_current)?), max: Exact(max.checked_sub(old_max)?) };
        (!part.current.0.is_zero() || !part.max.0.is_zero()).then_some(part)
    }

    fn plus(self, other: Part) -> Option<Part> {
        Some(Part {
            current: Exact(self.current.0.checked_add(other.current.0)?),
            max: Exact(self.max.0.checked_add(other.max.0)?),
        })
    }

    fn minus(self, other: Part) -> Option<Part> {
        Some(Part {
            current: Exact(self.current.0.checked_sub(other.current.0)?),
            max: Exact(self.max.0.checked_sub(other.max.0)?),
        })
    }
}

/// Why a control moved its score.
pub fn driver_reason(before: Option<&Subject<'_>>, after: Option<&Subject<'_>>, part: Part) -> &'static str {
    match (before, after) {
        (None, _) => "control-added",
        (_, None) => "control-removed",
        _ if !part.max.0.is_zero() => "maximum",
        _ => "resources",
    }
}
