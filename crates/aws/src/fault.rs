//! Errors in AWS's shapes: JSON for REST and JSON protocols, XML for the query protocol and for S3. One place for all.

use access::sigv4::Claim;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use model::{ByteSize, Category, Error, code};
use platform::{Body, BodyError};
use serde_json::{Value, json};

/// The media type of the query protocol.
const FORM: &str = "application/x-www-form-urlencoded";

/// An error as an AWS SDK reads it.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

/// How the client reads errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// JSON: REST-JSON and JSON 1.x.
    Json,
    /// XML: the query protocol.
    Query,
    /// XML: S3.
    S3,
}

impl Style {
    /// Of a request with these headers, signed for `service`.
    pub(crate) fn of(headers: &HeaderMap, service: Option<&str>) -> Self {
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if kind.starts_with(FORM) {
            Self::Query
        } else if service == Some("s3") {
            Self::S3
        } else {
            Self::Json
        }
    }
}

impl Fault {
    pub(crate) fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status,
            kind,
            message: message.into(),
        }
    }

    /// An operation that Tangelo does not have.
    pub(crate) fn unsupported(operation: &str) -> Self {
        let message = format!(
            "Tangelo does not have {operation} [{}]: of AWS's APIs it has Lambda Invoke, InvokeWithResponseStream, \
             GetFunction, ListFunctions and GetFunctionUrlConfig",
            model::code::AWS_UNSUPPORTED
        );
        Self::new(501, "UnsupportedOperationException", message)
    }

    pub(crate) fn response(&self, style: Style) -> Response<Body> {
        let mut response = self.plain(style);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn plain(&self, style: Style) -> Response<Body> {
        match style {
            Style::Json => {
                let kind = if self.status.is_server_error() {
                    "Service"
                } else {
                    "User"
                };
                let body = json!({"__type": self.kind, "Type": kind, "Message": self.message, "message": self.message});
                let mut response = json_response(self.status, &body);
                response
                    .headers_mut()
                    .insert("x-amzn-errortype", HeaderValue::from_static(self.kind));
                response
            }
            Style::Query => self.xml(
                "<ErrorResponse><Error><Type>Sender</Type>",
                "</Error></ErrorResponse>",
            ),
            Style::S3 => self.xml("<Error>", "</Error>"),
        }
    }

    fn xml(&self, before: &str, after: &str) -> Response<Body> {
        let (kind, message) = (self.kind, escape(&self.message));
        let body = format!("{before}<Code>{kind}</Code><Message>{message}</Message>{after}");
        let mut response = Response::new(Body::full(body));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        response
    }
}

impl From<Error> for Fault {
    /// Lambda's names for what the platform says.
    fn from(error: Error) -> Self {
        let (status, kind) = match error.category {
            Category::Invalid => (400, "InvalidParameterValueException"),
            Category::Unauthenticated => (403, "UnrecognizedClientException"),
            Category::Forbidden => (403, "AccessDeniedException"),
            Category::NotFound => (404, "ResourceNotFoundException"),
            Category::Precondition => (412, "PreconditionFailedException"),
            Category::Conflict => (409, "ResourceConflictException"),
            Category::TooLarge => (413, "RequestTooLargeException"),
            Category::MediaType => (415, "UnsupportedMediaTypeException"),
            Category::Throttled => (429, "TooManyRequestsException"),
            // Lambda's word for it, which SDKs take as a reason to come back.
            Category::Unavailable if error.code == code::CONCURRENCY_LIMIT => {
                (429, "TooManyRequestsException")
            }
            Category::MethodNotAllowed | Category::Unsupported => {
                (501, "UnsupportedOperationException")
            }
            Category::Internal
            | Category::Unavailable
            | Category::Timeout
            | Category::WorkloadFailed => (500, "ServiceException"),
        };
        if error.category == Category::Internal {
            tracing::error!(code = %error.code, context = error.context.as_deref(), "{}", error.message);
        }
        Self::new(status, kind, format!("{} [{}]", error.message, error.code))
    }
}

/// Why a request's body was not read.
pub(crate) fn body(error: &BodyError, limit: ByteSize) -> Fault {
    match error {
        BodyError::TooLarge(_) => {
            let message = format!(
                "Request must be smaller than {} bytes for the InvokeFunction operation",
                limit.0
            );
            Fault::new(413, "RequestEntityTooLargeException", message)
        }
        BodyError::Workload(error) => Fault::new(
            503,
            "ServiceException",
            format!("{} [{}]", error.message, error.code),
        ),
        other => Fault::new(
            400,
            "InvalidRequestContentException",
            format!("the request broke off: {other}"),
        ),
    }
}

/// The body did not come in time.
pub(crate) fn too_slow() -> Fault {
    let message = "the request's body did not come in time";
    Fault::new(408, "RequestTimeoutException", message.to_owned())
}

/// What a request asks for, in words: the operation where the protocol names it, else method and path; and of which
/// service, where it was signed.
pub(crate) fn operation(request: &Request<Bytes>) -> String {
    let service = service(request);
    let style = Style::of(request.headers(), service.as_deref());
    let target = request.headers().get("x-amz-target");
    let named = match target.and_then(|v| v.to_str().ok()) {
        Some(target) => Some(target.to_owned()),
        None if style == Style::Query => action(request.body()),
        None => None,
    };
    let named = named.map_or_else(
        || format!("{} {}", request.method(), request.uri().path()),
        |name| name.escape_default().to_string(),
    );
    match service {
        Some(service) => format!("`{named}` of {}", service.escape_default()),
        None => format!("`{named}`"),
    }
}

/// The parameter `Action` of the query protocol.
fn action(form: &[u8]) -> Option<String> {
    let pairs = std::str::from_utf8(form).ok()?.split('&');
    let action = pairs
        .filter_map(|pair| pair.strip_prefix("Action="))
        .next()?;
    Some(action.chars().take(100).collect())
}

/// The service that a request was signed for.
fn service<B>(request: &Request<B>) -> Option<String> {
    Claim::of(request.uri(), request.headers())
        .ok()
        .map(|claim| claim.service)
}

/// A JSON answer.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::full(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
