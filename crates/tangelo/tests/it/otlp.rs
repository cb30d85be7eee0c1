//! OTLP over HTTP: kept traces arrive at a collector as they are shown, and spans of others come in.

use std::{collections::BTreeSet, convert::Infallible};

use anyhow::{Context, Result};
use bytes::Bytes;
use flate2::{Compression, read::GzEncoder};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value as Any,
    resource::v1::Resource, trace::v1::Span,
};
use prost::Message;
use serde_json::{Value, json};
use testkit::{Server, eventually};
use tokio::{net::TcpListener, sync::watch};

use crate::{ECHO, TANGELO, server};

const MANIFEST: &str = "
app: hops
workloads:
  entry:
    as: function
    run: {lambda: {runtime: python3, handler: hop.entry, code: functions}}
    calls: [middle]
  middle:
    as: service
    run: {process: {command: [python3, echo.py]}}
    calls: [end]
  end:
    as: function
    run: {lambda: {runtime: python3, handler: hop.end, code: functions}}
gateway:
  routes:
    - {path: /hops, to: entry}
";

const HOP: &str = r#"
import json, os, urllib.request

def entry(event, context):
    with urllib.request.urlopen(os.environ["MIDDLE_URL"] + "/call/end/") as response:
        return json.load(response)

def end(event, context):
    return {"reached": "the end"}
"#;

/// A collector: takes every export and keeps its spans, each with the name of its resource.
struct Collector {
    url: String,
    spans: watch::Receiver<Vec<(String, Span)>>,
}

impl Collector {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (kept, spans) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let kept = kept.clone();
                    async move { Ok::<_, Infallible>(take(request, &kept).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { url, spans })
    }

    /// What came of this trace, as (id, parent, resource).
    fn of(&self, trace: &str) -> BTreeSet<Row> {
        let spans = self.spans.borrow();
        let of_trace = spans.iter().filter(|(_, s)| hex(&s.trace_id) == trace);
        of_trace
            .map(|(name, span)| (hex(&span.span_id), hex(&span.parent_span_id), name.clone()))
            .collect()
    }
}

/// A span's id, its parent's (empty for the root), and where it comes from.
type Row = (String, String, String);

async fn take(
    request: Request<Incoming>,
    kept: &watch::Sender<Vec<(String, Span)>>,
) -> Response<Empty<Bytes>> {
    assert_eq!(request.uri().path(), "/v1/traces");
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let body = request.into_body().collect().await.expect("arrives");
    let export = ExportTraceServiceRequest::decode(body.to_bytes()).expect("is OTLP");
    for group in export.resource_spans {
        let name = service_name(&group.resource.expect("has a resource"));
        let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
        kept.send_modify(|kept| kept.extend(spans.map(|span| (name.clone(), span))));
    }
    Response::new(Empty::new())
}

