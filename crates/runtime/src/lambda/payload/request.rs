//! What the formats of HTTP events have in common: what they read of a request, and how they write it.
//!
//! Pure. Nothing here is of one format only; the formats are beside this (`http_event`, `rest_event`, `alb_event`).

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HOST},
    request::Parts,
};
use model::Time;
use percent_encoding::percent_decode;

/// In a request's extensions: the parameters of the route that matched, where the path was rewritten since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathParameters(pub Vec<(String, String)>);

/// What the event says beyond the request itself.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The id of the invocation.
    pub request_id: &'a str,
    /// The app: API Gateway's `apiId`.
    pub api: &'a str,
    /// The function, as AWS's clients call it.
    pub function: &'a str,
    /// `Root=…`: the trace, as AWS writes it into headers.
    pub trace: Option<&'a str>,
    /// The path of the route (`/orders/{id}`, `/files/*`), if a route led here.
    pub route: Option<&'a str>,
    /// When the request came.
    pub now: Time,
}

pub(super) fn path_parameters(parts: &Parts, route: Option<&str>) -> BTreeMap<String, String> {
    if let Some(PathParameters(given)) = parts.extensions.get() {
        return given.iter().cloned().collect();
    }
    route
        .and_then(|route| match_route(route, parts.uri.path()))
        .unwrap_or_default()
}

/// The parameters of `path` under `route`; `None` when it does not match (it was rewritten on the way).
fn match_route(route: &str, path: &str) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut rest = path.split('/');
    for segment in route.split('/') {
        if segment == "*" {
            let tail = rest.collect::<Vec<_>>().join("/");
            found.insert("proxy".to_owned(), decode(&tail));
            return Some(found);
        }
        let value = rest.next()?;
        match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
            Some(name) if !value.is_empty() => {
                found.insert(name.to_owned(), decode(value));
            }
            _ if segment == value => {}
            _ => return None,
        }
    }
    rest.next().is_none().then_some(found)
}

/// The name and value of each parameter of a query, in its order, as they are written.
pub(super) fn query_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

pub(super) fn decode(text: &str) -> String {
    percent_decode(text.as_bytes())
        .decode_utf8_lossy()
        .into_owned()
}

/// A query's name or value, decoded.
pub(super) fn decode_query(text: &str) -> String {
    decode(&text.replace('+', " "))
}

/// Whether the media type says that the body is text: those that AWS lists, and those that `more` knows.
pub(super) fn is_text(headers: &HeaderMap, more: impl Fn(&str) -> bool) -> bool {
    if headers.get(CONTENT_ENCODING).is_some() {
        return false;
    }
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    let whole = [
        "application/json",
        "application/javascript",
        "application/xml",
    ];
    kind.starts_with("text/") || whole.contains(&kind.as_str()) || more(&kind)
}

/// A body as the text that it is, or as base64; whether it is the latter.
pub(super) fn encoded(body: &[u8], is_text: bool) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(body) {
        Ok(text) if is_text => (Cow::Borrowed(text), false),
        _ => (Cow::Owned(STANDARD.encode(body)), true),
    }
}

/// What a gateway of AWS adds to every request and Tangelo's does not: `x-forwarded-port` and `x-amzn-trace-id`.
pub(super) fn added(parts: &Parts, facts: &Facts<'_>) -> Vec<(&'static str, String)> {
    let absent = |name: &str| !parts.headers.contains_key(name);
    let mut all = Vec::new();
    if absent("x-forwarded-port") {
        all.push(("x-forwarded-port", port(parts)));
    }
    if let Some(trace) = facts.trace.filter(|_| absent("x-amzn-trace-id")) {
        all.push(("x-amzn-trace-id", trace.to_owned()));
    }
    all
}

/// The port that the client named, or its scheme's.
fn port(parts: &Parts) -> String {
    let host = parts.headers.get(HOST).and_then(|v| v.to_str().ok());
    let named = host.and_then(|host| split_port(host).1);
    let proto = parts.headers.get("x-forwarded-proto");
    let tls = proto.is_some_and(|proto| proto == "https");
    named.unwrap_or(if tls { "443" } else { "80" }).to_owned()
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

/// A header's value as text: UTF-8 where it is, else each byte as its Latin-1 character, so that nothing is lost.
pub(super) fn text(value: &http::HeaderValue) -> Cow<'_, str> {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(value.as_bytes().iter().copied().map(char::from).collect()),
    }
}

pub(super) fn domain(parts: &Parts) -> &str {
    let host = parts.headers.get(HOST).and_then(|v| v.to_str().ok());
    let host = host.or_else(|| parts.uri.host()).unwrap_or_default();
    split_port(host).0
}

/// The nearest address that the gateway noted; a client can only write further to the left.
pub(super) fn source_ip(headers: &HeaderMap) -> &str {
    headers
        .get_all("x-forwarded-for")
        .iter()
        .next_back()
        .and_then(|line| line.to_str().ok()?.rsplit(',').next())
        .map(str::trim)
        .filter(|address| address.parse::<IpAddr>().is_ok())
        .unwrap_or("127.0.0.1")
}

pub(super) fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// `12/Mar/2020:19:03:58 +0000`, as `requestContext.time` has it.
pub(super) fn common_log_time(time: Time) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = time.rfc3339();
    let month: usize = text[5..7].parse().unwrap_or(1);
    let (year, day, clock) = (&text[..4], &text[8..10], &text[11..19]);
    format!("{day}/{}/{year}:{clock} +0000", MONTHS[(month - 1) % 12])
}
