//! A report in progress, and the listener that gets its steps as they end.

use std::sync::Arc;
use std::time::Duration;

use source_host::contract::{Failure, Notice, Reaction};
use source_host::credentials::redact;
use source_host::plugin::Plugin;
use tokio::sync::mpsc::UnboundedSender;

use crate::admitted::AdmittedFeed;
use crate::check::report::{CheckReport, Question, Step, StepStatus, StepTrouble};

/// A report in progress.
pub(super) struct CheckRun {
    pub(super) report: CheckReport,
    /// The plugin that the steps call; `None` where no plugin is called.
    pub(super) plugin: Option<Plugin>,
    /// The listener that gets each step as it ends. `told` counts the steps that were sent.
    pub(super) listener: Option<Listener>,
    pub(super) told: usize,
}

/// The receiver of steps, and the feed whose secrets are removed from them.
pub(super) struct Listener {
    pub(super) tell: UnboundedSender<Heard>,
    pub(super) admitted: Arc<AdmittedFeed>,
}

/// A step that ended, or the sample at the end.
pub(super) enum Heard {
    Step(Step),
    Sample(Vec<u8>),
}

impl CheckRun {
    pub(super) fn new(feed: Option<&str>, tenant: Option<&str>) -> CheckRun {
        let (feed, tenant) = (feed.map(str::to_owned), tenant.map(str::to_owned));
        let report = CheckReport { feed, tenant, steps: Vec::new(), sample: None, good: 0 };
        CheckRun { report, plugin: None, listener: None, told: 0 }
    }

    /// Sends the steps that ended; they do not change any more.
    pub(super) fn tell(&mut self) {
        let Some(listener) = &self.listener else { return };
        for step in &self.report.steps[self.told..] {
            // A closed channel means that nobody waits for the steps.
            let _ = listener.tell.send(Heard::Step(redacted(step.clone(), &listener.admitted)));
        }
        self.told = self.report.steps.len();
    }

    /// Adds a step that succeeded, with its result.
    pub(super) fn good(&mut self, question: Question, about: Option<&str>, time: Duration, found: Option<String>) {
        let about = about.map(str::to_owned);
        self.report.steps.push(Step { question, status: StepStatus::Ok, about, found, time, trouble: None });
    }

    /// Adds a step that failed.
    pub(super) fn bad(&mut self, question: Question, about: Option<&str>, time: Duration, trouble: StepTrouble) {
        self.ended_badly(question, about, time, StepStatus::Failed, trouble);
    }

    /// Adds a step whose call failed.
    pub(super) fn failure(&mut self, question: Question, about: Option<&str>, time: Duration, failure: Failure) {
        let status = status_of(&failure);
        let trouble = self.trouble(failure);
        self.ended_badly(question, about, time, status, trouble);
    }

    /// Converts a failure of a call to the problem of a step.
    pub(super) fn trouble(&self, failure: Failure) -> StepTrouble {
        let blame = self.plugin.as_ref().map_or_else(|| failure.blame(), |plugin| plugin.blame(&failure));
        StepTrouble::of_failure(failure, blame)
    }

    fn ended_badly(
        &mut self,
        question: Question,
        about: Option<&str>,
        time: Duration,
        status: StepStatus,
        trouble: StepTrouble,
    ) {
        let about = about.map(str::to_owned);
        self.report.steps.push(Step { question, status, about, found: None, time, trouble: Some(trouble) });
    }

    /// Adds a warning to the last step; several warnings become one.
    pub(super) fn warn(&mut self, trouble: StepTrouble) {
        let Some(step) = self.report.steps.last_mut() else { return };
        step.trouble = Some(match step.trouble.take() {
            None => trouble,
            Some(before) => StepTrouble {
                cause: format!("{}\n{}", before.cause, trouble.cause),
                fix: if before.fix == trouble.fix { before.fix } else { format!("{}; {}", before.fix, trouble.fix) },
                ..before
            },
        });
    }

    pub(super) fn notices(&mut self, notices: &[Notice], about: Option<&str>) {
        for notice in notices {
            let fix = format!("nothing has to be done; it is counted as `{}`", notice.code);
            let cause = match about {
                Some(about) if !notice.message.contains(about) => format!("{about}: {}", notice.message),
                _ => notice.message.clone(),
            };
            self.warn(StepTrouble::of(&notice.code, cause, fix));
        }
    }

    /// Adds the questions that were not asked about an origin.
    pub(super) fn not_reached_of(&mut self, about: &str, questions: &[Question]) {
        for question in questions {
            let asked = |step: &Step| step.question == *question && step.about.as_deref() == Some(about);
            if !self.report.steps.iter().any(asked) {
                self.not_reached(*question, Some(about));
            }
        }
    }

    pub(super) fn not_reached(&mut self, question: Question, about: Option<&str>) {
        let (about, time) = (about.map(str::to_owned), Duration::ZERO);
        let status = StepStatus::NotReached;
        self.report.steps.push(Step { question, status, about, found: None, time, trouble: None });
    }

    /// Ends the report: every question has a step, asked or not.
    pub(super) fn ended(mut self) -> CheckReport {
        for question in Question::ALL {
            if !self.report.steps.iter().any(|step| step.question == question) {
                self.not_reached(question, None);
            }
        }
        self.tell();
        if let (Some(listener), Some(sample)) = (&self.listener, &self.report.sample) {
            let _ = listener.tell.send(Heard::Sample(sample.clone()));
        }
        self.report
    }
}

/// Removes secrets from a step.
pub(super) fn redacted(mut step: Step, admitted: &AdmittedFeed) -> Step {
    let redact = |text: &mut String| *text = redact::redact(text, admitted.secrets());
    step.about.iter_mut().chain(&mut step.found).for_each(redact);
    if let Some(trouble) = &mut step.trouble {
        redact(&mut trouble.cause);
        redact(&mut trouble.fix);
    }
    step
}

/// Returns the status of a failed step: unknown, if the service gave no answer for a reason of its own.
fn status_of(failure: &Failure) -> StepStatus {
    match failure.reaction {
        Reaction::Wait | Reaction::TryLater | Reaction::Restart => StepStatus::Unknown,
        _ => StepStatus::Failed,
    }
}
