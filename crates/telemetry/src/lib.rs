//! Traces, logs, metrics and the usage ledger; OTLP in and out.
//!
//! Recording never waits: spans and lines go into bounded rings, counters into per-core tables, and a thread of
//! its own does the rest. A trace is kept or dropped whole when its local root ends. What was lost to a bound is
//! counted, and the counts are in [`Stats`].

mod assembler;
mod buffer;
mod codec;
mod early;
mod error;
mod files;
mod follow;
mod histogram;
mod ledger;
mod log;
mod metrics;
mod options;
pub mod otlp;
mod query;
mod recorder;
mod refusals;
pub mod render;
mod ring;
mod sampler;
mod search;
mod span;
mod telemetry;
mod text;
mod usage;

pub use buffer::{Ended, SpanBuffer};
pub use early::{Gate, Root};
pub use error::Error;
pub use follow::{Follow, Followed};
pub use log::{LogRecord, LogStream};
pub use options::{Options, OtlpEncoding, OtlpExport, Sampling};
pub use query::{LogQuery, Trace, TraceQuery, TraceSummary};
pub use recorder::Stats;
pub use refusals::{Full, Refusals};
pub use span::{AttrValue, Attributes, Span, SpanKind};
pub use telemetry::Telemetry;
pub use text::Text;
pub use usage::{ColdStarts, UsageFilter, UsageKey, UsageRow};
