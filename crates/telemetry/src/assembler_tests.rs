//! Keep and drop decisions, with the time in hand.

use std::time::Duration;

use model::{AppName, ByteSize, SpanId, Time, TraceId, WorkloadName};

use super::*;
use crate::span::{Attributes, SpanKind};

/// Nothing is kept but what must be.
const STRICT: Sampling = Sampling {
    keep_all_below: 0,
    per_route: 0,
    slow_per_route: 1,
    errors_per_route: 10,
    memory: ByteSize::mib(1),
};

/// A span that took a millisecond; a span without parent is the gateway's.
pub(crate) fn span(trace: u128, id: u64, parent: Option<u64>) -> Span {
    Span {
        trace: TraceId(trace),
        id: SpanId(id),
        parent: parent.map(SpanId),
        name: "GET /".into(),
        kind: SpanKind::Server,
        start: Time(1_000_000 + id),
        end: Time(1_001_000 + id),
        app: Some(AppName::literal("shop")),
        workload: Some(WorkloadName::literal("web")),
        invocation: None,
        error: None,
        attributes: Attributes::default(),
        local_root: parent.is_none(),
    }
}

fn delivery(trace: u128, id: u64, parent: u64) -> Span {
    Span {
        kind: SpanKind::Consumer,
        local_root: true,
        ..span(trace, id, Some(parent))
    }
}

fn failed(span: Span) -> Span {
    Span {
        error: Some("it broke".to_owned()),
        ..span
    }
}

/// An assembler with what it kept so far.
struct Bench {
    assembler: Assembler,
    now: Time,
    kept: Vec<Segment>,
}

impl Bench {
    fn new(sampling: Sampling) -> Self {
        Self {
            assembler: Assembler::new(sampling, 1 << 20, Arc::new(Early::new(0, 1))),
            now: Time::from_millis(1_000_000),
            kept: Vec::new(),
        }
    }

    fn take(&mut self, spans: impl IntoIterator<Item = Span>) -> &mut Self {
        for span in spans {
            self.assembler.take(span, self.now, &mut self.kept);
        }
        self.round()
    }

    fn round(&mut self) -> &mut Self {
        self.assembler.round(self.now, &mut self.kept);
        self
    }

    fn later(&mut self, seconds: u64) -> &mut Self {
        self.now = self.now + Duration::from_secs(seconds);
        self.round()
    }

    /// Ids of the kept spans of `trace`.
    fn kept(&self, trace: u128) -> Vec<u64> {
        let segments = self.kept.iter().filter(|s| s.trace == TraceId(trace));
        let mut ids: Vec<u64> = segments.flat_map(|s| &s.spans).map(|s| s.id.0).collect();
        ids.sort_unstable();
        ids
    }
}

#[test]
fn a_trace_is_kept_whole_once_its_root_has_ended() {
    let mut bench = Bench::new(Sampling::default());
    bench
        .take([span(1, 2, Some(1)), span(1, 3, Some(2))])
        .round();
    assert!(bench.kept(1).is_empty());
    bench.take([span(1, 1, None)]).round();
    assert_eq!(bench.kept(1), [1, 2, 3]);
}

#[test]
fn a_span_that_another_core_hands_in_late_counts() {
    let mut bench = Bench::new(STRICT);
    bench
        .take([span(1, 1, None)])
        .take([failed(span(1, 2, Some(1)))]);
    assert_eq!(bench.kept(1), [1, 2]);
}

#[test]
fn one_error_anywhere_keeps_the_whole_trace() {
    let mut bench = Bench::new(STRICT);
    bench.take([
        span(1, 3, Some(2)),
        failed(span(1, 2, Some(1))),
        span(1, 1, None),
    ]);
    bench.take([span(2, 2, Some(1)), span(2, 1, None)]).round();
    assert_eq!(bench.kept(1), [1, 2, 3]);
    assert!(bench.kept(2).is_empty());
    assert_eq!(
        (
            bench.assembler.decisions.error,
            bench.assembler.decisions.dropped
        ),
        (1, 1)
    );
}

