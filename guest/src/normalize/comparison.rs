//! Compares one poll with the state of the previous one: the findings to emit, and the state for the next poll.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use crate::api::Item;
use crate::normalize::change::{Change, Contribution, Driver, Previous, Reason, driver_reason};
use crate::normalize::event::{Activity, RelatedEvent};
use crate::normalize::finding::{self, EmittedFinding, Times};
use crate::normalize::frame::Frame;
use crate::normalize::state::{KnownFinding, State};
use crate::normalize::subject::Subject;
use crate::settings::EventKind;

/// Number of consecutive complete polls without a finding after which it is closed: one answer may lack it by mistake.
const ABSENCES_BEFORE_CLOSE: u8 = 2;

/// A finding that comes back within this time keeps the time when it was first seen.
const REMEMBERED_MILLISECONDS: u64 = 90 * 24 * 60 * 60 * 1000;

/// Seconds by which a snapshot may be early: polls are never punctual to the second.
const SNAPSHOT_SLACK_SECONDS: u64 = 300;

/// One poll, compared with the state of the previous one.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The findings that were read, scores before controls.
    pub present: Vec<Present<'a>>,
    frame: &'a Frame<'a>,
    uids: BTreeSet<&'a str>,
    kinds: BTreeSet<EventKind>,
    before: &'a State,
    had_state: bool,
    snapshot_is_due: bool,
}

