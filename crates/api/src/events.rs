//! Publishing events, and looking at them.

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::Response,
};
use model::{Position, Principal};
use platform::{Platform, events::Origin};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Fault,
    ask::{Path, Query},
    fault::bad_request,
};

pub(crate) async fn publish(
    State(platform): State<Platform>,
    request: Request,
) -> Result<Response<Body>, Fault> {
    let trace =
        platform::mesh::from_headers(request.headers()).unwrap_or_else(|| platform.new_trace());
    let origin = Origin::Outside {
        app: None,
        trace,
        principals: vec![Principal::Operator],
    };
    let request = request.map(crate::streamed);
    let response = platform.events().publish_http(origin, request).await?;
    Ok(response.map(Body::new))
}

/// Which event: its id, and its source when several have it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    id: String,
    source: Option<String>,
}

/// The newest event with an id.
pub(crate) async fn find(
    State(platform): State<Platform>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, Fault> {
    let found = platform.find_event(&which.id, which.source.as_deref());
    Ok(Json(found.await?))
}

/// The event at a position.
pub(crate) async fn at(
    State(platform): State<Platform>,
    Path(position): Path<String>,
) -> Result<Json<Value>, Fault> {
    let position = position
        .parse()
        .map_err(|_| bad_request(format!("`{position}` is no position: a number is")))?;
    Ok(Json(platform.event_at(Position(position)).await?))
}

/// What a subscription asks for.
pub(crate) async fn filter(
    State(platform): State<Platform>,
    Path((app, workload, name)): Path<(String, String, String)>,
) -> Result<Json<Value>, Fault> {
    let subscription = format!("{app}/{workload}/{name}");
    let filter = platform.filter_of(&subscription).await?;
    Ok(Json(
        json!({"subscription": subscription, "filter": filter}),
    ))
}
