//! The error of a command or a collector that does not start.

use std::error::Error;
use std::sync::Arc;

use crate::built_in::LoadError;
use crate::config::ConfigProblem;
use crate::store::StoreError;

/// The reason why a command, or the collector, does not start or does not continue.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("the configuration has {} problems", .0.len())]
    Configuration(Vec<ConfigProblem>),
    /// The plugin that should replace those of the feeds is unusable: a problem of the command line, and not of each
    /// feed.
    #[error(transparent)]
    Plugin(#[from] Arc<LoadError>),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output cannot be written.
    #[error("failed to write the events")]
    Output(#[from] std::io::Error),
    /// The host failed.
    #[error(transparent)]
    Host(Box<dyn Error + Send + Sync>),
}

impl StartError {
    /// Makes the error of a host that failed.
    pub fn of_host(error: impl Into<Box<dyn Error + Send + Sync>>) -> StartError {
        StartError::Host(error.into())
    }
}
