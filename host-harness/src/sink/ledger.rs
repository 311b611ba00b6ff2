//! The problems that keep events from their sinks: failing partitions with their start, full outboxes, and permanently
//! refused events. It also decides whether a failure is new, for the log, the status page and `poll`. Pure: time is an
//! argument, in Unix milliseconds.

use std::collections::BTreeMap;

use source_host::failures::OUTBOX_FULL;

use super::SinkTrouble;
use crate::sink::repeats::{Repeats, Summary};
use crate::store::Partition;

/// The problems of sinks.
#[derive(Debug, Default)]
pub struct Ledger {
    repeats: Repeats,
    partitions: BTreeMap<Partition, Failing>,
    /// Since when outboxes are full, by sink and tenant.
    full: BTreeMap<(String, String), u64>,
    /// Permanently refused events, by sink and tenant.
    dead_letters: BTreeMap<(String, String), DeadLetters>,
}

/// A partition that does not deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// The reason at the last attempt.
    pub trouble: SinkTrouble,
    /// Since when the partition fails.
    pub since: u64,
    /// When the next attempt is.
    pub again: u64,
    /// Whether an earlier reason was logged, so that the end is to be logged, too.
    pub is_told: bool,
}

/// Events that a sink refused permanently since the collector started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetters {
    /// Their number.
    pub count: u64,
    /// When the first one was refused.
    pub since: u64,
    /// The reason for the last one.
    pub trouble: SinkTrouble,
}

impl Ledger {
    /// Records a partition that did not deliver and tries again. Returns true if the failure is to be logged as a
    /// warning.
    pub fn failed(&mut self, partition: &Partition, trouble: SinkTrouble, now: u64, again: u64) -> bool {
        let before = self.partitions.get(partition);
        let since = before.map_or(now, |failing| failing.since);
        let is_told = match before {
            Some(failing) if failing.trouble.code != trouble.code => self.delivers(partition),
            before => before.is_some_and(|failing| failing.is_told),
        };
        let aloud = self.repeats.met(&partition.sink, &trouble.code, trouble.blame, &trouble.why, now);
        self.partitions.insert(partition.clone(), Failing { trouble, since, again, is_told });
        aloud
    }

    /// Records a partition that delivers, or has nothing to deliver. Returns true if the recovery of its sink is to be
    /// logged.
    pub fn delivers(&mut self, partition: &Partition) -> bool {
        let Some(Failing { trouble, is_told, .. }) = self.partitions.remove(partition) else { return false };
        let mut others = self.partitions.iter_mut().filter(|(other, _)| other.sink == partition.sink);
        if let Some((_, other)) = others.find(|(_, failing)| failing.trouble.code == trouble.code) {
            other.is_told |= is_told;
            return false;
        }
        self.repeats.over(&partition.sink, &trouble.code) || is_told
    }

    /// Records an event that a sink refused permanently. Returns true if that is to be logged as a warning.
    pub fn refused_for_good(&mut self, sink: &str, tenant: &str, trouble: &SinkTrouble, now: u64) -> bool {
        let letters = self.dead_letters.entry((sink.to_owned(), tenant.to_owned()));
        let letters = letters.or_insert_with(|| DeadLetters { count: 0, since: now, trouble: trouble.clone() });
        letters.count += 1;
        letters.trouble = trouble.clone();
        self.repeats.met_once(sink, &trouble.code, trouble.blame, &trouble.why, now)
    }

    /// Records a warning of a sink that took events. Returns true if that is to be logged as a warning.
    pub fn warned(&mut self, sink: &str, trouble: &SinkTrouble, now: u64) -> bool {
        self.repeats.met_once(sink, &trouble.code, trouble.blame, &trouble.why, now)
    }

