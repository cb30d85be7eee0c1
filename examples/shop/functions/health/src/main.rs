//! `/api/health`: a function inline on a route. It answers without any service being up, which is the point:
//! it says that the front door is open, not that everything behind it is (that is `/healthz` of each service).

use wstd::http::{Body, Error, Request, Response};

#[wstd::http_server]
async fn main(_request: Request<Body>) -> Result<Response<Body>, Error> {
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("cache-control", "no-store")
        .body(Body::from("{\"status\":\"ok\"}\n"))?;
    Ok(response)
}
