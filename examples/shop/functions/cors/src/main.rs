//! Answers preflight requests (`OPTIONS`) for the whole API: a function inline on a route, so that no service
//! needs to know which origins the shop's front ends have.
//!
//! `CORS_ORIGINS` lists the origins that may call, separated by blanks; `*` stands for any.

use std::env;

use wstd::http::{Body, Error, Request, Response, StatusCode};

const METHODS: &str = "GET, POST, PUT, DELETE, OPTIONS";
const HEADERS: &str = "authorization, content-type, idempotency-key";
/// How long a browser may remember the answer: a day, in seconds.
const REMEMBER: &str = "86400";

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let allowed = env::var("CORS_ORIGINS").unwrap_or_default();
    let origin = request.headers().get("origin").and_then(|o| o.to_str().ok());
    let response = Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header("vary", "origin");
    let response = match origin {
        Some(origin) if is_allowed(&allowed, origin) => response
            .header("access-control-allow-origin", origin)
            .header("access-control-allow-methods", METHODS)
            .header("access-control-allow-headers", HEADERS)
            .header("access-control-max-age", REMEMBER),
        // Without the headers, the browser refuses: there is nothing to add to that.
        _ => response,
    };
    Ok(response.body(Body::empty())?)
}

fn is_allowed(allowed: &str, origin: &str) -> bool {
    allowed.split_whitespace().any(|one| one == "*" || one == origin)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_listed_origins_may_call() {
        assert!(super::is_allowed("http://a http://b", "http://b"));
        assert!(super::is_allowed("*", "http://b"));
        assert!(!super::is_allowed("http://a", "http://b"));
        assert!(!super::is_allowed("", "null"));
    }
}
