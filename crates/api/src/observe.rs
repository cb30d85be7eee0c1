//! Traces, logs, usage, metrics, readiness.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{Response, StatusCode, header},
    response::IntoResponse,
};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use model::{Error, TraceId, code, parse_duration};
use platform::{
    Platform,
    telemetry::{Follow, Followed, LogQuery, LogRecord, Telemetry, TraceQuery, UsageFilter},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Fault,
    ask::{Path, Query},
    fault::bad_request,
};

pub(crate) async fn readyz(State(platform): State<Platform>) -> (StatusCode, Json<Value>) {
    match platform.ready().await {
        Ok(()) => (StatusCode::OK, Json(json!({"ready": true}))),
        Err(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"ready": false, "why": why})),
        ),
    }
}

/// Whatever is asked before the platform is open.
pub(crate) async fn starting() -> (StatusCode, Json<Value>) {
    let why = "the server is starting";
    (
        StatusCode::SERVICE_UNAVAILABLE,
        Json(json!({"ready": false, "why": why})),
    )
}

pub(crate) async fn metrics(State(platform): State<Platform>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], platform.metrics().await)
}

/// Which traces.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceAsk {
    app: Option<String>,
    workload: Option<String>,
    #[serde(default)]
    errors: bool,
    slower_than: Option<String>,
    since: Option<String>,
    limit: Option<usize>,
}

pub(crate) async fn traces(
    State(platform): State<Platform>,
    Query(ask): Query<TraceAsk>,
) -> Result<Json<Value>, Fault> {
    let query = TraceQuery {
        app: ask.app.as_deref().map(name).transpose()?,
        workload: ask.workload.as_deref().map(name).transpose()?,
        errors_only: ask.errors,
        min_duration: ask
            .slower_than
            .as_deref()
            .map(duration)
            .transpose()?
            .unwrap_or_default(),
        since: since(&platform, ask.since.as_deref())?,
        limit: ask.limit.unwrap_or(20).min(1000),
        ..TraceQuery::default()
    };
    let rows = on_disk(&platform, move |telemetry| telemetry.traces(query)).await?;
    Ok(Json(json!({ "traces": rows })))
}

/// A trace with its spans and logs, and the tree as text.
pub(crate) async fn trace(
    State(platform): State<Platform>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let id: TraceId = id
        .parse()
        .map_err(|e| bad_request(format!("`{id}` is no trace id: {e}")))?;
    let found = on_disk(&platform, move |telemetry| telemetry.trace(id)).await?;
    let trace =
        found.ok_or_else(|| Error::new(code::NO_SUCH_TRACE, format!("no trace {id} is kept")))?;
    Ok(Json(
        json!({"tree": platform::telemetry::render::tree(&trace), "trace": trace}),
    ))
}

/// Which lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogAsk {
    app: Option<String>,
    workload: Option<String>,
    invocation: Option<String>,
    trace: Option<String>,
    text: Option<String>,
    since: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    follow: bool,
}

/// One JSON object a line; with `follow` the answer does not end.
pub(crate) async fn logs(
    State(platform): State<Platform>,
    Query(ask): Query<LogAsk>,
) -> Result<Response<Body>, Fault> {
    let wrong = |what: &str| bad_request(format!("`{what}` is not an id"));
    let query = LogQuery {
        app: ask.app.as_deref().map(name).transpose()?,
        workload: ask.workload.as_deref().map(name).transpose()?,
        invocation: ask
            .invocation
            .map(|id| id.parse().map_err(|_| wrong(&id)))
            .transpose()?,
        trace: ask
            .trace
            .map(|id| id.parse().map_err(|_| wrong(&id)))
            .transpose()?,
        text: ask.text,
        since: since(&platform, ask.since.as_deref())?,
        limit: ask.limit.unwrap_or(1000).min(100_000),
    };
    let body = if ask.follow {
        let follow = on_disk(&platform, move |telemetry| telemetry.follow(query)).await?;
        Body::new(StreamBody::new(lines(follow)))
    } else {
        let past = on_disk(&platform, move |telemetry| telemetry.logs(query)).await?;
        Body::from(past.iter().flat_map(line).collect::<Vec<u8>>())
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/x-ndjson"),
    );
    Ok(response)
}

/// Each line as it is written, after those that were there.
fn lines(
    follow: Follow,
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> {
    futures_util::stream::unfold(follow, |mut follow| async move {
        let bytes = match follow.next().await? {
            Followed::Record(record) => line(&record),
            Followed::Skipped(n) => format!("{}\n", json!({ "skipped": n })).into_bytes(),
        };
        Some((Ok(Frame::data(bytes.into())), follow))
    })
}

fn line(record: &LogRecord) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Asks telemetry, which reads files, on a thread that may block.
async fn on_disk<T: Send + 'static>(
    platform: &Platform,
    ask: impl FnOnce(&Telemetry) -> T + Send + 'static,
) -> Result<T, Fault> {
    let telemetry = platform.telemetry().clone();
    tokio::task::spawn_blocking(move || ask(&telemetry))
        .await
        .map_err(|e| Fault(Error::internal(e)))
}

/// Whose usage.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageAsk {
    app: Option<String>,
    workload: Option<String>,
}

pub(crate) async fn usage(
    State(platform): State<Platform>,
    Query(ask): Query<UsageAsk>,
) -> Result<Json<Value>, Fault> {
    let filter = UsageFilter {
        app: ask.app.as_deref().map(name).transpose()?,
        workload: ask.workload.as_deref().map(name).transpose()?,
        ..UsageFilter::default()
    };
    let rows = on_disk(&platform, move |telemetry| telemetry.usage_report(filter)).await?;
    Ok(Json(json!({ "usage": rows })))
}

fn name(text: &str) -> Result<model::Name, Fault> {
    model::Name::new(text).map_err(|e| bad_request(e.to_string()))
}

fn duration(text: &str) -> Result<std::time::Duration, Fault> {
    parse_duration(text).map_err(|e| bad_request(e.to_string()))
}

fn since(platform: &Platform, text: Option<&str>) -> Result<model::Time, Fault> {
    let ago = text.map(duration).transpose()?;
    Ok(ago.map_or(model::Time(0), |ago| platform.clock().now() - ago))
}
