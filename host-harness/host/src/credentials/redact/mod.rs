//! The one redaction of everything that people, programs or plugins read. It finds secrets in every spelling.

mod escapes;
mod pieces;
mod search;
mod traces;
mod views;
mod watch;

use crate::credentials::secret::Secret;
use crate::text;

pub use self::pieces::{PIECE, Pieces};
pub use self::search::Search;
pub use self::watch::Watch;

/// The replacement for a secret.
pub const REDACTED: &str = "[redacted]";

/// The shortest secret that is redacted: a shorter one would remove ordinary words from a text.
pub const SHORTEST: usize = 8;

/// Replaces secrets in a text for people.
pub fn redact<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    Search::new(secrets).words(text)
}

impl Search {
    /// The text for people without its secrets. A text that is safe for terminals and logs stays safe: a character that
    /// joined the end of a secret, such as a variation selector, does not join the stand-in.
    pub fn words(&self, text: &str) -> String {
        let Some(clean) = self.clean(text.as_bytes()) else { return text.to_owned() };
        let clean = String::from_utf8_lossy(&clean);
        if text::plain_lines(text) == text { text::plain_lines(&clean) } else { clean.into_owned() }
    }
}

/// Length in bytes from which a text is searched beside the runtime. A search of this length takes ten milliseconds at
/// most, whatever the text contains.
pub const LONG: usize = 8 << 10;

/// Length in bytes up to which a text is looked at without another thread before the search. A [`Watch`] takes a quarter of a
/// millisecond for an ordinary text of this length, and ten milliseconds at most.
pub const LONG_LOOK: usize = 128 << 10;

/// Runs work on a text that others may have filled with content that takes long: long work runs beside the runtime, so that
/// nobody waits for it. `None` if the work panicked.
pub async fn aside<T: Send + 'static>(is_long: bool, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if is_long { tokio::task::spawn_blocking(work).await.ok() } else { Some(work()) }
}

/// Counts the steps of a search, for tests and fuzzers, because the time of a search depends on the machine.
fn count(steps: usize) {
    #[cfg(any(test, debug_assertions))]
    STEPS.set(STEPS.get() + steps);
    #[cfg(not(any(test, debug_assertions)))]
    let _ = steps;
}

#[cfg(any(test, debug_assertions))]
thread_local! {
    /// Steps of the searches on this thread.
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Returns the steps of the searches on this thread since the last call.
#[cfg(any(test, debug_assertions))]
pub fn take_steps() -> usize {
    STEPS.take()
}

/// Zero: builds without debug assertions do not count.
#[cfg(not(any(test, debug_assertions)))]
pub fn take_steps() -> usize {
    0
}