impl<'a> Comparison<'a> {
    /// Compares the items of a poll, which is not empty, with the state `before` it.
    pub fn new(
        frame: &'a Frame<'a>,
        items: &'a [(EventKind, Item<'a>)],
        before: &'a State,
        had_state: bool,
    ) -> Comparison<'a> {
        let present: Vec<_> = items.iter().map(|(kind, item)| Present::of_item(*kind, item)).collect();
        let uids = present.iter().map(|present| present.subject.uid).collect();
        let kinds = items.iter().map(|(kind, _)| *kind).collect();
        let every = frame.settings.snapshot_seconds;
        let slack = (every / 20).min(SNAPSHOT_SLACK_SECONDS);
        let wait = (every - slack).saturating_mul(1000);
        let due = before.snapshot.is_none_or(|last| frame.now().saturating_sub(last) >= wait);
        Comparison {
            frame,
            present,
            uids,
            kinds,
            before,
            had_state,
            snapshot_is_due: due || frame.settings.emit_unchanged,
        }
    }

    /// Returns the findings that become events, scores before the controls that refer to their events.
    pub fn emitted(&self) -> Vec<EmittedFinding<'_>> {
        let mut emitted: Vec<EmittedFinding<'_>> =
            self.present.iter().filter_map(|present| self.emitted_of_present(present)).collect();
        emitted.extend(
            self.absent()
                .filter(|(_, kept)| closes_now(kept))
                .filter_map(|(uid, kept)| self.emitted_of_absent(uid, kept)),
        );
        let score_events: BTreeMap<&str, RelatedEvent> = emitted
            .iter()
            .filter(|emitted| emitted.subject.kind == EventKind::Scores)
            .map(|emitted| {
                let related = RelatedEvent {
                    uid: finding::uid(self.frame, emitted),
                    type_uid: self.frame.type_uid(emitted.activity),
                };
                (emitted.subject.uid, related)
            })
            .collect();
        for emitted in &mut emitted {
            emitted.parent_event = emitted.parent.and_then(|parent| score_events.get(parent).cloned());
        }
        emitted
    }

    fn emitted_of_present<'b>(&'b self, present: &'b Present<'a>) -> Option<EmittedFinding<'b>> {
        let now = self.frame.now();
        let subject = &present.subject;
        let kept = self.remembered(subject.uid);
        let (activity, change) = match kept.filter(|kept| kept.closed.is_none()) {
            None => (Activity::Create, Change::only(self.reason_of_new(subject.kind))),
            Some(kept) => match self.change(subject, kept) {
                Some(change) => (Activity::Update, change),
                None if self.snapshot_is_due => (Activity::Snapshot, Change::only(Reason::None)),
                None => return None,
            },
        };
        let first_seen = kept.map_or(now, |kept| kept.first_seen);
        let changed = match (activity, kept) {
            (Activity::Snapshot, Some(kept)) => kept.changed,
            _ => now,
        };
        Some(EmittedFinding {
            subject: subject.clone(),
            item: Some(present.item),
            activity,
            change,
            start_time: kept
                .filter(|kept| kept.closed.is_none())
                .map_or(self.last_read(subject.kind), |kept| Some(kept.last_seen)),
            times: self.had_state.then_some(Times { first_seen, changed, last_seen: now }),
            parent: present.parent,
            parent_max: present.parent.and_then(|parent| self.score_max(parent)),
            parent_event: None,
        })
    }

    fn emitted_of_absent<'b>(&self, uid: &'b str, kept: &'b KnownFinding) -> Option<EmittedFinding<'b>> {
        let subject = Subject::of_kept(uid, kept)?;
        let reason = match subject.kind {
            EventKind::Scores => Reason::ScoreRemoved,
            EventKind::Controls => Reason::ControlRemoved,
        };
        let change = Change { previous: Some(Previous::of(&subject, kept.last_seen)), ..Change::only(reason) };
        let times = Times { first_seen: kept.first_seen, changed: self.frame.now(), last_seen: kept.last_seen };
        let parent = subject.parent();
        Some(EmittedFinding {
            start_time: self.last_read(subject.kind),
            subject,
            item: None,
            activity: Activity::Close,
            change,
            times: Some(times),
            parent,
            parent_max: None,
            parent_event: None,
        })
    }

    /// Returns the state's record of a finding; one that was closed long ago is forgotten.
    fn remembered(&self, uid: &str) -> Option<&'a KnownFinding> {
        let kept = self.before.findings.get(uid)?;
        kept.closed
            .is_none_or(|closed| self.frame.now() < closed.saturating_add(REMEMBERED_MILLISECONDS))
            .then_some(kept)
    }

    /// Returns when a kind was last read; if it never was, when any kind was.
    fn last_read(&self, kind: EventKind) -> Option<u64> {
        let seen = self.before.findings.values().filter(|kept| kept.kind == kind.name()).map(|kept| kept.last_seen);
        seen.max().or(self.frame.start_time)
    }

    fn reason_of_new(&self, kind: EventKind) -> Reason {
        if !self.before.kinds.iter().any(|known| known == kind.name()) {
            return Reason::Baseline;
        }
        match kind {
            EventKind::Scores => Reason::ScoreAdded,
            EventKind::Controls => Reason::ControlAdded,
        }
    }

    /// Returns the change since a finding was last seen; for a score, with the controls that moved it.
    fn change(&self, subject: &Subject<'_>, kept: &KnownFinding) -> Option<Change> {
        let mut change = change_since(subject, kept)?;
        if subject.kind == EventKind::Scores
            && let Some(drivers) = self.drivers(subject.uid, kept.last_seen)
        {
            change.explain(drivers);
        }
        Some(change)
    }

    /// Returns the controls of a score that moved since it was `seen`. `None` unless all its controls are known both
    /// then and now: parts of another time, or of only some controls, explain nothing.
    fn drivers(&self, score: &str, seen: u64) -> Option<Vec<Driver>> {
        let mut known = self.before.findings.values().filter(|kept| kept.kind == EventKind::Controls.name());
        if !self.kinds.contains(&EventKind::Controls) || !known.any(|kept| kept.last_seen == seen) {
            return None;
        }
        let before = |uid: &str| self.before.findings.get(uid).filter(|kept| kept.last_seen == seen);
        let mut drivers = Vec::new();
        for Present { subject, .. } in self.present.iter().filter(|present| present.parent == Some(score)) {
            if self.before.findings.get(subject.uid).is_some_and(|kept| kept.last_seen > seen) {
                return None;
            }
            let before = before(subject.uid).and_then(|kept| Subject::of_kept(subject.uid, kept));
            drivers.extend(driver(before.as_ref(), Some(subject)));
        }
        for (uid, kept) in self.absent() {
            let Some(subject) = Subject::of_kept(uid, kept).filter(|subject| subject.parent() == Some(score)) else {
                continue;
            };
            if kept.last_seen > seen {
                return None;
            }
            if kept.last_seen == seen {
                drivers.extend(driver(Some(&subject), None));
            }
        }
        Some(drivers)
    }

    /// Returns the open findings of the state that were not read this time. If a kind's list is empty after a full one,
    /// that kind gave no data, and none of its findings is absent.
    fn absent(&self) -> impl Iterator<Item = (&'a String, &'a KnownFinding)> {
        self.before.findings.iter().filter(|(uid, kept)| {
            let kind_was_read = self.kinds.iter().any(|kind| kind.name() == kept.kind);
            kind_was_read && kept.closed.is_none() && !self.uids.contains(uid.as_str())
        })
    }

    fn score_max(&self, score: &str) -> Option<Decimal> {
        let present = self.present.iter().find(|present| present.subject.uid == score)?;
        present.subject.points().map(|(_, max)| max)
    }

    /// Makes the state for the next poll.
    pub fn next_state(&self) -> State {
        let now = self.frame.now();
        let others = self.before.findings.iter().filter(|(uid, _)| !self.uids.contains(uid.as_str()));
        let mut state = self.before.without_findings();
        state.findings = others.map(|(uid, kept)| (uid.clone(), kept.clone())).collect();
        for (uid, _) in self.absent() {
            if let Some(kept) = state.findings.get_mut(uid) {
                kept.closed = closes_now(kept).then_some(now);
                kept.absences = kept.absences.saturating_add(1);
                // An absent finding was seen before this poll, whatever the clock said then.
                kept.last_seen = kept.last_seen.min(now.saturating_sub(1));
            }
        }
        for Present { subject, .. } in &self.present {
            let known = self.remembered(subject.uid);
            let first_seen = known.map_or(now, |kept| kept.first_seen);
            let unchanged = known.filter(|kept| kept.closed.is_none() && change_since(subject, kept).is_none());
            let changed = unchanged.map_or(now, |kept| kept.changed);
            state.findings.insert(subject.uid.to_owned(), subject.kept(first_seen, changed, now));
            if !state.kinds.iter().any(|kind| kind == subject.kind.name()) {
                state.kinds.push(subject.kind.name().to_owned());
            }
        }
        state
            .findings
            .retain(|_, kept| kept.closed.is_none_or(|closed| now < closed.saturating_add(REMEMBERED_MILLISECONDS)));
        state.kinds.sort();
        state.collected = Some(now);
        if self.snapshot_is_due {
            state.snapshot = Some(now);
        }
        state
    }
}

