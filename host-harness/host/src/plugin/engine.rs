//! The engine that all plugins share: its limits and its clock.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Semaphore;
use wasmtime::component::Component;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::digest::digest;
use crate::limits;
use crate::plugin::cache::{self, Cache, CacheError};
use crate::plugin::compiler::{self, CompileError, Compiler, EngineRefusal};
use crate::plugin::features::features;
use crate::plugin::known::KnownPlugin;
use crate::plugin::standstill::{self, Standstills};
use crate::progress::Progress;

/// Compiles and runs plugins. Cheap to clone; one host is enough for a process.
#[derive(Clone)]
pub struct Host {
    shared: Arc<HostInner>,
}

struct HostInner {
    engine: Engine,
    cache: Option<Cache>,
    compiler: Compiler,
    trusted: Vec<Trusted>,
    known: &'static [KnownPlugin],
    clock: Arc<EpochClock>,
    ticking: thread::Thread,
    places: Semaphore,
    compiles: CompilePlaces,
    progress: Progress,
    counts_instructions: bool,
}

/// Slots for compilers. A thread that waits for a slot has no other work.
#[derive(Default)]
struct CompilePlaces {
    taken: Mutex<usize>,
    left: Condvar,
}

impl CompilePlaces {
    fn take(&self) -> CompilePlace<'_> {
        let mut taken = self.taken.lock();
        self.left.wait_while(&mut taken, |taken| *taken >= limits::COMPILES);
        *taken += 1;
        CompilePlace(self)
    }
}

/// A taken slot.
struct CompilePlace<'a>(&'a CompilePlaces);

impl Drop for CompilePlace<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock() -= 1;
        self.0.left.notify_one();
    }
}

/// The state that the thread which counts epochs reads.
#[derive(Default)]
struct EpochClock {
    running: AtomicUsize,
    stopped: AtomicBool,
    standstills: Standstills,
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

/// The setup of a host. By default, a host compiles nothing and keeps nothing.
#[derive(Default)]
pub struct Setup {
    /// The folder of compiled plugins. Nobody else may be able to write it, because its files run as native code.
    pub cache: Option<PathBuf>,
    /// Compiles the plugins that are not in the cache.
    pub compiler: Compiler,
    /// Plugins that this process compiles itself if `compiler` cannot.
    pub trusted: Vec<Trusted>,
    /// Plugins about which the embedder knows more than the contract says.
    pub known: &'static [KnownPlugin],
    /// Notes of the work in progress.
    pub progress: Progress,
    /// Counts the instructions of plugins, for measurements: plugins run slower, and only `Compiler::ThisProcess` compiles
    /// them.
    pub counts_instructions: bool,
}

/// A plugin whose author is trusted not to exhaust the compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// Digest of the component in lower-case hexadecimal.
    pub sha256: String,
    /// Its name for people, such as `the built-in plugin`.
    pub name: &'static str,
}

