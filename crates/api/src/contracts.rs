//! Types of events over all live apps: their contracts, who publishes them, who takes them.

use axum::{Json, extract::State};
use platform::Platform;
use serde_json::{Value, json};

pub(crate) async fn types(State(platform): State<Platform>) -> Json<Value> {
    Json(json!({ "types": platform.event_types() }))
}
