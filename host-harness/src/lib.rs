//! The reference host of polling source plugins: a multi-tenant collector, and the tools around it. The crate
//! `source_host` runs one plugin and is all that another host needs; the crate `source_simulator` is the simulated
//! service.

#[cfg(not(unix))]
compile_error!("the collector runs on Unix: it handles signals, and owners and rights of files");

/// The commit from which the program was built, or `unknown`.
pub const COMMIT: &str = env!("HOST_HARNESS_COMMIT");

pub mod admitted;
pub mod audit;
pub mod built_in;
pub mod check;
pub mod collector;
pub mod config;
pub mod environment;
pub mod files;
pub mod fleet;
pub mod limits;
pub mod metrics;
pub mod overview;
pub mod recording;
pub mod run;
pub mod sink;
pub mod store;
pub mod terminal;
