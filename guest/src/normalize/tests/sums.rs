//! A property of random histories: the parts and the remainder of a score's change add up to its delta, exactly; and a
//! finding is closed only after two absences. Sums are computed from the digits of the events, without a number type.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;

const CASES: usize = 300;
const POLLS: u64 = 7;

/// Current and maximum with their spelling.
type Points = [Option<String>; 2];

/// All findings of one poll by uid.
type Items = BTreeMap<String, Points>;

/// Says whether a number may have too many digits for a sum.
fn is_long(number: &str) -> bool {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, ""));
    mantissa.len() > 10 || exponent.trim_start_matches(['+', '-']).len() > 1
}

#[test]
fn the_parts_and_the_remainder_of_a_score_add_up_to_its_delta() {
    let mut explained = 0;
    for seed in 0..CASES {
        // A failing case shows its seed.
        let case = std::panic::catch_unwind(|| history(seed as u64));
        explained += case.unwrap_or_else(|_| panic!("the case of seed {seed}"));
    }
    assert!(explained > CASES, "only {explained} changes of scores were explained");
}

/// Runs one random history, and returns the number of explained changes of scores.
fn history(seed: u64) -> usize {
    let mut chance = Chance(seed);
    let mut world = World::default();
    let mut absences: BTreeMap<String, u8> = BTreeMap::new();
    let mut past: BTreeMap<u64, Items> = BTreeMap::new();
    let mut state: Option<Vec<u8>> = None;
    let mut explained = 0;
    world.begin(&mut chance);
    for hour in 0..POLLS {
        world.go_on(&mut chance);
        if chance.once_in(8) {
            let failure = PollResult::Failure(crate::diagnoses::FORBIDDEN.failure(""));
            state = Some(at(hour, &failure, state.as_deref()).state);
            continue;
        }
        let kinds = if chance.once_in(6) { vec![chance.one_of(&EventKind::ALL)] } else { EventKind::ALL.to_vec() };
        let read: Items = match chance.below(10) {
            0 => Items::new(),
            1 => world.items(&[chance.one_of(&EventKind::ALL)]),
            _ => world.items(&kinds),
        };
        let read: Items = read.into_iter().filter(|(uid, _)| kinds.contains(&kind(uid))).collect();
        let settings = Settings { events: kinds, ..Settings::sample() };
        let batch = with(&settings, hour, &pages(&read), state.as_deref());
        state = Some(batch.state.clone());
        let events: Vec<Told> = batch.events.iter().map(|event| serde_json::from_slice(&event.body).unwrap()).collect();
        check_openings_and_closings(&events, &read, &mut absences);
        for event in events.iter().filter(|event| event.activity_id == 2) {
            if read.contains_key(&event.finding_info.uid) && kind(&event.finding_info.uid) == EventKind::Scores {
                explained += check_sum(&event.finding_info.uid, &event.unmapped.change, &read, &past);
            }
        }
        past.insert(time(hour), read);
    }
    explained
}

/// Checks that a finding is created when it is not open, and closed after two consecutive absences from polls that read
/// its kind.
fn check_openings_and_closings(events: &[Told], read: &Items, absences: &mut BTreeMap<String, u8>) {
    let told = |activity: u64| -> BTreeSet<&str> {
        let events = events.iter().filter(|event| event.activity_id == activity);
        let uids = events.map(|event| event.finding_info.uid.as_str());
        uids.filter(|uid| !uid.ends_with("secure-score-collection")).collect()
    };
    let created: BTreeSet<&str> = read.keys().map(String::as_str).filter(|uid| !absences.contains_key(*uid)).collect();
    assert_eq!(told(1), created);
    let mut closed = BTreeSet::new();
    let open: Vec<String> = absences.keys().cloned().collect();
    for uid in &open {
        if read.contains_key(uid) || !read.keys().any(|other| kind(other) == kind(uid)) {
            continue;
        }
        *absences.get_mut(uid).unwrap() += 1;
        if absences[uid] == 2 {
            closed.insert(uid.as_str());
            absences.remove(uid);
        }
    }
    assert_eq!(told(3), closed);
    absences.extend(read.keys().map(|uid| (uid.clone(), 0)));
}

