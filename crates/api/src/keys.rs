//! Keys of those outside.

use axum::{Json, extract::State};
use platform::Platform;
use serde_json::{Value, json};

pub(crate) async fn list(State(platform): State<Platform>) -> Json<Value> {
    Json(json!({ "keys": platform.bus_keys() }))
}
