//! An HTTP request as a Lambda handler gets it: API Gateway's HTTP API payload format 2.0
//! (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>).
//!
//! Pure. Nothing of the request is lost: header values of several lines are joined with commas, as AWS does.

use std::{borrow::Cow, collections::BTreeMap};

use http::{
    HeaderMap,
    header::{COOKIE, USER_AGENT},
    request::Parts,
};
use serde::Serialize;

use super::{
    ACCOUNT,
    request::{
        self, Facts, common_log_time, decode_query, domain, path_parameters, protocol, query_pairs,
        source_ip, text,
    },
};

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
    for (name, value) in query_pairs(query) {
        let value = decode_query(value);
        all.entry(decode_query(name))
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert(value);
    }
    all
}

/// Text stays text when its media type says so and it is UTF-8; all else is base64, forms included, as AWS does it.
fn encode_body<'a>(headers: &HeaderMap, body: &'a [u8]) -> (Option<Cow<'a, str>>, bool) {
    if body.is_empty() {
        return (None, false);
    }
    let structured = |kind: &str| kind.ends_with("+json") || kind.ends_with("+xml");
    let (text, encoded) = request::encoded(body, request::is_text(headers, structured));
    (Some(text), encoded)
}

#[cfg(test)]
#[path = "http_event_tests.rs"]
mod tests;
