//! Subscriptions: how far each is, what it waits for; pausing and resuming.

use axum::{Json, extract::State};
use platform::Platform;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Fault,
    ask::{Path, Sent},
    operator::Operator,
};

/// Why it is paused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    reason: Option<String>,
}

pub(crate) async fn list(State(platform): State<Platform>) -> Json<Value> {
    Json(json!({ "subscriptions": platform.subscriptions() }))
}

pub(crate) async fn show(
    State(platform): State<Platform>,
    Path(key): Path<(String, String, String)>,
) -> Result<Json<Value>, Fault> {
    Ok(Json(platform.subscription(&text(&key)).await?))
}

pub(crate) async fn pause(
    State(platform): State<Platform>,
    Path(key): Path<(String, String, String)>,
    Operator(by): Operator,
    Sent(ask): Sent<Ask>,
) -> Result<Json<Value>, Fault> {
    let reason = ask.reason.as_deref();
    let paused = platform.pause(&text(&key), &by, reason).await?;
    Ok(Json(json!({ "paused": paused })))
}

pub(crate) async fn resume(
    State(platform): State<Platform>,
    Path(key): Path<(String, String, String)>,
    Operator(by): Operator,
) -> Result<Json<Value>, Fault> {
    let resumed = platform.resume(&text(&key), &by).await?;
    Ok(Json(json!({ "resumed": resumed })))
}

fn text((app, workload, name): &(String, String, String)) -> String {
    format!("{app}/{workload}/{name}")
}
