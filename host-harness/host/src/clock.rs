//! The time of day. Every other file takes the time as an argument.

use std::sync::Arc;

use crate::limits;

/// Unix time in milliseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Returns the clock of this machine. A time before 1970 becomes 1970.
pub fn system() -> Clock {
    Arc::new(|| {
        #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time of day")]
        let now = std::time::SystemTime::now();
        limits::milliseconds(now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default())
    })
}
