//! The runtime against real processes: what its users see, from outside.

mod container;
mod external;
mod lambda;
mod launcher;
mod limits;
mod probes;
mod process;
mod scaling;
mod stage;
mod support;
mod traffic;
mod wasm;
