//! OTLP/HTTP, traces only: kept traces go out to a collector, spans of instrumented workloads come in.
//!
//! The listener belongs to someone else: this reads and writes its bodies.

mod convert;
pub(crate) mod export;
mod receive;

pub use receive::{BODY, Received, Refused, Sender, answer, receive};
