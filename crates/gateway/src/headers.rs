//! Headers at the border: what belongs to one connection stays there, what only the platform may say is taken from
//! clients, and who the client is gets written down.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, UPGRADE},
};
use platform::find_header;

use crate::server::framing::frames;

/// The request's id, as clients send and see it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Stable over all attempts of the same work.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Whom a `before:` workload found to be acting.
pub const PRINCIPAL: HeaderName = HeaderName::from_static("x-tangelo-principal");

const PLATFORM_PREFIX: &str = "x-tangelo-";
/// The longest request id or idempotency key that is taken from a client, in bytes.
const MAX_ID: usize = 128;

/// Takes off what concerns only the client's connection (RFC 9110 §7.6.1), and what only the platform may say.
/// A WebSocket handshake keeps its `Connection: upgrade` and `Upgrade: websocket`.
pub fn enter(headers: &mut HeaderMap) {
    let websocket = is_websocket(headers);
    remove_where(headers, |name| is_claim(name.as_str()));
    remove_hop_by_hop(headers);
    if websocket {
        keep_websocket(headers);
    }
    join_cookies(headers);
}

/// HTTP/2 splits `Cookie` to compress it; HTTP/1.1 has one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// What a client may not say: the platform's own headers, and `x_user`, which many a server takes for `x-user` (both
/// are `HTTP_X_USER` in CGI and WSGI) although nobody before it did.
fn is_claim(name: &str) -> bool {
    let bytes = name.as_bytes();
    let extension = bytes.first() == Some(&b'x') && matches!(bytes.get(1), Some(b'-' | b'_'));
    extension && (name.starts_with(PLATFORM_PREFIX) || name.contains('_'))
}

/// Takes off what concerns only the workload's connection. An accepted WebSocket handshake keeps its upgrade.
pub fn leave(headers: &mut HeaderMap, switching: bool) {
    let websocket = switching && is_websocket(headers);
    remove_hop_by_hop(headers);
    if websocket {
        keep_websocket(headers);
    }
}

/// Takes off the trailers of an answer that concern only the workload's connection, or would say where the body is or
/// whose (RFC 9110 §6.5.1).
pub fn leave_trailers(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    remove_where(trailers, |name| frames(name.as_str().as_bytes()));
}

/// Whether these are the headers of a WebSocket handshake (RFC 6455 §4.1).
#[must_use]
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    upgrade && connection_options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"))
}

/// The id that the client gave its request, when it is one: up to 128 visible ASCII characters that need no quoting
/// anywhere.
#[must_use]
pub fn client_request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    find_header(headers, &REQUEST_ID)
        .filter(|value| is_plain(value.as_bytes()))
        .cloned()
}

/// The idempotency key that the client gave, when it is one.
#[must_use]
pub fn idempotency_key(headers: &HeaderMap) -> Option<&str> {
    let key = find_header(headers, &IDEMPOTENCY_KEY)?.to_str().ok()?;
    let visible = |b: u8| b.is_ascii_graphic() || b == b' ';
    (!key.is_empty() && key.len() <= MAX_ID && key.bytes().all(visible)).then_some(key)
}

fn is_plain(text: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+=@~|#".contains(b);
    !text.is_empty() && text.len() <= MAX_ID && text.iter().all(plain)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = if headers.contains_key(CONNECTION) {
        connection_options(headers)
            .filter_map(|option| option.parse().ok())
            .filter(may_be_listed)
            .collect()
    } else {
        Vec::new()
    };
    remove_where(headers, |name| is_hop_by_hop(name) || listed.contains(name));
}

fn remove_where(headers: &mut HeaderMap, is_doomed: impl Fn(&HeaderName) -> bool) {
    let doomed: Vec<_> = headers
        .keys()
        .filter(|name| is_doomed(name))
        .cloned()
        .collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// The names that `Connection` lists.
fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers
        .get_all(CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// A client may not have the headers that frame and address its request taken off by listing them.
fn may_be_listed(name: &HeaderName) -> bool {
    *name != HOST && *name != CONTENT_LENGTH
}

/// As texts: a list of names would be made and dropped for every header.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

fn keep_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().expect("is a name");
            (name, HeaderValue::from_str(value).expect("is a value"))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn hop_by_hop_headers_stay_on_their_connection() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Secret-Hop"),
            ("connection", "host,content-length"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic eDp5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAA"),
            ("x-secret-hop", "1"),
            ("host", "h"),
            ("content-length", "3"),
            ("accept", "*/*"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("api_key", "k"),
            ("x-tangelo-principal", "root"),
            ("x-tangelo-deadline-ms", "9"),
            ("x_user", "root"),
            ("x-user_id", "0"),
        ]);
        enter(&mut headers);
        assert_eq!(
            names(&headers),
            ["accept", "api_key", "content-length", "cookie", "host"]
        );
        assert_eq!(headers["cookie"], "a=1; b=2");
    }

    #[test]
    fn a_websocket_handshake_keeps_its_upgrade() {
        let handshake = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "k"),
        ];
        let mut headers = map(&handshake);
        enter(&mut headers);
        assert_eq!(
            names(&headers),
            ["connection", "sec-websocket-key", "upgrade"]
        );
        assert!(is_websocket(&headers));
        let mut refused = headers.clone();
        leave(&mut refused, false);
        assert_eq!(names(&refused), ["sec-websocket-key"]);
        leave(&mut headers, true);
        assert!(is_websocket(&headers));
        assert!(
            !is_websocket(&map(&[("upgrade", "websocket")])),
            "an upgrade that `Connection` does not list"
        );
    }

    #[test]
    fn ids_of_clients_are_taken_when_they_are_harmless() {
        let id = |value: &str| client_request_id(&map(&[("x-request-id", value)])).is_some();
        assert!(id("7f9c-11") && id("Root=1-abc/def") && id(&"a".repeat(128)));
        for bad in ["", "a b", "a\"b", "<x>", "a,b", &"a".repeat(129)] {
            assert!(!id(bad), "{bad}");
        }
        assert_eq!(
            idempotency_key(&map(&[("idempotency-key", "order 7")])),
            Some("order 7")
        );
        assert_eq!(idempotency_key(&map(&[("idempotency-key", "")])), None);
    }
}
