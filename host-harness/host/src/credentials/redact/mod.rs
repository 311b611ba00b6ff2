//! The one redaction for everything that people, programs or plugins read: finds secrets however they are spelled.

mod escapes;
mod pieces;
mod search;

use crate::credentials::secret::Secret;

pub use self::pieces::{PIECE, Pieces};
pub use self::search::Search;

/// Stands for a secret.
pub const REDACTED: &str = "[redacted]";

/// Shorter secrets would take ordinary words out of a text.
pub const SHORTEST: usize = 8;

/// Replaces secrets in a text.
pub fn redact<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    match Search::new(secrets).clean(text.as_bytes()) {
        Some(clean) => String::from_utf8_lossy(&clean).into_owned(),
        None => text.to_owned(),
    }
}

/// Searching a text of this size takes some ten milliseconds at most, whatever is in it.
pub const LONG: usize = 8 << 10;

/// Does what reads a text of so many bytes, which others may have filled with what is slow to search: a long one is read
/// beside the runtime, so that nobody waits for it. None if it broke down.
pub async fn aside<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if bytes > LONG { tokio::task::spawn_blocking(work).await.ok() } else { Some(work()) }
}

/// Counts what a search costs, for tests and fuzzers: how long it takes depends on the machine.
fn count(steps: usize) {
    #[cfg(any(test, debug_assertions))]
    STEPS.set(STEPS.get() + steps);
    #[cfg(not(any(test, debug_assertions)))]
    let _ = steps;
}

#[cfg(any(test, debug_assertions))]
thread_local! {
    /// What the searches of this thread cost.
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// What the searches of this thread cost since this was last asked.
#[cfg(any(test, debug_assertions))]
pub fn take_steps() -> usize {
    STEPS.take()
}

/// Zero: builds without debug assertions do not count.
#[cfg(not(any(test, debug_assertions)))]
pub fn take_steps() -> usize {
    0
}
