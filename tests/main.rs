//! Behaviour seen through the real component. One file a subject, one line a behaviour; nothing needs the internet.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod cassettes;
mod collector;
mod commands;
mod component;
mod crash;
mod days;
mod documents;
mod egress;
mod hostile_service;
mod leaks;
mod normalize;
mod poll;
mod power_loss;
mod run;
mod security;
mod settings;
mod sinks;
mod stage;
mod store;
mod support;
