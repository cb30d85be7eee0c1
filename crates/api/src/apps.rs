//! Apps: deploy, look, roll back, remove.

use axum::{Json, extract::State, http::StatusCode};
use model::{AppName, RevisionId};
use platform::{
    Platform,
    deploy::{Deployed, Request, UnderWay},
    ps,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Fault,
    ask::{Path, Sent},
    fault::bad_request,
};

pub(crate) async fn deploy(
    State(platform): State<Platform>,
    Sent(request): Sent<Request>,
) -> Result<Json<Deployed>, Fault> {
    Ok(Json(platform.deployer().deploy(request).await?))
}

pub(crate) async fn under_way(State(platform): State<Platform>) -> Json<Vec<UnderWay>> {
    Json(platform.deployer().under_way())
}

pub(crate) async fn list(State(platform): State<Platform>) -> Json<Value> {
    let live = platform.apps().live();
    let rows: Vec<_> = live.apps.iter().map(|app| summary(app)).collect();
    Json(json!({ "apps": rows }))
}

pub(crate) async fn show(
    State(platform): State<Platform>,
    Path(app): Path<String>,
) -> Result<Json<Value>, Fault> {
    let app = platform.apps().find(&app)?;
    let mut row = summary(&app);
    row["spec"] = serde_json::to_value(&*app.app).map_err(model::Error::internal)?;
    Ok(Json(row))
}

pub(crate) async fn health(
    State(platform): State<Platform>,
    Path(app): Path<String>,
) -> Result<(StatusCode, Json<ps::Health>), Fault> {
    let health = ps::health(&*platform.apps().find(&app)?);
    let status = if health.healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok((status, Json(health)))
}

pub(crate) async fn remove(
    State(platform): State<Platform>,
    Path(app): Path<String>,
) -> Result<Json<Value>, Fault> {
    let app = name(&app)?;
    platform.deployer().remove(&app).await?;
    Ok(Json(json!({ "removed": app })))
}

pub(crate) async fn revisions(
    State(platform): State<Platform>,
    Path(app): Path<String>,
) -> Result<Json<Value>, Fault> {
    let app = name(&app)?;
    let live = platform.apps().find(app.as_str()).ok().map(|a| a.revision);
    let rows = platform.deployer().revisions(&app).await?;
    let rows: Vec<_> = rows
        .iter()
        .map(|r| json!({"revision": r.revision, "at": r.at.rfc3339(), "live": Some(r.revision) == live}))
        .collect();
    Ok(Json(json!({"app": app, "revisions": rows})))
}

/// Where to roll back to; the revision before the live one unless said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rollback {
    #[serde(default)]
    to: Option<RevisionId>,
}

pub(crate) async fn rollback(
    State(platform): State<Platform>,
    Path(app): Path<String>,
    Sent(ask): Sent<Rollback>,
) -> Result<Json<Deployed>, Fault> {
    Ok(Json(
        platform.deployer().rollback(&name(&app)?, ask.to).await?,
    ))
}

pub(crate) async fn ps(State(platform): State<Platform>) -> Result<Json<Value>, Fault> {
    let (projections, logs) = (platform.projections().await?, platform.logs().await?);
    Ok(Json(json!({
        "workloads": platform.ps(), "wasm": platform.wasm_totals(), "projections": projections, "logs": logs,
    })))
}

fn summary(app: &platform::apps::LiveApp) -> Value {
    let workloads: Vec<_> = app
        .callees
        .values()
        .map(|c| json!({"name": c.workload.name, "as": c.tier(), "runtime": c.workload.run.kind(), "version": c.version}))
        .collect();
    json!({"app": app.name, "revision": app.revision, "workloads": workloads})
}

fn name(text: &str) -> Result<AppName, Fault> {
    AppName::new(text).map_err(|e| bad_request(e.to_string()))
}
