//! A failure is logged once: repetitions are logged for debugging only, and a summary counts them. Pure: time is an
//! argument, in Unix milliseconds.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::num::NonZeroU64;

use source_host::blame::Blame;
use source_host::limits::milliseconds;

use crate::limits;

/// The failures of the last hour, and those that last.
#[derive(Debug, Default)]
pub struct Repeats {
    known: BTreeMap<(String, String), Repeat>,
}

/// One kind of failure.
#[derive(Debug)]
struct Repeat {
    /// When the failure was last logged, by itself or in a summary.
    said: u64,
    /// The failures since then, if there were any.
    since: Option<Unsaid>,
    lasts: bool,
    /// Whether its end is to be logged, because its beginning was.
    aloud: bool,
    blame: Blame,
}

/// Failures of one kind that were not reported one by one.
#[derive(Debug)]
struct Unsaid {
    /// The number of failures.
    count: NonZeroU64,
    /// The text of the last one.
    last: String,
}

/// The number of repetitions of a failure that were not logged each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The thing that failed, for example the id of a sink.
    pub subject: String,
    /// Code of the failure.
    pub code: String,
    /// The party that can mend the failure.
    pub blame: Blame,
    /// Number of repetitions since the failure was last logged.
    pub count: NonZeroU64,
    /// Minutes in which they occurred.
    pub minutes: u64,
    /// The text of the last one.
    pub last: String,
    /// Whether the failure lasts.
    pub lasts: bool,
}

impl Repeats {
    /// Records a failure. Returns true if it is to be logged as a warning: it is the first with this code for an hour.
    pub fn met(&mut self, subject: &str, code: &str, blame: Blame, words: &str, now: u64) -> bool {
        let kind = (subject.to_owned(), code.to_owned());
        let repeat = match self.known.entry(kind) {
            Entry::Vacant(vacant) => {
                vacant.insert(Repeat { said: now, since: None, lasts: true, aloud: true, blame });
                return true;
            }
            Entry::Occupied(known) => known.into_mut(),
        };
        let count = repeat.since.as_ref().map_or(NonZeroU64::MIN, |unsaid| unsaid.count.saturating_add(1));
        repeat.since = Some(Unsaid { count, last: words.to_owned() });
        // A failure that comes and goes is logged neither when it comes nor when it goes.
        repeat.aloud &= repeat.lasts;
        repeat.lasts = true;
        false
    }

    /// Records a failure that is over at once, unless it lasts already.
    pub fn met_once(&mut self, subject: &str, code: &str, blame: Blame, words: &str, now: u64) -> bool {
        let lasts = self.known.get(&(subject.to_owned(), code.to_owned())).is_some_and(|repeat| repeat.lasts);
        let aloud = self.met(subject, code, blame, words, now);
        if !lasts {
            self.over(subject, code);
        }
        aloud
    }

    /// Records that a failure is over. Returns true if that is to be logged.
    pub fn over(&mut self, subject: &str, code: &str) -> bool {
        let Some(repeat) = self.known.get_mut(&(subject.to_owned(), code.to_owned())) else { return false };
        let aloud = repeat.lasts && repeat.aloud;
        (repeat.lasts, repeat.aloud) = (false, false);
        aloud
    }

    /// Forgets the failures of these subjects, which were replaced.
    pub fn forget(&mut self, is_gone: impl Fn(&str) -> bool) {
        self.known.retain(|(subject, _), _| !is_gone(subject));
    }

