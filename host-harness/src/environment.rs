//! The environment of this process, which every other file takes as an argument, and the program's name.

use std::ffi::OsString;

/// The product that requests to services and receivers name in the header `user-agent`.
pub const PRODUCT: &str = concat!("host-harness/", env!("CARGO_PKG_VERSION"));

/// Reads a variable, unchanged.
pub fn variable(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    std::env::var_os(name)
}

/// Reads a variable as text; invalid UTF-8 in its value becomes U+FFFD.
pub fn text(name: &str) -> Option<String> {
    Some(variable(name)?.to_string_lossy().into_owned())
}
