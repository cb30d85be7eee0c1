//! Telemetry that others send: OTLP over HTTP, joined to the platform's own traces. The same for workloads, which the
//! mesh vouches for, and for whoever sends to the listener of the server, which nobody vouches for.

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use model::{Category, Error, code};
use runtime::{Body, BodyError};
use telemetry::{
    Telemetry,
    otlp::{self, Sender},
};

use crate::{dispatch::Buffers, problem};

/// Takes one export. `signal` is the path that it was sent to, such as `v1/traces`; `sender` is who sent it, where
/// that is known for certain.
pub async fn ingest(
    telemetry: &Telemetry,
    buffers: &Buffers,
    sender: Option<&Sender>,
    signal: &str,
    headers: &HeaderMap,
    body: Body,
) -> Response<Body> {
    let result = take(telemetry, buffers, sender, signal, headers, body).await;
    result.unwrap_or_else(|error| problem::response(&error, None))
}

async fn take(
    telemetry: &Telemetry,
    buffers: &Buffers,
    sender: Option<&Sender>,
    signal: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Error> {
    if signal != "v1/traces" {
        let message = format!("OTLP `{signal}` is not taken: only v1/traces is");
        return Err(Error::new(code::NO_ROUTE, message));
    }
    let bytes = buffers
        .collect(body, otlp::BODY)
        .await
        .map_err(|error| match error {
            BodyError::TooLarge(limit) => Error::new(
                code::BODY_TOO_LARGE,
                format!("the telemetry is larger than {limit}"),
            ),
            BodyError::Workload(error) => error,
            other => Error::new(code::BAD_REQUEST, "the telemetry broke off").context(other),
        })?;
    let kind = text(headers, &header::CONTENT_TYPE);
    let encoding = text(headers, &header::CONTENT_ENCODING);
    let received = otlp::receive(kind, encoding, &bytes, sender).map_err(|refused| Error {
        category: match refused.http_status() {
            413 => Category::TooLarge,
            _ => Category::Invalid,
        },
        ..Error::new(code::BAD_REQUEST, refused.to_string())
    })?;
    let (kind, body) = otlp::answer(&received);
    received
        .spans
        .into_iter()
        .for_each(|span| telemetry.span(span));
    let mut response = Response::new(Body::full(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers
        .get(name)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
}
