//! Places where a test ends the process, as a crash would. Builds without debug assertions have none of it.

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

/// The variable of the environment that chooses a place: `NAME:N` is the N-th pass of it.
pub const VARIABLE: &str = "HOST_HARNESS_CRASH_AT";

/// The chosen place, and how often it may still be passed.
#[cfg(debug_assertions)]
static CHOSEN: OnceLock<(String, AtomicU64)> = OnceLock::new();

/// Chooses the place, once, by the value of [`VARIABLE`].
#[cfg(debug_assertions)]
pub fn choose(value: &str) {
    if let Some((name, passes)) = value.split_once(':')
        && let Ok(passes) = passes.parse()
    {
        let _ = CHOSEN.set((name.to_owned(), AtomicU64::new(passes)));
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub fn choose(_: &str) {}

/// Ends the process here if this is the chosen pass of the chosen place.
#[cfg(debug_assertions)]
pub fn pass(name: &'static str) {
    debug_assert!(NAMES.contains(&name), "{name} is not among the names");
    if let Some((chosen, passes)) = CHOSEN.get()
        && chosen == name
        && passes.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub fn pass(_: &'static str) {}
