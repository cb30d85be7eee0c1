//! Trees as they are printed.

use model::{InstanceId, InvocationId, Name, SpanId, TraceId};
use uuid::Uuid;

use super::*;
use crate::{
    log::{LogRecord, LogStream},
    span::{AttrValue, Attributes, Span, SpanKind},
};

const START: u64 = 1_795_251_300_123_456;

fn invocation(n: u128) -> InvocationId {
    InvocationId(Uuid::from_u128(n))
}

/// A span of the platform from `from` to `to`, microseconds after the start.
fn span(id: u64, parent: Option<u64>, name: &'static str, from: u64, to: u64) -> Span {
    Span {
        trace: TraceId(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
        id: SpanId(id),
        parent: parent.map(SpanId),
        name: name.into(),
        kind: SpanKind::Server,
        start: Time(START + from),
        end: Time(START + to),
        app: Some(Name::literal("shop")),
        workload: None,
        invocation: None,
        error: None,
        attributes: Attributes::default(),
        local_root: false,
    }
}

fn of(workload: &'static str, tier: &'static str, runtime: &'static str, span: Span) -> Span {
    let mut attributes = span.attributes;
    attributes.push("tangelo.tier", tier);
    attributes.push("tangelo.runtime", runtime);
    Span {
        workload: Some(Name::literal(workload)),
        invocation: Some(invocation(u128::from(span.id.0))),
        attributes,
        ..span
    }
}

fn with(mut span: Span, key: &'static str, value: impl Into<AttrValue>) -> Span {
    span.attributes.push(key, value);
    span
}

fn log(of: u128, at: u64, stream: LogStream, text: &str) -> LogRecord {
    LogRecord {
        time: Time(START + at),
        app: Name::literal("shop"),
        workload: Name::literal("orders"),
        instance: InstanceId(Uuid::from_u128(1)),
        invocation: (of > 0).then(|| invocation(of)),
        trace: None,
        stream,
        text: text.to_owned(),
    }
}

fn trace(spans: Vec<Span>, logs: Vec<LogRecord>) -> Trace {
    Trace::new(
        TraceId(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
        spans,
        logs,
    )
}

/// An order: auth (cold), orders, catalogue, an event, its delivery with a retry.
fn order() -> Trace {
    let status = |span, status: i64| with(span, "http.response.status_code", status);
    let gateway = status(span(1, None, "POST /api/orders", 0, 212_000), 201);
    let auth = status(
        of(
            "auth",
            "function",
            "wasm",
            span(2, Some(1), "auth", 400, 60_900),
        ),
        204,
    );
    let phase = |id, name, from, to| Span {
        kind: SpanKind::Internal,
        ..span(id, Some(2), name, from, to)
    };
    let orders = status(
        of(
            "orders",
            "service",
            "process",
            span(7, Some(1), "orders", 61_200, 211_800),
        ),
        201,
    );
    let catalog = status(
        of(
            "catalog",
            "service",
            "process",
            span(8, Some(7), "catalog", 70_000, 84_500),
        ),
        200,
    );
    let own = Span {
        kind: SpanKind::Client,
        workload: Some(Name::literal("orders")),
        ..span(9, Some(7), "INSERT orders", 90_000, 91_250)
    };
    let publish = Span {
        kind: SpanKind::Producer,
        ..span(10, Some(7), "publish order.created", 150_000, 158_000)
    };
    let queue = Span {
        kind: SpanKind::Internal,
        ..span(11, Some(10), "queue", 158_000, 161_000)
    };
    let delivery = |id, from, to| {
        let span = Span {
            kind: SpanKind::Consumer,
            ..span(id, Some(10), "confirm", from, to)
        };
        with(
            of("confirm", "function", "lambda", span),
            "messaging.destination.subscription.name",
            "confirm-0",
        )
    };
    let failed = Span {
        error: Some("ConnectionRefusedError: [Errno 111] Connection refused [TG0409]".to_owned()),
        ..delivery(12, 161_000, 190_000)
    };
    let retried = with(delivery(13, 390_000, 402_000), "tangelo.attempt", 2_i64);
    let spans = vec![
        gateway,
        with(auth, "faas.coldstart", true),
        phase(3, "cold start: wait", 400, 1_400),
        phase(4, "cold start: load", 1_400, 41_400),
        phase(5, "cold start: spawn", 41_400, 41_520),
        orders,
        catalog,
        own,
        publish,
        queue,
        failed,
        retried,
    ];
    let logs = vec![
        log(
            7,
            62_000,
            LogStream::Stdout,
            "validating 3 items for customer 42",
        ),
        log(
            7,
            152_000,
            LogStream::Stderr,
            "warning: \x1b[33mstock is low\x1b[0m for film 17\tand 18",
        ),
        log(
            12,
            188_000,
            LogStream::Stderr,
            "Traceback (most recent call last): a line that is far too long to fit into the hundred columns of a terminal",
        ),
        log(
            0,
            500_000,
            LogStream::Platform,
            "instance stopped after an idle time",
        ),
    ];
    trace(spans, logs)
}

fn check_width(tree: &str) {
    for line in tree.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn an_order_with_cold_start_event_and_retry() {
    let tree = tree(&order());
    check_width(&tree);
    insta::assert_snapshot!(tree);
}

#[test]
fn colours_change_nothing_else() {
    let painted = tree_coloured(&order());
    assert!(painted.contains("\x1b[31m"));
    let mut plain = String::new();
    for (n, part) in painted.split("\x1b[").enumerate() {
        plain.push_str(if n == 0 {
            part
        } else {
            part.split_once('m').expect("a colour").1
        });
    }
    assert_eq!(plain, tree(&order()));
}

#[test]
fn a_lone_span_and_an_empty_trace() {
    let lone = trace(vec![span(1, Some(9), "GET /", 0, 0)], vec![]);
    insta::assert_snapshot!(tree(&lone));
    insta::assert_snapshot!(tree(&trace(
        vec![],
        vec![log(0, 0, LogStream::Stdout, "early")]
    )));
}

#[test]
fn circles_depth_and_width_do_no_harm() {
    let mut spans: Vec<Span> = (1..5_000)
        .map(|n| span(n, Some(n - 1), "deep", n, 10_000))
        .collect();
    spans[0].parent = None;
    spans.extend((5_000..5_100).map(|n| span(n, Some(1), "wide", n, n + 10)));
    spans.push(span(9_001, Some(9_002), "circle", 1, 2));
    spans.push(span(9_002, Some(9_001), "circle", 1, 2));
    let tree = tree(&trace(spans, vec![]));
    check_width(&tree);
    assert_eq!(tree.matches("circle").count(), 2);
    assert_eq!(tree.matches("deep").count(), 4_999);
    assert!(tree.contains("… 41 more spans"), "{}", tree.len());
}

/// A cold start's first phase begins with its invocation, and its id may come first.
#[test]
fn lines_stand_under_the_attempt_that_wrote_them() {
    let attempt = |id, from, to| {
        let attempt = of(
            "orders",
            "function",
            "lambda",
            span(id, None, "orders", from, to),
        );
        Span {
            invocation: Some(invocation(7)),
            ..attempt
        }
    };
    let wait = Span {
        workload: Some(Name::literal("orders")),
        invocation: Some(invocation(7)),
        ..span(2, Some(5), "cold start: wait", 0, 40)
    };
    let logs = [(50, "one"), (250, "two"), (299, "late")];
    let logs = logs.map(|(at, text)| log(7, at, LogStream::Stdout, text));
    let tree = tree(&trace(
        vec![wait, attempt(5, 0, 100), attempt(6, 200, 300)],
        logs.to_vec(),
    ));
    let place = |text: &str| tree.lines().position(|line| line.contains(text));
    let attempts: Vec<_> = tree
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains("orders"))
        .map(|(at, _)| at)
        .collect();
    assert!(
        place("one") > Some(attempts[0]) && place("one") < Some(attempts[1]),
        "{tree}"
    );
    assert!(
        place("two") > Some(attempts[1]) && place("late") > place("two"),
        "{tree}"
    );
}
