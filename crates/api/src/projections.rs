//! Projections: how far each generation is; rebuilding, switching, dropping.

use axum::{Json, extract::State};
use platform::Platform;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Fault,
    ask::{Path, Sent},
    operator::Operator,
};

/// Which projection.
type Key = (String, String, String);

/// How to rebuild.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rebuild {
    /// Also when the log no longer has all of it.
    #[serde(default)]
    partial: bool,
}

/// What to switch to.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switch {
    /// The newest unless given.
    generation: Option<u32>,
}

pub(crate) async fn list(State(platform): State<Platform>) -> Result<Json<Value>, Fault> {
    let projections = platform.projections().await?;
    Ok(Json(json!({ "projections": projections })))
}

pub(crate) async fn show(
    State(platform): State<Platform>,
    Path(key): Path<Key>,
) -> Result<Json<Value>, Fault> {
    let projection = platform.projection(&text(&key)).await?;
    let shown = serde_json::to_value(projection).map_err(model::Error::internal)?;
    Ok(Json(shown))
}

pub(crate) async fn rebuild(
    State(platform): State<Platform>,
    Path(key): Path<Key>,
    Operator(by): Operator,
    Sent(ask): Sent<Rebuild>,
) -> Result<Json<Value>, Fault> {
    let key = text(&key);
    let begun = platform.rebuild_projection(&key, ask.partial, &by).await?;
    Ok(Json(json!({ "generation": begun })))
}

pub(crate) async fn switch(
    State(platform): State<Platform>,
    Path(key): Path<Key>,
    Operator(by): Operator,
    Sent(ask): Sent<Switch>,
) -> Result<Json<Value>, Fault> {
    let key = text(&key);
    let switched = platform.switch_projection(&key, ask.generation, &by);
    Ok(Json(switched.await?))
}

pub(crate) async fn drop(
    State(platform): State<Platform>,
    Path((app, workload, name, number)): Path<(String, String, String, u32)>,
    Operator(by): Operator,
) -> Result<Json<Value>, Fault> {
    let key = text(&(app, workload, name));
    platform.drop_generation(&key, number, &by).await?;
    Ok(Json(json!({ "dropped": number })))
}

fn text((app, workload, name): &Key) -> String {
    format!("{app}/{workload}/{name}")
}
