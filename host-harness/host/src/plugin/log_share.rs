//! The amount that a feed may write to the log in a minute: the plugin's lines, and the plugin's text in lines of the
//! host. All feeds share the log and its disk.

use std::fmt;

use parking_lot::Mutex;

use crate::clock::{self, Clock};
use crate::limits::{LOG_BYTES_A_MINUTE, LOG_LINE_FRAME};

/// The share of one feed.
pub struct LogShare {
    most_bytes: u64,
    clock: Clock,
    window: Mutex<LogMinute>,
}

/// One minute, and the unreported drops of earlier ones.
#[derive(Default)]
struct LogMinute {
    minute: u64,
    bytes: u64,
    /// Lines that were dropped in this minute.
    dropped: u64,
    /// Lines that were dropped in earlier minutes and are not reported yet.
    untold: u64,
    /// Lines that were dropped and are not in a metric yet.
    uncounted: u64,
}

impl LogMinute {
    /// Begins a new minute if the current one is over.
    fn at(&mut self, minute: u64) -> &mut LogMinute {
        if self.minute != minute {
            self.untold += std::mem::take(&mut self.dropped);
            (self.minute, self.bytes) = (minute, 0);
        }
        self
    }
}

impl LogShare {
    /// Makes a share of this many bytes in each minute of this clock.
    pub fn new(most_bytes: u64, clock: Clock) -> LogShare {
        LogShare { most_bytes, clock, window: Mutex::default() }
    }

    /// The number of bytes in each minute.
    pub fn most_bytes(&self) -> u64 {
        self.most_bytes
    }

    /// Says whether to write a line with this many bytes of the plugin's text, and counts it if not.
    pub fn takes(&self, bytes: usize) -> bool {
        self.takes_up_to(self.most_bytes, bytes)
    }

    /// The same for a line of the host, for which as many bytes again are reserved: a plugin that floods the log hides
    /// no failure.
    pub fn takes_of_host(&self, bytes: usize) -> bool {
        self.takes_up_to(self.most_bytes.saturating_mul(2), bytes)
    }

    fn takes_up_to(&self, most: u64, bytes: usize) -> bool {
        let mut window = self.window.lock();
        let window = window.at((self.clock)() / 60_000);
        let bytes = window.bytes.saturating_add((bytes + LOG_LINE_FRAME) as u64);
        if bytes > most {
            window.dropped += 1;
            window.uncounted += 1;
            return false;
        }
        window.bytes = bytes;
        true
    }

    /// Counts lines that were dropped for another reason, which is reported elsewhere.
    pub fn count_dropped(&self, lines: u64) {
        self.window.lock().uncounted += lines;
    }

    /// Returns the number of lines that were dropped since the last call.
    pub fn take_uncounted(&self) -> u64 {
        std::mem::take(&mut self.window.lock().uncounted)
    }

    /// Returns the number of lines that were dropped in earlier minutes, once.
    pub fn take_untold(&self) -> Option<u64> {
        let mut window = self.window.lock();
        let untold = std::mem::take(&mut window.at((self.clock)() / 60_000).untold);
        (untold > 0).then_some(untold)
    }

    /// Says whether nothing was written in this minute, and no dropped line is to be reported or counted: a new share
    /// would do the same.
    pub fn is_unused(&self) -> bool {
        let mut window = self.window.lock();
        let LogMinute { bytes, dropped, untold, uncounted, .. } = window.at((self.clock)() / 60_000);
        (*bytes, *dropped, *untold, *uncounted) == (0, 0, 0, 0)
    }

    /// Logs the number of dropped lines, at most once a minute.
    pub fn tell_dropped(&self, tenant: &str, feed: &str) {
        if let Some(lines) = self.take_untold() {
            tracing::warn!(
                tenant,
                feed,
                fault = crate::blame::Blame::Plugin.word(),
                "{lines} log lines beyond {} bytes a minute (max_log_bytes_per_minute) were dropped",
                self.most_bytes
            );
        }
    }
}

impl Default for LogShare {
    fn default() -> LogShare {
        LogShare::new(LOG_BYTES_A_MINUTE, clock::system())
    }
}

impl fmt::Debug for LogShare {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LogShare").field("most_bytes", &self.most_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_minute_has_its_bytes_and_what_is_dropped_is_told_once_when_it_is_over() {
        let now = Arc::new(AtomicU64::new(59_000));
        let reading = Arc::clone(&now);
        let share = LogShare::new(1_000, Arc::new(move || reading.load(Ordering::SeqCst)));
        let line = 500 - LOG_LINE_FRAME;
        assert!(share.takes(line) && share.takes(line));
        assert!(!share.takes(line) && !share.takes(0));
        assert!(share.takes_of_host(line), "a failure of the host is still told");
        assert!(!share.takes_of_host(1_000));
        assert_eq!(share.take_untold(), None, "the minute is not over");
        assert_eq!((share.take_uncounted(), share.take_uncounted()), (3, 0));
        // The share also works if the clock goes back.
        for later in [60_000, 1_000] {
            now.store(later, Ordering::SeqCst);
            assert!(share.takes(line) && share.takes(line) && !share.takes(line));
        }
        assert_eq!((share.take_untold(), share.take_untold()), (Some(4), None));
        share.count_dropped(7);
        assert_eq!(share.take_uncounted(), 9);
    }
}
