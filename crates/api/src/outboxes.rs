//! Outboxes of apps' databases: how their relays are doing, and the rows that were set aside.

use axum::{Json, extract::State};
use platform::Platform;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Fault,
    ask::{Path, Query, Sent},
};

pub(crate) async fn list(State(platform): State<Platform>) -> Json<Value> {
    Json(json!({ "outboxes": platform.outboxes() }))
}

/// How many rows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Most {
    limit: Option<u32>,
}

pub(crate) async fn refused(
    State(platform): State<Platform>,
    Path((app, database)): Path<(String, String)>,
    Query(ask): Query<Most>,
) -> Result<Json<Value>, Fault> {
    let limit = ask.limit.unwrap_or(100).min(10_000);
    let rows = platform.refused_rows(&app, &database, limit).await?;
    Ok(Json(json!({ "refused": rows })))
}

/// Which rows; all unless said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    positions: Option<Vec<i64>>,
}

pub(crate) async fn retry(
    State(platform): State<Platform>,
    Path((app, database)): Path<(String, String)>,
    Sent(which): Sent<Which>,
) -> Result<Json<Value>, Fault> {
    let count = platform
        .retry_rows(&app, &database, which.positions)
        .await?;
    Ok(Json(json!({ "retried": count })))
}

pub(crate) async fn discard(
    State(platform): State<Platform>,
    Path((app, database)): Path<(String, String)>,
    Sent(which): Sent<Which>,
) -> Result<Json<Value>, Fault> {
    let count = platform
        .discard_rows(&app, &database, which.positions)
        .await?;
    Ok(Json(json!({ "discarded": count })))
}
