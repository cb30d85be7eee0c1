//! Buckets, as an operator sees them: `/v1/kv` lists them, `/v1/kv/APP/BUCKET/KEY` is what workloads have at
//! `TANGELO_KV_URL`.

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::Response,
};
use model::AppName;
use platform::Platform;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Fault,
    ask::{Path, Query},
    fault::bad_request,
    streamed,
};

/// Which buckets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    app: Option<String>,
}

pub(crate) async fn buckets(
    State(platform): State<Platform>,
    Query(ask): Query<Ask>,
) -> Result<Json<Value>, Fault> {
    let app = ask.app.as_deref().map(name).transpose()?;
    let buckets = platform.keyvalue().buckets(app).await?;
    Ok(Json(json!({ "buckets": buckets })))
}

pub(crate) async fn serve(
    State(platform): State<Platform>,
    Path(parts): Path<Vec<(String, String)>>,
    request: Request,
) -> Result<Response<Body>, Fault> {
    let app = parts.first().map_or("", |(_, app)| app);
    let app = name(app)?;
    // Undecoded, since a slash of a key is not one of the path.
    let path = request.uri().path().strip_prefix("/v1/kv/");
    let path = path.and_then(|rest| rest.split_once('/'));
    let path = path.map_or_else(String::new, |(_, rest)| rest.to_owned());
    let request = request.map(streamed);
    let answer = platform.keyvalue().serve_operator(&app, &path, request);
    Ok(answer.await?.map(Body::new))
}

fn name(text: &str) -> Result<AppName, Fault> {
    AppName::new(text).map_err(|error| bad_request(error.to_string()))
}
