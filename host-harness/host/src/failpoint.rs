//! Places at which a test ends the process, as a crash would, lets a thread hang, or takes a safeguard out. Builds without
//! debug assertions contain no such places.

#[cfg(debug_assertions)]
use std::sync::OnceLock;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};

/// Every place, in the order in which a poll and its deliveries pass them.
pub const NAMES: &[&str] = &[
    "poll-begin",
    "poll-state-read",
    "poll-request-send",
    "poll-answer-read",
    "poll-normalized",
    "commit-begin",
    "commit-state-written",
    "commit-history-written",
    "commit-events-queued",
    "commit-end",
    "commit-durable",
    "delivery-events-read",
    "delivery-acknowledge",
    "delivery-acknowledged",
    "file-open",
    "file-cut",
    "file-append",
    "file-appended",
    "file-synced",
    "file-rotate",
    "file-renamed",
    "http-send",
    "http-answered",
    "dead-letter-append",
    "dead-letter-synced",
];

/// Every place of `migrate`.
pub const OF_MOVES: &[&str] = &["move-begun", "move-chunk", "move-left"];

/// The place in each turn of the collector's loop.
pub const LOOP: &str = "loop-turn";

/// The environment variable that chooses a place: with `NAME:N`, the process ends at the N-th pass. With `NAME:N:hang`,
/// the thread hangs there instead, and with `NAME:N:hang:PACE`, time passes that many times as fast for the code that
/// watches the threads.
pub const VARIABLE: &str = "HOST_HARNESS_CRASH_AT";

/// The environment variable that takes a safeguard out, by its name in [`SAFEGUARDS`]: the trial of several collectors must
/// notice that.
pub const WITHOUT: &str = "HOST_HARNESS_WITHOUT";

/// The safeguards that a test can take out.
pub const SAFEGUARDS: &[&str] = &["fence", "late-acknowledgement"];

/// The safeguard that is taken out.
#[cfg(debug_assertions)]
static TAKEN_OUT: OnceLock<String> = OnceLock::new();

/// Takes a safeguard out, from the value of [`WITHOUT`], and says whether there is such a one.
#[cfg(debug_assertions)]
pub fn take_out(value: &str) -> bool {
    SAFEGUARDS.contains(&value) && TAKEN_OUT.set(value.to_owned()).is_ok()
}

/// Returns false in builds without debug assertions.
#[cfg(not(debug_assertions))]
pub fn take_out(_: &str) -> bool {
    false
}

/// Says whether a test took this safeguard out.
#[cfg(debug_assertions)]
pub fn lacks(safeguard: &'static str) -> bool {
    debug_assert!(SAFEGUARDS.contains(&safeguard), "{safeguard} is not among the safeguards");
    TAKEN_OUT.get().is_some_and(|name| name == safeguard)
}

/// Returns false in builds without debug assertions.
#[cfg(not(debug_assertions))]
pub fn lacks(_: &'static str) -> bool {
    false
}

/// A place, the number of passes until it acts, whether the thread then hangs, and how fast time passes.
#[cfg(debug_assertions)]
struct Chosen {
    name: String,
    passes: AtomicU64,
    hangs: bool,
    pace: u32,
}

#[cfg(debug_assertions)]
static CHOSEN: OnceLock<Chosen> = OnceLock::new();

/// Chooses the place once, from the value of [`VARIABLE`].
#[cfg(debug_assertions)]
pub fn choose(value: &str) {
    let words: Vec<&str> = value.split(':').collect();
    let (place, hangs, pace) = match words[..] {
        [ref place @ .., "hang"] => (place, true, "1"),
        [ref place @ .., "hang", pace] => (place, true, pace),
        ref place => (place, false, "1"),
    };
    if let [name, passes] = *place
        && let (Ok(passes), Ok(pace)) = (passes.parse(), pace.parse::<u32>())
    {
        let _ = CHOSEN.set(Chosen { name: name.to_owned(), passes: AtomicU64::new(passes), hangs, pace: pace.max(1) });
    }
}

/// Does nothing in builds without debug assertions.
#[cfg(not(debug_assertions))]
pub fn choose(_: &str) {}

/// How many times faster than real time the code that watches the threads lets time pass: a test does not wait as long as
/// a user.
#[cfg(debug_assertions)]
pub fn pace() -> u32 {
    CHOSEN.get().map_or(1, |chosen| chosen.pace)
}

/// Returns 1 in builds without debug assertions.
#[cfg(not(debug_assertions))]
pub fn pace() -> u32 {
    1
}

/// Ends the process or hangs, if this is the chosen pass of the chosen place.
#[cfg(debug_assertions)]
pub fn pass(name: &'static str) {
    debug_assert!(NAMES.contains(&name) || OF_MOVES.contains(&name) || name == LOOP, "{name} is not among the names");
    if let Some(Chosen { name: chosen, passes, hangs, .. }) = CHOSEN.get()
        && chosen == name
        && passes.fetch_sub(1, Ordering::SeqCst) == 1
    {
        if *hangs {
            tracing::warn!(place = name, "a test lets this thread hang");
            loop {
                std::thread::park();
            }
        }
        std::process::abort();
    }
}

/// Does nothing in builds without debug assertions.
#[cfg(not(debug_assertions))]
pub fn pass(_: &'static str) {}
