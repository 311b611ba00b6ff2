//! The plugins that feeds name, each loaded once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use source_host::plugin::engine::Host;
use source_host::plugin::{Plugin, PluginError};

use super::candidate::{Rejected, plugin_problem};
use super::{CheckError, LeftOut};
use crate::built_in;
use crate::config::FeedConfig;

/// The plugins that were asked for so far.
pub(super) struct Plugins<'a> {
    host: &'a Host,
    /// The file that takes the place of whatever feeds name.
    instead: Option<&'a Path>,
    loaded: BTreeMap<Option<PathBuf>, Result<Plugin, Unloaded>>,
}

impl<'a> Plugins<'a> {
    /// `instead` takes the place of whatever feeds name, and must load.
    pub(super) async fn new(host: &'a Host, instead: Option<&'a Path>) -> Result<Plugins<'a>, CheckError> {
        let mut plugins = Plugins { host, instead, loaded: BTreeMap::new() };
        if let Some(file) = instead {
            let loaded = plugins.load(Some(file.to_owned())).await;
            loaded.map_err(|Unloaded { message, .. }| CheckError::Plugin(message))?;
        }
        Ok(plugins)
    }

    /// The plugin of a feed.
    pub(super) async fn of(&mut self, feed: &mut FeedConfig) -> Result<Plugin, Unloaded> {
        let path = self.instead.map(Path::to_owned).or_else(|| feed.plugin.take());
        self.load(path).await
    }

    async fn load(&mut self, path: Option<PathBuf>) -> Result<Plugin, Unloaded> {
        if let Some(loaded) = self.loaded.get(&path) {
            return loaded.clone();
        }
        let loaded = load(self.host, path.clone()).await;
        self.loaded.entry(path).or_insert(loaded).clone()
    }
}

/// Why there is no plugin.
#[derive(Clone)]
pub(super) struct Unloaded {
    message: String,
    /// Whether the file was read: then it is the plugin's fault.
    is_read: bool,
}

impl Unloaded {
    /// The feed cannot run without it.
    pub(super) fn rejects(self, feed: FeedConfig) -> Rejected {
        let problem = plugin_problem(&feed.id, &feed.place, self.message);
        let out = LeftOut::of_plugin(&feed.tenant, &feed.id, problem, feed.unreadable);
        if self.is_read { Rejected::LeftOut(out) } else { Rejected::Wrong(out.problems) }
    }
}

/// Compiling takes seconds.
async fn load(host: &Host, path: Option<PathBuf>) -> Result<Plugin, Unloaded> {
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
