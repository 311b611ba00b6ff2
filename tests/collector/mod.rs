//! The collector on a clock that jumps: shared waits, lost permissions, changing configurations.

mod configurations;
mod counts;
mod fleet;
mod many;
mod memory;
mod permissions;
mod scene;
mod store;
mod waits;
