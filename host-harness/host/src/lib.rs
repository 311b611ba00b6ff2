#![doc = include_str!("../README.md")]
//!
//! # Examples
//!
//! The example `embed` is a whole embedder:
//!
//! ```no_run
#![doc = include_str!("../examples/embed.rs")]
//! ```
//!
//! The example `cassette` brings its own transport, which answers from a recording:
//!
//! ```no_run
#![doc = include_str!("../examples/cassette.rs")]
//! ```

#[cfg(not(unix))]
compile_error!("this crate runs on Unix: it reads owners and rights of files, signals, and the time of single threads");

pub mod contract;

// The rooms of the crate: `host-harness` uses them, and an embedder needs none of them. They may change in any version.
#[doc(hidden)]
pub mod blame;
#[doc(hidden)]
pub mod clock;
#[doc(hidden)]
pub mod credentials;
#[doc(hidden)]
pub mod digest;
#[doc(hidden)]
pub mod failpoint;
#[doc(hidden)]
pub mod failures;
#[doc(hidden)]
pub mod feed;
#[doc(hidden)]
pub mod limits;
#[doc(hidden)]
pub mod network;
#[doc(hidden)]
pub mod plugin;
#[doc(hidden)]
pub mod progress;
#[doc(hidden)]
pub mod text;

pub use crate::clock::Clock;
pub use crate::credentials::secret::Secret;
pub use crate::credentials::settings::Settings;
pub use crate::feed::{Feed, FeedError, Identity, Polled, StatusClass, Usage};
pub use crate::limits::Limits;
pub use crate::network::client::{Network, NetworkError};
pub use crate::network::egress::{NotAnOrigin, Origins};
pub use crate::network::tokens::Tokens;
pub use crate::network::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture};
pub use crate::plugin::bound::Bound;
pub use crate::plugin::call::CallError;
pub use crate::plugin::compiler::{self, Compiler};
pub use crate::plugin::engine::{Host, HostError, Setup};
pub use crate::plugin::{Plugin, PluginError};
