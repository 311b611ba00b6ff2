//! When a scope is polled next: a pure function of its place in the interval, of the outcome of its last poll, and of
//! the time. All times are Unix milliseconds.
//!
//! The backoff is our own code: libraries sleep or read a clock themselves. Here the time is an argument, and the
//! spread of a scope is derived from its name, so that a test knows both.

use std::time::Duration;

use bytes::Buf;
use sha2::{Digest, Sha256};
use source_host::contract::{Failure, Reaction};
use source_host::limits::milliseconds;

use crate::limits;
use crate::store::Standing;

/// The times of polls of one scope: once an interval, always at the same place in it, so that ten thousand scopes do
/// not start together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    interval: u64,
    place: u64,
    seed: u64,
}

/// The consequences of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextPoll {
    /// When to poll again.
    pub due: u64,
    /// Failures in a row.
    pub failures: u32,
    /// Until when the same credential must not be used at the same origin.
    pub throttled_until: Option<u64>,
    /// Whether only a person can mend the failure: the scope is tried at once when the configuration changes.
    pub waits_for_person: bool,
}

impl Schedule {
    /// Makes the schedule of a feed's search for scopes.
    pub fn of_search(feed: &str, interval: Duration) -> Schedule {
        // No scope has an empty id.
        Schedule::new(feed, "", interval)
    }

    /// Makes the schedule of a scope.
    pub fn new(feed: &str, scope: &str, interval: Duration) -> Schedule {
        let seed = Sha256::digest(format!("{feed}\n{scope}")).as_slice().get_u64();
        let interval = milliseconds(interval).max(1);
        Schedule { interval, place: seed % interval, seed }
    }

    /// Returns the scope's next place: at least half an interval away, so that a late poll is not repeated soon.
    pub fn next_place(&self, now: u64) -> u64 {
        let earliest = now.saturating_add(self.interval / 2);
        let behind = earliest.saturating_sub(self.place) % self.interval;
        let ahead = if behind == 0 { 0 } else { self.interval - behind };
        earliest.max(self.place).saturating_add(ahead)
    }

    /// Plans a scope that was stored: at its due time, unless the interval has become shorter, or the clock that planned
    /// it was ahead. An overdue poll begins after a delay that depends on `rank`, the number of others that begin, too.
    pub fn resume(&self, standing: &mut Standing, now: u64, rank: u64) {
        let is_failing = standing.failures > 0;
        let ahead = standing.ended.saturating_sub(now);
        if is_failing && ahead > 0 {
            // The wait begins now: nobody knows how long ago the poll was.
            (standing.due, standing.ended) = (standing.due.saturating_sub(ahead), now);
        }
        let furthest = now.saturating_add(self.interval.saturating_mul(2).max(milliseconds(limits::LONGEST_WAIT)));
        standing.due = match standing.due {
            due if due <= now => first(now, rank),
            due if is_failing => due.min(furthest),
            due if due - now <= self.interval => due,
            _ => self.next_place(now),
        };
    }

    /// Returns the consequences of a poll that ended at `now`, after `failures` failed ones.
    pub fn after(&self, failures: u32, outcome: Option<&Failure>, now: u64) -> NextPoll {
        let regular =
            NextPoll { due: self.next_place(now), failures: 0, throttled_until: None, waits_for_person: false };
        let Some(failure) = outcome else { return regular };
        let failed = NextPoll { failures: failures.saturating_add(1), ..regular };
        let asked = failure.wait_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let asked = asked.map(|wait| milliseconds(wait.min(limits::LONGEST_WAIT)));
        let backoff =
            |least: Duration, most: Duration| self.jittered(doubled(milliseconds(least), failures, most), failures);
        match failure.reaction {
            Reaction::NoData => regular,
            Reaction::Wait => {
                let wait = asked.unwrap_or_else(|| backoff(limits::LEAST_BACKOFF, limits::MOST_BACKOFF));
                let until = now.saturating_add(wait);
                // Scopes that waited together do not continue together.
                NextPoll { due: self.after_throttle(until), throttled_until: Some(until), ..failed }
            }
            Reaction::TryLater | Reaction::Restart | Reaction::RenewToken => {
                let wait = backoff(limits::LEAST_BACKOFF, limits::MOST_BACKOFF).max(asked.unwrap_or(0));
                NextPoll { due: now.saturating_add(wait), ..failed }
            }
            Reaction::FixPlugin => {
                NextPoll { due: now.saturating_add(backoff(limits::ALARM_BACKOFF, limits::SLOWEST_RETRY)), ..failed }
            }
            Reaction::FixFeed | Reaction::FixScope | Reaction::StateUnusable => {
                let slow = limits::SLOW_RETRY.max(Duration::from_millis(self.interval));
                let wait = backoff(slow, limits::SLOWEST_RETRY.max(slow));
                NextPoll { due: now.saturating_add(wait), waits_for_person: true, ..failed }
            }
        }
    }

