//! The plugins that feeds name, each loaded once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use source_host::cause;
use source_host::plugin::Plugin;
use source_host::plugin::engine::Host;

use super::LeftOut;
use super::candidate::{Rejected, plugin_problem};
use crate::built_in::{self, LoadError};
use crate::config::{FeedConfig, StartError};

/// The plugins that were asked for so far.
pub(super) struct Plugins<'a> {
    host: &'a Host,
    /// The file that takes the place of whatever feeds name.
    instead: Option<&'a Path>,
    loaded: BTreeMap<Option<PathBuf>, Result<Plugin, Arc<LoadError>>>,
}

impl<'a> Plugins<'a> {
    /// `instead` takes the place of whatever feeds name, and must load.
    pub(super) async fn new(host: &'a Host, instead: Option<&'a Path>) -> Result<Plugins<'a>, StartError> {
        let mut plugins = Plugins { host, instead, loaded: BTreeMap::new() };
        if let Some(file) = instead {
            plugins.load(Some(file.to_owned())).await?;
        }
        Ok(plugins)
    }

    /// The plugin of a feed.
    pub(super) async fn of(&mut self, feed: &mut FeedConfig) -> Result<Plugin, Arc<LoadError>> {
        let path = self.instead.map(Path::to_owned).or_else(|| feed.plugin.take());
        self.load(path).await
    }

    async fn load(&mut self, path: Option<PathBuf>) -> Result<Plugin, Arc<LoadError>> {
        if let Some(loaded) = self.loaded.get(&path) {
            return loaded.clone();
        }
        let loaded = load(self.host, path.clone()).await;
        self.loaded.entry(path).or_insert(loaded).clone()
    }
}

/// The feed cannot run without its plugin.
pub(super) fn rejected(feed: FeedConfig, error: &LoadError) -> Rejected {
    let problem = plugin_problem(&feed.id, &feed.place, cause::chain(error));
    let out = LeftOut::of_plugin(&feed.tenant, &feed.id, problem, feed.unreadable);
    if error.is_of_plugin() { Rejected::LeftOut(out) } else { Rejected::Wrong(out.problems) }
}

/// Compiling takes seconds.
async fn load(host: &Host, path: Option<PathBuf>) -> Result<Plugin, Arc<LoadError>> {
    let host = host.clone();
    let loaded = tokio::task::spawn_blocking(move || built_in::load(&host, path.as_deref())).await;
    loaded.unwrap_or_else(|error| Err(LoadError::Ended(error))).map_err(Arc::new)
}
