//! The rules that were tried, and the first failure of each.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use source_host::limits::{Limits, WORDS_BYTES};
use source_host::plugin::call::{Called, Journal, NoAnswer};
use source_host::text;

use super::RULES;
use super::report::{ConformanceReport, RuleRow, Verdict};

/// The results so far.
#[derive(Default)]
pub(super) struct Examination {
    pub(super) limits: Limits,
    pub(super) tried: BTreeSet<&'static str>,
    /// The first failure of each rule.
    pub(super) found: BTreeMap<&'static str, String>,
}

impl Examination {
    pub(super) fn begin(&mut self, rule: &'static str) {
        self.tried.insert(rule);
    }

    pub(super) fn fail(&mut self, rule: &'static str, why: String) {
        self.tried.insert(rule);
        self.found.entry(rule).or_insert_with(|| text::plain(text::cut(&why, WORDS_BYTES)));
    }

    pub(super) fn check(&mut self, rule: &'static str, good: bool, why: impl FnOnce() -> String) {
        self.begin(rule);
        if !good {
            self.fail(rule, why());
        }
    }

    pub(super) fn report(self, no_cassette: bool) -> ConformanceReport {
        let rows = RULES.iter().map(|(rule, _)| {
            let why = self.found.get(rule).cloned();
            let needs_cassette = no_cassette && !self.found.contains_key("component");
            let nothing =
                if needs_cassette { "it needs a cassette: --cassette FILE" } else { "an earlier rule failed" };
            match (why, self.tried.contains(rule)) {
                (Some(why), _) => RuleRow { rule, status: Verdict::Failed, why: Some(why) },
                (None, true) => RuleRow { rule, status: Verdict::Passed, why: None },
                (None, false) => RuleRow { rule, status: Verdict::NotRun, why: Some(nothing.to_owned()) },
            }
        });
        ConformanceReport { ok: self.found.is_empty(), rules: rows.collect() }
    }

    /// Returns a call's answer, or breaks off if the call gave none. Records the failure, and limits that the call
    /// exceeded.
    pub(super) fn answer<T>(&mut self, (answer, journal): Called<T>) -> ControlFlow<(), T> {
        self.begin("limits");
        self.denied(&journal);
        match answer {
            Ok(answer) => ControlFlow::Continue(answer),
            Err(error) => {
                self.fail("limits", error.to_string());
                ControlFlow::Break(())
            }
        }
    }

    /// Records denied requests of a call.
    fn denied(&mut self, journal: &Journal) {
        self.begin("requests");
        for exchange in &journal.exchanges {
            if let Err(NoAnswer::Denied(cause)) = &exchange.result {
                self.fail("requests", format!("{} {}: {cause}", exchange.method, exchange.url));
            }
        }
    }
}
