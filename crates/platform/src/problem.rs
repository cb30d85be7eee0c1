//! The one place where an error becomes HTTP: a problem document (RFC 9457) with code and request id.
//!
//! The operator's context never leaves the server; it is logged here instead.

use http::{HeaderValue, Response, StatusCode, header};
use model::{Category, Error};
use runtime::Body;
use serde_json::{Value, json};

/// The response that stands for `error`.
#[must_use]
pub fn response(error: &Error, request_id: Option<&str>) -> Response<Body> {
    with(error, request_id, [])
}

/// The same with members of its own (RFC 9457 §3.2).
pub(crate) fn with<const N: usize>(
    error: &Error,
    request_id: Option<&str>,
    more: [(&str, Value); N],
) -> Response<Body> {
    if error.category == Category::Internal {
        tracing::error!(code = %error.code, context = error.context.as_deref(), request_id, "{}", error.message);
    } else if let Some(context) = &error.context {
        tracing::debug!(code = %error.code, context, request_id, "{}", error.message);
    }
    let status = StatusCode::from_u16(error.category.http_status())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut document = json!({
        "type": format!("urn:tangelo:error:{}", error.code),
        "title": title(error.category),
        "status": status.as_u16(),
        "code": error.code,
        "detail": error.message,
    });
    if let Some(id) = request_id {
        document["request_id"] = id.into();
    }
    for (name, value) in more {
        document[name] = value;
    }
    let mut response = Response::new(Body::full(document.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if let Some(after) = error.retry_after {
        // Whole seconds, rounded up: RFC 9110 §10.2.3 has no fractions.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

const fn title(category: Category) -> &'static str {
    match category {
        Category::Invalid => "The request is not valid",
        Category::Unauthenticated => "Credentials are missing or wrong",
        Category::Forbidden => "Not allowed",
        Category::NotFound => "Not found",
        Category::MethodNotAllowed => "Method not allowed",
        Category::Conflict => "In conflict with what is there",
        Category::Precondition => "A condition of the request does not hold",
        Category::TooLarge => "Too large",
        Category::MediaType => "In a form that is not read here",
        Category::Throttled => "Too many requests",
        Category::Unavailable => "Not available now",
        Category::Timeout => "Took too long",
        Category::WorkloadFailed => "The workload failed",
        Category::Unsupported => "Not supported",
        Category::Internal => "Internal fault",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::code;

    use super::*;

    #[tokio::test]
    async fn the_operators_context_stays_inside() {
        let error = Error::new(code::CONCURRENCY_LIMIT, "full")
            .context("secret")
            .retry_after(Duration::from_millis(1500));
        let response = response(&error, Some("r-1"));
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "2");
        let body = response
            .into_body()
            .collect(model::ByteSize::kib(4))
            .await
            .expect("is at hand");
        let text = String::from_utf8(body.to_vec()).expect("is JSON");
        assert!(
            text.contains("TG0301") && text.contains("r-1") && !text.contains("secret"),
            "{text}"
        );
    }
}
