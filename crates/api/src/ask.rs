//! What requests ask, as handlers take it: the extractors of axum, which refuse in the shape that every other refusal has.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, path, rejection::JsonRejection},
    http::{StatusCode, request::Parts},
};
use model::{Error, code};
use serde::de::DeserializeOwned;

use crate::{Fault, fault::bad_request};

/// The query of a request.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        let query = axum::extract::Query::try_from_uri(&parts.uri);
        let query =
            query.map_err(|rejected| bad_request(format!("the query: {}", reason(&rejected))))?;
        Ok(Self(query.0))
    }
}

/// The variable parts of a path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let path = path::Path::from_request_parts(parts, state).await;
        let path =
            path.map_err(|rejected| bad_request(format!("the path: {}", reason(&rejected))))?;
        Ok(Self(path.0))
    }
}

/// The JSON that a request brings.
pub(crate) struct Sent<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let body = Json::from_request(request, state).await;
        Ok(Self(body.map_err(|rejected| of_body(&rejected))?.0))
    }
}

fn of_body(rejected: &JsonRejection) -> Fault {
    if rejected.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Fault(Error::new(
            code::BODY_TOO_LARGE,
            "the body is larger than a request's may be",
        ));
    }
    bad_request(match rejected {
        JsonRejection::MissingJsonContentType(_) => {
            "the body is JSON: say so with `content-type: application/json`".to_owned()
        }
        other => format!("the body: {}", reason(other)),
    })
}

/// What is wrong, without the sentence before it.
fn reason(rejected: &dyn std::error::Error) -> String {
    let inner = rejected.source().map(ToString::to_string);
    inner.unwrap_or_else(|| rejected.to_string())
}
