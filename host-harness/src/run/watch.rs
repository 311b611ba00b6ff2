//! A thread beside the runtime that ends the process if nothing else can: if the collector's loop does not turn any
//! more, or if the process was told to stop and does not. A supervisor then starts it again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use source_host::blame::Blame;
use source_host::failpoint;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::limits;

/// The loop's progress, shared with the thread that watches it.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<Option<Turn>>>);

/// One turn of the loop.
#[derive(Clone, Copy)]
struct Turn {
    number: u64,
    does: &'static str,
}

impl Turns {
    /// Records the loop's present work. The first call starts the watch.
    pub(super) fn does(&self, does: &'static str) {
        let mut turn = self.0.lock();
        let number = turn.map_or(0, |turn| turn.number) + 1;
        *turn = Some(Turn { number, does });
    }

    /// Ends the watch, because the loop has ended.
    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }
}

/// Starts the thread.
pub(super) fn start(turns: Turns) -> io::Result<()> {
    // A separate runtime receives signals even if all threads of the other one hang.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("watch".to_owned());
    thread.spawn(move || runtime.block_on(watch(turns))).map(drop)
}

async fn watch(turns: Turns) {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else { return };
    let mut watch = LoopWatch::default();
    // All times here are counted in ticks.
    let tick = if failpoint::hangs() { limits::LOOP_TICK / 10 } else { limits::LOOP_TICK };
    loop {
        tokio::select! {
            _ = terminate.recv() => watch.stopping(),
            _ = interrupt.recv() => watch.stopping(),
            // The thread counts its own ticks: a process that was suspended has then missed one tick, and not an hour.
            () = sleep(tick) => {
                let turn = *turns.0.lock();
                let does = turn.map_or("ends", |turn| turn.does);
                match watch.tick(turn.map(|turn| turn.number)) {
                    LoopHealth::Fine => {}
                    LoopHealth::Late(for_seconds) => say(format!(
                        "the collector's loop does not turn for {for_seconds} s: it {does}; the process ends after {} s",
                        limits::LOOP_LOST.as_secs()
                    )),
                    LoopHealth::Lost => end(format!(
                        "ends: the collector's loop did not turn for {} s, in which it {does}; a supervisor is to start it again",
                        limits::LOOP_LOST.as_secs()
                    )),
                    LoopHealth::Overdue => end(format!(
                        "ends: told to stop, the process did not within {} s",
                        limits::SHUTDOWN.as_secs()
                    )),
                }
            }
        }
    }
}

/// Logs from a separate thread, because writing may block if nobody reads the log.
fn say(words: String) {
    std::thread::spawn(move || tracing::error!(fault = Blame::Harness.word(), "{words}"));
}

fn end(words: String) -> ! {
    say(words);
    std::thread::sleep(limits::LAST_WRITE);
    std::process::exit(1)
}

/// The result of a tick.
#[derive(Debug, PartialEq, Eq)]
enum LoopHealth {
    /// The loop turns.
    Fine,
    /// The loop has not turned for this many seconds; reported once.
    Late(u64),
    /// The loop does not turn any more.
    Lost,
    /// The process was told to stop, and its time is over.
    Overdue,
}

/// The observations so far, in ticks.
#[derive(Default)]
struct LoopWatch {
    last: Option<u64>,
    still: u32,
    since_told: Option<u32>,
}

impl LoopWatch {
    /// Records that the process was told to stop.
    fn stopping(&mut self) {
        self.since_told.get_or_insert(0);
    }

    /// Records one tick. `turn` is the number of the loop's turn, if the loop is watched.
    fn tick(&mut self, turn: Option<u64>) -> LoopHealth {
        self.still = if turn.is_some() && turn == self.last { self.still + 1 } else { 0 };
        self.last = turn;
        let since_told = self.since_told.as_mut().map(|ticks| {
            *ticks += 1;
            *ticks
        });
        match self.still {
            _ if since_told.is_some_and(|ticks| ticks >= in_ticks(limits::SHUTDOWN)) => LoopHealth::Overdue,
            still if still >= in_ticks(limits::LOOP_LOST) => LoopHealth::Lost,
            still if still == in_ticks(limits::LOOP_LATE) => LoopHealth::Late(limits::LOOP_LATE.as_secs()),
            _ => LoopHealth::Fine,
        }
    }
}

fn in_ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / limits::LOOP_TICK.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the first health that is not fine, and its tick.
    fn first(watch: &mut LoopWatch, mut turn: impl FnMut(u32) -> Option<u64>) -> Option<(u32, LoopHealth)> {
        (1..=10_000).map(|tick| (tick, watch.tick(turn(tick)))).find(|(_, health)| *health != LoopHealth::Fine)
    }

    #[test]
    fn a_loop_that_does_not_turn_is_told_of_and_then_ended() {
        let mut watch = LoopWatch::default();
        let late = first(&mut watch, |_| Some(7));
        assert_eq!(late, Some((in_ticks(limits::LOOP_LATE) + 1, LoopHealth::Late(limits::LOOP_LATE.as_secs()))));
        let lost = first(&mut watch, |_| Some(7));
        assert_eq!(lost, Some((in_ticks(limits::LOOP_LOST - limits::LOOP_LATE), LoopHealth::Lost)));
    }

    #[test]
    fn a_loop_that_turns_now_and_then_or_has_not_begun_goes_on() {
        let now_and_then = in_ticks(limits::LOOP_LATE);
        assert_eq!(first(&mut LoopWatch::default(), |tick| Some(u64::from(tick / now_and_then))), None);
        assert_eq!(first(&mut LoopWatch::default(), |_| None), None);
    }

    #[test]
    fn a_process_that_was_told_to_stop_has_its_time_and_no_more() {
        let mut watch = LoopWatch::default();
        watch.stopping();
        let half = in_ticks(limits::SHUTDOWN) / 2;
        assert!((0..half).all(|tick| watch.tick(Some(tick.into())) == LoopHealth::Fine));
        watch.stopping();
        assert_eq!(first(&mut watch, |tick| Some(tick.into())), Some((half, LoopHealth::Overdue)));
    }
}
