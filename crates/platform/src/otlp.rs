//! Telemetry that instrumented workloads send: OTLP over HTTP, joined to the platform's own traces.

use http::{HeaderValue, Response, header};
use model::{Category, Error, code};
use runtime::{Body, Presence};
use telemetry::{Telemetry, otlp};

use crate::problem;

/// Takes one export. `signal` is what follows `/otlp/`; `presence` says for certain who sent it.
#[must_use]
pub fn ingest(
    telemetry: &Telemetry,
    presence: &Presence,
    signal: &str,
    content_type: &str,
    bytes: &[u8],
) -> Response<Body> {
    if signal != "v1/traces" {
        let message = format!("OTLP `{signal}` is not taken: only v1/traces is");
        return problem::response(&Error::new(code::NO_ROUTE, message), None);
    }
    let sender = otlp::Sender {
        app: presence.app.clone(),
        workload: presence.workload.clone(),
    };
    match otlp::receive(content_type, bytes, Some(&sender)) {
        Ok(received) => {
            let (content_type, body) = otlp::answer(&received);
            received
                .spans
                .into_iter()
                .for_each(|span| telemetry.span(span));
            let mut response = Response::new(Body::full(body));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            response
        }
        Err(refused) => {
            let category = if refused.http_status() == 413 {
                Category::TooLarge
            } else {
                Category::Invalid
            };
            problem::response(
                &Error {
                    category,
                    ..Error::new(code::BAD_REQUEST, refused.to_string())
                },
                None,
            )
        }
    }
}
