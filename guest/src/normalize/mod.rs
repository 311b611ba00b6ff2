//! Turns the pages of one poll into events: reads the items, compares them with the state of the previous poll, decides
//! which findings to report, and returns the state for the next poll.

mod change;
mod comparison;
mod event;
mod finding;
mod frame;
mod items;
mod judgement;
mod outcome;
mod schema;
mod state;
mod subject;
mod vocabulary;

use rust_decimal::Decimal;

use crate::api::Item;
use crate::contract::{self, Batch, Context, Failure, Measure, Notice, PollResult};
use crate::diagnoses::{EVENT_TRUNCATED, LIST_EMPTY, NOT_ONBOARDED, NOTHING_ASSESSED, SUM_MISMATCH};
use crate::normalize::comparison::{Comparison, Present};
use crate::normalize::frame::Frame;
use crate::normalize::state::State;
use crate::number::Number;
use crate::service_error;
use crate::settings::{EventKind, Settings};

pub use change::{Field, Reason};
pub use event::Activity;
pub use finding::MAX_EVENT_BYTES;
pub use judgement::{Severity, Status};
pub use schema::{DIFFERENCES, Difference, Otherwise};

/// Accepted difference between the score and the sum of its controls, because the service rounds each control.
const SUM_TOLERANCE: Decimal = Decimal::from_parts(1, 0, 0, false, 2);

/// Turns the result of one poll of one scope into events. The function is pure: its arguments are its only input.
pub fn normalize(
    settings: &Settings,
    context: &Context,
    poll_result: &PollResult,
    state: Option<&[u8]>,
) -> Result<Batch, Failure> {
    let previous = state.map(State::read).transpose()?;
    let previous = previous.map(|state| state.brought_back(context.collected_at_milliseconds));
    match poll_result {
        PollResult::Failure(failure) => after_failure(settings, context, failure, previous),
        PollResult::Pages(pages) => after_pages(settings, context, pages, previous),
    }
}

/// The subscription of a poll; `None` if a failure concerns the whole feed, because its scope then has no id.
fn subscription(context: &Context) -> Option<&str> {
    Some(context.scope.id.as_str()).filter(|id| !id.is_empty())
}

/// A failed poll changes no finding. Where it means that the scope has no data any more, one event says so.
fn after_failure(
    settings: &Settings,
    context: &Context,
    failure: &Failure,
    previous: Option<State>,
) -> Result<Batch, Failure> {
    let frame = Frame::new(settings, context, previous.as_ref().and_then(|state| state.collected))?;
    let mut filled = failure.clone();
    filled.fix = failure.fix.as_deref().map(|fix| service_error::fill(fix, settings, subscription(context)));
    let mut state = previous.unwrap_or_else(State::empty);
    let events = outcome_changed(&frame, &mut state, Some(&filled)).into_iter().collect();
    Ok(Batch { events, state: state.bytes(), outcome: Some(filled), notices: Vec::new(), measures: Vec::new() })
}

/// Records a new outcome in the state. Returns its event, unless no data was ever collected: a scope that never gave
/// data did not fall silent.
fn outcome_changed(frame: &Frame<'_>, state: &mut State, failure: Option<&Failure>) -> Option<contract::Event> {
    let now = match failure {
        None => None,
        Some(failure) => Some(outcome::of_failure(failure, frame.now())?),
    };
    if now.as_ref().map(|outcome| &outcome.code) == state.outcome.as_ref().map(|outcome| &outcome.code) {
        return None;
    }
    let before = std::mem::replace(&mut state.outcome, now);
    state.collected.is_some().then(|| outcome::event(frame, before.as_ref(), failure))
}

fn after_pages(
    settings: &Settings,
    context: &Context,
    pages: &[contract::Page],
    previous: Option<State>,
) -> Result<Batch, Failure> {
    let frame = Frame::new(settings, context, previous.as_ref().and_then(|state| state.collected))?;
    let mut notices = Vec::new();
    let sources = items::sources(settings, pages);
    let items = items::read(settings, &context.scope.id, &sources, &mut notices)?;
    let had_state = previous.is_some();
    let mut state = previous.unwrap_or_else(State::empty);
    let outcome = outcome_of(settings, context, &items, &mut notices);
    let mut events: Vec<_> = outcome_changed(&frame, &mut state, outcome.as_ref()).into_iter().collect();
    if !items.is_empty() {
        let comparison = Comparison::new(&frame, &items, &state, had_state);
        for emitted in comparison.emitted() {
            let (event, truncated) = finding::event(&frame, &emitted);
            if truncated {
                notices.push(EVENT_TRUNCATED.notice(emitted.subject.uid));
            }
            events.push(event);
        }
        check_sums(&comparison.present, &mut notices);
        state = comparison.next_state();
    }
    let measures = items.iter().map(|(kind, item)| measure(*kind, item)).collect();
    Ok(Batch { events, state: state.bytes(), outcome, notices, measures })
}

/// Returns the outcome of a poll without findings, or without any that count; `None` if there is data.
fn outcome_of(
    settings: &Settings,
    context: &Context,
    items: &[(EventKind, Item<'_>)],
    notices: &mut Vec<Notice>,
) -> Option<Failure> {
    let filled = |mut failure: Failure| {
        failure.fix = failure.fix.map(|fix| service_error::fill(&fix, settings, subscription(context)));
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
    // If no score was read, its controls decide: their maxima add up to the score's own.
    let kind = items.iter().map(|(kind, _)| *kind).min();
    let mut maxima = items
        .iter()
        .filter(|(item_kind, _)| Some(*item_kind) == kind)
        .map(|(_, item)| item.score.and_then(|score| score.max));
    let nothing = maxima.all(|max| max.and_then(Number::decimal).is_some_and(|max| max.is_zero()));
    nothing.then(|| filled(NOTHING_ASSESSED.failure("the maximum of the score is 0")))
}

/// Compares the sum of a score's controls with the score; a mismatch is a warning, and changes no data.
fn check_sums(present: &[Present<'_>], notices: &mut Vec<Notice>) {
    for score in present.iter().filter(|present| present.subject.kind == EventKind::Scores) {
        let Some((current, max)) = score.subject.points() else { continue };
        let mut controls = present.iter().filter(|present| present.parent == Some(score.subject.uid)).peekable();
        if controls.peek().is_none() {
            continue;
        }
        let sum = controls.try_fold((Decimal::ZERO, Decimal::ZERO), |sum, control| {
            // A control without points adds none.
            let (current, max) = control.subject.points().unwrap_or_default();
            Some((sum.0.checked_add(current)?, sum.1.checked_add(max)?))
        });
        let Some((current_sum, max_sum)) = sum else { continue };
        let apart = current_sum.checked_sub(current).is_none_or(|difference| difference.abs() > SUM_TOLERANCE);
        if apart || max_sum != max {
            notices.push(SUM_MISMATCH.notice(&format!(
                "{}: controls {current_sum} of {max_sum}, score {current} of {max}",
                score.subject.id
            )));
        }
    }
}

/// Makes the figure of an item.
fn measure(kind: EventKind, item: &Item<'_>) -> Measure {
    let float = |number: Option<Number<'_>>| number.map_or(0.0, Number::float);
    Measure {
        kind: kind.name().to_owned(),
        value: float(item.score.and_then(|score| score.current)),
        maximum: float(item.score.and_then(|score| score.max)),
        weight: float(item.weight),
        title: subject::title(item).into_owned(),
        subject: item.uid.clone(),
    }
}

#[cfg(test)]
mod tests;