    /// Records whether an outbox is full. `None` if nothing changed; otherwise whether the change is to be logged as a
    /// warning.
    pub fn filled(&mut self, sink: &str, tenant: &str, is_full: bool, now: u64) -> Option<bool> {
        let key = (sink.to_owned(), tenant.to_owned());
        if is_full == self.full.contains_key(&key) {
            return None;
        }
        if is_full {
            self.full.insert(key, now);
            return Some(self.repeats.met(
                sink,
                OUTBOX_FULL.code,
                OUTBOX_FULL.blame,
                &format!("the outbox of tenant {tenant} is full"),
                now,
            ));
        }
        self.full.remove(&key);
        let others = self.full.keys().any(|(other, _)| other == sink);
        Some(!others && self.repeats.over(sink, OUTBOX_FULL.code))
    }

    /// Forgets the problems of replaced sinks, and also the refused events of removed ones.
    pub fn replaced(&mut self, is_other: impl Fn(&str) -> bool, is_gone: impl Fn(&str) -> bool) {
        self.partitions.retain(|partition, _| !is_other(&partition.sink));
        self.full.retain(|(sink, _), _| !is_other(sink));
        self.dead_letters.retain(|(sink, _), _| !is_gone(sink));
        self.repeats.forget(is_other);
    }

    /// Forgets the problems of tenants on which other collectors may work, except for refused events, which are in a file
    /// of this one.
    pub fn give_up(&mut self, is_lost: impl Fn(&str) -> bool) {
        self.partitions.retain(|partition, _| !partition.tenant.as_deref().is_some_and(&is_lost));
        self.full.retain(|(_, tenant), _| !is_lost(tenant));
    }

    /// Returns the partitions that do not deliver.
    pub fn failing(&self) -> &BTreeMap<Partition, Failing> {
        &self.partitions
    }

    /// Returns since when outboxes are full, by sink and tenant.
    pub fn full(&self) -> &BTreeMap<(String, String), u64> {
        &self.full
    }

    /// Returns the permanently refused events, by sink and tenant.
    pub fn dead_letters(&self) -> &BTreeMap<(String, String), DeadLetters> {
        &self.dead_letters
    }

    /// Returns summaries of failures that were not logged each time, once an hour.
    pub fn summaries(&mut self, now: u64) -> Vec<Summary> {
        self.repeats.summaries(now)
    }
}

#[cfg(test)]
mod tests {
    use source_host::blame::Blame;

    use super::*;

    fn partition(sink: &str, tenant: &str) -> Partition {
        Partition { sink: sink.to_owned(), tenant: Some(tenant.to_owned()), feed: None }
    }

    fn trouble(code: &str) -> SinkTrouble {
        SinkTrouble::new(code, Blame::Receiver, "the receiver is not well")
    }

    #[test]
    fn a_sink_that_is_down_is_said_once_whoever_delivers_to_it() {
        let mut ledger = Ledger::default();
        let aloud: Vec<bool> = (0..500)
            .map(|number| ledger.failed(&partition("siem", &format!("t-{number}")), trouble("answered-503"), 7, 9))
            .collect();
        assert_eq!(aloud.iter().filter(|aloud| **aloud).count(), 1);
        let ends = (0..500).map(|number| ledger.delivers(&partition("siem", &format!("t-{number}"))));
        assert_eq!(ends.collect::<Vec<_>>().iter().rposition(|aloud| *aloud), Some(499), "when the last one delivers");
        assert!(ledger.failing().is_empty());
    }

    #[test]
    fn another_failure_is_said_and_the_lane_fails_since_the_first() {
        let mut ledger = Ledger::default();
        assert!(ledger.failed(&partition("siem", "t"), trouble("answered-503"), 7, 9));
        assert!(ledger.failed(&partition("siem", "t"), trouble("connection-refused"), 9, 11));
        assert!(!ledger.failed(&partition("siem", "t"), trouble("connection-refused"), 11, 15));
        let failing = &ledger.failing()[&partition("siem", "t")];
        assert_eq!((failing.since, failing.again, failing.trouble.code.as_str()), (7, 15, "connection-refused"));
        assert!(ledger.delivers(&partition("siem", "t")));
    }

