//! Wasm functions, with a real guest that is built here: `tests/guests/behaviours`.

mod answers;
mod components;
mod faults;
mod hostile;
mod neighbours;
mod outbound;
mod platform;
mod preview3;
mod reuse;
mod streams;
