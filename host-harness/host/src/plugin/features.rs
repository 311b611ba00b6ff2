//! The WebAssembly features that plugins may use. The compiler and the engine that runs the code must agree on them.

use wasmtime::{Config, Engine, WasmFeatures};

use crate::limits;

/// Makes an engine for the compiler, which compiles and runs nothing itself.
pub(super) fn compiler() -> wasmtime::Result<Engine> {
    Engine::new(&features())
}

/// The WebAssembly proposals that plugins may use. Compilers emit them by default: those of Rust, C, C++ and Go emit
/// all or part of WebAssembly 2.0; extended constant expressions belong to LLVM's set `lime1`. Every other proposal is
/// off, also those that a later engine enables by default, because each is code in the compiler and the engine that an
/// attacker could reach.
const ALLOWED: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::LIME1)
    .union(WasmFeatures::COMPONENT_MODEL)
    // References to values of the host need a garbage collector, which this engine does not have.
    .difference(WasmFeatures::GC_TYPES);

/// The configuration that the compiler and the engine which runs the code share.
pub(super) fn features() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(limits::STACK_BYTES)
        .async_stack_size(limits::ASYNC_STACK_BYTES)
        .concurrency_support(false)
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(ALLOWED, true);
    config
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash, Hasher};

    use super::*;

    /// The engine's part of the name under which code is cached.
    fn key(config: &Config) -> u64 {
        let mut hasher = DefaultHasher::new();
        Engine::new(config).unwrap().precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn code_that_was_kept_with_other_features_is_not_looked_for() {
        assert_eq!(key(&features()), key(&features()));
        for feature in [WasmFeatures::TAIL_CALL, WasmFeatures::FUNCTION_REFERENCES, WasmFeatures::WIDE_ARITHMETIC] {
            assert_ne!(key(features().wasm_features(feature, true)), key(&features()), "{feature:?}");
        }
    }
}
