//! The plugins that feeds name.

use std::path::PathBuf;

use source_host::plugin::engine::Host;
use source_host::plugin::{Plugin, PluginError};

use crate::built_in;

/// Why there is no plugin.
#[derive(Clone)]
pub(super) struct Unloaded {
    pub(super) message: String,
    /// Whether the file was read: then it is the plugin's fault.
    pub(super) is_read: bool,
}

/// Compiling takes seconds.
pub(super) async fn load(host: &Host, path: Option<PathBuf>) -> Result<Plugin, Unloaded> {
    let host = host.clone();
    let loaded = tokio::task::spawn_blocking(move || match path {
        None => built_in::load(&host, None).map_err(|error| Unloaded { message: error.to_string(), is_read: false }),
        Some(file) => Plugin::from_file(&host, &file).map_err(|error| Unloaded {
            message: format!("{}: {error}", file.display()),
            is_read: !matches!(error, PluginError::Unreadable(_)),
        }),
    });
    loaded.await.unwrap_or_else(|error| Err(Unloaded { message: error.to_string(), is_read: false }))
}
