//! Feeds that are still being checked when the other feeds of their configuration start: each follows when its plugin
//! is ready, and the others do not wait for it.

use super::page::words::number;
use super::{KnownRows, RunLoop, tell_left_out, tell_odd};
use crate::collector::{LeftOutRow, WaitingRow};
use crate::config::admission::{Admission, Late, LeftOut, WaitingFeed};
use crate::config::{self, ConfigProblem, StartError};

/// The rest of a configuration whose first feeds have started.
pub(super) struct LateFeeds {
    admission: Admission,
    /// Whether a user asked for the configuration to be read.
    asked: bool,
    /// Whether scopes that wait for a person are tried at once.
    impatient: bool,
    /// The feeds that were left out of the previous configuration.
    before: KnownRows,
    /// Start of the check, in Unix milliseconds.
    since: u64,
    /// Number of feeds that started afresh.
    rank: u64,
    good: usize,
    /// The problems of feeds that are left out; `None` if the collector ran before, so that it does not end without
    /// feeds.
    problems: Option<Vec<ConfigProblem>>,
}

impl LateFeeds {
    /// The late feeds of a start; `None` if there are none.
    pub(super) fn of_start(admission: Admission, left_out: &[LeftOut], now: u64) -> Option<LateFeeds> {
        let problems = left_out.iter().flat_map(|out| out.problems.iter().cloned()).collect();
        let late = LateFeeds::of_reload(admission, false, false, KnownRows::new(), now)?;
        Some(LateFeeds { problems: Some(problems), ..late })
    }

    /// The late feeds of a configuration that was read again.
    pub(super) fn of_reload(
        admission: Admission,
        asked: bool,
        impatient: bool,
        before: KnownRows,
        since: u64,
    ) -> Option<LateFeeds> {
        let count = admission.waiting().len();
        if count == 0 {
            return None;
        }
        tracing::info!("still checking {} with a slow plugin; the others do not wait", number(count, "feed"));
        Some(LateFeeds { admission, asked, impatient, before, since, rank: 0, good: 0, problems: None })
    }

    fn waiting(&self) -> impl ExactSizeIterator<Item = &WaitingFeed> {
        self.admission.waiting()
    }
}

/// Returns the result of the next late feed; waits for ever if there are none. The future may be dropped at any time.
pub(super) async fn next(late: &mut Option<LateFeeds>) -> Option<Late> {
    match late {
        None => std::future::pending().await,
        Some(late) => late.admission.late().await,
    }
}

impl RunLoop {
    /// Rows of the first feeds that are still being checked.
    pub(super) fn waiting_rows(&self, most: usize) -> Vec<WaitingRow> {
        let late = self.late.iter().flat_map(|late| late.waiting().map(|feed| (feed, late.since)));
        late.take(most)
            .map(|(WaitingFeed { tenant, feed, .. }, since)| WaitingRow {
                tenant: tenant.clone(),
                feed: feed.clone(),
                since,
                goes_on: self.collector.collects(feed),
            })
            .collect()
    }

    /// Number of feeds that are still being checked.
    pub(super) fn waiting_total(&self) -> usize {
        self.late.as_ref().map_or(0, |late| late.waiting().len())
    }

    /// Counts the feeds that are still being checked.
    pub(super) fn count_waiting(&self) {
        self.collector.pipeline().metrics.waiting(self.waiting_total());
    }

    /// Handles the result of a late feed; without one, the check is over.
    pub(super) fn take_late(&mut self, verdict: Option<Late>) -> Result<(), StartError> {
        let Some(late) = &mut self.late else { return Ok(()) };
        match verdict {
            Some(Late::Good(feed, warnings)) => {
                tell_odd(&warnings, &self.odd, late.asked);
                self.odd.extend(warnings);
                let begins = self.collector.reload_one(feed.copied().into(), late.rank, late.impatient);
                late.rank += u64::from(begins);
                late.good += 1;
            }
            Some(Late::Out(out)) => {
                let running = self.collector.admitted(&out.feed);
                if running.is_some_and(|running| !out.pins.problems(running).is_empty()) {
                    self.collector.leave_out(&out.feed);
                }
                self.files.watch(&out.files);
                let rows = tell_left_out(&self.collector, std::slice::from_ref(&out), &late.before, late.asked);
                self.collector.pipeline().metrics.leave_out(counted(&rows));
                self.left_out.extend(rows);
                late.problems.iter_mut().for_each(|problems| problems.extend(out.problems.iter().cloned()));
            }
            None => {
                // Once, after the last of them: this takes a time that grows with the number of all feeds.
                self.describe();
                let late = self.late.take();
                if let Some(LateFeeds { good, problems, .. }) = late {
                    tracing::info!("added {}", number(good, "feed"));
                    let problems = problems.filter(|problems| good == 0 && !problems.is_empty());
                    if let Some(problems) = problems.filter(|_| self.collector.is_without_feeds()) {
                        return Err(StartError::Configuration(config::once_each(problems)));
                    }
                }
            }
        }
        self.count_waiting();
        Ok(())
    }

    /// Counts the feeds that are left out.
    pub(super) fn count_left_out(&self) {
        self.collector.pipeline().metrics.left_out(counted(&self.left_out));
    }
}

/// The feeds of these rows that are not collected, with the reasons.
fn counted(rows: &[LeftOutRow]) -> impl Iterator<Item = (String, String, &'static str)> {
    let out = rows.iter().filter(|row| !row.goes_on);
    out.map(|row| (row.tenant.clone(), row.feed.clone(), row.code))
}
