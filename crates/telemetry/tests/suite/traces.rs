//! Traces: visible at once, listed, filtered, followed over time.

use std::time::Duration;

use model::{Name, SpanId, TraceId};
use telemetry::{Gate, Root, Span, SpanBuffer, SpanKind, Telemetry, TraceQuery, TraceSummary};

use crate::{House, START, failed, line, span};

fn ids(traces: &[TraceSummary]) -> Vec<u128> {
    traces.iter().map(|t| t.trace.0).collect()
}

fn record(telemetry: &Telemetry, spans: impl IntoIterator<Item = Span>) {
    spans.into_iter().for_each(|span| telemetry.span(span));
}

#[tokio::test]
async fn a_trace_is_there_as_soon_as_it_is_recorded_with_its_lines() {
    let house = House::new();
    let telemetry = house.open();
    record(&telemetry, [span(1, 2, Some(1), "orders", 1)]);
    let early = telemetry.trace(TraceId(1)).expect("is under way");
    assert_eq!(early.spans.len(), 1);
    assert!(telemetry.traces(TraceQuery::default()).is_empty());
    telemetry.log(line("orders", 2, 1, "three items", START));
    telemetry.log(line("orders", 3, 9, "another trace", START));
    record(&telemetry, [span(1, 1, None, "web", 0)]);
    let trace = telemetry.trace(TraceId(1)).expect("was recorded");
    let order: Vec<SpanId> = trace.spans.iter().map(|s| s.id).collect();
    assert_eq!(order, [SpanId(1), SpanId(2)]);
    assert_eq!(trace.spans[1], span(1, 2, Some(1), "orders", 1));
    assert_eq!(trace.logs, [line("orders", 2, 1, "three items", START)]);
    assert_eq!(telemetry.trace(TraceId(2)), None);
    telemetry.close().await;
}

#[tokio::test]
async fn lists_are_filtered() {
    let house = House::new();
    let telemetry = house.open();
    record(&telemetry, [span(1, 11, None, "web", 10)]);
    record(
        &telemetry,
        [
            failed(span(2, 22, Some(21), "orders", 21)),
            span(2, 21, None, "web", 20),
        ],
    );
    let slow = span(3, 31, None, "orders", 30);
    record(
        &telemetry,
        [Span {
            end: slow.start + Duration::from_secs(2),
            ..slow
        }],
    );
    let listed = |query: TraceQuery| ids(&telemetry.traces(query));
    let all = TraceQuery::default();
    let name = |text: &'static str| Some(Name::literal(text));
    assert_eq!(listed(all.clone()), [3, 2, 1]);
    assert_eq!(
        listed(TraceQuery {
            limit: 2,
            ..all.clone()
        }),
        [3, 2]
    );
    assert_eq!(
        listed(TraceQuery {
            errors_only: true,
            ..all.clone()
        }),
        [2]
    );
    assert_eq!(
        listed(TraceQuery {
            workload: name("orders"),
            ..all.clone()
        }),
        [3, 2]
    );
    assert_eq!(
        listed(TraceQuery {
            app: name("other"),
            ..all.clone()
        }),
        [0; 0]
    );
    assert_eq!(
        listed(TraceQuery {
            min_duration: Duration::from_secs(1),
            ..all.clone()
        }),
        [3]
    );
    assert_eq!(
        listed(TraceQuery {
            id: Some(TraceId(1)),
            ..all.clone()
        }),
        [1]
    );
    let since = START + Duration::from_millis(15);
    assert_eq!(
        listed(TraceQuery {
            since,
            ..all.clone()
        }),
        [3, 2]
    );
    let summary = &telemetry.traces(TraceQuery {
        errors_only: true,
        ..all
    })[0];
    assert_eq!(
        (summary.name.as_str(), summary.spans, summary.errors),
        ("GET /web", 2, 1)
    );
    assert_eq!(summary.workloads, ["shop/orders", "shop/web"]);
    assert_eq!(summary.duration_us, 5_000);
    telemetry.close().await;
}

#[tokio::test]
async fn a_delivery_minutes_later_joins_its_trace() {
    let house = House::new();
    let telemetry = house.open();
    record(&telemetry, [span(1, 1, None, "web", 0)]);
    telemetry.flush();
    house.clock.advance(Duration::from_secs(600));
    let delivery = Span {
        kind: SpanKind::Consumer,
        local_root: true,
        ..span(1, 2, Some(1), "confirm", 600_000)
    };
    record(&telemetry, [delivery]);
    let trace = telemetry.trace(TraceId(1)).expect("was recorded");
    assert_eq!(trace.spans.len(), 2);
    let listed = telemetry.traces(TraceQuery::default());
    assert_eq!(
        (listed.len(), listed[0].spans, listed[0].name.as_str()),
        (1, 2, "GET /web")
    );
    assert_eq!(listed[0].duration_us, 5_000);
    telemetry.close().await;
}

