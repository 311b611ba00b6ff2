//! The form of reports: an object for programs, lines for people.

use std::fmt::Write;

use serde_json::{Value, json};
use source_host::limits::milliseconds;

use crate::check::report::{CheckReport, Step, StepStatus};

impl CheckReport {
    /// The report for programs.
    pub fn json(&self) -> Value {
        let steps = self.steps.iter().map(|step| {
            let trouble = step.trouble.as_ref();
            json!({
                "step": step.question.name(),
                "status": step.status.name(),
                "milliseconds": milliseconds(step.time),
                "code": trouble.map(|trouble| trouble.service_code.as_ref().unwrap_or(&trouble.code)),
                "request_id": trouble.and_then(|trouble| trouble.request_id.as_ref()),
                "cause": trouble.map(|trouble| step.cause_with_subject(&trouble.cause)),
                "fix": trouble.map(|trouble| &trouble.fix),
            })
        });
        json!({ "feed": self.feed.as_deref().unwrap_or_default(), "ok": self.ok(), "steps": steps.collect::<Vec<_>>() })
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = self.head();
        for step in &self.steps {
            step.write(&mut text);
        }
        text
    }

    pub(super) fn head(&self) -> String {
        match (&self.feed, &self.tenant) {
            (None, _) => "configuration\n".to_owned(),
            (Some(feed), None) => format!("feed {feed}\n"),
            (Some(feed), Some(tenant)) => format!("feed {feed} of tenant {tenant}\n"),
        }
    }
}

impl Step {
    /// The cause together with its subject, unless the cause already names it.
    fn cause_with_subject(&self, cause: &str) -> String {
        match &self.about {
            Some(about) if !cause.contains(about) => format!("{about}: {cause}"),
            _ => cause.to_owned(),
        }
    }

    pub(super) fn write(&self, text: &mut String) {
        let status = match (self.status, &self.trouble) {
            (StepStatus::Ok, Some(_)) => "warning".to_owned(),
            (status, _) => status.name().replace('-', " "),
        };
        let time = match self.status {
            StepStatus::NotReached => String::new(),
            _ => format!("{} ms", milliseconds(self.time)),
        };
        let words: Vec<&str> = self.about.iter().chain(&self.found).map(String::as_str).collect();
        let words = words.join(": ");
        let line = format!("  {status:<13}{:<10}{time:>8}  {words}", self.question.name());
        let _ = writeln!(text, "{}", line.trim_end());
        let Some(trouble) = &self.trouble else { return };
        let what = if self.status == StepStatus::Ok { "warning: " } else { "" };
        for (index, cause) in trouble.cause.lines().enumerate() {
            let what = if index == 0 { what } else { "" };
            let _ = writeln!(text, "      {what}{cause}");
        }
        let service = [("code", &trouble.service_code), ("request id", &trouble.request_id)];
        let service = service.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)));
        let blame = trouble.blame.map(|blame| blame.to_string());
        let words: Vec<String> = std::iter::once(trouble.code.clone()).chain(blame).chain(service).collect();
        let _ = writeln!(text, "      ({})", words.join(", "));
        let _ = writeln!(text, "      fix: {}", trouble.fix);
    }
}
