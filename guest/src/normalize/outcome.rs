//! The event that reports silence: a scope that no longer gives data, or gives data again.

use std::borrow::Cow;

use crate::contract::{self, Failure, Reaction};
use crate::json::write::{object, text};
use crate::normalize::change::Reason;
use crate::normalize::event::{Activity, Compliance, FindingInfo, Unmapped};
use crate::normalize::frame::{Frame, Own, SCORE_MODEL, delivered, line};
use crate::normalize::judgement::{Severity, Status};
use crate::normalize::state::Outcome;
use crate::settings::EventKind;

/// The outcome of a poll that gave data.
const COLLECTED: &str = "collected";

/// Returns the outcome that a failure means for the scope; `None` for a temporary fault, and for a failure of the whole
/// feed.
pub fn of_failure(failure: &Failure, now: u64) -> Option<Outcome> {
    matches!(failure.reaction, Reaction::NoData | Reaction::FixScope)
        .then(|| Outcome { code: failure.code.clone(), since: now })
}

/// Makes the event of a changed outcome. `None` means that data was collected.
pub fn event(frame: &Frame<'_>, before: Option<&Outcome>, after: Option<&Failure>) -> contract::Event {
    let code = after.map_or(COLLECTED, |failure| failure.code.as_str());
    let uid = format!("{}/secure-score-collection", frame.resource_uid());
    let activity = if before.is_none() { Activity::Create } else { Activity::Update };
    let (status, severity) =
        if after.is_some() { (Status::Warning, Severity::Medium) } else { (Status::Pass, Severity::Informational) };
    let own = Own {
        message: message(after),
        finding_info: FindingInfo {
            uid: &uid,
            title: "Secure Score collection".to_owned(),
            desc: None,
            kind: "Secure Score collection",
            analytic: None,
            related_event: None,
            first_seen_time: None,
            created_time: None,
            modified_time: Some(frame.now()),
            last_seen_time: frame.now(),
        },
        compliance: Compliance {
            control: Cow::Borrowed("Secure Score collection"),
            standard: "Microsoft Defender for Cloud Secure Score".to_owned(),
            status: status.pair(),
            checks: Vec::new(),
        },
        unmapped: unmapped(before),
    };
    let event_uid = frame.event_uid(&uid, code, activity);
    let mut event = frame.event(event_uid, EventKind::Scores, activity, severity, own);
    event.status_code = Some(code);
    event.status_detail = after.map(|failure| failure.cause.clone());
    event.status = Some(if after.is_some() { (1, "New") } else { (4, "Resolved") });
    let line = line(frame.schema(), &event);
    delivered(&event, line)
}

fn message(after: Option<&Failure>) -> String {
    match after {
        None => "Secure Score collection: data is collected again".to_owned(),
        Some(Failure { cause, fix: Some(fix), .. }) => format!("Secure Score collection: {cause}. Fix: {fix}"),
        Some(Failure { cause, .. }) => format!("Secure Score collection: {cause}"),
    }
}

/// Returns the reason and the previous outcome.
fn unmapped(before: Option<&Outcome>) -> Unmapped<'static> {
    let mut change = Vec::new();
    object(&mut change, |change| {
        change.member("reason", Reason::Outcome.name());
        change.object("previous", |previous| {
            previous.member("outcome", before.map_or(COLLECTED, |outcome| &outcome.code));
            previous.optional("since", before.map(|outcome| &outcome.since));
        });
    });
    let mut unmapped = Unmapped::new();
    unmapped.insert(Cow::Borrowed("score_model"), Cow::Owned(text(SCORE_MODEL)));
    unmapped.insert(Cow::Borrowed("change"), Cow::Owned(change));
    unmapped
}
