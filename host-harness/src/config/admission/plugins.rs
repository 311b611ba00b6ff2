//! The plugins that feeds name, and the feeds of one plugin: a slow or broken plugin delays only its own feeds.

use std::borrow::Cow;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use source_host::cause;
use source_host::contract::Description;
use source_host::digest::{ShortDigest, digest};
use source_host::plugin::compiler::CompileError;
use source_host::plugin::engine::Host;
use source_host::plugin::{self, Plugin, PluginError};
use source_host::progress::Doing;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use super::candidate::{Admitted, Rejected, admit, plugin_place};
use super::faults::{Faults, not_stopped};
use super::{FeedSurroundings, LeftOut, LeftOutReason};
use crate::built_in::{self, LoadError};
use crate::config::{FeedConfig, SeenFile};
use crate::limits;

/// The bytes of a plugin, read once.
pub(super) struct PluginBytes {
    /// The file; `None` for the built-in plugin.
    file: Option<PathBuf>,
    bytes: Cow<'static, [u8]>,
    sha256: String,
    /// The file as it was before it was read.
    seen: Option<SeenFile>,
}

impl PluginBytes {
    /// Reads the plugin in this file, or the built-in one.
    pub(super) async fn read(file: Option<PathBuf>) -> Result<PluginBytes, LoadError> {
        let read = move || match file {
            None => {
                let (bytes, sha256) = (Cow::Borrowed(built_in::COMPONENT), built_in::SHA256.to_owned());
                Ok(PluginBytes { file, bytes, sha256, seen: None })
            }
            Some(path) => {
                let seen = Some(SeenFile::now(path.clone()));
                let bytes = plugin::read(&path)
                    .map_err(|error| built_in::refused(Some(&path), PluginError::Unreadable(error).into()))?;
                Ok(PluginBytes { sha256: digest(&bytes), bytes: Cow::Owned(bytes), file: Some(path), seen })
            }
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(LoadError::Ended(error)))
    }

    fn key(&self) -> ShortDigest {
        ShortDigest::of(&self.sha256)
    }

    /// Notes work on the plugin of a file, for people who wait; for the built-in plugin, only compilation is noted,
    /// elsewhere.
    fn notes(&self, host: &Host, words: impl FnOnce(&Path) -> String) -> Option<Doing> {
        self.file.as_deref().map(|file| host.progress().begin(words(file)))
    }

    /// Compiles the plugin, or loads it from the cache. The compilation continues if nobody waits for it any more.
    pub(super) async fn load(self: &Arc<PluginBytes>, host: &Host, faults: &Faults) -> Result<Plugin, LoadError> {
        let (read, host, loads) = (Arc::clone(self), host.clone(), faults.loads.clone());
        let load = tokio::spawn(async move {
            let bytes = Arc::clone(&read);
            let attempt = async move {
                let _doing = bytes.notes(&host, |file| format!("loading the plugin {}", file.display()));
                let file = bytes.file.clone();
                let loaded = tokio::task::spawn_blocking(move || Plugin::from_bytes(&host, &bytes.bytes)).await;
                match loaded.map_err(LoadError::Ended) {
                    Ok(Ok(plugin)) => Ok(Ok(plugin)),
                    // A compiler that cannot be started says nothing about the plugin.
                    Ok(Err(error @ PluginError::Compile(CompileError::Host(_)))) => {
                        Ok(Err(built_in::refused(file.as_deref(), error.into())))
                    }
                    Ok(Err(error)) => Err(Arc::new(error)),
                    Err(error) => Ok(Err(error)),
                }
            };
            let loaded = loads.once(read.key(), attempt).await;
            loaded.map_err(|error| built_in::refused(read.file.as_deref(), error)).flatten()
        });
        load.await.unwrap_or_else(|error| Err(LoadError::Ended(error)))
    }
}

/// The feeds of one plugin.
pub(super) struct PluginFeeds {
    /// The file; `None` for the built-in plugin.
    pub(super) file: Option<PathBuf>,
    /// The plugin, if it is loaded already.
    pub(super) loaded: Option<(Arc<PluginBytes>, Plugin)>,
    /// The feeds, with their numbers in the configuration.
    pub(super) feeds: Vec<(usize, FeedConfig)>,
}

/// The verdict on a feed, with the feed's number.
pub(super) type FeedVerdict = (usize, Result<Admitted, Rejected>);

