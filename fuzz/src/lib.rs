//! Properties that must hold for any input, as functions that take bytes: the fuzzers call them, and the tests call
//! them with every input of the corpus.

pub mod guest;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "host")]
pub mod hostile;
