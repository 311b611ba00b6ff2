//! What was done in an hour, for whoever reads the log: one line in place of one for each poll.

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
    /// Polls that came to nothing, by code.
    failures: BTreeMap<String, u64>,
    /// Events that had been delivered when it began.
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
            // The code is a plugin's word.
            let room = self.failures.len() < limits::NOTICE_CODES || self.failures.contains_key(code);
            *self.failures.entry(if room { text::plain(code) } else { "other".to_owned() }).or_default() += 1;
        }
    }

    /// The line of an hour that is over, after which the next one begins.
    pub fn summary(&mut self, now: u64, delivered: u64) -> Option<String> {
        // A clock that went back is not waited for.
        self.since = self.since.min(now);
        if now < self.since + milliseconds(limits::TALLY) {
            return None;
        }
        let minutes = (now - self.since) / 60_000;
        let Tally { polls, events, failures, delivered_before, .. } =
            std::mem::replace(self, Tally::new(now, delivered));
        let failed: u64 = failures.values().sum();
        // A code that is more than a word could spell the fields of another line.
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
