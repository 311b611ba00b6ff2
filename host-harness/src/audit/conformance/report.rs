//! The result of all rules, for programs and for people.

use serde::Serialize;

use super::RULES;

/// The result of all rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConformanceReport {
    /// Whether no rule failed.
    pub ok: bool,
    /// The result of each rule.
    pub rules: Vec<RuleRow>,
}

/// The result of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleRow {
    /// Name of the rule.
    pub rule: &'static str,
    /// Whether the plugin follows the rule.
    pub status: Verdict,
    /// The reason why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Whether a plugin follows a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The plugin follows the rule.
    Passed,
    /// The plugin breaks the rule.
    Failed,
    /// There was no recording to try the rule on.
    NotRun,
}

impl ConformanceReport {
    /// Names of the rules that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.rules.iter().filter(|row| row.status == Verdict::Failed).map(|row| row.rule).collect()
    }

    /// Says whether every rule was tried.
    pub fn is_complete(&self) -> bool {
        self.rules.iter().all(|row| row.status != Verdict::NotRun)
    }

    /// The report for people.
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
        // All rules that were not run have the same reason.
        if let Some(why) =
            self.rules.iter().filter(|row| row.status == Verdict::NotRun).find_map(|row| row.why.as_ref())
        {
            text += &format!("not run: {why}\n");
        }
        text
    }
}
