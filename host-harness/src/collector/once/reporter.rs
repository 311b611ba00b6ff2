//! Messages for people while everything is polled.

use source_host::clock::Clock;
use source_host::contract::{Failure, Measure, Notice, Reaction, Scope};
use source_host::credentials::expiry;
use source_host::credentials::redact;
use source_host::failures::ANSWER_UNREAD_FIX;
use source_host::text;

use super::report::{Figure, Report};
use super::{Output, Ready, search};

/// The outputs and the counts.
pub(super) struct Reporter<'a> {
    pub(super) output: Output<'a>,
    pub(super) report: Report,
}

impl Reporter<'_> {
    pub(super) fn warn_of_expiry(&mut self, ready: &Ready, now: u64) {
        for (setting, end) in &ready.admitted.expiries {
            if expiry::nearness(*end, now).is_some() {
                self.warn(ready, None, &expiry::warning(setting, *end, now));
            }
        }
    }

    pub(super) async fn scopes(&mut self, ready: &Ready, clock: &Clock) -> Result<Vec<Scope>, Failure> {
        let discovery = search(ready, clock).await?;
        let skipped: Vec<_> = discovery.skipped.iter().map(|skipped| (&skipped.scope, &skipped.reason)).collect();
        self.found(ready, &discovery.notices, &skipped);
        Ok(discovery.scopes)
    }

    pub(super) fn found(&mut self, ready: &Ready, notices: &[Notice], skipped: &[(&Scope, &Failure)]) {
        for notice in notices {
            self.warn(ready, None, &notice.message);
        }
        for (scope, why) in skipped {
            self.tell(ready, Some(scope), why);
        }
    }

    /// Reports the outcome of a scope, and counts it.
    pub(super) fn settle(
        &mut self,
        ready: &Ready,
        scope: &Scope,
        outcome: Option<Failure>,
        notices: impl IntoIterator<Item = Notice>,
        measures: Vec<Measure>,
    ) {
        for notice in notices {
            self.warn(ready, Some(scope), &notice.message);
        }
        match outcome {
            Some(failure) if failure.reaction != Reaction::NoData => {
                self.tell(ready, Some(scope), &failure);
                return;
            }
            Some(outcome) => self.no_data(ready, scope, &outcome),
            None => {}
        }
        self.report.good += 1;
        let row = |measure| Figure {
            feed: ready.admitted.id.to_string(),
            scope: scope.name.clone().unwrap_or_else(|| scope.id.clone()),
            measure,
        };
        self.report.rows.extend(measures.into_iter().map(row));
    }

    /// Reports that there is nothing to collect and nobody is at fault.
    fn no_data(&mut self, ready: &Ready, scope: &Scope, outcome: &Failure) {
        let fix = outcome.fix.as_deref().unwrap_or("nothing needs to be done");
        self.warn(ready, Some(scope), &format!("{} ({}); {fix}", outcome.cause, outcome.code));
    }

    /// Reports a failure with its blame and its fix.
    pub(super) fn tell(&mut self, ready: &Ready, scope: Option<&Scope>, failure: &Failure) {
        self.report.failed += 1;
        let (cause, code, whose) = (&failure.cause, &failure.code, ready.admitted.plugin.blame(failure));
        let mut text = format!("error: {}: {cause} ({code}, {whose})", who(ready, scope));
        let details = [
            ("status", failure.status.map(|status| status.to_string())),
            ("code", failure.service_code.clone()),
            ("request id", failure.request_id.clone()),
        ];
        for (name, value) in details {
            if let Some(value) = value {
                text += &format!("; {name} {value}");
            }
        }
        text += &format!("\n  fix: {}", failure.fix.as_deref().unwrap_or_else(|| usual_fix(failure)));
        self.say(ready, &text);
    }

    pub(super) fn warn(&mut self, ready: &Ready, scope: Option<&Scope>, message: &str) {
        self.say(ready, &format!("warning: {}: {message}", who(ready, scope)));
    }

    /// Writes a message. The output may be closed; the events matter more.
    fn say(&mut self, ready: &Ready, text: &str) {
        // A plugin could hide commands for the terminal in its text.
        let text = redact::redact(text, ready.admitted.secrets());
        let _ = writeln!(self.output.people, "{}", text::plain_lines(&text));
    }
}

/// The fix for a failure that has none of its own.
pub fn usual_fix(failure: &Failure) -> &'static str {
    match failure.reaction {
        Reaction::Wait => "poll again after that time; look for others that use this credential",
        Reaction::TryLater | Reaction::Restart => {
            "poll again later; if it lasts, give the request id to the service's support"
        }
        Reaction::FixPlugin => ANSWER_UNREAD_FIX,
        Reaction::StateUnusable => "restore the state from a backup, or remove it to start afresh",
        _ => "see the cause",
    }
}

pub(super) fn who(ready: &Ready, scope: Option<&Scope>) -> String {
    let scope = scope.map(|scope| format!(", {}", scope.called())).unwrap_or_default();
    format!("tenant {}, feed {}{scope}", ready.admitted.tenant, ready.admitted.id)
}
