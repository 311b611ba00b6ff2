//! From the pages of one poll to events: reads the items, compares them with the state of the previous poll, decides
//! what is to be told, and gives the state for the next.

mod change;
mod event;
mod finding;
mod frame;
mod judgement;
mod outcome;
mod state;
mod subject;

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use crate::api::{Item, Page};
use crate::contract::{self, Batch, Context, Failure, Given, Measure, Notice};
use crate::diagnoses::{
    ANSWER_INCOMPLETE, ANSWER_NOT_JSON, ANSWER_WRONG_TYPE, EVENT_TRUNCATED, ITEM_REPEATED, LIST_EMPTY, NOT_ONBOARDED,
    NOTHING_ASSESSED, SUM_MISMATCH,
};
use crate::json::{Fault, Number};
use crate::normalize::change::{Change, Driver, Part, driver_reason};
use crate::normalize::event::RelatedEvent;
use crate::normalize::finding::{Times, Told};
use crate::normalize::frame::{Activity, Frame};
use crate::normalize::state::{Kept, State};
use crate::normalize::subject::Subject;
use crate::service_error;
use crate::settings::{EventKind, Settings};

pub use finding::MAX_EVENT_BYTES;

/// In how many complete polls in a row a finding is absent before it is closed: one answer may lack it by mistake.
const ABSENCES_BEFORE_CLOSE: u8 = 2;

/// A finding that comes back within this time keeps when it was first seen.
const REMEMBERED_MILLISECONDS: u64 = 90 * 24 * 60 * 60 * 1000;

/// A snapshot may be this much early: polls never fall on the second.
const SNAPSHOT_SLACK_SECONDS: u64 = 300;

/// The sum of the controls may differ from the score by this much, since the service rounds each control.
const SUM_TOLERANCE: Decimal = Decimal::from_parts(1, 0, 0, false, 2);

/// What one poll of one scope gave, as events. Pure: all it knows is its arguments.
pub fn normalize(
    settings: &Settings,
    context: &Context,
    given: &Given,
    state: Option<&[u8]>,
) -> Result<Batch, Failure> {
    let previous = state.map(State::read).transpose()?;
    match given {
        Given::Failure(failure) => after_failure(settings, context, failure, previous),
        Given::Pages(pages) => after_pages(settings, context, pages, previous),
    }
}

/// A failed poll changes no finding. Where it means that the scope has no data any more, one event says so, unless
/// there was nothing before.
fn after_failure(
    settings: &Settings,
    context: &Context,
    failure: &Failure,
    previous: Option<State>,
) -> Result<Batch, Failure> {
    let frame = Frame::new(settings, context, previous.as_ref().and_then(|state| state.collected))?;
    let mut filled = failure.clone();
    filled.fix = failure.fix.as_deref().map(|fix| service_error::fill(fix, settings, &context.scope.id));
    let had_state = previous.is_some();
    let mut state = previous.unwrap_or_else(State::empty);
    let events = outcome_changed(&frame, &mut state, had_state, Some(&filled)).into_iter().collect();
    Ok(Batch { events, state: state.bytes(), outcome: Some(filled), notices: Vec::new(), measures: Vec::new() })
}

/// Notes a new outcome in the state; its event, where there was a state before.
fn outcome_changed(
    frame: &Frame<'_>,
    state: &mut State,
    had_state: bool,
    failure: Option<&Failure>,
) -> Option<contract::Event> {
    let now = match failure {
        None => None,
        Some(failure) => Some(outcome::of_failure(failure, frame.now())?),
    };
    if now.as_ref().map(|outcome| &outcome.code) == state.outcome.as_ref().map(|outcome| &outcome.code) {
        return None;
    }
    let before = std::mem::replace(&mut state.outcome, now);
    had_state.then(|| outcome::event(frame, before.as_ref(), failure))
}

