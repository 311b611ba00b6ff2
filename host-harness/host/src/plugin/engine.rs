//! The engine that all plugins share: its limits, its clock, and compiled plugins kept on disk.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tokio::sync::Semaphore;
use wasmtime::component::Component;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::digest::digest;
use crate::limits;
use crate::plugin::compiler::{self, CompileError, Compiler};
use crate::plugin::features::features;
use crate::progress::Progress;
use crate::text;

/// Compiles and runs plugins. Cheap to clone; one is enough for a process.
#[derive(Clone)]
pub struct Host {
    shared: Arc<HostInner>,
}

struct HostInner {
    engine: Engine,
    cache: Option<PathBuf>,
    compiler: Compiler,
    trusted: Vec<Trusted>,
    clock: Arc<EpochClock>,
    ticking: thread::Thread,
    places: Semaphore,
    progress: Progress,
}

/// What the thread that counts epochs looks at.
#[derive(Default)]
struct EpochClock {
    running: AtomicUsize,
    stopped: AtomicBool,
}

impl Drop for HostInner {
    fn drop(&mut self) {
        self.clock.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }
}

impl HostInner {
    fn wake(&self) {
        self.ticking.unpark();
    }
}

/// How a host is set up; by default a host compiles nothing and keeps nothing.
#[derive(Default)]
pub struct Setup {
    /// Where compiled plugins are kept: a folder that nobody else may write, for the files in it run as native code.
    pub cache: Option<PathBuf>,
    /// Compiles the plugins that are not in the cache.
    pub compiler: Compiler,
    /// Plugins that this process compiles itself where `compiler` cannot.
    pub trusted: Vec<Trusted>,
    /// Where it is noted what is being done.
    pub progress: Progress,
}

/// A plugin whose author is trusted not to exhaust the compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// Digest of the component, lower-case hexadecimal.
    pub sha256: String,
    /// Its name for people, such as `the built-in plugin`.
    pub name: &'static str,
}

/// The host cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up the engine: {0}")]
pub struct HostError(String);

impl Host {
    /// Sets up the engine.
    pub fn new(setup: Setup) -> Result<Host, HostError> {
        let Setup { cache, compiler, trusted, progress } = setup;
        let engine = Engine::new(&config()).map_err(|error| HostError(format!("{error:#}")))?;
        let clock = Arc::new(EpochClock::default());
        let ticking = tick(Arc::clone(&clock), engine.clone()).map_err(|error| HostError(error.to_string()))?;
        let places = Semaphore::new(limits::CALLS as usize);
        Ok(Host { shared: Arc::new(HostInner { engine, cache, compiler, trusted, clock, ticking, places, progress }) })
    }

    /// Where it is noted what is being done.
    pub fn progress(&self) -> &Progress {
        &self.shared.progress
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Compiles a plugin, or finds it compiled.
    pub(crate) fn component(&self, bytes: &[u8]) -> Result<Component, CompileError> {
        let refused = |error: wasmtime::Error| CompileError::Refused(text::plain(&format!("{error:#}")));
        let file = self.cache_file(bytes);
        if let Some(component) = file.as_ref().and_then(|file| self.kept(file)) {
            return Ok(component);
        }
        let sha256 = digest(bytes);
        let trusted = self.shared.trusted.iter().find(|one| one.sha256 == sha256);
        let which = trusted.map_or("a plugin", |one| one.name);
        self.progress().announce(&match file.as_ref().and_then(|file| file.parent()) {
            Some(folder) => format!("compiling {which}, once: its code is kept in {}", folder.display()),
            None => format!("compiling {which}"),
        });
        let code = match &self.shared.compiler {
            // What a compiler takes, and leaves behind, is gone with its process.
            Compiler::Program(program, limits) => match compiler::compile(program, limits, bytes) {
                Err(CompileError::Host(_)) if trusted.is_some() => {
                    self.engine().precompile_component(bytes).map_err(refused)?
                }
                code => code?,
            },
            Compiler::Nobody if trusted.is_none() => return Err(CompileError::Nobody),
            Compiler::Nobody | Compiler::ThisProcess => self.engine().precompile_component(bytes).map_err(refused)?,
        };
        // A cache that cannot be written costs time at each start and nothing else.
        if let Some(file) = file
            && let Err(error) = store(&file, &code)
        {
            tracing::warn!(%error, file = %file.display(), "the compiled plugin is not kept: each start compiles it anew");
        }
        self.native(&code).map_err(refused)
    }

    /// What the cache holds, if the folder is this user's alone. Code that another version of the engine compiled is
    /// refused by the engine; a torn file likewise.
    fn kept(&self, file: &Path) -> Option<Component> {
        if !is_private(file.parent()?) {
            tracing::warn!(folder = %file.parent()?.display(), "others may write to the cache: it is not used");
            return None;
        }
        self.native(&fs::read(file).ok()?).ok()
    }

    #[expect(
        unsafe_code,
        reason = "compiled here, or by a child of this process and handed over by a pipe, or read from a folder that \
                  belongs to this user alone under the digest of the plugin"
    )]
    fn native(&self, code: &[u8]) -> wasmtime::Result<Component> {
        unsafe { Component::deserialize(self.engine(), code) }
    }

    /// Named by the plugin's digest and the engine's compatibility hash.
    fn cache_file(&self, bytes: &[u8]) -> Option<PathBuf> {
        use std::hash::{Hash, Hasher};
        let folder = self.shared.cache.as_ref()?;
        let mut hasher = std::hash::DefaultHasher::new();
        self.engine().precompile_compatibility_hash().hash(&mut hasher);
        Some(folder.join(format!("{}-{:016x}.cwasm", digest(bytes), hasher.finish())))
    }

    /// Takes a place for one call, waiting for it, and keeps the clock going while it is held.
    pub(crate) async fn enter(&self) -> CallPermit<'_> {
        let place = self.shared.places.acquire().await.ok();
        if self.shared.clock.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.shared.wake();
        }
        CallPermit { shared: &self.shared, _place: place }
    }
}

