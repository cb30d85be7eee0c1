//! An HTTP request as a Lambda handler gets it: API Gateway's HTTP API payload format 2.0
//! (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>).
//!
//! Pure. Nothing of the request is lost: header values of several lines are joined with commas, as AWS does.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HOST, USER_AGENT},
    request::Parts,
};
use model::Time;
use percent_encoding::percent_decode;
use serde::Serialize;

use super::ACCOUNT;

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
    /// The path of the route (`/orders/{id}`, `/files/*`), if a route led here.
    pub route: Option<&'a str>,
    /// When the request came.
    pub now: Time,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'a str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<Cow<'a, str>>,
    headers: BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    path_parameters: BTreeMap<String, String>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    account_id: &'static str,
    api_id: &'a str,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: &'a str,
    route_key: &'a str,
    stage: &'static str,
    time: String,
    time_epoch: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: &'a str,
    user_agent: Cow<'a, str>,
}

/// The event for a request with these parts and this whole body, as JSON.
#[must_use]
pub fn event(parts: &Parts, body: &[u8], facts: &Facts<'_>) -> Vec<u8> {
    let path = parts.uri.path();
    let query = parts.uri.query().unwrap_or_default();
    let route_key = route_key(parts.method.as_str(), facts.route);
    let (body, is_base64_encoded) = encode_body(&parts.headers, body);
    let event = Event {
        version: "2.0",
        route_key: &route_key,
        raw_path: path,
        raw_query_string: query,
        cookies: cookies(&parts.headers),
        headers: headers(&parts.headers),
        query_string_parameters: query_parameters(query),
        request_context: request_context(parts, facts, &route_key),
        body,
        path_parameters: path_parameters(parts, facts.route),
        is_base64_encoded,
    };
    serde_json::to_vec(&event).expect("texts, numbers and maps with text keys are JSON")
}

fn request_context<'a>(
    parts: &'a Parts,
    facts: &Facts<'a>,
    route_key: &'a str,
) -> RequestContext<'a> {
    let domain = domain(parts);
    RequestContext {
        account_id: ACCOUNT,
        api_id: facts.api,
        domain_name: domain,
        domain_prefix: domain.split('.').next().unwrap_or_default(),
        http: Http {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            protocol: protocol(parts.version),
            source_ip: source_ip(&parts.headers),
            user_agent: parts.headers.get(USER_AGENT).map(text).unwrap_or_default(),
        },
        request_id: facts.request_id,
        route_key,
        stage: "$default",
        time: common_log_time(facts.now),
        time_epoch: facts.now.as_millis(),
    }
}

/// `GET /orders/{id}`; a trailing `*` is API Gateway's greedy parameter.
fn route_key(method: &str, route: Option<&str>) -> String {
    match route {
        None | Some("/*" | "*") => "$default".to_owned(),
        Some(route) => match route.strip_suffix('*') {
            Some(prefix) => format!("{method} {prefix}{{proxy+}}"),
            None => format!("{method} {route}"),
        },
    }
}

fn path_parameters(parts: &Parts, route: Option<&str>) -> BTreeMap<String, String> {
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

fn headers(map: &HeaderMap) -> BTreeMap<&str, Cow<'_, str>> {
    let mut all: BTreeMap<&str, Cow<'_, str>> = BTreeMap::new();
    for (name, value) in map.iter().filter(|(name, _)| **name != COOKIE) {
        let value = text(value);
        all.entry(name.as_str())
            .and_modify(|before| {
                before.to_mut().push(',');
                before.to_mut().push_str(&value);
            })
            .or_insert(value);
    }
    all
}

fn cookies(map: &HeaderMap) -> Vec<Cow<'_, str>> {
    let mut all = Vec::new();
    for line in map.get_all(COOKIE) {
        match text(line) {
            Cow::Borrowed(line) => all.extend(split_cookies(line).map(Cow::Borrowed)),
            Cow::Owned(line) => all.extend(split_cookies(&line).map(|c| Cow::Owned(c.to_owned()))),
        }
    }
    all
}

fn split_cookies(line: &str) -> impl Iterator<Item = &str> {
    line.split(';').map(str::trim).filter(|c| !c.is_empty())
}

fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(&value.replace('+', " "));
        all.entry(decode(&name.replace('+', " ")))
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert(value);
    }
    all
}

fn decode(text: &str) -> String {
    percent_decode(text.as_bytes())
        .decode_utf8_lossy()
        .into_owned()
}

/// Text stays text when its media type says so and it is UTF-8; all else is base64, forms included, as AWS does it.
fn encode_body<'a>(headers: &HeaderMap, body: &'a [u8]) -> (Option<Cow<'a, str>>, bool) {
    if body.is_empty() {
        return (None, false);
    }
    let plain = headers.get(CONTENT_ENCODING).is_none() && is_text(headers);
    match std::str::from_utf8(body) {
        Ok(text) if plain => (Some(Cow::Borrowed(text)), false),
        _ => (Some(Cow::Owned(STANDARD.encode(body))), true),
    }
}

fn is_text(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let whole = [
        "application/json",
        "application/javascript",
        "application/xml",
    ];
    kind.starts_with("text/")
        || whole.contains(&kind.as_str())
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
}

/// A header's value as text: UTF-8 where it is, else each byte as its Latin-1 character, so that nothing is lost.
fn text(value: &http::HeaderValue) -> Cow<'_, str> {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(value.as_bytes().iter().copied().map(char::from).collect()),
    }
}

fn domain(parts: &Parts) -> &str {
    let host = parts.headers.get(HOST).and_then(|v| v.to_str().ok());
    let host = host.or_else(|| parts.uri.host()).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The nearest address that the gateway noted; a client can only write further to the left.
fn source_ip(headers: &HeaderMap) -> &str {
    headers
        .get_all("x-forwarded-for")
        .iter()
        .next_back()
        .and_then(|line| line.to_str().ok()?.rsplit(',').next())
        .map(str::trim)
        .filter(|address| address.parse::<IpAddr>().is_ok())
        .unwrap_or("127.0.0.1")
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// `12/Mar/2020:19:03:58 +0000`, as `requestContext.time` has it.
fn common_log_time(time: Time) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = time.rfc3339();
    let month: usize = text[5..7].parse().unwrap_or(1);
    let (year, day, clock) = (&text[..4], &text[8..10], &text[11..19]);
    format!("{day}/{}/{year}:{clock} +0000", MONTHS[(month - 1) % 12])
}

#[cfg(test)]
#[path = "http_event_tests.rs"]
mod tests;
