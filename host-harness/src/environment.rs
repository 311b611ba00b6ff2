//! The environment of this process, which everything but this file takes as an argument, and the program's name in it.

use std::ffi::OsString;

/// The product that requests to services and receivers name in the header `user-agent`.
pub const PRODUCT: &str = concat!("host-harness/", env!("CARGO_PKG_VERSION"));

/// A variable, to the letter.
pub fn variable(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    std::env::var_os(name)
}

/// A variable as text; what is no UTF-8 in its value comes as U+FFFD.
pub fn text(name: &str) -> Option<String> {
    Some(variable(name)?.to_string_lossy().into_owned())
}
