//! Runs polling source plugins: WASI components that fetch a token, read pages and turn them into events.
//!
//! An embedder needs four things: a [`engine::Host`], a [`plugin::Plugin`] on it, a [`transport::Transport`] for each
//! tenant, and [`feed::Feed`], which makes the calls of the contract in their order. A plugin holds no secret, reaches
//! only what it declared and the operator allows, and ends nobody's work but its own.

/// The commit that this was built from, or `unknown`.
pub const COMMIT: &str = env!("HOST_HARNESS_COMMIT");

pub mod address;
pub mod agenda;
pub mod assertion;
pub mod blame;
pub mod certificates;
pub mod check;
pub mod collector;
pub mod compile;
pub mod config;
pub mod conformance;
pub mod contract;
pub mod egress;
mod encoding;
pub mod engine;
pub mod expiry;
pub mod failpoint;
pub mod feed;
pub mod feeds;
pub mod inspect;
pub mod limits;
pub mod live;
pub mod mark;
pub mod memory;
pub mod metrics;
pub mod once;
pub mod page;
pub mod plugin;
pub mod probe;
pub mod process;
pub mod progress;
pub mod proxy;
pub mod record;
pub mod redact;
pub mod repeats;
pub mod replay;
pub mod run;
pub mod sandbox;
pub mod schedule;
pub mod secret;
pub mod serve;
pub mod settings;
pub mod simulator;
pub mod sink;
pub mod spelling;
pub mod store;
pub mod terminal;
pub mod text;
pub mod tokens;
pub mod transport;
pub mod work;
