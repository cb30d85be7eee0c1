//! The handshake of a WebSocket (RFC 6455, section 4.2) over which events are published.

use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode, Uri,
    header::{
        CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
    request::Parts,
};
use model::{Error, code};
use platform::Body;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::refusal;

/// The subprotocol. It is not `cloudevents.json`: in that, whatever comes back is an event.
const PROTOCOL: &str = "tangelo.publish.v1";
/// A key has 16 bytes, in Base64.
const KEY: usize = 24;

/// The answer to the handshake in `head`: 101, or 426 to another version.
///
/// # Errors
/// `BAD_REQUEST` when it is none, or a page of another origin begins it.
pub(super) fn answer(head: &Parts) -> Result<Response<Body>, Error> {
    let bad = |message: &str| Err(Error::new(code::BAD_REQUEST, message));
    let headers = &head.headers;
    if head.method != Method::GET {
        return bad("a WebSocket begins with GET");
    }
    let version = headers.get(SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|version| version != "13") {
        return Ok(other_version());
    }
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let Some(key) = key.filter(|key| key.len() == KEY) else {
        return bad("`Sec-WebSocket-Key` is not 16 bytes in Base64");
    };
    if !comes_from_here(headers) {
        return bad("a page of another origin may not publish here: `Origin` is not `Host`");
    }
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let offered = offered.filter_map(|value| value.to_str().ok());
    let mut offered = offered.flat_map(|value| value.split(',')).map(str::trim);
    let offers_any = headers.contains_key(SEC_WEBSOCKET_PROTOCOL);
    if offers_any && !offered.any(|one| one == PROTOCOL) {
        return bad("of subprotocols, `tangelo.publish.v1` is spoken here, or none");
    }
    let accept = derive_accept_key(key.as_bytes());
    let accept = HeaderValue::try_from(accept).map_err(Error::internal)?;
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if offers_any {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    Ok(response)
}

/// Browsers let any page open a WebSocket anywhere, with the cookies of where it leads, and say which page it was.
/// What is no browser says nothing.
fn comes_from_here(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let origin = origin
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Uri>().ok());
    let origin = origin.as_ref().and_then(Uri::authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match (origin, host) {
        (Some(origin), Some(host)) => host.eq_ignore_ascii_case(origin.as_str()),
        _ => false,
    }
}

fn other_version() -> Response<Body> {
    let message = "of the WebSocket protocol, version 13 is spoken here";
    let error = Error::new(code::BAD_REQUEST, message);
    let response = refusal::of(&error, None);
    let mut response = refusal::with_status(response, StatusCode::UPGRADE_REQUIRED);
    let headers = response.headers_mut();
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const GOOD: [(&str, &str); 4] = [
        ("host", "shop.example"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("upgrade", "websocket"),
    ];

    fn asked(changes: &[(&str, &str)]) -> Result<Response<Body>, Error> {
        let mut request = Request::new(());
        for (name, value) in GOOD.iter().chain(changes) {
            let name: http::HeaderName = name.parse().expect("is a name");
            let value = value.parse().expect("is a value");
            request.headers_mut().insert(name, value);
        }
        answer(&request.into_parts().0)
    }

    #[test]
    fn the_sample_of_the_rfc_is_answered_as_it_says() {
        let answer = asked(&[]).expect("is a handshake");
        assert_eq!(answer.status(), 101);
        let headers = answer.headers();
        assert_eq!(
            headers["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert!(!headers.contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn a_subprotocol_is_agreed_on() {
        let offers = ("sec-websocket-protocol", "chat, tangelo.publish.v1");
        let answer = asked(&[offers]).expect("it is among them");
        assert_eq!(answer.headers()["sec-websocket-protocol"], PROTOCOL);
        let others = asked(&[("sec-websocket-protocol", "cloudevents.json")]);
        assert!(others.is_err_and(|error| error.message.contains(PROTOCOL)));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        for own in ["https://shop.example", "http://SHOP.example"] {
            assert!(asked(&[("origin", own)]).is_ok(), "{own}");
        }
        for other in [
            "https://evil.example",
            "https://shop.example:8443",
            "null",
            "",
        ] {
            assert!(asked(&[("origin", other)]).is_err(), "{other}");
        }
    }

    #[test]
    fn what_is_no_handshake_is_told_so() {
        assert!(asked(&[("sec-websocket-key", "short")]).is_err());
        let old = asked(&[("sec-websocket-version", "8")]).expect("is answered");
        assert_eq!(old.status(), 426);
        assert_eq!(old.headers()["sec-websocket-version"], "13");
    }
}
