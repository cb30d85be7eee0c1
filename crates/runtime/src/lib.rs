//! Where code runs: Wasm components, Lambda handlers, processes, and what others run for us.
//!
//! This crate knows no store, no bus and no gateway. What it needs from above it asks of [`Host`], implemented in
//! `platform::host`. It takes an invocation that was already admitted, and gives back a response whose body may
//! still be running, with a [`Meter`] that says in the end what was used and what went wrong.

pub mod body;
pub mod call;
pub mod container;
mod egress;
pub mod external;
mod flights;
pub mod host;
pub mod http_input;
pub mod keyvalue;
pub mod lambda;
pub mod launcher;
mod lines;
pub mod pool;
pub mod process;
#[cfg(target_os = "linux")]
mod sock_diag;
mod trust;
mod upstream;
pub mod wasm;
pub mod webhook;

pub use body::{Body, BodyError};
pub use call::{FunctionError, Inferred, Input, LOG_TAIL, LogTail, Meter, Ran, Upgrade};
pub use host::{Caller, Host, LogLine, LogStream, Presence, Working};
pub use pool::{
    Context, Ended, Failure, InstanceStat, InstanceState, Pool, PoolStats, Runtime, Spec,
};
