//! Tools for those who approve a plugin, or write a host: the permissions of a plugin, whether it follows the contract, and
//! whether a host keeps its duties.

pub mod conformance;
pub mod duties;
pub mod inspect;