/// Checks the change of one score against the read values, and returns the number of explained changes.
fn check_sum(score: &str, change: &Change, read: &Items, past: &BTreeMap<u64, Items>) -> usize {
    let seen: u64 = change.previous.as_ref().unwrap()["time"].get().parse().unwrap();
    let of = |items: &Items| -> Items {
        let controls = items.iter().filter(|(uid, _)| uid.starts_with(&format!("{score}/")));
        controls.map(|(uid, points)| (uid.clone(), points.clone())).collect()
    };
    let read_controls = |items: &Items| items.keys().any(|uid| kind(uid) == EventKind::Controls);
    let (then, now) = (of(&past[&seen]), of(read));
    let between = || past.range(seen + 1..).filter(|(_, items)| read_controls(items));
    let comparable =
        read_controls(&past[&seen]) && read_controls(read) && between().all(|(_, items)| of(items).is_empty());
    let moved = change.fields.iter().any(|field| ["current", "max"].contains(&field.as_str()));
    if !comparable || !moved {
        assert!(change.drivers.is_empty() && change.other_controls.is_none() && change.rounding_remainder.is_none());
        return 0;
    }
    if change.rounding_remainder.is_none() && change.drivers.is_empty() && between().next().is_some() {
        // Whether a score without controls had none at that time is sometimes unknown.
        return 0;
    }

    for (index, field) in ["current", "max"].into_iter().enumerate() {
        let points = |items: &Items, uid: &str| items.get(uid).and_then(|points| points[index].clone());
        // The delta is that of the read numbers.
        let (old, new) = (points(&past[&seen], score), points(read, score));
        let delta = change.delta.get(field);
        match (delta, &old, &new) {
            (Some(delta), Some(old), Some(new)) => assert!(adds_up(&[(1, old), (1, delta.get()), (-1, new)])),
            (Some(_), _, _) => panic!("a delta of {field} without two numbers"),
            (None, Some(old), Some(new)) if !is_long(old) && !is_long(new) => {
                assert!(adds_up(&[(1, old), (-1, new)]), "{field} has no delta");
            }
            _ => {}
        }
        // The parts are those of the read numbers, too.
        for driver in &change.drivers {
            let (old, new) = (points(&then, &driver.uid), points(&now, &driver.uid));
            let [old, new] = [&old, &new].map(|number| number.as_deref().unwrap_or("0"));
            match driver.part.get(field) {
                Some(part) => assert!(adds_up(&[(1, old), (1, part.get()), (-1, new)]), "{field} of {}", driver.uid),
                None => assert!(is_long(old) || is_long(new), "{field} of {} is left out", driver.uid),
            }
        }
        // The parts add up to the delta.
        let named = change.drivers.iter().map(|driver| driver.part.get(field));
        let parts: Vec<_> = named.chain(change.other_controls.iter().map(|other| other.get(field))).collect();
        let known: Vec<_> = parts.iter().flatten().map(|part| (1, part.get())).collect();
        let delta_is_known = delta.is_some() || !change.fields.iter().any(|other| other == field);
        match change.rounding_remainder.as_ref().and_then(|remainder| remainder.get(field)) {
            Some(remainder) => {
                assert!(delta_is_known && known.len() == parts.len(), "a remainder of {field} without all parts");
                let mut terms = known;
                terms.extend([(1, remainder.get()), (-1, delta.map_or("0", |delta| delta.get()))]);
                assert!(adds_up(&terms), "{field}: {terms:?}");
            }
            None => {
                let long =
                    known.iter().any(|(_, part)| is_long(part)) || delta.is_some_and(|delta| is_long(delta.get()));
                assert!(!delta_is_known || known.len() < parts.len() || long, "{field} has no remainder");
            }
        }
    }
    check_drivers(change, &then, &now);
    1
}

