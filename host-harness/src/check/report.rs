//! The report of steps: the questions in their order, the result of each, and the exit status.

use std::time::Duration;

use source_host::blame::Blame;
use source_host::contract::Failure;

use crate::collector::once::usual_fix;

/// The questions, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Are the settings valid?
    Settings,
    /// Does the name of an origin resolve?
    Name,
    /// Does a server listen at the address?
    Connect,
    /// Is the server the intended one?
    Tls,
    /// Is the credential accepted?
    Credential,
    /// Are there scopes?
    Scopes,
    /// May the scope be read?
    Permission,
    /// Is there anything to collect in the scope? Programs rely on the name of the step, which is `score` for every
    /// plugin.
    Score,
    /// How does an event look?
    Sample,
}

impl Question {
    /// All questions.
    pub const ALL: [Question; 9] = [
        Question::Settings,
        Question::Name,
        Question::Connect,
        Question::Tls,
        Question::Credential,
        Question::Scopes,
        Question::Permission,
        Question::Score,
        Question::Sample,
    ];

    /// The name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Question::Settings => "settings",
            Question::Name => "name",
            Question::Connect => "connect",
            Question::Tls => "tls",
            Question::Credential => "credential",
            Question::Scopes => "scopes",
            Question::Permission => "permission",
            Question::Score => "score",
            Question::Sample => "sample",
        }
    }
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    /// The step succeeded; a cause beside it is a warning.
    Ok,
    /// The step failed, and the cause says why.
    Failed,
    /// An earlier step failed.
    NotReached,
    /// The service did not answer the question, for example because of a fault of its own.
    Unknown,
}

impl StepStatus {
    /// The name for programs.
    pub fn name(self) -> &'static str {
        match self {
            StepStatus::Ok => "ok",
            StepStatus::Failed => "failed",
            StepStatus::NotReached => "not-reached",
            StepStatus::Unknown => "unknown",
        }
    }
}

/// One step of the report. Its texts are redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The question.
    pub question: Question,
    /// The result.
    pub status: StepStatus,
    /// The origin or the scope that the step is about; `None` where there is only one.
    pub about: Option<String>,
    /// The result in a few words, where there is something to say.
    pub found: Option<String>,
    /// Duration of the step.
    pub time: Duration,
    /// The problem or the oddity.
    pub trouble: Option<StepTrouble>,
}

/// A problem of a step, or an oddity in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepTrouble {
    /// The code, from the plugin's table or the host's.
    pub code: String,
    /// The party that can mend the problem; `None` where there is nothing to mend.
    pub blame: Option<Blame>,
    /// The service's own code.
    pub service_code: Option<String>,
    /// The service's id of the request.
    pub request_id: Option<String>,
    /// The cause in one sentence.
    pub cause: String,
    /// The fix.
    pub fix: String,
}

impl StepTrouble {
    pub(super) fn of(code: &str, cause: String, fix: String) -> StepTrouble {
        StepTrouble { code: code.to_owned(), blame: None, service_code: None, request_id: None, cause, fix }
    }

    pub(super) fn of_failure(mut failure: Failure, blame: Blame) -> StepTrouble {
        if let Some(seconds) = failure.wait_seconds {
            failure.cause += &format!("; it asks to wait {seconds} s");
        }
        let fix = failure.fix.take().unwrap_or_else(|| usual_fix(&failure).to_owned());
        let Failure { code, service_code, request_id, cause, .. } = failure;
        StepTrouble { code, blame: Some(blame), service_code, request_id, cause, fix }
    }
}

/// The result of checking one feed.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// Id of the feed; `None` if the problems belong to no single feed.
    pub feed: Option<String>,
    /// Id of the tenant; `None` if it is unknown.
    pub tenant: Option<String>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// A sample event.
    pub sample: Option<Vec<u8>>,
    /// Number of scopes with something to collect.
    pub good: usize,
}

impl CheckReport {
    /// Says whether every step succeeded.
    pub fn ok(&self) -> bool {
        self.steps.iter().all(|step| step.status == StepStatus::Ok)
    }

    /// The step that stopped the check, or the first of several such steps.
    pub fn stopped(&self) -> Option<&Step> {
        self.steps.iter().find(|step| matches!(step.status, StepStatus::Failed | StepStatus::Unknown))
    }
}

/// The exit status: 0 all feeds are good, 1 none is, 2 the configuration is wrong, 3 some are good.
pub fn status<'a>(reports: impl IntoIterator<Item = &'a CheckReport>) -> u8 {
    let (mut good, mut bad, mut broken) = (0, 0, false);
    for report in reports {
        good += report.good;
        bad += usize::from(!report.ok());
        broken |= report.stopped().is_some_and(|step| step.question == Question::Settings);
    }
    match (broken, good, bad) {
        (_, _, 0) => 0,
        (true, 0, _) => 2,
        (_, 0, _) => 1,
        _ => 3,
    }
}