    #[test]
    fn the_end_of_a_failure_that_was_said_is_said_under_whatever_code_it_ends() {
        let mut ledger = Ledger::default();
        assert!(ledger.failed(&partition("siem", "t"), trouble("timeout"), 1, 2));
        assert!(ledger.delivers(&partition("siem", "t")));
        assert!(ledger.failed(&partition("siem", "t"), trouble("connection-refused"), 3, 4));
        // This code was said in this hour.
        assert!(!ledger.failed(&partition("siem", "t"), trouble("timeout"), 5, 6));
        assert!(!ledger.failed(&partition("siem", "t"), trouble("timeout"), 7, 8));
        assert!(ledger.delivers(&partition("siem", "t")));
        assert!(!ledger.failed(&partition("siem", "t"), trouble("timeout"), 9, 10));
        assert!(!ledger.delivers(&partition("siem", "t")), "its beginning was not said");
    }

    #[test]
    fn the_last_partition_says_the_end_of_all() {
        let mut ledger = Ledger::default();
        assert!(ledger.failed(&partition("siem", "a"), trouble("timeout"), 1, 2));
        assert!(ledger.delivers(&partition("siem", "a")));
        assert!(ledger.failed(&partition("siem", "a"), trouble("connection-refused"), 3, 4));
        for tenant in ["a", "b"] {
            assert!(!ledger.failed(&partition("siem", tenant), trouble("timeout"), 5, 6));
        }
        assert!(!ledger.delivers(&partition("siem", "a")), "another fails still");
        assert!(ledger.delivers(&partition("siem", "b")));
    }

    #[test]
    fn of_many_dead_letters_the_first_is_said_and_all_are_counted() {
        let mut ledger = Ledger::default();
        let aloud: Vec<bool> =
            (0..5).map(|now| ledger.refused_for_good("siem", "t", &trouble("answered-400"), now)).collect();
        assert_eq!(aloud, [true, false, false, false, false]);
        assert!(ledger.refused_for_good("siem", "t", &trouble("answered-422"), 9), "another answer");
        let letters = &ledger.dead_letters()[&("siem".to_owned(), "t".to_owned())];
        assert_eq!((letters.count, letters.since, letters.trouble.code.as_str()), (6, 0, "answered-422"));
        assert_eq!(ledger.summaries(3_600_000)[0].count.get(), 4);
    }

    #[test]
    fn a_full_outbox_is_said_when_it_fills_and_when_it_has_room() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.filled("siem", "a", false, 1), None);
        assert_eq!(ledger.filled("siem", "a", true, 2), Some(true));
        assert_eq!(ledger.filled("siem", "a", true, 3), None);
        assert_eq!(ledger.filled("siem", "b", true, 4), Some(false), "the sink was named already");
        assert_eq!(ledger.full().values().copied().collect::<Vec<_>>(), [2, 4]);
        assert_eq!(ledger.filled("siem", "a", false, 5), Some(false), "another is full still");
        assert_eq!(ledger.filled("siem", "b", false, 6), Some(true));
    }

    #[test]
    fn a_sink_that_was_changed_is_told_of_anew_and_keeps_its_dead_letters() {
        let mut ledger = Ledger::default();
        ledger.failed(&partition("siem", "t"), trouble("answered-401"), 1, 2);
        ledger.refused_for_good("siem", "t", &trouble("answered-400"), 1);
        ledger.replaced(|sink| sink == "siem", |_| false);
        assert!(ledger.failing().is_empty() && ledger.dead_letters().len() == 1);
        assert!(ledger.failed(&partition("siem", "t"), trouble("answered-401"), 3, 4));
        ledger.replaced(|_| true, |sink| sink == "siem");
        assert!(ledger.dead_letters().is_empty());
    }
}