    /// Returns a summary of each kind of repeated failure, once an hour. Forgets failures that do not last and did not
    /// occur for an hour.
    pub fn summaries(&mut self, now: u64) -> Vec<Summary> {
        let hour = milliseconds(limits::SUMMARY);
        let mut summaries = Vec::new();
        self.known.retain(|(subject, code), repeat| {
            // The clock may have been set back.
            repeat.said = repeat.said.min(now);
            let since = now - repeat.said;
            if since < hour {
                return true;
            }
            let Some(Unsaid { count, last }) = repeat.since.take() else { return repeat.lasts };
            summaries.push(Summary {
                subject: subject.clone(),
                code: code.clone(),
                blame: repeat.blame,
                count,
                minutes: since / 60_000,
                last,
                lasts: repeat.lasts,
            });
            (repeat.said, repeat.aloud) = (now, repeat.lasts);
            true
        });
        summaries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    #[test]
    fn a_failure_is_said_once_and_its_end_once() {
        let mut repeats = Repeats::default();
        assert!(repeats.met("siem", "answered-503", Blame::Receiver, "busy", 0));
        assert!(!repeats.met("siem", "answered-503", Blame::Receiver, "still busy", 5));
        assert!(
            repeats.met("siem", "answered-429", Blame::Receiver, "too many", 6),
            "another failure of the same sink"
        );
        assert!(repeats.met("lake", "answered-503", Blame::Receiver, "busy", 7), "the same failure of another sink");
        assert!(repeats.over("siem", "answered-503"));
        assert!(!repeats.over("siem", "answered-503"), "it was over already");
        assert!(!repeats.over("siem", "never-met"));
    }

    #[test]
    fn a_failure_that_lasts_is_not_over_because_it_was_met_once_more() {
        let mut repeats = Repeats::default();
        assert!(repeats.met("store", "busy", Blame::Operator, "busy", 0));
        assert!(!repeats.met_once("store", "busy", Blame::Operator, "busy", 1));
        assert!(repeats.over("store", "busy"), "its end is logged");
        assert!(repeats.met_once("store", "full", Blame::Operator, "full", 2));
        assert!(!repeats.over("store", "full"), "it was over at once");
    }

    #[test]
    fn a_failure_that_comes_and_goes_is_counted_and_not_said() {
        let mut repeats = Repeats::default();
        assert!(repeats.met("siem", "timeout", Blame::Receiver, "slow", 0));
        assert!(repeats.over("siem", "timeout"));
        for minute in 1..30 {
            assert!(!repeats.met("siem", "timeout", Blame::Receiver, &format!("slow {minute}"), minute * MINUTE));
            assert!(!repeats.over("siem", "timeout"));
        }
        assert_eq!(repeats.summaries(59 * MINUTE), [], "once an hour");
        let summary = Summary {
            subject: "siem".to_owned(),
            code: "timeout".to_owned(),
            blame: Blame::Receiver,
            count: NonZeroU64::new(29).unwrap(),
            minutes: 60,
            last: "slow 29".to_owned(),
            lasts: false,
        };
        assert_eq!(repeats.summaries(60 * MINUTE), [summary]);
        assert_eq!(repeats.summaries(119 * MINUTE), []);
        assert!(!repeats.met("siem", "timeout", Blame::Receiver, "slow", 119 * MINUTE));
        assert!(!repeats.over("siem", "timeout"));
        assert_eq!(repeats.summaries(120 * MINUTE).len(), 1);
        assert_eq!(repeats.summaries(180 * MINUTE), [], "nothing for an hour, and it is forgotten");
        assert!(repeats.met("siem", "timeout", Blame::Receiver, "slow", 181 * MINUTE));
    }

    #[test]
    fn a_failure_that_lasts_is_counted_each_hour_and_its_end_is_said() {
        let mut repeats = Repeats::default();
        assert!(repeats.met("siem", "answered-400", Blame::Receiver, "odd", 0));
        repeats.met("siem", "answered-400", Blame::Receiver, "odd", MINUTE);
        assert!(repeats.summaries(60 * MINUTE)[0].lasts);
        assert_eq!(repeats.summaries(300 * MINUTE), [], "it is not tried, and still not over");
        assert!(repeats.over("siem", "answered-400"));
    }

    #[test]
    fn a_clock_that_was_set_back_silences_nothing_for_longer_than_an_hour() {
        let mut repeats = Repeats::default();
        repeats.met("siem", "timeout", Blame::Receiver, "slow", 900 * MINUTE);
        repeats.met("siem", "timeout", Blame::Receiver, "slow", 901 * MINUTE);
        assert_eq!(repeats.summaries(10 * MINUTE), []);
        assert_eq!(repeats.summaries(70 * MINUTE).len(), 1);
    }

    #[test]
    fn another_sink_under_the_same_name_is_told_of_anew() {
        let mut repeats = Repeats::default();
        assert!(repeats.met("siem", "timeout", Blame::Receiver, "slow", 0));
        repeats.forget(|subject| subject == "siem");
        assert!(repeats.met("siem", "timeout", Blame::Receiver, "slow", 1));
    }
}