    /// Returns the consequences of a poll whose result the store did not take. The service is not at fault, and a failover
    /// or a full disk may be over soon: the first wait is shorter.
    pub fn after_lost_result(&self, failures: u32, now: u64) -> NextPoll {
        let wait = doubled(milliseconds(limits::STORE_BACKOFF), failures, limits::MOST_STORE_BACKOFF);
        let due = now.saturating_add(self.jittered(wait, failures));
        NextPoll { due, failures: failures.saturating_add(1), throttled_until: None, waits_for_person: false }
    }

    /// Returns when to continue after a wait that is shared with others.
    pub fn after_throttle(&self, until: u64) -> u64 {
        until.saturating_add(self.seed % milliseconds(limits::THROTTLE_SPREAD))
    }

    /// Changes a wait by up to a quarter; the same for the same scope and attempt.
    fn jittered(&self, wait: u64, attempt: u32) -> u64 {
        let half = (wait / 2).max(1);
        wait - wait / 4 + self.seed.rotate_left(attempt % 64 + 7) % half
    }
}

/// Returns when a scope begins that was never polled, or is long overdue: soon, but not together with the `rank` others
/// that begin before it.
pub fn first(now: u64, rank: u64) -> u64 {
    now.saturating_add(rank.saturating_mul(milliseconds(limits::FIRST_POLL_GAP)))
}

