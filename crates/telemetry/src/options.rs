//! How telemetry is kept: where, for how long, how much, and who else gets it.

use std::{path::PathBuf, time::Duration};

use model::{ByteSize, Clock};

/// What [`crate::Telemetry::open`] needs to know.
pub struct Options {
    /// The folder of the `telemetry-<n>.db` files; made when it is not there.
    pub dir: PathBuf,
    /// The clock.
    pub clock: Clock,
    /// Which traces are kept.
    pub sampling: Sampling,
    /// How long a file is kept after the last thing in it.
    pub retention: Duration,
    /// How large all files together may become.
    pub max_bytes: ByteSize,
    /// A collector that gets every kept trace.
    pub otlp: Option<OtlpExport>,
    /// Where usage outlives the process; `None` only where nothing has to (tests).
    pub ledger: Option<store::Store>,
}

/// Which traces are kept. Erroneous ones always are, within their budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Below this many traces in a second, all are kept.
    pub keep_all_below: u32,
    /// Ordinary traces kept per route and second beyond that.
    pub per_route: u32,
    /// Traces slower than their route's recent p99 kept per route and second.
    pub slow_per_route: u32,
    /// Erroneous traces kept per route and second.
    pub errors_per_route: u32,
    /// Memory for spans and lines that wait: half in the rings, half for traces whose root has not ended.
    pub memory: ByteSize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            keep_all_below: 100,
            per_route: 1,
            slow_per_route: 5,
            errors_per_route: 20,
            memory: ByteSize::mib(64),
        }
    }
}

/// An OTLP/HTTP collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpExport {
    /// `http://host:4318`; `/v1/traces` is added when there is no path.
    pub endpoint: String,
    /// Headers of every request, for collectors that want a key.
    pub headers: Vec<(String, String)>,
    /// How requests are written.
    pub encoding: OtlpEncoding,
}

impl OtlpExport {
    /// A collector that takes protobuf and wants no headers.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            headers: Vec::new(),
            encoding: OtlpEncoding::Protobuf,
        }
    }
}

/// How OTLP requests are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OtlpEncoding {
    /// `application/x-protobuf`.
    #[default]
    Protobuf,
    /// `application/json`.
    Json,
}
