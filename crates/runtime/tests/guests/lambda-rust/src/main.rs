//! A handler that shows what `lambda_runtime` got, and fails in its ways.

use std::sync::LazyLock;

use lambda_runtime::{
    Error, FunctionResponse, LambdaEvent, MetadataPrelude, StreamResponse, run, run_concurrent, service_fn,
    streaming::{Body, channel},
};
use serde_json::{Value, json};

static MEETING: LazyLock<tokio::sync::Barrier> = LazyLock::new(|| tokio::sync::Barrier::new(3));

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    if std::env::var_os("AWS_LAMBDA_MAX_CONCURRENCY").is_some() {
        return run_concurrent(service_fn(handler)).await;
    }
    run(service_fn(handler)).await
}

async fn handler(event: LambdaEvent<Value>) -> Result<FunctionResponse<Value, Body>, Error> {
    let (payload, context) = event.into_parts();
    if payload["rawPath"] == "/stream" {
        return stream();
    }
    if payload == "meet" {
        // Three at a time, or never.
        MEETING.wait().await;
    }
    match payload.as_str() {
        Some("error") => Err("no such order".into()),
        Some("panic") => panic!("out of order"),
        Some("hang") => std::future::pending().await,
        _ => Ok(FunctionResponse::BufferedResponse(json!({
            "event": payload,
            "id": context.request_id,
            "deadline": context.deadline,
            "arn": context.invoked_function_arn,
            "trace": context.xray_trace_id,
            "client": context.client_context.map(|c| c.custom),
            "name": context.env_config.function_name,
            "pid": std::process::id(),
        }))),
    }
}

/// A reply whose second piece waits for a file.
fn stream() -> Result<FunctionResponse<Value, Body>, Error> {
    let (mut pieces, stream) = channel();
    let go = std::path::Path::new(&std::env::var("TMPDIR")?).join("go");
    tokio::spawn(async move {
        let _ = pieces.send_data("first".into()).await;
        let mut look = tokio::time::interval(std::time::Duration::from_millis(5));
        while !go.exists() {
            look.tick().await;
        }
        let _ = pieces.send_data("second".into()).await;
    });
    let metadata_prelude = MetadataPrelude {
        status_code: http::StatusCode::CREATED,
        headers: [(http::header::CONTENT_TYPE, "text/x-made".parse()?)].into_iter().collect(),
        cookies: vec!["a=1".to_owned()],
    };
    Ok(FunctionResponse::StreamingResponse(StreamResponse { metadata_prelude, stream }))
}
