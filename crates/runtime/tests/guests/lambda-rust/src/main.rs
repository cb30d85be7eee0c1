//! A handler that shows what `lambda_runtime` got, and fails in its ways.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(handler)).await
}

async fn handler(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (payload, context) = event.into_parts();
    match payload.as_str() {
        Some("error") => Err("no such order".into()),
        Some("panic") => panic!("out of order"),
        Some("hang") => std::future::pending().await,
        _ => Ok(json!({
            "event": payload,
            "id": context.request_id,
            "deadline": context.deadline,
            "arn": context.invoked_function_arn,
            "trace": context.xray_trace_id,
            "client": context.client_context.map(|c| c.custom),
            "name": context.env_config.function_name,
            "pid": std::process::id(),
        })),
    }
}
