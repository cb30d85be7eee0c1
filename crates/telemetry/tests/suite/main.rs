//! Telemetry as its users see it: a folder, a clock, records in, questions answered.

#![allow(missing_docs, reason = "a test binary exports nothing")]

mod files;
mod logs;
mod otlp;
mod traces;
mod usage;

use std::{path::Path, time::Duration};

use model::{ByteSize, Clock, InstanceId, InvocationId, Name, SpanId, Time, TraceId};
use telemetry::{Attributes, LogRecord, LogStream, Options, Sampling, Span, SpanKind, Telemetry};

/// 2026-11-21T08:00:00Z.
const START: Time = Time::from_millis(1_795_248_000_000);

/// What a test opens and may open again.
struct House {
    dir: tempfile::TempDir,
    clock: Clock,
}

impl House {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("temp dir"),
            clock: Clock::virtual_at(START),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("telemetry")
    }

    fn open(&self) -> Telemetry {
        Telemetry::open(options(&self.path(), &self.clock)).expect("opens")
    }
}

fn options(dir: &Path, clock: &Clock) -> Options {
    Options {
        dir: dir.to_owned(),
        clock: clock.clone(),
        sampling: Sampling::default(),
        retention: Duration::from_secs(24 * 3600),
        max_bytes: ByteSize::mib(64),
        otlp: None,
        ledger: None,
    }
}

/// A span of `shop/WORKLOAD` that began `after` milliseconds after the start and took five.
fn span(trace: u128, id: u64, parent: Option<u64>, workload: &str, after: u64) -> Span {
    let start = Time::from_millis(START.as_millis() + after);
    Span {
        trace: TraceId(trace),
        id: SpanId(id),
        parent: parent.map(SpanId),
        name: format!("GET /{workload}").into(),
        kind: SpanKind::Server,
        start,
        end: start + Duration::from_millis(5),
        app: Some(Name::literal("shop")),
        workload: Some(Name::new(workload).expect("a name")),
        invocation: Some(invocation(u128::from(id))),
        error: None,
        attributes: Attributes::default(),
        local_root: parent.is_none(),
    }
}

fn failed(span: Span) -> Span {
    Span {
        error: Some("it broke".to_owned()),
        ..span
    }
}

fn line(workload: &str, invoked: u128, trace: u128, text: &str, at: Time) -> LogRecord {
    LogRecord {
        time: at,
        app: Name::literal("shop"),
        workload: Name::new(workload).expect("a name"),
        instance: InstanceId(uuid::Uuid::from_u128(1)),
        invocation: Some(invocation(invoked)),
        trace: Some(TraceId(trace)),
        stream: LogStream::Stdout,
        text: text.to_owned(),
    }
}

fn invocation(n: u128) -> InvocationId {
    InvocationId(uuid::Uuid::from_u128(n))
}
