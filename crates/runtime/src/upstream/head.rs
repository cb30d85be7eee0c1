//! The heads of requests and responses where they pass from the platform to one connection and back.

use std::io::ErrorKind;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE},
};

use http_body::Body as _;
use model::{Error, code};

use super::origin::Origin;
use crate::body::{Body, BodyError};

/// Makes a request fit for one HTTP/1.1 connection: origin form, a `Host`, and no expectation that was already met.
pub(super) fn prepare(request: &mut Request<Body>, origin: &Origin) {
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().remove(EXPECT);
    match origin {
        Origin::Here(address) => {
            if request.uri().authority().is_some() {
                *request.uri_mut() = join("", request.uri());
            }
            if !request.headers().contains_key(HOST) {
                let host = HeaderValue::from_str(&address.to_string());
                let host = host.unwrap_or(HeaderValue::from_static("localhost"));
                request.headers_mut().insert(HOST, host);
            }
        }
        Origin::Away(away) => {
            if !away.base.is_empty() || request.uri().authority().is_some() {
                *request.uri_mut() = join(&away.base, request.uri());
            }
            let host = away.authority.clone();
            request.headers_mut().insert(HOST, host);
        }
    }
}

/// `base` before the path of `uri`, with its query. What does not parse stays: it parsed before.
fn join(base: &str, uri: &Uri) -> Uri {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = match (base, path) {
        ("", path) => path.to_owned(),
        (base, "/") => base.to_owned(),
        (base, path) if path.starts_with("/?") => format!("{base}{}", &path[1..]),
        (base, path) => format!("{base}{path}"),
    };
    path.parse().unwrap_or_else(|_| uri.clone())
}

/// Whether the same request twice does what it does once (RFC 9110 §9.2.2) and can be sent twice.
pub(super) fn can_repeat(request: &Request<Body>) -> bool {
    let method = request.method();
    let idempotent = method.is_safe() || matches!(*method, Method::PUT | Method::DELETE);
    idempotent
        && (request.body().is_end_stream() || matches!(request.body(), Body::Full(_)))
        && !request.headers().contains_key(UPGRADE)
}

/// The same request again, where it can be repeated.
pub(super) fn copy(request: &Request<Body>) -> Option<Box<Request<Body>>> {
    if !can_repeat(request) {
        return None;
    }
    let body = match request.body() {
        Body::Full(bytes) => Body::Full(bytes.clone()),
        Body::Empty | Body::Incoming(_) | Body::Stream(_) => Body::Empty,
    };
    let mut copy = Box::new(Request::new(body));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// Whether an answer is a stream of server-sent events (HTML, §9.2.5).
pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    let essence = |value: &HeaderValue| {
        let value = value.as_bytes();
        let end = value.iter().position(|byte| *byte == b';');
        let kind = value[..end.unwrap_or(value.len())].trim_ascii();
        kind.eq_ignore_ascii_case(b"text/event-stream")
    };
    headers.get(CONTENT_TYPE).is_some_and(essence)
}

/// When it was the request's own body that failed: what its sender is to be told.
pub(super) fn failed_upload(error: &hyper::Error) -> Option<Error> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(body) = error.downcast_ref::<BodyError>() {
            return Some(match body {
                BodyError::TooLarge(_) => Error::new(code::BODY_TOO_LARGE, body.to_string()),
                BodyError::Idle => Error::new(
                    code::REQUEST_TIMEOUT,
                    "the request body was not sent in time",
                ),
                BodyError::Connection(_) => {
                    Error::new(code::BAD_REQUEST, "the request body ended early")
                }
                BodyError::Workload(error) => error.clone(),
            });
        }
        source = error.source();
    }
    None
}

/// Whether the other side's system threw the connection away.
pub(super) fn is_reset(error: &hyper::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|e| e.downcast_ref::<std::io::Error>());
    io.is_some_and(|e| matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
}

/// Removes what was meant for one connection only (RFC 9110 §7.6.1); an upgrade keeps what says so.
pub(super) fn strip<B>(response: &mut Response<B>) {
    *response.version_mut() = Version::HTTP_11;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let headers = response.headers_mut();
    let named = named_by_connection(headers);
    let fixed = headers.keys().filter(|name| is_of_one_connection(name));
    let doomed: Vec<HeaderName> = fixed.cloned().chain(named).collect();
    // Where both are there, the chunks say how long it is (RFC 9112 §6.3).
    if doomed.contains(&TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    for name in doomed {
        headers.remove(name);
    }
}

/// As texts: most answers have none of these, and are not searched for each.
fn is_of_one_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "transfer-encoding"
            | "te"
            | "upgrade"
            | "proxy-authenticate"
            | "keep-alive"
            | "proxy-connection"
    )
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .into_iter()
        .filter(|value| !matches!(value.as_bytes(), b"close" | b"keep-alive"))
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter_map(|name| name.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(origin: &Origin, uri: &str) -> (String, String) {
        let mut request = Request::builder()
            .uri(uri)
            .version(Version::HTTP_2)
            .body(Body::Empty)
            .expect("a request");
        prepare(&mut request, origin);
        assert_eq!(request.version(), Version::HTTP_11);
        let host = request.headers()[HOST].to_str().expect("ASCII");
        (host.to_owned(), request.uri().to_string())
    }

    #[test]
    fn base_paths_are_joined_and_hosts_are_the_urls() {
        let away = Origin::parse("http://a.example:81/v1/").unwrap_or_else(|e| panic!("{e}"));
        for (uri, path) in [
            ("/", "/v1"),
            ("/x?y=1", "/v1/x?y=1"),
            ("/?y=1", "/v1?y=1"),
            ("http://other/x", "/v1/x"),
        ] {
            assert_eq!(sent(&away, uri), ("a.example:81".into(), path.into()));
        }
        let here = Origin::Here(([127, 0, 0, 1], 81).into());
        assert_eq!(
            sent(&here, "http://o/x"),
            ("127.0.0.1:81".into(), "/x".into())
        );
    }

    #[test]
    fn only_what_can_be_repeated_is_copied() {
        let request = |method: Method, body: Body| {
            let mut request = Request::new(body);
            *request.method_mut() = method;
            request
        };
        assert!(copy(&request(Method::GET, Body::Empty)).is_some());
        assert!(copy(&request(Method::PUT, Body::full("x"))).is_some());
        assert!(copy(&request(Method::POST, Body::Empty)).is_none());
        let stream = Body::stream(http_body_util::StreamBody::new(
            futures_util::stream::empty(),
        ));
        assert!(copy(&request(Method::PUT, stream)).is_none());
    }

    #[test]
    fn event_streams_are_known_by_their_type_whatever_its_parameters() {
        for (kind, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("text/event-streams", false),
            ("text/plain", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_event_stream(&headers), expected, "{kind}");
        }
        assert!(!is_event_stream(&HeaderMap::new()));
    }

    #[test]
    fn hop_by_hop_headers_end_here() {
        let mut response = Response::builder()
            .header("connection", "close, x-mine")
            .header("x-mine", "1")
            .header("keep-alive", "timeout=5")
            .header("transfer-encoding", "chunked")
            .header("x-other", "2")
            .body(())
            .expect("a response");
        strip(&mut response);
        let names: Vec<&str> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-other"]);
    }
}
