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
    let request = request.map(|body| {
        platform::Body::stream(http_body_util::BodyExt::map_err(body, |e| {
            platform::BodyError::Workload(
                model::Error::new(model::code::BAD_REQUEST, "the request broke off").context(e),
            )
        }))
    });
    let response = platform.events().publish_http(origin, request).await?;
    Ok(response.map(Body::new))
}

pub(crate) async fn subscriptions(State(platform): State<Platform>) -> Json<Value> {
    Json(json!({ "subscriptions": platform.subscriptions() }))
}
