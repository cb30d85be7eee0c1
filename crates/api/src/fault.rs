//! Errors of the control API: the same problem documents as at the gateway.

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use model::{Error, code};

/// An error on its way to a client of the control API.
#[derive(Debug)]
pub struct Fault(pub Error);

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        platform::problem::response(&self.0, None).map(Body::new)
    }
}

/// A request that is malformed, said so with `detail`.
pub(crate) fn bad_request(detail: impl Into<String>) -> Fault {
    Fault(Error::new(code::BAD_REQUEST, detail))
}

pub(crate) async fn no_route(request: Request) -> Fault {
    let message = format!(
        "the control API has no {} {}",
        request.method(),
        request.uri().path()
    );
    Fault(Error::new(code::NO_ROUTE, message))
}

pub(crate) async fn no_method(request: Request) -> Fault {
    let message = format!(
        "the control API has no {} for {}",
        request.method(),
        request.uri().path()
    );
    Fault(Error::new(code::METHOD_NOT_ALLOWED, message))
}
