//! The work of an hour in one line of the log, in place of a line for each poll.

use std::collections::BTreeMap;

use source_host::limits::milliseconds;
use source_host::text;

use crate::limits;

/// Counts of polls since a time.
#[derive(Debug)]
pub(super) struct Tally {
    since: u64,
    polls: u64,
    events: u64,
    /// Failed polls, by code.
    failures: BTreeMap<String, u64>,
    /// Number of delivered events when the hour began.
    delivered_before: u64,
}

impl Tally {
    pub fn new(since: u64, delivered_before: u64) -> Tally {
        Tally { since, polls: 0, events: 0, failures: BTreeMap::new(), delivered_before }
    }

    /// Counts a poll; `code` is that of its failure.
    pub fn polled(&mut self, events: usize, code: Option<&str>) {
        self.polls += 1;
        self.events += events as u64;
        if let Some(code) = code {
            // The plugin chooses the codes.
            let room = self.failures.len() < limits::NOTICE_CODES || self.failures.contains_key(code);
            *self.failures.entry(if room { text::plain(code) } else { "other".to_owned() }).or_default() += 1;
        }
    }

    /// Returns the line about an hour that is over, and begins the next hour.
    pub fn summary(&mut self, now: u64, delivered: u64) -> Option<String> {
        // If the clock went back, the hour begins anew.
        self.since = self.since.min(now);
        if now < self.since + milliseconds(limits::TALLY) {
            return None;
        }
        let minutes = (now - self.since) / 60_000;
        let Tally { polls, events, failures, delivered_before, .. } =
            std::mem::replace(self, Tally::new(now, delivered));
        let failed: u64 = failures.values().sum();
        // A code with other characters could imitate the fields of another line.
        let is_word = |code: &str| code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let told = |code: &str| if is_word(code) { code.to_owned() } else { format!("{code:?}") };
        let codes: Vec<String> = failures.iter().map(|(code, count)| format!("{count} {}", told(code))).collect();
        let codes = if codes.is_empty() { String::new() } else { format!(" ({})", codes.join(", ")) };
        let delivered = delivered.saturating_sub(delivered_before);
        Some(format!(
            "in {minutes} min: {polls} polls, {failed} of them failed{codes}; {events} events, {delivered} delivered"
        ))
    }
}
