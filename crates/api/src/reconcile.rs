//! Reconciliations: when each was swept, what differs, and sweeping now.

use axum::{Json, extract::State};
use platform::{Platform, reconcile::Sweep};
use serde_json::{Value, json};

use crate::{Fault, ask::Path};

pub(crate) async fn list(State(platform): State<Platform>) -> Json<Value> {
    Json(json!({ "reconciliations": platform.reconciliations() }))
}

pub(crate) async fn show(
    State(platform): State<Platform>,
    Path((app, name)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let differences = platform.differences(&app, &name).await?;
    Ok(Json(json!({ "differences": differences })))
}

pub(crate) async fn sweep(
    State(platform): State<Platform>,
    Path((app, name)): Path<(String, String)>,
) -> Result<Json<Sweep>, Fault> {
    Ok(Json(platform.sweep(&app, &name).await?))
}
