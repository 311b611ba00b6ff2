//! What keeps events from their sinks: which partitions do not deliver and since when, which outboxes are full, and what was
//! refused for good. Says of each failure whether it is new; the log, the status page and `poll` are made from it. Pure:
//! time is an argument, in Unix milliseconds.

use std::collections::BTreeMap;

use source_host::failures::OUTBOX_FULL;

use super::SinkTrouble;
use crate::sink::repeats::{Repeats, Summary};
use crate::store::Partition;

/// The sinks' troubles.
#[derive(Debug, Default)]
pub struct Ledger {
    repeats: Repeats,
    partitions: BTreeMap<Partition, Failing>,
    /// Since when outboxes are full, by sink and tenant.
    full: BTreeMap<(String, String), u64>,
    /// By sink and tenant.
    dead_letters: BTreeMap<(String, String), DeadLetters>,
}

/// A partition that does not deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Why, as of the last try.
    pub trouble: SinkTrouble,
    /// Since when.
    pub since: u64,
    /// When it is tried again.
    pub again: u64,
}

/// Events that a sink will never take, since the collector started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetters {
    /// How many.
    pub count: u64,
    /// When the first one was refused.
    pub since: u64,
    /// Why the last one was.
    pub trouble: SinkTrouble,
}

impl Ledger {
    /// A partition did not deliver, and tries again. True if that is to be said aloud.
    pub fn failed(&mut self, partition: &Partition, trouble: SinkTrouble, now: u64, again: u64) -> bool {
        let before = self.partitions.get(partition).map(|failing| failing.since);
        if self.partitions.get(partition).is_some_and(|failing| failing.trouble.code != trouble.code) {
            self.delivers(partition);
        }
        let aloud = self.repeats.met(&partition.sink, &trouble.code, trouble.blame, &trouble.why, now);
        self.partitions.insert(partition.clone(), Failing { trouble, since: before.unwrap_or(now), again });
        aloud
    }

    /// A partition delivers, or has nothing to deliver. True if it is to be said aloud that its sink is well again.
    pub fn delivers(&mut self, partition: &Partition) -> bool {
        let Some(Failing { trouble, .. }) = self.partitions.remove(partition) else { return false };
        let same = |(other, failing): (&Partition, &Failing)| {
            other.sink == partition.sink && failing.trouble.code == trouble.code
        };
        !self.partitions.iter().any(same) && self.repeats.over(&partition.sink, &trouble.code)
    }

    /// A sink refused an event of a tenant for good. True if that is to be said aloud.
    pub fn refused_for_good(&mut self, sink: &str, tenant: &str, trouble: &SinkTrouble, now: u64) -> bool {
        let letters = self.dead_letters.entry((sink.to_owned(), tenant.to_owned()));
        let letters = letters.or_insert_with(|| DeadLetters { count: 0, since: now, trouble: trouble.clone() });
        letters.count += 1;
        letters.trouble = trouble.clone();
        self.repeats.met_once(sink, &trouble.code, trouble.blame, &trouble.why, now)
    }

    /// Notes whether an outbox is full. None if that is no news; else whether it is to be said aloud.
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

    /// Forgets sinks that are others by now, and of those that are gone what they refused.
    pub fn replaced(&mut self, is_other: impl Fn(&str) -> bool, is_gone: impl Fn(&str) -> bool) {
        self.partitions.retain(|partition, _| !is_other(&partition.sink));
        self.full.retain(|(sink, _), _| !is_other(sink));
        self.dead_letters.retain(|(sink, _), _| !is_gone(sink));
        self.repeats.forget(is_other);
    }

    /// Partitions that do not deliver.
    pub fn failing(&self) -> &BTreeMap<Partition, Failing> {
        &self.partitions
    }

    /// Since when outboxes are full, by sink and tenant.
    pub fn full(&self) -> &BTreeMap<(String, String), u64> {
        &self.full
    }

    /// What was refused for good, by sink and tenant.
    pub fn dead_letters(&self) -> &BTreeMap<(String, String), DeadLetters> {
        &self.dead_letters
    }

    /// What was not said each time, once an hour.
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
    fn of_many_dead_letters_the_first_is_said_and_all_are_counted() {
        let mut ledger = Ledger::default();
        let aloud: Vec<bool> =
            (0..5).map(|now| ledger.refused_for_good("siem", "t", &trouble("answered-400"), now)).collect();
        assert_eq!(aloud, [true, false, false, false, false]);
        assert!(ledger.refused_for_good("siem", "t", &trouble("answered-422"), 9), "another answer");
        let letters = &ledger.dead_letters()[&("siem".to_owned(), "t".to_owned())];
        assert_eq!((letters.count, letters.since, letters.trouble.code.as_str()), (6, 0, "answered-422"));
        assert_eq!(ledger.summaries(3_600_000)[0].count, 4);
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
