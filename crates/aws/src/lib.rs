//! The AWS door: AWS wire protocols, translated to platform calls. Nothing of AWS lives anywhere else but in the
//! payloads of Lambda handlers (`runtime::lambda`).
//!
//! What is not there says so in AWS's own error shape, naming the operation. Nothing is silently ignored.

mod fault;
mod identity;
mod lambda;
mod serve;

use access::sigv4::Claim;
use bytes::Bytes;
use fault::Fault;
use http::{Method, Request, Response, request::Parts};
use identity::{Identity, Peer};
pub use lambda::urls::Front;
use platform::{Body, Platform};
pub use serve::serve;
use tokio::time::timeout;

/// Where SDKs read the id of a request.
pub(crate) const REQUEST_ID: &str = "x-amzn-requestid";

/// Answers one request of an AWS SDK.
pub(crate) async fn handle(
    platform: &Platform,
    front: &Front,
    peer: &Peer,
    request: Request<Body>,
) -> Response<Body> {
    let request_id = platform.ids().uuid(platform.clock()).to_string();
    if request.method() == Method::GET && is_health(request.uri().path()) {
        return health();
    }
    let (head, body) = request.into_parts();
    let claim = identity::claim(&head, peer);
    let service = claim.as_ref().ok().map(|claim| claim.service.as_str());
    let style = fault::Style::of(&head.headers, service);
    let result = answer(platform, (front, peer), claim, head, body).await;
    let mut response = result.unwrap_or_else(|fault| fault.response(style));
    if let Ok(id) = request_id.parse() {
        response.headers_mut().entry(REQUEST_ID).or_insert(id);
    }
    response
}

async fn answer(
    platform: &Platform,
    (front, peer): (&Front, &Peer),
    claim: Result<Claim, Fault>,
    head: Parts,
    body: Body,
) -> Result<Response<Body>, Fault> {
    // What is not signed is refused before anything of its body is read.
    let claim = claim?;
    // A signature covers the body, so all of it is read before anything else is decided.
    let limit = platform.limits().sync_payload;
    let collecting = platform.dispatch().buffers().collect(body, limit);
    let collected = timeout(platform.limits().body_idle, collecting).await;
    let body = collected
        .map_err(|_| fault::too_slow())?
        .map_err(|error| fault::body(&error, limit))?;
    let identity = identity::identify(platform, peer, &claim, &head, &body).await?;
    route(platform, identity, front, Request::from_parts(head, body)).await
}

async fn route(
    platform: &Platform,
    identity: Identity,
    front: &Front,
    request: Request<Bytes>,
) -> Result<Response<Body>, Fault> {
    let path = request.uri().path();
    match path.strip_prefix("/2015-03-31/functions") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            lambda::route(platform, identity, request).await
        }
        _ if path.starts_with("/2021-11-15/functions/") => {
            lambda::route_streaming(platform, identity, request).await
        }
        _ if path.starts_with("/2021-10-31/functions/") => {
            lambda::route_urls(platform, identity, front, request).await
        }
        _ => Err(Fault::unsupported(&fault::operation(&request))),
    }
}

fn is_health(path: &str) -> bool {
    matches!(path, "/_localstack/health" | "/_tangelo/health" | "/health")
}

/// What tools that wait for a local cloud look at.
fn health() -> Response<Body> {
    let services = serde_json::json!({"services": {"lambda": "running"}, "edition": "tangelo", "version": env!("CARGO_PKG_VERSION")});
    fault::json_response(http::StatusCode::OK, &services)
}
