//! The one redaction for everything that people, programs or plugins read: finds secrets however they are spelled.

mod escapes;
mod search;

use crate::credentials::secret::Secret;

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
const LONG: usize = 8 << 10;

/// Does what reads a text of so many bytes, which others may have filled with what is slow to search: a long one is read
/// beside the runtime, so that nobody waits for it. None if it broke down.
pub async fn aside<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if bytes > LONG { tokio::task::spawn_blocking(work).await.ok() } else { Some(work()) }
}

/// Counts what a search costs, for tests: how long it takes depends on the machine.
fn count(steps: usize) {
    #[cfg(test)]
    tests::STEPS.set(tests::STEPS.get() + steps);
    #[cfg(not(test))]
    let _ = steps;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    thread_local! {
        /// What searches of this test cost.
        pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
    }
}
