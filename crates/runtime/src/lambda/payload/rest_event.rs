//! An HTTP request as API Gateway's REST APIs hand it to a handler, payload format 1.0
//! (<https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html>).
//!
//! Pure. HTTP/2 knows no capitals in the names of headers and HTTP/1.1 does not mind them, so what clients wrote is not
//! kept: well-known names are written as AWS documents them (`Content-Type`), all others in small letters.

use std::{borrow::Cow, collections::BTreeMap};

use http::{header::USER_AGENT, request::Parts};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    ACCOUNT,
    request::{
        Facts, added, common_log_time, decode_query, domain, encoded, path_parameters, protocol,
        query_pairs, source_ip, text,
    },
};

/// Names whose capitals are not just the first letter of each word.
const IRREGULAR: &[(&str, &str)] = &[
    ("dnt", "DNT"),
    ("etag", "ETag"),
    ("te", "TE"),
    ("www-authenticate", "WWW-Authenticate"),
];

/// Names of requests that are written with capitals: HTTP's own, and those that gateways add.
const WELL_KNOWN: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-event-id",
    "max-forwards",
    "origin",
    "pragma",
    "prefer",
    "proxy-authorization",
    "range",
    "referer",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-amzn-trace-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-requested-with",
];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    resource: &'a str,
    path: &'a str,
    http_method: &'a str,
    headers: BTreeMap<&'a str, &'a str>,
    multi_value_headers: &'a Lists,
    query_string_parameters: Option<BTreeMap<&'a str, &'a str>>,
    multi_value_query_string_parameters: Option<&'a Lists>,
    path_parameters: Option<BTreeMap<String, String>>,
    stage_variables: Option<()>,
    request_context: Value,
    body: Option<Cow<'a, str>>,
    is_base64_encoded: bool,
}

type Lists = BTreeMap<String, Vec<String>>;

/// The event for a request with these parts and this whole body, as JSON.
#[must_use]
pub fn event(parts: &Parts, body: &[u8], facts: &Facts<'_>) -> Vec<u8> {
    let resource = resource(facts.route);
    let headers = headers(parts, facts);
    let mut query = Lists::new();
    for (name, value) in query_pairs(parts.uri.query().unwrap_or_default()) {
        let values = query.entry(decode_query(name)).or_default();
        values.push(decode_query(value));
    }
    // A REST API hands on what is text as it is, forms too; what is not needs a binary media type there, and base64.
    let (body, is_base64_encoded) = match body {
        [] => (None, false),
        body => {
            let (text, encoded) = encoded(body, true);
            (Some(text), encoded)
        }
    };
    let parameters = path_parameters(parts, Some(facts.route.unwrap_or("/*")));
    let event = Event {
        resource: &resource,
        path: parts.uri.path(),
        http_method: parts.method.as_str(),
        headers: last(&headers),
        multi_value_headers: &headers,
        query_string_parameters: Some(last(&query)).filter(|all| !all.is_empty()),
        multi_value_query_string_parameters: Some(&query).filter(|all| !all.is_empty()),
        path_parameters: Some(parameters).filter(|all| !all.is_empty()),
        stage_variables: None,
        request_context: request_context(parts, facts, &resource),
        body,
        is_base64_encoded,
    };
    serde_json::to_vec(&event).expect("texts, numbers and maps with text keys are JSON")
}

/// `/orders/{id}`; a trailing `*` is API Gateway's greedy parameter.
fn resource(route: Option<&str>) -> String {
    let route = route.unwrap_or("/*");
    match route.strip_suffix('*') {
        Some(prefix) => format!("{prefix}{{proxy+}}"),
        None => route.to_owned(),
    }
}

fn headers(parts: &Parts, facts: &Facts<'_>) -> Lists {
    let mut all = Lists::new();
    for (name, value) in &parts.headers {
        let values = all.entry(spelled(name.as_str())).or_default();
        values.push(text(value).into_owned());
    }
    for (name, value) in added(parts, facts) {
        all.entry(spelled(name)).or_default().push(value);
    }
    all
}

/// A header's name as it is usually written.
fn spelled(name: &str) -> String {
    if let Some((_, irregular)) = IRREGULAR.iter().find(|(small, _)| *small == name) {
        return (*irregular).to_owned();
    }
    if WELL_KNOWN.binary_search(&name).is_err() {
        return name.to_owned();
    }
    let mut begins = true;
    let letter = |c: char| {
        let c = if begins { c.to_ascii_uppercase() } else { c };
        begins = c == '-';
        c
    };
    name.chars().map(letter).collect()
}

/// Of several values, the last.
fn last(lists: &Lists) -> BTreeMap<&str, &str> {
    let last = lists.iter().filter_map(|(name, values)| {
        let value = values.last()?;
        Some((name.as_str(), value.as_str()))
    });
    last.collect()
}

fn request_context(parts: &Parts, facts: &Facts<'_>, resource: &str) -> Value {
    let domain = domain(parts);
    let path = parts.uri.path();
    let agent = parts.headers.get(USER_AGENT).map(text);
    json!({
        "accountId": ACCOUNT,
        "apiId": facts.api,
        "domainName": domain,
        "domainPrefix": domain.split('.').next(),
        "extendedRequestId": facts.request_id,
        "httpMethod": parts.method.as_str(),
        "identity": {
            "accessKey": null,
            "accountId": null,
            "caller": null,
            "cognitoAuthenticationProvider": null,
            "cognitoAuthenticationType": null,
            "cognitoIdentityId": null,
            "cognitoIdentityPoolId": null,
            "principalOrgId": null,
            "sourceIp": source_ip(&parts.headers),
            "user": null,
            "userAgent": agent,
            "userArn": null,
        },
        "path": path,
        "protocol": protocol(parts.version),
        "requestId": facts.request_id,
        "requestTime": common_log_time(facts.now),
        "requestTimeEpoch": facts.now.as_millis(),
        "resourceId": resource_id(resource),
        "resourcePath": resource,
        "stage": "$default",
    })
}

/// The same for the same resource, as API Gateway's ids are.
fn resource_id(resource: &str) -> String {
    hex::encode(&Sha256::digest(resource)[..3])
}

#[cfg(test)]
#[path = "rest_event_tests.rs"]
mod tests;