/// The host cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up the engine")]
pub struct HostError(#[source] Box<dyn Error + Send + Sync>);

impl Host {
    /// Sets up the engine.
    pub fn new(setup: Setup) -> Result<Host, HostError> {
        let Setup { cache, compiler, trusted, known, progress, counts_instructions } = setup;
        let engine =
            Engine::new(config().consume_fuel(counts_instructions)).map_err(|error| HostError(error.into()))?;
        let clock = Arc::new(EpochClock::default());
        let ticking = tick(Arc::clone(&clock), engine.clone()).map_err(|error| HostError(error.into()))?;
        let cache = cache.map(|folder| Cache { folder });
        let places = Semaphore::new(limits::CALLS as usize);
        let compiles = CompilePlaces::default();
        let shared = HostInner {
            engine,
            cache,
            compiler,
            trusted,
            known,
            clock,
            ticking,
            places,
            compiles,
            progress,
            counts_instructions,
        };
        Ok(Host { shared: Arc::new(shared) })
    }

    /// Notes of the work in progress.
    pub fn progress(&self) -> &Progress {
        &self.shared.progress
    }

    /// Returns the knowledge about the plugin with this name.
    pub(crate) fn known(&self, name: &str) -> KnownPlugin {
        let known = self.shared.known.iter().find(|known| known.name == name);
        known.copied().unwrap_or(KnownPlugin::UNKNOWN)
    }

    /// Says whether the host counts the instructions of plugins.
    pub(crate) fn counts_instructions(&self) -> bool {
        self.shared.counts_instructions
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Compiles a plugin, or loads its code from the cache.
    pub(crate) fn component(&self, bytes: &[u8]) -> Result<Component, CompileError> {
        let refused = |error: wasmtime::Error| CompileError::Refused(EngineRefusal::new(error));
        let name = self.kept_as(bytes);
        let mut cache = self.shared.cache.as_ref();
        match cache.map_or(Ok(None), |cache| cache.load(&name)) {
            // The engine may refuse intact code, such as code for another processor.
            Ok(code) => {
                if let Some(component) = code.and_then(|code| self.native(&code).ok()) {
                    return Ok(component);
                }
            }
            Err(why @ CacheError::File { .. }) => {
                tracing::warn!("{why}; the plugin is compiled again, and the file replaced")
            }
            Err(why @ CacheError::Folder { .. }) => {
                tracing::warn!("the cache is not used, and each start compiles its plugins again: {why}");
                cache = None;
            }
        }
        let sha256 = digest(bytes);
        let trusted = self.shared.trusted.iter().find(|one| one.sha256 == sha256);
        let which = trusted.map_or("a plugin", |one| one.name);
        self.progress().announce(&match cache {
            Some(cache) => format!("compiling {which}, once: its code is kept in {}", cache.folder.display()),
            None => format!("compiling {which}"),
        });
        let code = match &self.shared.compiler {
            // The end of its process frees everything that a compiler used.
            Compiler::Program(program, limits) => {
                let _place = trusted.is_none().then(|| self.shared.compiles.take());
                match compiler::compile(program, limits, bytes) {
                    Err(CompileError::Host(_)) if trusted.is_some() => {
                        self.engine().precompile_component(bytes).map_err(refused)?
                    }
                    code => code?,
                }
            }
            Compiler::Nobody if trusted.is_none() => return Err(CompileError::Nobody),
            Compiler::Nobody | Compiler::ThisProcess => self.engine().precompile_component(bytes).map_err(refused)?,
        };
        // If the cache cannot be written, each start only takes longer.
        if let Some(Err(why)) = cache.map(|cache| cache.store(&name, &code)) {
            tracing::warn!("the compiled plugin is not kept, and each start compiles it again: {why}");
        }
        self.native(&code).map_err(refused)
    }

    #[expect(
        unsafe_code,
        reason = "compiled here, or by a child of this process and handed over by a pipe, or read from a folder that \
                  belongs to this user alone, under the digest of the plugin and with the digest of the code"
    )]
    fn native(&self, code: &[u8]) -> wasmtime::Result<Component> {
        unsafe { Component::deserialize(self.engine(), code) }
    }

    /// The name of a plugin's code in the cache: the plugin's digest, and a hash of the file's format and the engine's
    /// compatibility.
    fn kept_as(&self, bytes: &[u8]) -> String {
        use std::hash::{Hash, Hasher};
        let mut hasher = std::hash::DefaultHasher::new();
        cache::MAGIC.hash(&mut hasher);
        self.engine().precompile_compatibility_hash().hash(&mut hasher);
        format!("{}-{:016x}.cwasm", digest(bytes), hasher.finish())
    }

    /// Waits for a slot for one call, and keeps the epoch clock running while the slot is held.
    pub(crate) async fn enter(&self) -> CallPermit<'_> {
        let place = self.shared.places.acquire().await.ok();
        if self.shared.clock.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.shared.wake();
        }
        CallPermit { shared: &self.shared, _place: place, stood: self.stood_still() }
    }

    /// The time that the process stood still so far, as far as calls were running.
    pub(crate) fn stood_still(&self) -> Duration {
        self.shared.clock.standstills.total(standstill::now())
    }
}

/// A call that is running.
pub(crate) struct CallPermit<'a> {
    shared: &'a HostInner,
    _place: Option<tokio::sync::SemaphorePermit<'a>>,
    /// The time that the process stood still before the call.
    stood: Duration,
}

impl CallPermit<'_> {
    /// The time that the process stood still during the call.
    pub(crate) fn stood_still(&self) -> Duration {
        self.shared.clock.standstills.total(standstill::now()).saturating_sub(self.stood)
    }
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
                clock.standstills.pause();
                thread::park();
            } else {
                clock.standstills.look(standstill::now());
                thread::sleep(limits::EPOCH_TICK);
                engine.increment_epoch();
            }
        }
    };
    Ok(thread::Builder::new().name("epochs".to_owned()).spawn(run)?.thread().clone())
}

/// Opens the process's own page map, with which engines find the pages that a call touched. This must come before the
/// process hides its memory (`privileges`): afterwards the page map cannot be opened, and engines would clear all pages
/// instead.
pub fn open_page_map() {
    // The engine keeps the file open for the life of the process.
    let _ = PoolingAllocationConfig::is_pagemap_scan_available();
}

/// Enables the component model and only the features that plugins need; every number is in `limits`.
fn config() -> Config {
    // A kernel that cannot tell which pages were touched would clear and keep all pages of every slot ever used.
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
