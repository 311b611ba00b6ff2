//! Secrets of feeds: where the host keeps them, how they sign, when they expire, and how they stay out of every output.

pub mod assertion;
pub mod certificates;
pub mod client_certificate;
pub mod expiry;
pub mod redact;
pub mod sealed;
pub mod secret;
pub mod settings;
pub mod spelling;