fn service_name(resource: &Resource) -> String {
    let name = resource.attributes.iter().find(|a| a.key == "service.name");
    let value = name.and_then(|name| name.value.clone()?.value);
    match value {
        Some(Any::StringValue(name)) => name,
        other => panic!("service.name is {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The trace of the one request through all three workloads, as `tangelo traces` has it.
async fn trace(server: &Server) -> (String, Vec<Value>) {
    eventually("one trace of all three workloads", || async {
        let traces = server.json(&["traces", "--workload", "end"]).ok()?;
        let found = traces["traces"].as_array()?.iter();
        let trace = found
            .filter(|t| t["workloads"].as_array().is_some_and(|w| w.len() == 3))
            .find_map(|t| t["trace"].as_str())?;
        let spans = server.json(&["traces", trace]).ok()?["spans"]
            .as_array()?
            .clone();
        Some((trace.to_owned(), spans))
    })
    .await
}

async fn deployed(server: Server) -> Result<Server> {
    let files = [
        ("tangelo.yaml", MANIFEST),
        ("echo.py", ECHO),
        ("functions/hop.py", HOP),
    ];
    server.deploy(&files)?;
    let answer = server.gateway().get("/hops").await?;
    assert_eq!(
        (answer.status, answer.json()),
        (StatusCode::OK, json!({"reached": "the end"}))
    );
    Ok(server)
}

#[tokio::test]
async fn a_trace_arrives_at_the_collector_as_it_is_shown() -> Result<()> {
    let collector = Collector::start().await?;
    let server = deployed(Server::start_with(TANGELO, &["--otlp", &collector.url])?).await?;
    let (id, shown) = trace(&server).await;
    let text = |span: &Value, key: &str| span[key].as_str().unwrap_or_default().to_owned();
    let expected: BTreeSet<Row> = shown
        .iter()
        .map(|span| {
            let from = span["workload"].as_str().unwrap_or("gateway");
            (
                text(span, "id"),
                text(span, "parent"),
                format!("hops/{from}"),
            )
        })
        .collect();
    eventually(
        "the collector has every span, its parent and its resource",
        || async { (collector.of(&id) == expected).then_some(()) },
    )
    .await;
    let by = |name: &str| {
        let span = shown.iter().find(|span| span["name"] == name);
        span.map(|span| (text(span, "id"), text(span, "parent")))
            .with_context(|| format!("no span {name}: {shown:#?}"))
    };
    let way = [
        "GET /hops",
        "entry",
        "call middle",
        "middle",
        "call end",
        "end",
    ];
    let mut parent = String::new();
    for name in way {
        let (id, of) = by(name)?;
        assert_eq!(of, parent, "the parent of {name}");
        parent = id;
    }
    Ok(())
}

#[tokio::test]
async fn spans_of_others_come_in_plain_and_compressed() -> Result<()> {
    let server = deployed(server()).await?;
    let (trace, shown) = trace(&server).await;
    let root = shown.iter().find(|span| span["parent"].is_null());
    let root = root
        .and_then(|span| span["id"].as_str())
        .context("a root")?;
    let span = |id: &str| {
        json!({"traceId": trace, "spanId": id, "parentSpanId": root, "name": "SELECT", "kind": 3,
               "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000000000001"})
    };
    let export = |id: &str| {
        let name = json!({"key": "service.name", "value": {"stringValue": "postgres"}});
        let group =
            json!({"resource": {"attributes": [name]}, "scopeSpans": [{"spans": [span(id)]}]});
        json!({"resourceSpans": [group]})
    };
    let otlp = testkit::Client::new(&server.addresses().otlp);
    let plain = otlp.post("/v1/traces", &export("00000000000000a1")).await?;
    assert_eq!((plain.status, plain.json()), (StatusCode::OK, json!({})));

    let request: ExportTraceServiceRequest = serde_json::from_value(export("00000000000000a2"))?;
    let headers = [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "gzip"),
    ];
    let body = gzip(&request.encode_to_vec())?;
    let packed = otlp.send(Method::POST, "/v1/traces", &headers, body);
    assert_eq!(packed.await?.status, StatusCode::OK);

    let bomb = otlp.send(
        Method::POST,
        "/v1/traces",
        &headers,
        gzip(&vec![0; 8 << 20])?,
    );
    assert_eq!(bomb.await?.status, StatusCode::PAYLOAD_TOO_LARGE);
    let metrics = otlp.post("/v1/metrics", &json!({})).await?;
    assert_eq!(metrics.status, StatusCode::NOT_FOUND);
    assert!(metrics.text().contains("v1/metrics"), "{}", metrics.text());

    eventually("both are in the trace, under its root", || async {
        let spans = server.json(&["traces", &trace]).ok()?["spans"].clone();
        let come = spans.as_array()?.iter().filter(|span| {
            span["parent"] == root && span["attributes"]["service.name"] == "postgres"
        });
        (come.count() == 2).then_some(())
    })
    .await;
    Ok(())
}

fn gzip(bytes: &[u8]) -> Result<Bytes> {
    let mut packed = Vec::new();
    std::io::Read::read_to_end(&mut GzEncoder::new(bytes, Compression::fast()), &mut packed)?;
    Ok(packed.into())
}
