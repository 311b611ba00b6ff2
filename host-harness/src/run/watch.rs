//! A thread beside the runtime that ends the process if nothing else can: if the collector's loop is stuck, or if the
//! process was told to stop and does not stop. A supervisor then starts it again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use source_host::blame::Blame;
use source_host::failpoint;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

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
    let stops = {
        let _inside = runtime.enter();
        Stops::new()
    };
    let stops = match stops {
        Ok(stops) => stops,
        Err(error) => {
            // The caller is a task of another runtime, which may not wait for this one.
            runtime.shutdown_background();
            return Err(error);
        }
    };
    let thread = std::thread::Builder::new().name("watch".to_owned());
    thread.spawn(move || runtime.block_on(watch(turns, stops))).map(drop)
}

/// The signals that tell the process to stop.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    /// Registers the signals with the runtime that is entered.
    fn new() -> io::Result<Stops> {
        Ok(Stops { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

async fn watch(turns: Turns, mut stops: Stops) {
    let mut watch = LoopWatch::default();
    let pace = failpoint::pace();
    // Frequent signals do not delay the looks.
    let mut looks = interval(limits::LOOP_TICK / pace);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            _ = stops.terminate.recv() => watch.stopping(),
            _ = stops.interrupt.recv() => watch.stopping(),
            _ = looks.tick() => {
                let turn = *turns.0.lock();
                let does = turn.map_or("ends", |turn| turn.does);
                let passed = looked.elapsed() * pace;
                looked = Instant::now();
                match watch.look(turn.map(|turn| turn.number), passed) {
                    LoopHealth::Fine => {}
                    LoopHealth::Late(for_seconds) => say(format!(
                        "the collector's loop has been stuck for {for_seconds} s: it {does}; the process \
                         ends after {} s",
                        limits::LOOP_LOST.as_secs()
                    )),
                    LoopHealth::Lost => end(format!(
                        "ending: the collector's loop was stuck for {} s, in which it {does}; a supervisor must \
                         start the process again",
                        limits::LOOP_LOST.as_secs()
                    )),
                    LoopHealth::Overdue => end(format!(
                        "ending: told to stop, the process did not stop within its {} s",
                        limits::SHUTDOWN.as_secs()
                    )),
                    LoopHealth::OverdueAtOnce => end("ending: told to stop a second time, the process did not stop".to_owned()),
                }
            }
        }
    }
}

/// Logs from a separate thread, because writing may block if nobody reads the log. Without a thread, nothing is logged.
fn say(words: String) {
    let thread = std::thread::Builder::new();
    let _ = thread.spawn(move || tracing::error!(fault = Blame::Harness.word(), "{words}"));
}

fn end(words: String) -> ! {
    say(words);
    std::thread::sleep(limits::LAST_WRITE);
    // `std::process::exit` would wait for another thread that has begun to end the process, and that may hang.
    #[expect(unsafe_code, reason = "a function of the C library that takes a number and does not come back")]
    unsafe {
        libc::_exit(1)
    }
}

/// The result of a look at the loop.
#[derive(Debug, PartialEq, Eq)]
enum LoopHealth {
    /// The loop turns.
    Fine,
    /// The loop has not turned for this many seconds; reported once.
    Late(u64),
    /// The loop is stuck for good.
    Lost,
    /// The process was told to stop, and its time is over.
    Overdue,
    /// The process was told to stop twice, and its time is over.
    OverdueAtOnce,
}

/// The observations so far.
#[derive(Default)]
struct LoopWatch {
    last: Option<u64>,
    still: Duration,
    stop: Option<Stop>,
}

/// The remaining time of a process that was told to stop.
struct Stop {
    left: Duration,
    twice: bool,
}

impl LoopWatch {
    /// Records that the process was told to stop, for the first or a further time.
    fn stopping(&mut self) {
        self.stop = Some(match &self.stop {
            None => Stop { left: limits::SHUTDOWN - limits::SHUTDOWN_ROOM, twice: false },
            Some(stop) => Stop { left: stop.left.min(limits::SHUTDOWN_ROOM), twice: true },
        });
    }

    /// Records one look, `passed` after the last one. `turn` is the number of the loop's turn, if the loop is watched.
    fn look(&mut self, turn: Option<u64>, passed: Duration) -> LoopHealth {
        // The loop had no more time than this thread: a process that was suspended has missed one look, and not an hour.
        let had = passed.min(2 * limits::LOOP_TICK);
        let before = self.still;
        self.still = if turn.is_some() && turn == self.last { self.still + had } else { Duration::ZERO };
        self.last = turn;
        if let Some(stop) = &mut self.stop {
            // A supervisor counts the whole time.
            stop.left = stop.left.saturating_sub(passed);
            if stop.left.is_zero() {
                return if stop.twice { LoopHealth::OverdueAtOnce } else { LoopHealth::Overdue };
            }
        }
        match self.still {
            still if still >= limits::LOOP_LOST => LoopHealth::Lost,
            still if before < limits::LOOP_LATE && still >= limits::LOOP_LATE => {
                LoopHealth::Late(limits::LOOP_LATE.as_secs())
            }
            _ => LoopHealth::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the first health that is not fine, and the number of its look; the looks are a tick apart.
    fn first(watch: &mut LoopWatch, mut turn: impl FnMut(u32) -> Option<u64>) -> Option<(u32, LoopHealth)> {
        let looks = (1..=10_000).map(|look| (look, watch.look(turn(look), limits::LOOP_TICK)));
        looks.into_iter().find(|(_, health)| *health != LoopHealth::Fine)
    }

    fn ticks(time: Duration) -> u32 {
        u32::try_from(time.as_millis() / limits::LOOP_TICK.as_millis()).unwrap()
    }

    #[test]
    fn a_loop_that_does_not_turn_is_told_of_and_then_ended() {
        let mut watch = LoopWatch::default();
        let late = first(&mut watch, |_| Some(7));
        assert_eq!(late, Some((ticks(limits::LOOP_LATE) + 1, LoopHealth::Late(limits::LOOP_LATE.as_secs()))));
        let lost = first(&mut watch, |_| Some(7));
        assert_eq!(lost, Some((ticks(limits::LOOP_LOST - limits::LOOP_LATE), LoopHealth::Lost)));
    }

    #[test]
    fn a_loop_that_turns_now_and_then_or_has_not_begun_goes_on() {
        let now_and_then = ticks(limits::LOOP_LATE);
        assert_eq!(first(&mut LoopWatch::default(), |look| Some(u64::from(look / now_and_then))), None);
        assert_eq!(first(&mut LoopWatch::default(), |_| None), None);
    }

    #[test]
    fn an_idle_loop_turns_sooner_than_it_is_told_of() {
        assert!(limits::WATCH + 2 * limits::LOOP_TICK < limits::LOOP_LATE);
    }

    #[test]
    fn a_process_that_was_stopped_and_woken_goes_on() {
        let mut watch = LoopWatch::default();
        for _ in 0..10 {
            assert_eq!(watch.look(Some(7), limits::LOOP_TICK), LoopHealth::Fine);
            assert_eq!(watch.look(Some(7), Duration::from_secs(3_600)), LoopHealth::Fine);
        }
    }

    #[test]
    fn a_process_that_was_told_to_stop_has_its_time_and_no_more() {
        let mut watch = LoopWatch::default();
        watch.stopping();
        let most = ticks(limits::SHUTDOWN - limits::SHUTDOWN_ROOM);
        assert_eq!(first(&mut watch, |look| Some(look.into())), Some((most, LoopHealth::Overdue)));
        let mut late = LoopWatch::default();
        late.stopping();
        assert_eq!(late.look(Some(1), limits::SHUTDOWN), LoopHealth::Overdue);
    }

    #[test]
    fn a_process_that_is_told_a_second_time_ends_at_once() {
        let mut watch = LoopWatch::default();
        watch.stopping();
        assert_eq!(watch.look(Some(1), Duration::from_secs(5)), LoopHealth::Fine);
        watch.stopping();
        let soon = ticks(limits::SHUTDOWN_ROOM);
        assert_eq!(first(&mut watch, |look| Some(look.into())), Some((soon, LoopHealth::OverdueAtOnce)));
    }

    #[test]
    fn polls_and_deliveries_end_before_the_process_is_ended() {
        assert!(limits::SHUTDOWN_POLLS + limits::SHUTDOWN_STORE < limits::SHUTDOWN_WORK);
        let ended = limits::SHUTDOWN_WORK + limits::LOG_PATIENCE + limits::LAST_WRITE + limits::ALL_LAST_LINES;
        assert!(ended < limits::SHUTDOWN - limits::SHUTDOWN_ROOM);
        assert!(limits::SHUTDOWN_ROOM > 2 * (limits::LOOP_TICK + limits::LAST_WRITE));
    }
}