/// Checks that the controls that differ are named with their reasons; those beyond 40 are summed.
fn check_drivers(change: &Change, then: &Items, now: &Items) {
    let zero = |number: &Option<String>| number.clone().unwrap_or_else(|| "0".to_owned());
    let same = |left: &Points, right: &Points| {
        left.iter().zip(right).all(|(left, right)| adds_up(&[(1, &zero(left)), (-1, &zero(right))]))
    };
    let nothing: Points = [None, None];
    let uids: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let moved =
        uids.into_iter().filter(|uid| !same(then.get(*uid).unwrap_or(&nothing), now.get(*uid).unwrap_or(&nothing)));
    let moved: BTreeSet<&str> = moved.map(String::as_str).collect();
    let told: BTreeSet<&str> = change.drivers.iter().map(|driver| driver.uid.as_str()).collect();
    assert_eq!(told.len(), change.drivers.len());
    assert_eq!(told.len(), moved.len().min(40));
    assert!(told.is_subset(&moved));
    assert_eq!(change.other_controls.is_some(), moved.len() > 40);
    for driver in &change.drivers {
        match driver.reason.as_str() {
            "control-added" => assert!(!then.contains_key(&driver.uid)),
            "control-removed" => assert!(!now.contains_key(&driver.uid)),
            _ => assert!(then.contains_key(&driver.uid) && now.contains_key(&driver.uid)),
        }
    }
}

/// Says whether decimals with their signs add up to zero: digit by digit, each at its power of ten.
fn adds_up(terms: &[(i64, &str)]) -> bool {
    let mut digits: BTreeMap<i64, i64> = BTreeMap::new();
    for (sign, text) in terms {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (sign, mantissa) = mantissa.strip_prefix('-').map_or((*sign, mantissa), |rest| (-sign, rest));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let lowest = exponent.parse::<i64>().unwrap() - fraction.len() as i64;
        for (power, digit) in (lowest..).zip(fraction.chars().rev().chain(whole.chars().rev())) {
            *digits.entry(power).or_default() += sign * i64::from(digit.to_digit(10).unwrap());
        }
    }
    let Some((&lowest, _)) = digits.first_key_value() else { return true };
    let highest = *digits.last_key_value().unwrap().0;
    let mut carry = 0;
    for power in lowest..=highest {
        let sum = digits.get(&power).unwrap_or(&0) + carry;
        if sum % 10 != 0 {
            return false;
        }
        carry = sum / 10;
    }
    carry == 0
}

#[test]
fn sums_are_checked_digit_by_digit() {
    assert!(adds_up(&[(1, "0.1"), (1, "0.2"), (-1, "3e-1")]));
    assert!(adds_up(&[(1, "-95"), (1, "1E+2"), (-1, "5.00")]));
    assert!(!adds_up(&[(1, "0.1"), (1, "0.2"), (-1, "0.30000000000000004")]));
    assert!(!adds_up(&[(1, "1e400"), (-1, "1")]));
}

/// The scores and controls that the service would return if it returned all.
#[derive(Default)]
struct World {
    all: Items,
    absent: BTreeSet<String>,
}

impl World {
    fn begin(&mut self, chance: &mut Chance) {
        for score in 0..=chance.below(3) {
            let score = format!("{}{score}", score_id().to_lowercase());
            self.all.insert(score.clone(), [None, None]);
            let controls = if chance.once_in(40) { 60 } else { chance.below(7) };
            for control in 0..controls {
                self.all.insert(format!("{score}/securescorecontrols/c{control}"), [None, None]);
            }
        }
        let long = chance.once_in(3);
        for points in self.all.values_mut() {
            *points = [chance.number(long), chance.number(long)];
        }
    }

    fn go_on(&mut self, chance: &mut Chance) {
        let long = chance.once_in(5);
        for (uid, points) in &mut self.all {
            if chance.once_in(2) {
                points[0] = chance.number(long);
            }
            if chance.once_in(6) {
                points[1] = chance.number(long);
            }
            if self.absent.contains(uid) {
                if chance.once_in(2) {
                    self.absent.remove(uid);
                }
            } else if chance.once_in(9) {
                self.absent.insert(uid.clone());
            }
        }
    }

