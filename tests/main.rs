//! Behaviour seen through the real component. One file a subject, one line a behaviour; nothing needs the internet.

mod cassettes;
mod component;
mod documents;
mod normalize;
mod poll;
mod support;
