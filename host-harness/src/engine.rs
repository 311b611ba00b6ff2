//! The engine that all plugins share: its limits, its clock, and compiled plugins kept on disk.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use wasmtime::component::Component;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits;

/// Compiles and runs plugins. Cheap to clone; one is enough for a process.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    cache: Option<PathBuf>,
    clock: Arc<Clock>,
    ticking: thread::Thread,
    places: Semaphore,
}

/// What the thread that counts epochs looks at.
#[derive(Default)]
struct Clock {
    running: AtomicUsize,
    stopped: AtomicBool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.clock.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }
}

impl Shared {
    fn wake(&self) {
        self.ticking.unpark();
    }
}

/// The host cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up the engine: {0}")]
pub struct HostError(String);

impl Host {
    /// Sets up the engine. Compiled plugins are kept in `cache`, a folder that nobody else may write: what is in it
    /// runs as native code.
    pub fn new(cache: Option<PathBuf>) -> Result<Host, HostError> {
        let engine = Engine::new(&config()).map_err(|error| HostError(format!("{error:#}")))?;
        let clock = Arc::new(Clock::default());
        let ticking = tick(Arc::clone(&clock), engine.clone()).map_err(|error| HostError(error.to_string()))?;
        let places = Semaphore::new(limits::CALLS as usize);
        Ok(Host { shared: Arc::new(Shared { engine, cache, clock, ticking, places }) })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Compiles a plugin, or finds it compiled.
    pub(crate) fn component(&self, bytes: &[u8]) -> wasmtime::Result<Component> {
        let Some(file) = self.cache_file(bytes) else { return Component::new(self.engine(), bytes) };
        // Code that another version of the engine compiled is refused by `deserialize`; a torn file likewise.
        #[expect(
            unsafe_code,
            reason = "the folder belongs to this user alone, and the name holds the digest of the plugin"
        )]
        let cached = fs::read(&file).ok().and_then(|code| unsafe { Component::deserialize(self.engine(), code) }.ok());
        if let Some(component) = cached {
            return Ok(component);
        }
        let component = Component::new(self.engine(), bytes)?;
        // A cache that cannot be written costs time and nothing else.
        if let Err(error) = store(&file, &component) {
            tracing::debug!(%error, file = %file.display(), "the compiled plugin is not kept");
        }
        Ok(component)
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
    pub(crate) async fn enter(&self) -> Running<'_> {
        let place = self.shared.places.acquire().await.ok();
        if self.shared.clock.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.shared.wake();
        }
        Running { shared: &self.shared, _place: place }
    }
}

/// SHA-256 as lower-case hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One call is running.
pub(crate) struct Running<'a> {
    shared: &'a Shared,
    _place: Option<tokio::sync::SemaphorePermit<'a>>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shared.clock.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts epochs while calls run, and sleeps otherwise.
fn tick(clock: Arc<Clock>, engine: Engine) -> std::io::Result<thread::Thread> {
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
fn store(file: &Path, component: &Component) -> Result<(), String> {
    let folder = file.parent().ok_or("no folder")?;
    private_folder(folder).map_err(|error| error.to_string())?;
    let code = component.serialize().map_err(|error| error.to_string())?;
    let mut beside = tempfile::NamedTempFile::new_in(folder).map_err(|error| error.to_string())?;
    beside.write_all(&code).map_err(|error| error.to_string())?;
    beside.persist(file).map_err(|error| error.to_string())?;
    Ok(())
}

fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Component model and nothing that plugins do not need; every number is in `limits`.
fn config() -> Config {
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
        .linear_memory_keep_resident(limits::WARM_MEMORY_BYTES)
        // Where the kernel tells which pages were touched, only those are cleared and kept.
        .pagemap_scan(Enabled::Auto)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(256 << 10);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .max_wasm_stack(limits::STACK_BYTES)
        .async_stack_size(limits::ASYNC_STACK_BYTES)
        .wasm_component_model(true)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false)
        .concurrency_support(false);
    config
}
