//! A disk that forgets: it records what this process does to the files of a folder, and says what is there after a loss
//! of power at any moment. Bytes that were not synced are torn or gone, and so are names whose folder was not synced.
//!
//! The recording is beneath everything: `calls` takes the place of the functions of the C library that change files,
//! for SQLite and for Rust's own library alike. So a test records the code that ships, including the syncs of folders.

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "functions of the C library take pointers, and give them to the system")]
mod calls;
mod platter;
mod recording;

pub use platter::{Fate, Platter};
pub use recording::{Operation, Recording};
