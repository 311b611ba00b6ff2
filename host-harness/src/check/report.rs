//! The report of steps: the questions in their order, what came of each, and the exit status.

use std::time::Duration;

use source_host::blame::Blame;
use source_host::contract::Failure;

use crate::collector::once::usual_fix;

/// What is asked, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Are the settings good?
    Settings,
    /// Does the name of an origin lead anywhere?
    Name,
    /// Does somebody listen there?
    Connect,
    /// Is it the one that was meant?
    Tls,
    /// Is the credential accepted?
    Credential,
    /// Are there scopes?
    Scopes,
    /// May the scope be read?
    Permission,
    /// Is there anything to collect in it? The name of the step is what programs rely on; it says `score` of any plugin.
    Score,
    /// What does an event look like?
    Sample,
}

impl Question {
    /// All of them.
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

    /// As programs read it.
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

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    /// It is good; a cause beside it is a warning.
    Ok,
    /// It is not, and the cause says why.
    Failed,
    /// A step before it failed.
    NotReached,
    /// It was asked, and the service did not say, for example because of a fault of its own.
    Unknown,
}

impl StepStatus {
    /// As programs read it.
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
    /// What was asked.
    pub question: Question,
    /// What came of it.
    pub status: StepStatus,
    /// What it was asked of, an origin or a scope; empty where there is only one.
    pub about: String,
    /// What was found, in a few words.
    pub found: String,
    /// How long it took.
    pub time: Duration,
    /// What is wrong, or odd.
    pub trouble: Option<StepTrouble>,
}

/// What is wrong with a step, or odd about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepTrouble {
    /// The code of the plugin's table or of the host's.
    pub code: String,
    /// Who can mend it; none where nothing has to be mended.
    pub blame: Option<Blame>,
    /// The service's own code.
    pub service_code: Option<String>,
    /// The service's own id of the request.
    pub request_id: Option<String>,
    /// Why, in one sentence.
    pub cause: String,
    /// What mends it.
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

/// What a check of one feed came to.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// Id of the feed; empty where the configuration is so broken that there is none.
    pub feed: String,
    /// Id of the tenant; empty where it is not known.
    pub tenant: String,
    /// In order.
    pub steps: Vec<Step>,
    /// A sample event.
    pub sample: Option<Vec<u8>>,
    /// Scopes with something to collect.
    pub good: usize,
}

impl CheckReport {
    /// Whether every step is good.
    pub fn ok(&self) -> bool {
        self.steps.iter().all(|step| step.status == StepStatus::Ok)
    }

    /// The step that stopped the check, or the first of several.
    pub fn stopped(&self) -> Option<&Step> {
        self.steps.iter().find(|step| matches!(step.status, StepStatus::Failed | StepStatus::Unknown))
    }
}

/// The exit status: 0 all is good, 1 nothing is, 2 the configuration is wrong, 3 something is good.
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
