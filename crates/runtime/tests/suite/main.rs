//! The runtime against real processes: what its users see, from outside.

mod launcher;
mod support;
mod wasm;
