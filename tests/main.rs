//! Behaviour seen through the real component. One file a subject, one line a behaviour; nothing needs the internet.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod cassettes;
mod clouds;
mod collector;
mod commands;
mod component;
mod crash;
mod credentials;
mod days;
mod documents;
mod normalize;
mod poll;
mod power_loss;
mod proxy;
mod run;
mod settings;
mod sinks;
mod stage;
mod store;
mod support;
