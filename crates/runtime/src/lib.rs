//! Where code runs: Wasm components, Lambda handlers, processes, and what others run for us.
//!
//! This crate knows no store, no bus and no gateway. What it needs from above it asks of [`Host`], implemented in
//! `platform::host`. It takes an invocation that was already admitted, and gives back a response whose body may
//! still be running, with a [`Meter`] that says in the end what was used and what went wrong.

pub mod body;
pub mod call;
pub mod host;
pub mod launcher;
pub mod pool;

pub use body::{Body, BodyError};
pub use call::{FunctionError, Input, LogTail, Meter, Ran, Upgrade};
pub use host::{Caller, Host, LogLine, LogStream, Presence, Working};
