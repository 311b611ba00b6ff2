//! Places where a test ends the process, as a crash would. Builds without debug assertions have none of it.

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

/// Ends the process here if the environment says so: `HOST_HARNESS_CRASH_AT=NAME:N` at the N-th pass.
#[cfg(debug_assertions)]
pub fn pass(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static CHOSEN: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    debug_assert!(NAMES.contains(&name), "{name} is not among the names");
    let chosen = CHOSEN.get_or_init(|| {
        let variable = std::env::var("HOST_HARNESS_CRASH_AT").ok()?;
        let (name, passes) = variable.split_once(':')?;
        Some((name.to_owned(), AtomicU64::new(passes.parse().ok()?)))
    });
    if let Some((chosen, passes)) = chosen
        && chosen == name
        && passes.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub fn pass(_: &'static str) {}