/// One call is running.
pub(crate) struct CallPermit<'a> {
    shared: &'a HostInner,
    _place: Option<tokio::sync::SemaphorePermit<'a>>,
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        self.shared.clock.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts epochs while calls run, and sleeps otherwise.
fn tick(clock: Arc<EpochClock>, engine: Engine) -> std::io::Result<thread::Thread> {
    let run = move || {
        while !clock.stopped.load(Ordering::SeqCst) {
            if clock.running.load(Ordering::SeqCst) == 0 {
                thread::park();
            } else {
                thread::sleep(limits::EPOCH_TICK);
                engine.increment_epoch();
            }
        }
    };
    Ok(thread::Builder::new().name("epochs".to_owned()).spawn(run)?.thread().clone())
}

/// Writes beside and renames, so that a reader never sees a torn file.
fn store(file: &Path, code: &[u8]) -> Result<(), String> {
    let folder = file.parent().ok_or("no folder")?;
    private_folder(folder).map_err(|error| error.to_string())?;
    if !is_private(folder) {
        return Err("others may write there".to_owned());
    }
    let mut beside = tempfile::NamedTempFile::new_in(folder).map_err(|error| error.to_string())?;
    beside.write_all(code).map_err(|error| error.to_string())?;
    beside.persist(file).map_err(|error| error.to_string())?;
    Ok(())
}

fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    builder.mode(0o700);
    builder.create(folder)
}

/// Whether a folder is this user's, and nobody else may write to it. One that does not exist is.
fn is_private(folder: &Path) -> bool {
    let Ok(found) = fs::metadata(folder) else { return true };
    found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0
}

/// Component model and nothing that plugins do not need; every number is in `limits`.
fn config() -> Config {
    // A kernel that cannot tell which pages were touched would clear and keep them all, for every place ever used.
    let scans = PoolingAllocationConfig::is_pagemap_scan_available();
    let warm = |bytes: usize| if scans { bytes } else { 0 };
    let mut pool = PoolingAllocationConfig::new();
    let cores = limits::CALLS * limits::CORE_INSTANCES_PER_COMPONENT;
    pool.total_component_instances(limits::CALLS)
        .total_core_instances(cores)
        .total_memories(limits::CALLS)
        .total_tables(cores)
        .total_stacks(limits::CALLS)
        .max_core_instances_per_component(limits::CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(1)
        .max_tables_per_component(limits::CORE_INSTANCES_PER_COMPONENT)
        .max_memory_size(crate::limits::Limits::default().memory_bytes)
        .table_elements(crate::limits::Limits::default().table_elements)
        .max_unused_warm_slots(limits::WARM_PLACES)
        .linear_memory_keep_resident(warm(limits::WARM_MEMORY_BYTES))
        .pagemap_scan(Enabled::Auto)
        .table_keep_resident(warm(64 << 10))
        .async_stack_keep_resident(warm(256 << 10));
    let mut config = features();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