#[test]
fn a_delivery_minutes_later_follows_its_trace() {
    let mut bench = Bench::new(Sampling {
        per_route: 1,
        ..STRICT
    });
    bench.take([span(1, 1, None), span(2, 1, None)]).round();
    bench.later(600);
    bench
        .take([span(1, 3, Some(2)), delivery(1, 2, 1)])
        .take([span(2, 3, Some(2)), delivery(2, 2, 1)]);
    bench.later(600);
    assert_eq!(bench.kept(1), [1, 2, 3]);
    assert!(bench.kept(2).is_empty());
    assert_eq!(bench.assembler.decisions.late_dropped, 2);
}

#[test]
fn a_failed_delivery_of_a_dropped_trace_is_kept_with_what_it_did() {
    let mut bench = Bench::new(STRICT);
    bench.take([span(1, 1, None)]).round();
    bench
        .take([span(1, 3, Some(2)), failed(delivery(1, 2, 1))])
        .later(6);
    assert_eq!(bench.kept(1), [2, 3]);
    bench.take([delivery(1, 4, 1)]);
    assert_eq!(bench.kept(1), [2, 3, 4]);
}

#[test]
fn a_delivery_that_ends_before_its_request_waits_for_it() {
    let mut bench = Bench::new(STRICT);
    bench.take([delivery(1, 2, 1)]).later(3);
    bench.take([failed(span(1, 1, None))]).round();
    assert_eq!(bench.kept(1), [1, 2]);
    let mut alone = Bench::new(Sampling::default());
    alone.take([delivery(1, 2, 1)]).later(4);
    assert!(alone.kept(1).is_empty());
    alone.later(1);
    assert_eq!(alone.kept(1), [2]);
}

#[test]
fn spans_without_a_root_do_not_wait_for_ever() {
    let mut bench = Bench::new(Sampling::default());
    bench.take([span(1, 2, Some(1))]).later(119);
    assert_eq!(bench.assembler.spans_of(TraceId(1)).len(), 1);
    bench.later(1);
    assert_eq!(bench.kept(1), [2]);
    assert_eq!(bench.assembler.undecided().count(), 0);
}

#[test]
fn memory_is_bounded_by_deciding_early() {
    let mut bench = Bench::new(STRICT);
    let many = 4 * (1 << 20) / span(1, 2, Some(1)).weight() as u128;
    for trace in 1..=many {
        bench.take([span(trace, 2, Some(1))]);
        assert!(bench.assembler.bytes <= 1 << 20);
    }
    assert!(bench.assembler.decisions.early > 0);
    assert!(bench.assembler.undecided().count() > 100);
}

#[test]
fn stopping_decides_about_everything() {
    let mut bench = Bench::new(Sampling::default());
    bench.take([span(1, 2, Some(1)), span(2, 1, None)]);
    let (now, mut out) = (bench.now, Vec::new());
    bench.assembler.finish(now, &mut out);
    bench.kept.extend(out);
    assert_eq!((bench.kept(1), bench.kept(2)), (vec![2], vec![1]));
    assert_eq!(bench.assembler.bytes, 0);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut decided = Decided::default();
    let most = REMEMBERED as u128;
    (1..=most + 10).for_each(|n| decided.remember(TraceId(n), Fate::Dropped));
    assert_eq!(
        (decided.fates.len(), decided.dropped.len()),
        (REMEMBERED, REMEMBERED)
    );
    assert_eq!(decided.fate(TraceId(10)), None);
    assert_eq!(decided.fate(TraceId(11)), Some(Fate::Dropped));
}

#[test]
fn a_trace_kept_after_it_was_dropped_outlives_the_dropped_ones() {
    let mut decided = Decided::default();
    decided.remember(TraceId(1), Fate::Dropped);
    decided.remember(TraceId(1), Fate::Kept);
    let most = REMEMBERED as u128;
    (2..=most + 1).for_each(|n| decided.remember(TraceId(n), Fate::Dropped));
    assert_eq!(decided.fate(TraceId(1)), Some(Fate::Kept));
    assert_eq!(decided.fate(TraceId(2)), Some(Fate::Dropped));
}
