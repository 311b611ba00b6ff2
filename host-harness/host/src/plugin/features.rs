//! The features of WebAssembly that plugins have: the compiler and the engine that runs the code must agree on them.

use wasmtime::{Config, Engine};

use crate::limits;

/// Compiles without running anything, for the compiler.
pub(super) fn precompile(plugin: &[u8]) -> wasmtime::Result<Vec<u8>> {
    Engine::new(&features())?.precompile_component(plugin)
}

/// What code may do; the compiler and the engine that runs it must agree on it.
pub(super) fn features() -> Config {
    let mut config = Config::new();
    config
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
