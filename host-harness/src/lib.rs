//! Runs polling source plugins: WASI components that fetch a token, read pages and turn them into events.
//!
//! An embedder needs four things: a [`plugin::engine::Host`], a [`plugin::Plugin`] on it, a [`network::Transport`] for each
//! tenant, and [`feed::Feed`], which makes the calls of the contract in their order. A plugin holds no secret, reaches
//! only what it declared and the operator allows, and ends nobody's work but its own.

/// The commit that this was built from, or `unknown`.
pub const COMMIT: &str = env!("HOST_HARNESS_COMMIT");

pub mod audit;
pub mod blame;
pub mod check;
pub mod collector;
pub mod config;
pub mod contract;
pub mod credentials;
pub mod digest;
pub mod failpoint;
pub mod feed;
pub mod limits;
pub mod metrics;
pub mod network;
pub mod plugin;
pub mod progress;
pub mod recording;
pub mod run;
pub mod simulator;
pub mod sink;
pub mod store;
pub mod terminal;
pub mod text;
