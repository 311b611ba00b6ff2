//! What came of all rules, for programs and for people.

use serde::Serialize;

use super::RULES;

/// What came of all rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConformanceReport {
    /// Whether no rule failed.
    pub ok: bool,
    /// One for each rule.
    pub rules: Vec<RuleRow>,
}

/// What came of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleRow {
    /// Name of the rule.
    pub rule: &'static str,
    /// Whether the plugin keeps it.
    pub status: Verdict,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Whether a rule is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is.
    Passed,
    /// It is not.
    Failed,
    /// There was nothing to try it on.
    NotRun,
}

impl ConformanceReport {
    /// The rules that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.rules.iter().filter(|row| row.status == Verdict::Failed).map(|row| row.rule).collect()
    }

    /// Whether every rule was tried.
    pub fn is_complete(&self) -> bool {
        self.rules.iter().all(|row| row.status != Verdict::NotRun)
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (row, (_, asks)) in self.rules.iter().zip(RULES) {
            let status = match row.status {
                Verdict::Passed => "passed",
                Verdict::Failed => "FAILED",
                Verdict::NotRun => "not run",
            };
            text += &format!("{:10}  {status:7} {asks}\n", row.rule);
            if let (Verdict::Failed, Some(why)) = (row.status, &row.why) {
                text += &format!("{:20}{why}\n", "");
            }
        }
        // The reason is one for all of them.
        if let Some(why) =
            self.rules.iter().filter(|row| row.status == Verdict::NotRun).find_map(|row| row.why.as_ref())
        {
            text += &format!("not run: {why}\n");
        }
        text
    }
}
