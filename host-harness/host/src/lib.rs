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
//! The example `cassette` has its own transport, which answers from a recording:
//!
//! ```no_run
#![doc = include_str!("../examples/cassette.rs")]
//! ```

#[cfg(not(unix))]
compile_error!("this crate runs on Unix: it reads owners and rights of files, signals, and the time of single threads");

pub mod contract;

// The modules of the crate. `host-harness` uses them, and an embedder needs none of them; they may change in any
// version.
#[doc(hidden)]
pub mod blame;
#[doc(hidden)]
pub mod cause;
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
pub mod privileges;
#[doc(hidden)]
pub mod progress;
#[doc(hidden)]
pub mod text;

// An embedder's program needs these types.
pub use crate::credentials::secret::Secret;
pub use crate::credentials::settings::Settings;
pub use crate::feed::{Feed, Identity, Polled};
pub use crate::limits::Limits;
pub use crate::network::client::Network;
pub use crate::network::egress::Origins;
pub use crate::network::{IncomingResponse, OutgoingRequest, Transport, TransportError, TransportFuture};
pub use crate::plugin::Plugin;
pub use crate::plugin::compiler::{self, Compiler};
pub use crate::plugin::engine::{Host, Setup};

// These types are in the signatures of the types above.
pub use crate::blame::Blame;
pub use crate::cause::Cause;
pub use crate::clock::Clock;
pub use crate::feed::{FeedError, StatusClass, Usage, keyed_poll_id, poll_id};
pub use crate::limits::CompileLimits;
pub use crate::network::address::{Cidr, NotARange};
pub use crate::network::client::NetworkError;
pub use crate::network::egress::NotAnOrigin;
pub use crate::network::proxy::{NotAProxy, Proxy};
pub use crate::network::tokens::Tokens;
pub use crate::plugin::bound::{Bound, LimitAmount};
pub use crate::plugin::call::CallError;
pub use crate::plugin::engine::{HostError, Trusted};
pub use crate::plugin::{About, KnownPlugin, PluginError};
pub use crate::progress::Progress;