    fn items(&self, kinds: &[EventKind]) -> Items {
        let items = self.all.iter().filter(|(uid, _)| kinds.contains(&kind(uid)) && !self.absent.contains(*uid));
        items.map(|(uid, points)| (uid.clone(), points.clone())).collect()
    }
}

fn kind(uid: &str) -> EventKind {
    if uid.contains("/securescorecontrols/") { EventKind::Controls } else { EventKind::Scores }
}

/// Makes both lists; absent points are left out or null.
fn pages(items: &Items) -> PollResult {
    let page = |page_kind: EventKind| {
        let items = items.iter().filter(|(uid, _)| kind(uid) == page_kind).map(|(uid, [current, max])| {
            let current = current.as_ref().map(|current| format!(r#""current":{current},"#)).unwrap_or_default();
            let max = max.as_deref().unwrap_or("null");
            let name = uid.rsplit('/').next().unwrap();
            let resource_type = page_kind.resource_type();
            format!(
                r#"{{"id":"{uid}","name":"{name}","type":"{resource_type}","properties":{{"score":{{{current}"max":{max}}}}}}}"#
            )
        });
        let items: Vec<_> = items.collect();
        let body = format!(r#"{{"value":[{}]}}"#, items.join(",")).into_bytes();
        contract::Page { kind: page_kind.name().to_owned(), body, request_id: None }
    };
    PollResult::Pages(EventKind::ALL.into_iter().map(page).collect())
}

/// A linear congruential generator: the same history for a seed on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn once_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    fn digits(&mut self, count: u64) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }

    /// Makes a number in one of the spellings of JSON writers.
    fn number(&mut self, long: bool) -> Option<String> {
        let small = self.below(60);
        let short = match self.below(6) {
            0 => small.to_string(),
            1 => format!("{small}.{}", self.digits(2)),
            2 => format!("{small}.{}", self.digits(4)),
            3 => format!("{small}.0"),
            4 => format!("{small}{}", self.one_of(&["e0", "E+1", "e-1", ".5e1"])),
            _ => format!("-{small}"),
        };
        match self.below(if long { 12 } else { 24 }) {
            0 => None,
            1 if long => Some(format!("{small}.{}", self.digits(15))),
            2 if long => Some(format!("1.{}e-{}", self.digits(16), 10 + small % 20)),
            3 if long => Some(format!("7{}", self.digits(28))),
            4 if long => Some(format!("{small}.{}", self.digits(40))),
            5 if long => Some(self.one_of(&["1e300", "1e-400", "9e37", "1.5E+30"]).to_owned()),
            _ => Some(short),
        }
    }
}

#[derive(Deserialize)]
struct Told {
    activity_id: u64,
    finding_info: Info,
    unmapped: Unmapped,
}

#[derive(Deserialize)]
struct Info {
    uid: String,
}

#[derive(Deserialize)]
struct Unmapped {
    change: Change,
}

type Numbers = BTreeMap<String, Box<RawValue>>;

#[derive(Deserialize)]
struct Change {
    #[serde(default)]
    fields: Vec<String>,
    previous: Option<Numbers>,
    #[serde(default)]
    delta: Numbers,
    #[serde(default)]
    drivers: Vec<Driver>,
    other_controls: Option<Numbers>,
    rounding_remainder: Option<Numbers>,
}

/// `flatten` cannot read raw values.
#[derive(Deserialize)]
#[serde(from = "Numbers")]
struct Driver {
    uid: String,
    reason: String,
    part: Numbers,
}

impl From<Numbers> for Driver {
    fn from(mut members: Numbers) -> Driver {
        let mut text = |key: &str| serde_json::from_str(members.remove(key).unwrap().get()).unwrap();
        let (uid, reason) = (text("uid"), text("reason"));
        Driver { uid, reason, part: members }
    }
}
