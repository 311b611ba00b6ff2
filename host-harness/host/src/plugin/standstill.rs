//! Times in which the process stood still, because it was stopped (SIGSTOP, a frozen container, a paused machine) or got no
//! processor. A plugin is not blamed for them. The thread that counts epochs looks at the clock while calls run.

use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

use crate::limits;

/// The times so far.
#[derive(Default)]
pub(super) struct Standstills(Mutex<Looks>);

#[derive(Default)]
struct Looks {
    /// The last look; `None` while nobody looks.
    last: Option<Duration>,
    total: Duration,
}

impl Standstills {
    /// Records a look at this time.
    pub(super) fn look(&self, now: Duration) {
        let mut looks = self.0.lock();
        let stood = looks.last.map_or(Duration::ZERO, |last| standstill(last, now));
        looks.total += stood;
        looks.last = Some(now);
    }

    /// Records that nobody looks until the next look.
    pub(super) fn pause(&self) {
        self.0.lock().last = None;
    }

    /// All standstills up to this time, including the one from which the process has just woken.
    pub(super) fn total(&self, now: Duration) -> Duration {
        let looks = self.0.lock();
        looks.total + looks.last.map_or(Duration::ZERO, |last| standstill(last, now))
    }
}

/// The time between two looks, if it is much longer than the pace of the looks.
fn standstill(last: Duration, now: Duration) -> Duration {
    let passed = now.saturating_sub(last);
    if passed >= limits::STANDSTILL { passed } else { Duration::ZERO }
}

/// The time of the clock by which calls are bounded.
pub(super) fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_times_between_two_looks_count_and_the_present_one_counts_once() {
        let (stood, at) = (Standstills::default(), Duration::from_millis);
        assert_eq!(stood.total(at(50_000)), Duration::ZERO, "nobody looked");
        for now in [50_000, 50_010, 50_030, 50_900] {
            stood.look(at(now));
        }
        assert_eq!(stood.total(at(51_000)), Duration::ZERO, "a busy machine");
        assert_eq!(stood.total(at(60_900)), at(10_000));
        stood.look(at(60_900));
        assert_eq!(stood.total(at(60_910)), at(10_000));
        stood.pause();
        assert_eq!(stood.total(at(99_000)), at(10_000), "no call ran");
        stood.look(at(99_000));
        assert_eq!(stood.total(at(99_010)), at(10_000));
    }

    #[test]
    fn the_clock_goes_on() {
        let before = now();
        assert!(before > Duration::ZERO && now() >= before);
    }
}
