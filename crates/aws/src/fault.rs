//! Errors in AWS's shapes: JSON for REST and JSON protocols, XML for the query protocol. One place for all.

use http::{HeaderValue, Request, Response, StatusCode, header};
use model::{ByteSize, Category, Error};
use platform::{Body, BodyError};
use serde_json::{Value, json};

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
}

impl Style {
    pub(crate) fn of(request: &Request<Body>) -> Self {
        let kind = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if kind.starts_with("application/x-www-form-urlencoded") {
            Self::Query
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
            "Tangelo does not have {operation} [{}]: of AWS's APIs it has Lambda Invoke, GetFunction and ListFunctions",
            model::code::AWS_UNSUPPORTED
        );
        Self::new(501, "UnsupportedOperationException", message)
    }

    pub(crate) fn response(&self, style: Style) -> Response<Body> {
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
            Style::Query => {
                let body = format!(
                    "<ErrorResponse><Error><Type>Sender</Type><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>",
                    self.kind,
                    escape(&self.message)
                );
                let mut response = Response::new(Body::full(body));
                *response.status_mut() = self.status;
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
                response
            }
        }
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
            Category::Conflict => (409, "ResourceConflictException"),
            Category::TooLarge => (413, "RequestTooLargeException"),
            Category::Throttled => (429, "TooManyRequestsException"),
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
        other => Fault::new(
            400,
            "InvalidRequestContentException",
            format!("the request broke off: {other}"),
        ),
    }
}

/// What a request asks for, in words: the operation where the protocol names it, else method and path.
pub(crate) fn operation<B>(request: &Request<B>) -> String {
    if let Some(target) = request
        .headers()
        .get("x-amz-target")
        .and_then(|v| v.to_str().ok())
    {
        return format!("`{}`", target.escape_default());
    }
    format!("`{} {}`", request.method(), request.uri().path())
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
