//! Answers that the gateway gives itself: problem documents, and statuses that a category has no word for.

use http::{HeaderValue, Method, Response, StatusCode, header::ALLOW};
use model::{Error, code};
use platform::{Body, problem};
use serde_json::Value;

/// In a response's extensions: after it, what else comes on its connection is not to be believed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastWord;

/// The problem document of `error`. A client that was too slow hears 408, not 504: nobody behind us was slow.
pub(crate) fn of(error: &Error, request_id: Option<&str>) -> Response<Body> {
    let mut response = problem::response(error, request_id);
    if error.code == code::BAD_REQUEST {
        response.extensions_mut().insert(LastWord);
    }
    if error.code == code::REQUEST_TIMEOUT {
        with_status(response, StatusCode::REQUEST_TIMEOUT)
    } else {
        response
    }
}

/// The same document under another status.
pub(crate) fn with_status(response: Response<Body>, status: StatusCode) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    head.status = status;
    let body = match body {
        Body::Full(Some(bytes)) => match serde_json::from_slice::<Value>(&bytes) {
            Ok(mut document) => {
                document["status"] = status.as_u16().into();
                Body::full(document.to_string())
            }
            Err(_) => Body::full(bytes),
        },
        other => other,
    };
    Response::from_parts(head, body)
}

/// `response` with the methods that there are.
pub(crate) fn allowing(mut response: Response<Body>, methods: &[Method]) -> Response<Body> {
    let list = methods
        .iter()
        .map(Method::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if let Ok(value) = HeaderValue::try_from(list) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// 204: there is nothing to say but the headers.
pub(crate) fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