fn doubled(least: u64, failures: u32, most: Duration) -> u64 {
    least.checked_shl(failures.min(32)).unwrap_or(u64::MAX).min(milliseconds(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const NOW: u64 = 1_790_000_000_000;

    fn hourly() -> Schedule {
        Schedule::new("feed", "scope", Duration::from_secs(3_600))
    }

    fn failure(reaction: Reaction, wait_seconds: Option<u32>) -> Failure {
        Failure { wait_seconds, ..Failure::new(reaction, "code", String::new()) }
    }

    #[test]
    fn a_result_that_the_store_did_not_take_is_collected_again_soon_and_then_less_often() {
        let waits: Vec<u64> = (0..12).map(|failures| hourly().after_lost_result(failures, NOW).due - NOW).collect();
        assert!((3_750..=6_250).contains(&waits[0]) && (7_500..=12_500).contains(&waits[1]), "{waits:?}");
        assert!(waits[11] <= milliseconds(limits::MOST_STORE_BACKOFF) * 5 / 4, "{waits:?}");
        assert_eq!(hourly().after_lost_result(1, NOW).failures, 2);
    }

    #[test]
    fn a_scope_keeps_its_place_in_the_interval() {
        let due = hourly().after(0, None, NOW).due;
        assert_eq!(hourly().after(0, None, due + 250).due, due + HOUR, "on time");
        assert_eq!(hourly().after(0, None, due + HOUR / 4).due, due + HOUR, "late");
        assert_eq!(
            hourly().after(0, None, due + HOUR * 3 / 4).due,
            due + 2 * HOUR,
            "too late to go at its place again"
        );
        assert!((HOUR / 2..HOUR * 3 / 2).contains(&(due - NOW)));
    }

    #[test]
    fn places_are_spread_over_the_interval() {
        let mut tenths = [0_u32; 10];
        for scope in 0..10_000 {
            let schedule = Schedule::new("feed", &format!("scope-{scope}"), Duration::from_secs(3_600));
            tenths[(schedule.next_place(NOW) % HOUR * 10 / HOUR) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (900..1_100).contains(count)), "{tenths:?}");
    }

    /// Reaction, the seconds that the service asked for, and the number of failures before; then the seconds within
    /// which the next poll is due, the number of failures, and whether the scope waits for a person.
    type Case = (Reaction, Option<u32>, u32, std::ops::RangeInclusive<u64>, u32, bool);

    #[test]
    fn each_reaction_has_its_wait() {
        let table: &[Case] = &[
            (Reaction::NoData, None, 3, 1_800..=5_400, 0, false),
            (Reaction::TryLater, None, 0, 22..=38, 1, false),
            (Reaction::TryLater, None, 2, 90..=150, 3, false),
            (Reaction::TryLater, None, 40, 2_700..=4_500, 41, false),
            (Reaction::TryLater, Some(600), 0, 600..=600, 1, false),
            (Reaction::Restart, None, 0, 22..=38, 1, false),
            (Reaction::RenewToken, None, 0, 22..=38, 1, false),
            (Reaction::Wait, Some(17), 0, 17..=27, 1, false),
            (Reaction::Wait, None, 0, 22..=48, 1, false),
            (Reaction::Wait, Some(u32::MAX), 0, 86_400..=86_410, 1, false),
            (Reaction::FixPlugin, None, 0, 225..=375, 1, false),
            (Reaction::FixFeed, None, 0, 2_700..=4_500, 1, true),
            (Reaction::FixScope, None, 1, 5_400..=9_000, 2, true),
            (Reaction::FixScope, None, 9, 16_200..=27_000, 10, true),
            (Reaction::StateUnusable, None, 0, 2_700..=4_500, 1, true),
        ];
        for (reaction, wait, failures, seconds, then, person) in table {
            let next = hourly().after(*failures, Some(&failure(*reaction, *wait)), NOW);
            let after = (next.due - NOW) / 1_000;
            assert!(seconds.contains(&after), "{reaction:?} {wait:?} {failures}: {after} s");
            assert_eq!((next.failures, next.waits_for_person), (*then, *person), "{reaction:?}");
        }
    }

    #[test]
    fn a_throttle_is_told_to_all_who_share_it_and_they_come_back_apart() {
        let wait = failure(Reaction::Wait, Some(60));
        let dues: std::collections::BTreeSet<u64> = (0..20)
            .map(|scope| {
                let schedule = Schedule::new("feed", &format!("{scope}"), Duration::from_secs(3_600));
                let next = schedule.after(0, Some(&wait), NOW);
                assert_eq!(next.throttled_until, Some(NOW + 60_000));
                next.due
            })
            .collect();
        assert_eq!(dues.len(), 20);
    }

    #[test]
    fn a_long_interval_is_not_shortened_by_a_slow_retry() {
        let weekly = Schedule::new("feed", "scope", Duration::from_secs(7 * 86_400));
        let next = weekly.after(0, Some(&failure(Reaction::FixScope, None)), NOW);
        assert!(next.due - NOW >= 5 * 24 * HOUR);
    }

    #[test]
    fn what_was_kept_is_polled_when_it_is_due() {
        let schedule = hourly();
        let resumed = |due: u64, failures: u32, rank: u64| {
            let mut standing = Standing { due, failures, ended: NOW - HOUR, ..Standing::default() };
            schedule.resume(&mut standing, NOW, rank);
            standing.due
        };
        assert_eq!(resumed(NOW + 5, 0, 7), NOW + 5, "in the future");
        assert_eq!(resumed(NOW - 5, 0, 0), NOW, "overdue");
        assert_eq!(resumed(NOW - 5, 0, 3), first(NOW, 3), "overdue, after others");
        assert_eq!(resumed(NOW + 9 * HOUR, 1, 0), NOW + 9 * HOUR, "it has a reason to wait");
        assert_eq!(resumed(NOW + 99 * HOUR, 1, 0), NOW + 24 * HOUR, "longer than any wait");
        assert_eq!(resumed(NOW + 9 * HOUR, 0, 0), schedule.next_place(NOW), "the interval became shorter");
    }

    #[test]
    fn a_wait_that_a_clock_ahead_planned_keeps_its_length() {
        let wrong = NOW + 3 * HOUR;
        let mut standing = Standing { due: wrong + 30_000, failures: 1, ended: wrong, ..Standing::default() };
        for _ in 0..2 {
            hourly().resume(&mut standing, NOW, 0);
            assert_eq!(standing.due, NOW + 30_000);
        }
    }
}
