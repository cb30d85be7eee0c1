//! Captured changes of apps' databases: how they are doing, and what makes and takes away what captures them.

use axum::{Json, extract::State};
use platform::Platform;
use serde_json::{Value, json};

use crate::{Fault, ask::Path};

type Which = Path<(String, String)>;

pub(crate) async fn list(State(platform): State<Platform>) -> Json<Value> {
    Json(json!({ "captures": platform.captures() }))
}

pub(crate) async fn show(
    State(platform): State<Platform>,
    Path((app, database)): Which,
) -> Result<Json<Value>, Fault> {
    let tables = platform.capture_status(&app, &database).await?;
    Ok(Json(json!({ "tables": tables })))
}

pub(crate) async fn init(
    State(platform): State<Platform>,
    Path((app, database)): Which,
) -> Result<Json<Value>, Fault> {
    let tables = platform.capture_init(&app, &database).await?;
    Ok(Json(json!({ "tables": tables })))
}

pub(crate) async fn drop(
    State(platform): State<Platform>,
    Path((app, database)): Which,
) -> Result<Json<Value>, Fault> {
    let dropped = platform.capture_drop(&app, &database).await?;
    Ok(Json(json!({ "dropped": true, "unread": dropped })))
}
