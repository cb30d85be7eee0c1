//! OTLP against a small collector: what is kept arrives, in both encodings, again after a refusal, and not without end.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use model::{ByteSize, Clock, Name};
use parking_lot::Mutex;
use telemetry::{Options, OtlpEncoding, OtlpExport, Sampling, Span, Telemetry, otlp};
use tokio::{net::TcpListener, sync::watch};

use crate::{House, failed, options, span};

/// A collector that refuses the first requests.
struct Collector {
    address: SocketAddr,
    requests: watch::Receiver<Vec<(String, String, Bytes)>>,
    _task: tokio::task::JoinHandle<()>,
}

impl Collector {
    async fn start(refused: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has one");
        let (sender, requests) = watch::channel(Vec::new());
        let state = Arc::new((sender, Mutex::new(refused)));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                let answer = service_fn(move |request: Request<Incoming>| {
                    let state = Arc::clone(&state);
                    async move { Ok::<_, Infallible>(take(request, &state.0, &state.1).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Self {
            address,
            requests,
            _task: task,
        }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans of the first `count` requests that were taken.
    async fn spans(&mut self, count: usize) -> Vec<Span> {
        let arrived = self.requests.wait_for(|requests| requests.len() >= count);
        let arrived = tokio::time::timeout(Duration::from_secs(20), arrived).await;
        let requests = arrived
            .expect("arrives in time")
            .expect("the collector lives");
        let read = |(path, kind, body): &(String, String, Bytes)| {
            assert_eq!(path, "/v1/traces");
            otlp::receive(kind, "", body, None).expect("is OTLP").spans
        };
        requests.iter().flat_map(read).collect()
    }
}

async fn take(
    request: Request<Incoming>,
    taken: &watch::Sender<Vec<(String, String, Bytes)>>,
    refused: &Mutex<usize>,
) -> Response<Empty<Bytes>> {
    let path = request.uri().path().to_owned();
    let kind = request.headers()["content-type"]
        .to_str()
        .expect("is text")
        .to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .expect("arrives")
        .to_bytes();
    let mut response = Response::new(Empty::new());
    let mut refused = refused.lock();
    if *refused > 0 {
        *refused -= 1;
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    } else {
        taken.send_modify(|all| all.push((path, kind, body)));
    }
    response
}

fn exporting(house: &House, otlp: OtlpExport, sampling: Sampling) -> Telemetry {
    let options = Options {
        otlp: Some(otlp),
        sampling,
        clock: Clock::system(),
        ..options(&house.path(), &house.clock)
    };
    Telemetry::open(options).expect("opens")
}

/// What comes back, as from a stranger: workload and invocation are attributes, and a root ends its trace.
fn returned(span: &Span) -> Span {
    let mut attributes = span.attributes.clone();
    let invocation = span.invocation.expect("has one").to_string();
    attributes.push("faas.invocation_id", invocation);
    let (app, workload) = (span.app.as_ref(), span.workload.as_ref());
    let service = app
        .zip(workload)
        .map(|(app, workload)| format!("{app}/{workload}"));
    attributes.push("service.name", service.expect("has one"));
    Span {
        app: None,
        workload: None,
        invocation: None,
        local_root: span.parent.is_none(),
        attributes,
        ..span.clone()
    }
}

#[tokio::test]
async fn kept_traces_arrive_in_both_encodings_even_after_a_refusal() {
    for encoding in [OtlpEncoding::Protobuf, OtlpEncoding::Json] {
        let house = House::new();
        let mut collector = Collector::start(1).await;
        let otlp = OtlpExport {
            encoding,
            ..OtlpExport::new(collector.endpoint())
        };
        let telemetry = exporting(&house, otlp, Sampling::default());
        let spans = [
            failed(span(1, 2, Some(1), "orders", 1)),
            span(1, 1, None, "web", 0),
        ];
        spans.iter().cloned().for_each(|span| telemetry.span(span));
        let mut arrived = collector.spans(1).await;
        arrived.sort_by_key(|span| std::cmp::Reverse(span.id));
        assert_eq!(arrived, [returned(&spans[0]), returned(&spans[1])]);
        telemetry.close().await;
        assert_eq!(
            (telemetry.stats().exported, telemetry.stats().export_lost),
            (2, 0)
        );
    }
}

#[tokio::test]
async fn dropped_traces_stay_here() {
    let house = House::new();
    let mut collector = Collector::start(0).await;
    let strict = Sampling {
        keep_all_below: 0,
        per_route: 0,
        slow_per_route: 0,
        errors_per_route: 9,
        memory: ByteSize::mib(1),
    };
    let telemetry = exporting(&house, OtlpExport::new(collector.endpoint()), strict);
    telemetry.span(span(1, 1, None, "web", 0));
    telemetry.span(failed(span(2, 2, None, "web", 0)));
    telemetry.close().await;
    let arrived = collector.spans(1).await;
    assert_eq!(arrived.iter().map(|s| s.trace.0).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_collector_that_is_away_costs_a_count() {
    let house = House::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let endpoint = format!("http://{}", listener.local_addr().expect("has one"));
    drop(listener);
    let telemetry = exporting(&house, OtlpExport::new(endpoint), Sampling::default());
    telemetry.span(span(1, 1, None, "web", 0));
    telemetry.close().await;
    assert_eq!(
        (telemetry.stats().exported, telemetry.stats().export_lost),
        (0, 1)
    );
}

#[tokio::test]
async fn a_workloads_own_spans_join_its_trace() {
    let house = House::new();
    let telemetry = house.open();
    let body = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{
        "traceId":"00000000000000000000000000000001","spanId":"00000000000000aa",
        "parentSpanId":"0000000000000001","name":"SELECT films","kind":3,
        "startTimeUnixNano":"1795248000001000000","endTimeUnixNano":"1795248000002000000",
        "attributes":[{"key":"db.system","value":{"stringValue":"sqlite"}}]}]}]}]}"#;
    let sender = otlp::Sender {
        app: Name::literal("shop"),
        workload: Name::literal("orders"),
    };
    let received = otlp::receive("application/json", "", body, Some(&sender)).expect("is OTLP");
    received
        .spans
        .into_iter()
        .for_each(|span| telemetry.span(span));
    telemetry.span(span(1, 1, None, "web", 0));
    let trace = telemetry.trace(model::TraceId(1)).expect("was recorded");
    let tree = telemetry::render::tree(&trace);
    assert!(tree.contains("└─ SELECT films  shop/orders"), "{tree}");
    telemetry.close().await;
}
