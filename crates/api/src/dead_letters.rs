//! Dead letters: deliveries that were given up.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use platform::Platform;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Fault, fault::bad_request};

/// Which dead letters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    subscription: Option<String>,
    app: Option<String>,
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(platform): State<Platform>,
    Query(ask): Query<Ask>,
) -> Result<Json<Value>, Fault> {
    let rows = platform
        .dead_letters(
            ask.app.as_deref(),
            ask.subscription.as_deref(),
            ask.limit.unwrap_or(100),
        )
        .await?;
    Ok(Json(json!({ "dead_letters": rows })))
}

pub(crate) async fn show(
    State(platform): State<Platform>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let letter = platform.dead_letter(number(&id)?).await?;
    Ok(Json(
        serde_json::to_value(letter).map_err(model::Error::internal)?,
    ))
}

pub(crate) async fn redrive(
    State(platform): State<Platform>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    platform.redrive(number(&id)?).await?;
    Ok(Json(json!({"redriven": 1})))
}

pub(crate) async fn redrive_all(
    State(platform): State<Platform>,
    Json(ask): Json<Ask>,
) -> Result<Json<Value>, Fault> {
    let count = platform
        .redrive_all(ask.app.as_deref(), ask.subscription.as_deref())
        .await?;
    Ok(Json(json!({ "redriven": count })))
}

pub(crate) async fn discard(
    State(platform): State<Platform>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    platform.discard_dead_letter(number(&id)?).await?;
    Ok(Json(json!({"discarded": 1})))
}

fn number(text: &str) -> Result<u64, Fault> {
    text.parse()
        .map_err(|_| bad_request(format!("`{text}` is no dead letter's number")))
}
