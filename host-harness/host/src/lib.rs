#![doc = include_str!("../README.md")]
//!
//! The example `embed` is a whole embedder:
//!
//! ```no_run
#![doc = include_str!("../examples/embed.rs")]
//! ```

pub mod blame;
pub mod clock;
pub mod contract;
pub mod credentials;
pub mod digest;
pub mod failpoint;
pub mod failures;
pub mod feed;
pub mod limits;
pub mod network;
pub mod plugin;
pub mod progress;
pub mod text;
