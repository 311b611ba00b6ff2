//! Tools for those who approve a plugin: its permissions, and whether it follows the contract.

pub mod conformance;
pub mod inspect;