impl PluginFeeds {
    /// Judges each feed; ends early if nobody receives the verdicts.
    pub(super) async fn judge(self, around: Arc<FeedSurroundings>, verdicts: UnboundedSender<FeedVerdict>) {
        let PluginFeeds { file, loaded, feeds } = self;
        let tell = |verdict: FeedVerdict| drop(verdicts.send(verdict));
        let (bytes, loaded) = match loaded {
            Some((bytes, plugin)) => (Ok(bytes), Some(plugin)),
            None => (PluginBytes::read(file).await.map(Arc::new), None),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                return feeds.into_iter().for_each(|(number, feed)| tell((number, Err(unloaded(feed, &error)))));
            }
        };
        let rejected = |rejected: Rejected| rejected.watching(bytes.seen.as_ref());
        // A plugin that does not fit its pin does not run at all.
        let (fitting, others): (Vec<_>, Vec<_>) =
            feeds.into_iter().partition(|(_, feed)| feed.pins.plugin_problem(&bytes.sha256).is_none());
        for (number, feed) in others {
            tell((number, Err(rejected(pinned_otherwise(feed, &bytes.sha256)))));
        }
        if fitting.is_empty() {
            return;
        }
        let loaded = match loaded {
            Some(plugin) => Ok(plugin),
            None => bytes.load(&around.host, &around.faults).await,
        };
        let plugin = match loaded {
            Ok(plugin) => plugin,
            Err(error) => {
                return fitting
                    .into_iter()
                    .for_each(|(number, feed)| tell((number, Err(rejected(unloaded(feed, &error))))));
            }
        };
        let doing =
            bytes.notes(&around.host, |file| format!("asking the plugin {} for its description", file.display()));
        let describing = async { not_stopped(plugin.description().await) };
        let description = around.faults.descriptions.once(bytes.key(), describing).await.flatten();
        drop(doing);
        match description {
            Ok(description) => judge_each(fitting, &plugin, &description, &bytes, &around, &verdicts).await,
            Err(error) => fitting.into_iter().for_each(|(number, feed)| {
                tell((number, Err(rejected(of_plugin(LeftOutReason::of_call(&error), feed, &error)))));
            }),
        }
    }
}

/// Judges the feeds of a plugin that gave its description, a few at a time.
async fn judge_each(
    feeds: Vec<(usize, FeedConfig)>,
    plugin: &Plugin,
    description: &Arc<Description>,
    bytes: &PluginBytes,
    around: &Arc<FeedSurroundings>,
    verdicts: &UnboundedSender<FeedVerdict>,
) {
    let mut running = JoinSet::new();
    for (number, feed) in feeds {
        // Ten thousand feeds at once would fragment the memory.
        if running.len() >= limits::CHECKS {
            running.join_next().await;
        }
        let (plugin, description, around) = (plugin.clone(), Arc::clone(description), Arc::clone(around));
        let (pins, seen, verdicts) = (feed.pins.clone(), bytes.seen.clone(), verdicts.clone());
        let doing = bytes.notes(&around.host, |_| format!("checking the settings of feed {}", feed.id));
        running.spawn(async move {
            let _doing = doing;
            let admitted = admit(plugin, &description, feed, &around).await;
            let admitted = admitted.map_err(|rejected| rejected.pinned(pins).watching(seen.as_ref()));
            drop(verdicts.send((number, admitted)));
        });
    }
    while running.join_next().await.is_some() {}
}

/// Rejects a feed whose plugin does not load.
fn unloaded(feed: FeedConfig, error: &LoadError) -> Rejected {
    let why = if error.is_of_compiler() { LeftOutReason::Compiler } else { LeftOutReason::Plugin };
    match of_plugin(why, feed, error) {
        Rejected::LeftOut(out) if !error.is_of_plugin() => Rejected::Wrong(out.problems),
        rejected => rejected,
    }
}

/// Rejects a feed whose plugin fails, or was not asked in time.
fn of_plugin(why: LeftOutReason, feed: FeedConfig, error: &(dyn Error + 'static)) -> Rejected {
    let problem = plugin_place(&feed.id, &feed.place).problem(cause::chain(error));
    Rejected::LeftOut(LeftOut::of_plugin(why, &feed.tenant, &feed.id, problem, feed.unreadable)).pinned(feed.pins)
}

/// Rejects a feed whose plugin has another digest than the pinned one.
fn pinned_otherwise(feed: FeedConfig, found: &str) -> Rejected {
    let problem = feed.pins.plugin_problem(found).into_iter();
    let others = feed.unreadable.into_iter().map(|(_, problem)| problem);
    let problems = problem.chain(others).collect();
    Rejected::LeftOut(LeftOut { problems, ..LeftOut::because(LeftOutReason::Pin, &feed.tenant, &feed.id) })
        .pinned(feed.pins)
}
