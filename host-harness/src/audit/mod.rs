//! For whoever signs for a plugin: its permissions, and whether it keeps the contract.

pub mod conformance;
pub mod inspect;
