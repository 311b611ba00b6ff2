//! Runs polling source plugins: WASI components that fetch a token, read pages and turn them into events.
//!
//! An embedder needs four things: a [`plugin::engine::Host`], a [`plugin::Plugin`] on it, a [`network::Transport`] for
//! each tenant, and [`feed::Feed`], which makes the calls of the contract in their order. A plugin holds no secret,
//! reaches only the requests that it declared and that the operator allows, and a plugin that fails ends no work but its
//! own.

pub mod blame;
pub mod contract;
pub mod credentials;
pub mod digest;
pub mod failpoint;
pub mod feed;
pub mod limits;
pub mod network;
pub mod plugin;
pub mod progress;
pub mod text;
