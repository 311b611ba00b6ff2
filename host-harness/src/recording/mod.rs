//! Recorded responses: a live poll as a cassette, and the plugin on a cassette.

pub mod bundled;
pub mod cassette;
mod comparison;
pub mod record;
pub mod replay;
pub mod stand_ins;
