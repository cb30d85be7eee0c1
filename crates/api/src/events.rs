//! Events and subscriptions.

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::Response,
};
use model::Principal;
use platform::{Platform, events::Origin};
use serde_json::{Value, json};

use crate::Fault;

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

pub(crate) async fn subscriptions(State(platform): State<Platform>) -> Json<Value> {
    Json(json!({ "subscriptions": platform.subscriptions() }))
}
