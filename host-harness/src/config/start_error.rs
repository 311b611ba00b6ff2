//! Why a command, or the collector, does not start.

use std::error::Error;
use std::sync::Arc;

use crate::built_in::LoadError;
use crate::config::ConfigProblem;
use crate::store::StoreError;

/// Why a command, or the collector, does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("the configuration has {} problems", .0.len())]
    Configuration(Vec<ConfigProblem>),
    /// The plugin that is to take the place of what the feeds name cannot be used: the command line's trouble, and not
    /// that of each feed.
    #[error(transparent)]
    Plugin(#[from] Arc<LoadError>),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output cannot be written.
    #[error("failed to write the events")]
    Output(#[from] std::io::Error),
    /// Something of the host failed.
    #[error(transparent)]
    Host(Box<dyn Error + Send + Sync>),
}

impl StartError {
    /// Something of the host failed.
    pub fn of_host(error: impl Into<Box<dyn Error + Send + Sync>>) -> StartError {
        StartError::Host(error.into())
    }
}