#[tokio::test]
async fn at_high_rates_errors_are_kept_and_the_rest_is_sampled() {
    let house = House::new();
    let telemetry = house.open();
    for second in 0..5u128 {
        for n in 1..=500 {
            let trace = second * 1000 + n;
            let root = span(trace, 1, None, "web", 0);
            record(&telemetry, [if n == 250 { failed(root) } else { root }]);
        }
        telemetry.flush();
        house.clock.advance(Duration::from_secs(1));
    }
    let errors = telemetry.traces(TraceQuery {
        errors_only: true,
        ..TraceQuery::default()
    });
    assert_eq!(errors.len(), 5);
    let stats = telemetry.stats();
    assert_eq!((stats.spans, stats.spans_lost), (2_500, 0));
    assert_eq!((stats.kept_error, stats.kept_share), (5, 5));
    assert!((90..=110).contains(&stats.kept_all), "{stats:?}");
    assert_eq!(
        stats.kept_all + stats.kept_error + stats.kept_share + stats.kept_slow + stats.dropped,
        2_500
    );
    telemetry.close().await;
}

/// A request that took a millisecond and was served by one invocation. Says whether its span was made.
fn served(house: &House, telemetry: &Telemetry, gate: &Gate, trace: u128, ok: bool) -> bool {
    let buffer = SpanBuffer::default();
    let inner = span(trace, 2, Some(1), "orders", 0);
    buffer.take_made(telemetry, if ok { inner } else { failed(inner) });
    let start = house.clock.now();
    let root = Root {
        trace: TraceId(trace),
        start,
        end: start + Duration::from_millis(1),
        failed: false,
        of_client: false,
    };
    let mut made = false;
    telemetry.root(Some(gate), &buffer, root, || {
        made = true;
        span(trace, 1, None, "web", 0)
    });
    made
}

#[tokio::test]
async fn ordinary_traces_of_a_busy_route_are_not_even_made() {
    let house = House::new();
    let telemetry = house.open();
    let gate = telemetry.gate("GET /web");
    let serve = |trace, ok| served(&house, &telemetry, &gate, trace, ok);
    assert!((1..=300).all(|n| serve(n, true)), "nothing is known yet");
    telemetry.flush();
    house.clock.advance(Duration::from_millis(100));
    let made = (1001..=2000).filter(|n| serve(*n, true)).count();
    assert_eq!(made, 1, "its share of this second");
    assert!(serve(3001, false), "its invocation failed");
    record(&telemetry, [span(3002, 3, Some(1), "mail", 0)]);
    assert!(serve(3002, true), "more of it is recorded already");
    telemetry.flush();
    let kept = telemetry.trace(TraceId(3001)).expect("is kept");
    assert_eq!(kept.spans.len(), 2);
    let stats = telemetry.stats();
    let kept = stats.kept_all + stats.kept_error + stats.kept_share + stats.kept_slow;
    assert_eq!((kept + stats.dropped, stats.kept_error), (1_302, 1));
    assert_eq!(stats.spans, 300 * 2 + 2 + 2 + 3);
    record(&telemetry, [span(1500, 7, Some(1), "mail", 0)]);
    record(&telemetry, [failed(span(1501, 7, Some(1), "mail", 0))]);
    telemetry.flush();
    house.clock.advance(Duration::from_secs(6));
    telemetry.flush();
    assert_eq!(
        telemetry.trace(TraceId(1500)),
        None,
        "late for a dropped trace"
    );
    assert!(
        telemetry.trace(TraceId(1501)).is_some(),
        "late, but it failed"
    );
    telemetry.close().await;
}

#[tokio::test]
async fn many_threads_record_while_others_ask() {
    let house = House::new();
    let telemetry = house.open();
    std::thread::scope(|scope| {
        for thread in 0..4u128 {
            let telemetry = telemetry.clone();
            scope.spawn(move || {
                for n in 1..=20 {
                    let trace = thread * 100 + n;
                    record(
                        &telemetry,
                        [
                            span(trace, 2, Some(1), "orders", 1),
                            span(trace, 1, None, "web", 0),
                        ],
                    );
                }
            });
        }
        scope.spawn(|| (0..10).for_each(|_| drop(telemetry.traces(TraceQuery::default()))));
    });
    let query = TraceQuery {
        limit: 200,
        ..TraceQuery::default()
    };
    let listed = telemetry.traces(query);
    assert_eq!(listed.len(), 80);
    assert!(listed.iter().all(|t| t.spans == 2));
    telemetry.close().await;
}
