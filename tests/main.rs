//! Behaviour seen through the real component: one file for each subject, one line for each behaviour. No test needs the
//! internet.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod admission;
mod cassettes;
mod check;
mod clouds;
mod collector;
mod commands;
mod component;
mod conformance;
mod corpus;
// Release builds have no failpoints.
#[cfg(debug_assertions)]
mod crash;
mod credentials;
mod days;
mod detections;
mod documents;
mod egress;
mod events;
mod first_steps;
mod foreign;
mod frozen;
mod hostile_service;
mod leaks;
mod limits;
#[path = "hostile/src/mode.rs"]
mod mode;
mod neighbours;
mod normalize;
#[cfg(feature = "otlp")]
mod otlp;
mod poll;
mod postgres;
// The recorder takes the place of functions of Linux's C libraries.
#[cfg(target_os = "linux")]
mod power_loss;
mod privileges;
mod proxy;
mod readers;
mod record;
mod recordings;
mod rooms;
mod run;
mod security;
mod settings;
mod shares;
mod sinks;
mod sinks_tls;
mod store;
mod support;
mod terminal;
mod tricks;
