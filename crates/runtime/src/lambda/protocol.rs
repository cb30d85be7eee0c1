//! The Lambda Runtime API, version 2018-06-01 (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>):
//! what a request asks for, and the answers' bytes. Pure: no I/O, no state.

use std::fmt::Write;

use bytes::Bytes;

use super::wire::{Head, Method};

const PREFIX: &str = "/2018-06-01/runtime/";

/// What a runtime client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// The next invocation: answered when there is one.
    Next,
    /// The handler's reply to the invocation of this id.
    Response(String),
    /// The handler's error for the invocation of this id.
    Error(String),
    /// The handler could not be loaded.
    InitError,
}

/// Why a call is refused: AWS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such path.
    NotFound,
    /// The path has another method.
    MethodNotAllowed,
    /// The id is not the one of the invocation under way.
    InvalidRequestId,
    /// The call does not belong here now: a second `next` before an answer, an `init/error` after the first `next`.
    InvalidStateTransition,
    /// The reply is larger than the limit.
    TooLarge,
}

/// What an invocation tells the runtime client, beside its payload. All of it is ASCII without line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// `Lambda-Runtime-Aws-Request-Id`.
    pub(crate) request_id: String,
    /// `Lambda-Runtime-Deadline-Ms`: milliseconds since 1970.
    pub(crate) deadline_ms: u64,
    /// `Lambda-Runtime-Invoked-Function-Arn`.
    pub(crate) function_arn: String,
    /// `Lambda-Runtime-Trace-Id`.
    pub(crate) trace: Option<String>,
    /// `Lambda-Runtime-Client-Context`: JSON.
    pub(crate) client_context: Option<String>,
}

impl Call {
    /// What `head` asks for.
    pub(crate) fn of(head: &Head) -> Result<Self, Refusal> {
        let rest = head.path.strip_prefix(PREFIX).ok_or(Refusal::NotFound)?;
        let (method, call) = match rest.split('/').collect::<Vec<_>>().as_slice() {
            ["invocation", "next"] => (Method::Get, Self::Next),
            ["invocation", id, "response"] => (Method::Post, Self::Response((*id).to_owned())),
            ["invocation", id, "error"] => (Method::Post, Self::Error((*id).to_owned())),
            ["init", "error"] => (Method::Post, Self::InitError),
            _ => return Err(Refusal::NotFound),
        };
        if method == head.method {
            Ok(call)
        } else {
            Err(Refusal::MethodNotAllowed)
        }
    }
}

impl Refusal {
    /// The whole response; the connection ends after it when `closes`.
    pub(crate) fn response(self, closes: bool) -> Bytes {
        let (status, body) = match self {
            Self::NotFound => ("404 Not Found", "404 page not found\n"),
            Self::MethodNotAllowed => ("405 Method Not Allowed", ""),
            Self::InvalidRequestId => (
                "400 Bad Request",
                "{\"errorMessage\":\"Invalid request ID\",\"errorType\":\"InvalidRequestID\"}\n",
            ),
            Self::InvalidStateTransition => (
                "403 Forbidden",
                "{\"errorMessage\":\"State transition is not allowed\",\"errorType\":\"InvalidStateTransition\"}\n",
            ),
            Self::TooLarge => (
                "413 Request Entity Too Large",
                "{\"errorMessage\":\"Exceeded maximum allowed payload size\",\"errorType\":\"RequestEntityTooLarge\"}\n",
            ),
        };
        let kind = if body.starts_with('{') {
            "application/json"
        } else {
            "text/plain; charset=utf-8"
        };
        let close = if closes { "Connection: close\r\n" } else { "" };
        Bytes::from(format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{close}\r\n{body}",
            body.len()
        ))
    }
}

/// The answer to a reply or an error that was taken.
pub(crate) const ACCEPTED: Bytes = Bytes::from_static(
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n",
);

/// The go-ahead for a body.
pub(crate) const CONTINUE: Bytes = Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n");

/// The answer to a request that is not HTTP.
pub(crate) const BAD_REQUEST: Bytes = Bytes::from_static(
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
);

/// The head of the answer to `next`, for a payload of `length` bytes.
pub(crate) fn next_head(metadata: &Metadata, length: usize) -> String {
    let mut head = String::with_capacity(512);
    let _ = write!(
        head,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Lambda-Runtime-Aws-Request-Id: {}\r\nLambda-Runtime-Deadline-Ms: {}\r\n\
         Lambda-Runtime-Invoked-Function-Arn: {}\r\n",
        metadata.request_id, metadata.deadline_ms, metadata.function_arn
    );
    for (name, value) in [
        ("Lambda-Runtime-Trace-Id", &metadata.trace),
        ("Lambda-Runtime-Client-Context", &metadata.client_context),
    ] {
        if let Some(value) = value {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    head.push_str("\r\n");
    head
}

/// The client context that carries an idempotency key to the handler: JSON in ASCII, as a header needs it.
pub(crate) fn client_context(idempotency_key: &str) -> String {
    let json = serde_json::json!({"custom": {"idempotency-key": idempotency_key}}).to_string();
    let mut ascii = String::with_capacity(json.len());
    for unit in json.chars() {
        if unit.is_ascii() && !unit.is_ascii_control() {
            ascii.push(unit);
        } else {
            let mut units = [0; 2];
            for unit in unit.encode_utf16(&mut units) {
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::lambda::wire::take_head;

    fn call(line: &str) -> Result<Call, Refusal> {
        let head = take_head(&mut BytesMut::from(&*format!("{line} HTTP/1.1\r\n\r\n")));
        Call::of(&head.expect("is HTTP").expect("is whole"))
    }

    #[test]
    fn paths() {
        let api = "/2018-06-01/runtime";
        assert_eq!(call(&format!("GET {api}/invocation/next")), Ok(Call::Next));
        assert_eq!(
            call(&format!("POST {api}/invocation/i-1/response")),
            Ok(Call::Response("i-1".into()))
        );
        assert_eq!(
            call(&format!("POST {api}/invocation/i-1/error")),
            Ok(Call::Error("i-1".into()))
        );
        assert_eq!(call(&format!("POST {api}/init/error")), Ok(Call::InitError));
        assert_eq!(
            call(&format!("POST {api}/invocation/next")),
            Err(Refusal::MethodNotAllowed)
        );
        for path in [
            "/",
            "/2018-06-01",
            "/2018-06-01/runtime/restore/next",
            "/2020-01-01/runtime/invocation/next",
        ] {
            assert_eq!(
                call(&format!("GET {path}")),
                Err(Refusal::NotFound),
                "{path}"
            );
        }
    }

    #[test]
    fn answers_say_their_length() {
        for refusal in [
            Refusal::NotFound,
            Refusal::MethodNotAllowed,
            Refusal::InvalidRequestId,
            Refusal::InvalidStateTransition,
            Refusal::TooLarge,
        ] {
            assert_framed(&refusal.response(true));
        }
        assert_framed(&ACCEPTED);
        assert_framed(&BAD_REQUEST);
    }

    fn assert_framed(response: &[u8]) {
        let text = std::str::from_utf8(response).expect("is text");
        let (head, body) = text.split_once("\r\n\r\n").expect("has a head");
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{text}"
        );
    }

    #[test]
    fn the_client_context_is_ascii_json() {
        let context = client_context("käy \"1\"\n😀");
        assert!(context.is_ascii() && !context.contains('\n'));
        let read: serde_json::Value = serde_json::from_str(&context).expect("is JSON");
        assert_eq!(read["custom"]["idempotency-key"], "käy \"1\"\n😀");
    }
}