/// A finding that was just read.
#[derive(Debug)]
pub struct Present<'a> {
    /// The subject of the finding.
    pub subject: Subject<'a>,
    /// The uid of the control's score.
    pub parent: Option<&'a str>,
    /// The item that was read.
    pub item: &'a Item<'a>,
}

impl<'a> Present<'a> {
    fn of_item(kind: EventKind, item: &'a Item<'a>) -> Present<'a> {
        let subject = Subject::of_item(kind, item);
        Present { parent: subject.parent(), subject, item }
    }
}

/// Returns the change since a finding was last seen; `None` if no compared value differs.
fn change_since(subject: &Subject<'_>, kept: &KnownFinding) -> Option<Change> {
    let before = Subject::of_kept(subject.uid, kept)?;
    Change::between(&before, kept.last_seen, subject)
}

/// Says whether one more absence closes a finding.
fn closes_now(kept: &KnownFinding) -> bool {
    kept.absences.saturating_add(1) >= ABSENCES_BEFORE_CLOSE
}

fn driver(before: Option<&Subject<'_>>, after: Option<&Subject<'_>>) -> Option<Driver> {
    let part = Contribution::between(before, after)?;
    let subject = after.or(before)?;
    Some(Driver {
        uid: subject.uid.to_owned(),
        title: subject.title.clone().into_owned(),
        reason: driver_reason(before, after, part),
        part,
    })
}