fn after_pages(
    settings: &Settings,
    context: &Context,
    pages: &[contract::Page],
    previous: Option<State>,
) -> Result<Batch, Failure> {
    let frame = Frame::new(settings, context, previous.as_ref().and_then(|state| state.collected))?;
    let mut notices = Vec::new();
    let items = read_items(settings, pages, &mut notices)?;
    let had_state = previous.is_some();
    let mut state = previous.unwrap_or_else(State::empty);
    let outcome = outcome_of(settings, context, &items, &mut notices);
    let mut events: Vec<_> = outcome_changed(&frame, &mut state, had_state, outcome.as_ref()).into_iter().collect();
    if !items.is_empty() {
        let poll = Poll::new(&frame, &items, &state, had_state);
        for told in poll.told() {
            let (event, truncated) = finding::event(&frame, &told);
            if truncated {
                notices.push(EVENT_TRUNCATED.notice(&told.subject.uid));
            }
            events.push(event);
        }
        check_sums(&poll.present, &mut notices);
        state = poll.next_state();
    }
    let measures = items.iter().map(|(kind, item)| measure(*kind, item)).collect();
    Ok(Batch { events, state: state.bytes(), outcome, notices, measures })
}

/// All items of all pages, each once, scores before controls.
fn read_items<'a>(
    settings: &Settings,
    pages: &'a [contract::Page],
    notices: &mut Vec<Notice>,
) -> Result<Vec<(EventKind, Item<'a>)>, Failure> {
    let mut items: Vec<(EventKind, Item<'a>)> = Vec::new();
    let mut uids = BTreeSet::new();
    for kind in &settings.events {
        for (index, page) in pages.iter().enumerate().filter(|(_, page)| page.kind == kind.name()) {
            let read = Page::read(&page.body).and_then(|page| page.items());
            for item in read.map_err(|fault| not_understood(index, kind.name(), &fault))? {
                if uids.insert((*kind, item.id.to_lowercase())) {
                    items.push((*kind, item));
                } else {
                    notices.push(ITEM_REPEATED.notice(&item.id));
                }
            }
        }
    }
    Ok(items)
}

fn not_understood(index: usize, kind: &str, fault: &Fault) -> Failure {
    let diagnosis = match fault {
        Fault { path, .. } if path.is_empty() => &ANSWER_NOT_JSON,
        Fault { wrong_type: true, .. } => &ANSWER_WRONG_TYPE,
        _ => &ANSWER_INCOMPLETE,
    };
    diagnosis.failure(&format!("page {} ({kind}): {fault}", index + 1))
}

/// Why there is nothing to tell, or nothing that counts; none if there is data.
fn outcome_of(
    settings: &Settings,
    context: &Context,
    items: &[(EventKind, Item<'_>)],
    notices: &mut Vec<Notice>,
) -> Option<Failure> {
    let filled = |mut failure: Failure| {
        failure.fix = failure.fix.map(|fix| service_error::fill(&fix, settings, &context.scope.id));
        failure
    };
    if items.is_empty() {
        return Some(filled(NOT_ONBOARDED.failure("every list is empty")));
    }
    for kind in settings.events.iter().filter(|kind| !items.iter().any(|(item_kind, _)| item_kind == *kind)) {
        notices.push(LIST_EMPTY.notice(&format!(
            "the list of {} of {}",
            kind.title().to_lowercase(),
            context.scope.id
        )));
    }
    let mut maxima = items
        .iter()
        .filter(|(kind, _)| *kind == EventKind::Scores)
        .map(|(_, item)| item.score.and_then(|score| score.max))
        .peekable();
    maxima.peek()?;
    let nothing = maxima.all(|max| max.and_then(Number::decimal).is_some_and(|max| max.is_zero()));
    nothing.then(|| filled(NOTHING_ASSESSED.failure("the maximum of the score is 0")))
}

/// The sum of a score's controls is compared with it; a mismatch is a warning, and changes no data.
fn check_sums(present: &[Present<'_>], notices: &mut Vec<Notice>) {
    for score in present.iter().filter(|present| present.subject.kind == EventKind::Scores) {
        let Some((current, max)) = score.subject.points() else { continue };
        let mut controls =
            present.iter().filter(|present| present.subject.parent() == Some(&score.subject.uid)).peekable();
        if controls.peek().is_none() {
            continue;
        }
        let sum = controls.try_fold((Decimal::ZERO, Decimal::ZERO), |sum, control| {
            // A control without points adds none.
            let (current, max) = control.subject.points().unwrap_or_default();
            Some((sum.0.checked_add(current)?, sum.1.checked_add(max)?))
        });
        let Some((current_sum, max_sum)) = sum else { continue };
        if (current_sum - current).abs() > SUM_TOLERANCE || max_sum != max {
            notices.push(SUM_MISMATCH.notice(&format!(
                "{}: controls {current_sum} of {max_sum}, score {current} of {max}",
                score.subject.id
            )));
        }
    }
}

fn measure(kind: EventKind, item: &Item<'_>) -> Measure {
    let subject = Subject::of_item(kind, item);
    let float = |number: Option<Number<'_>>| number.map_or(0.0, Number::float);
    Measure {
        kind: kind.name().to_owned(),
        value: float(item.score.and_then(|score| score.current)),
        maximum: float(item.score.and_then(|score| score.max)),
        weight: float(item.weight),
        title: subject.title.into_owned(),
        subject: subject.uid,
    }
}

/// A finding that was just read.
struct Present<'a> {
    subject: Subject<'a>,
    item: &'a Item<'a>,
}

/// One poll against the state of the one before.
struct Poll<'a> {
    frame: &'a Frame<'a>,
    present: Vec<Present<'a>>,
    uids: BTreeSet<String>,
    kinds: BTreeSet<EventKind>,
    before: &'a State,
    had_state: bool,
    snapshot_is_due: bool,
}

impl<'a> Poll<'a> {
    fn new(frame: &'a Frame<'a>, items: &'a [(EventKind, Item<'a>)], before: &'a State, had_state: bool) -> Poll<'a> {
        let present: Vec<_> =
            items.iter().map(|(kind, item)| Present { subject: Subject::of_item(*kind, item), item }).collect();
        let uids = present.iter().map(|present| present.subject.uid.clone()).collect();
        let kinds = items.iter().map(|(kind, _)| *kind).collect();
        let every = frame.settings.snapshot_seconds;
        let slack = (every / 20).min(SNAPSHOT_SLACK_SECONDS);
        let due =
            before.snapshot.is_none_or(|last| frame.now() >= last.saturating_add((every - slack).saturating_mul(1000)));
        Poll { frame, present, uids, kinds, before, had_state, snapshot_is_due: due || frame.settings.emit_unchanged }
    }

    /// The findings to be told, scores before the controls that refer to their events.
    fn told(&self) -> Vec<Told<'_>> {
        let mut told: Vec<Told<'_>> = self.present.iter().filter_map(|present| self.tell(present)).collect();
        told.extend(
            self.absent()
                .filter(|(_, kept)| kept.absences + 1 == ABSENCES_BEFORE_CLOSE)
                .filter_map(|(uid, kept)| self.close(uid, kept)),
        );
        let score_events: BTreeMap<String, RelatedEvent> = told
            .iter()
            .filter(|told| told.subject.kind == EventKind::Scores)
            .map(|told| {
                let related =
                    RelatedEvent { uid: finding::uid(self.frame, told), type_uid: self.frame.type_uid(told.activity) };
                (told.subject.uid.clone(), related)
            })
            .collect();
        for told in &mut told {
            let parent = told.subject.parent().map(str::to_owned);
            told.parent_event = parent.and_then(|parent| score_events.get(&parent).cloned());
        }
        told
    }

    fn tell<'b>(&'b self, present: &'b Present<'a>) -> Option<Told<'b>> {
        let now = self.frame.now();
        let subject = &present.subject;
        let kept = self.remembered(&subject.uid);
        let (activity, change) = match kept.filter(|kept| kept.closed.is_none()) {
            None => (Activity::Create, Change::only(self.reason_of_new(subject.kind))),
            Some(kept) => match self.change(subject, kept) {
                Some(change) => (Activity::Update, change),
                None if self.snapshot_is_due => (Activity::Snapshot, Change::only("none")),
                None => return None,
            },
        };
        let first_seen = kept.map_or(now, |kept| kept.first_seen);
        let changed = match (activity, kept) {
            (Activity::Snapshot, Some(kept)) => kept.changed,
            _ => now,
        };
        Some(Told {
            subject: subject.clone(),
            item: Some(present.item),
            activity,
            change,
            times: self.had_state.then_some(Times { first_seen, changed, last_seen: now }),
            parent_max: subject.parent().and_then(|parent| self.score_max(parent)),
            parent_event: None,
        })
    }

    fn close<'b>(&self, uid: &str, kept: &'b Kept) -> Option<Told<'b>> {
        let subject = Subject::of_kept(uid, kept)?;
        let reason = match subject.kind {
            EventKind::Scores => "score-removed",
            EventKind::Controls => "control-removed",
        };
        let change = Change { previous: Some(change::Previous::of(&subject, kept.last_seen)), ..Change::only(reason) };
        let times = Times { first_seen: kept.first_seen, changed: self.frame.now(), last_seen: kept.last_seen };
        Some(Told {
            subject,
            item: None,
            activity: Activity::Close,
            change,
            times: Some(times),
            parent_max: None,
            parent_event: None,
        })
    }

    /// What the state knows of a finding; one that was closed long ago is forgotten.
    fn remembered(&self, uid: &str) -> Option<&'a Kept> {
        let kept = self.before.findings.get(uid)?;
        kept.closed
            .is_none_or(|closed| self.frame.now() < closed.saturating_add(REMEMBERED_MILLISECONDS))
            .then_some(kept)
    }

    fn reason_of_new(&self, kind: EventKind) -> &'static str {
        if !self.before.kinds.iter().any(|known| known == kind.name()) {
            return "baseline";
        }
        match kind {
            EventKind::Scores => "score-added",
            EventKind::Controls => "control-added",
        }
    }

    fn change(&self, subject: &Subject<'_>, kept: &Kept) -> Option<Change> {
        let before = Subject::of_kept(&subject.uid, kept)?;
        let mut change = Change::between(&before, kept.last_seen, subject)?;
        if subject.kind == EventKind::Scores {
            change.explain(self.drivers(&subject.uid));
        }
        Some(change)
    }

    /// The controls of a score that moved since the previous poll: those that are here, and those that are absent for
    /// the first time.
    fn drivers(&self, score: &str) -> Vec<Driver> {
        if !self.frame.settings.events.contains(&EventKind::Controls)
            || !self.before.kinds.iter().any(|kind| kind == EventKind::Controls.name())
        {
            return Vec::new();
        }
        let here =
            self.present.iter().filter(|present| present.subject.parent() == Some(score)).filter_map(|present| {
                let kept = self
                    .before
                    .findings
                    .get(&present.subject.uid)
                    .filter(|kept| kept.closed.is_none() && kept.absences == 0);
                let before = kept.and_then(|kept| Subject::of_kept(&present.subject.uid, kept));
                driver(before.as_ref(), Some(&present.subject))
            });
        let gone = self.absent().filter(|(_, kept)| kept.absences == 0).filter_map(|(uid, kept)| {
            let before = Subject::of_kept(uid, kept).filter(|before| before.parent() == Some(score))?;
            driver(Some(&before), None)
        });
        here.chain(gone).collect()
    }

    /// Open findings of the state that were not read this time. A kind whose list came empty after a full one gave no
    /// data: nothing of it is absent.
    fn absent(&self) -> impl Iterator<Item = (&'a String, &'a Kept)> {
        self.before.findings.iter().filter(|(uid, kept)| {
            let kind_was_read = self.kinds.iter().any(|kind| kind.name() == kept.kind);
            kind_was_read && kept.closed.is_none() && !self.uids.contains(*uid)
        })
    }

    fn score_max(&self, score: &str) -> Option<Decimal> {
        let present = self.present.iter().find(|present| present.subject.uid == score)?;
        present.subject.points().map(|(_, max)| max)
    }

    fn next_state(&self) -> State {
        let mut state = self.before.clone();
        let now = self.frame.now();
        let absent: Vec<String> = self.absent().map(|(uid, _)| uid.clone()).collect();
        for uid in absent {
            if let Some(kept) = state.findings.get_mut(&uid) {
                kept.absences += 1;
                if kept.absences >= ABSENCES_BEFORE_CLOSE {
                    kept.closed = Some(now);
                }
            }
        }
        for Present { subject, .. } in &self.present {
            let known = self.remembered(&subject.uid);
            let first_seen = known.map_or(now, |kept| kept.first_seen);
            let unchanged = known.filter(|kept| kept.closed.is_none() && self.change(subject, kept).is_none());
            let changed = unchanged.map_or(now, |kept| kept.changed);
            state.findings.insert(subject.uid.clone(), Kept::of(subject, first_seen, changed, now));
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

fn driver(before: Option<&Subject<'_>>, after: Option<&Subject<'_>>) -> Option<Driver> {
    let part = Part::between(before, after)?;
    let subject = after.or(before)?;
    Some(Driver {
        uid: subject.uid.clone(),
        title: subject.title.clone().into_owned(),
        reason: driver_reason(before, after, part),
        part,
    })
}

#[cfg(test)]
mod tests;
