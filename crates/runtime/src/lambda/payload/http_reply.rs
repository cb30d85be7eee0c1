//! What a handler returned, as an HTTP response: the reply formats of API Gateway's payloads 2.0 and 1.0, and of load
//! balancers.
//!
//! Pure. A reply that says `statusCode` is the full format; any other JSON is the inferred one (200, its JSON as the
//! body, a text as it is), which only payload 2.0 has. A reply cannot smuggle: names and values that are no header are
//! refused, not repaired.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{self, CONTENT_TYPE, SET_COOKIE},
};
use hyper::ext::ReasonPhrase;
use model::app::LambdaPayload;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{body::Body, call::Inferred};

/// The most header lines of a reply: more than any client takes.
const MAX_HEADERS: usize = 256;
/// The longest metadata before a streamed body: more than any client takes of headers.
pub(crate) const MAX_PRELUDE: usize = 128 << 10;

/// What a streamed body is when the handler does not say.
pub(crate) const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// What is wrong with a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// Not JSON at all.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// A field has the wrong type or value.
    #[error("`{field}` {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A header's name or value is not one.
    #[error("the header `{0}` has a name or value that HTTP does not allow")]
    Header(String),
    /// A streamed reply that said that it begins with its metadata, and did not.
    #[error("it has no 8 NUL bytes after at most {MAX_PRELUDE} bytes of metadata")]
    NoPrelude,
    /// More headers than a response can have.
    #[error("it has more than {MAX_HEADERS} headers")]
    TooManyHeaders,
}

/// The fields of the full format; what else is in the object is no part of it, on AWS too.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Full<'a> {
    #[serde(borrow)]
    status_code: Option<&'a RawValue>,
    #[serde(borrow)]
    status_description: Option<&'a RawValue>,
    #[serde(borrow)]
    headers: Option<&'a RawValue>,
    #[serde(borrow)]
    multi_value_headers: Option<&'a RawValue>,
    #[serde(borrow)]
    cookies: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    is_base64_encoded: Option<&'a RawValue>,
}

/// A header's value as handlers write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar<'a> {
    #[serde(borrow)]
    Text(Cow<'a, str>),
    Bool(bool),
    Number(serde_json::Number),
}

/// Reads what the handler returned.
///
/// # Errors
/// [`BadReply`] says what is wrong with it.
pub fn response(reply: &Bytes, format: LambdaPayload) -> Result<Response<Body>, BadReply> {
    serde_json::from_slice::<IgnoredAny>(reply).map_err(|e| BadReply::NotJson(e.to_string()))?;
    let is_object = reply.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if is_object {
        let full: Full<'_> =
            serde_json::from_slice(reply).map_err(|e| BadReply::NotJson(e.to_string()))?;
        if let Some(status) = full.status_code {
            return full_response(status, &full, format);
        }
    }
    if format == LambdaPayload::Http {
        return Ok(inferred(reply));
    }
    Err(BadReply::Field {
        field: "statusCode",
        problem: "is missing: only `payload: http` makes a reply of anything else",
    })
}

/// Reads the metadata that comes before a streamed body: its status, headers and cookies.
///
/// # Errors
/// [`BadReply`] says what is wrong with it.
pub fn prelude(metadata: &[u8]) -> Result<Response<()>, BadReply> {
    let full: Full<'_> =
        serde_json::from_slice(metadata).map_err(|e| BadReply::NotJson(e.to_string()))?;
    let mut response = Response::new(());
    match full.status_code {
        Some(status) => *response.status_mut() = status_code(status)?,
        None => drop(response.extensions_mut().insert(Inferred)),
    }
    let mut headers = all_headers(&full)?;
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, OCTETS);
    }
    *response.headers_mut() = headers;
    Ok(response)
}

fn inferred(reply: &Bytes) -> Response<Body> {
    let body = match serde_json::from_slice::<Cow<'_, str>>(reply) {
        Ok(text) => Bytes::copy_from_slice(text.as_bytes()),
        Err(_) => reply.clone(),
    };
    let mut response = Response::new(Body::full(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response.extensions_mut().insert(Inferred);
    response
}

fn full_response(
    status: &RawValue,
    full: &Full<'_>,
    format: LambdaPayload,
) -> Result<Response<Body>, BadReply> {
    let body = body(full)?;
    let mut headers = match format {
        LambdaPayload::Http => all_headers(full)?,
        LambdaPayload::Rest => merged_headers(full)?,
        LambdaPayload::Alb => single_headers(full)?,
        LambdaPayload::AlbMultiValue => listed_headers(full)?,
    };
    let assumed = match format {
        LambdaPayload::Http => HeaderValue::from_static("text/plain; charset=utf-8"),
        LambdaPayload::Rest => HeaderValue::from_static("application/json"),
        LambdaPayload::Alb | LambdaPayload::AlbMultiValue => OCTETS,
    };
    if !body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, assumed);
    }
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status_code(status)?;
    *response.headers_mut() = headers;
    if matches!(format, LambdaPayload::Alb | LambdaPayload::AlbMultiValue)
        && let Some(reason) = reason(full)?
    {
        response.extensions_mut().insert(reason);
    }
    Ok(response)
}

/// The reason phrase of `statusDescription`, such as `200 OK`.
fn reason(full: &Full<'_>) -> Result<Option<ReasonPhrase>, BadReply> {
    let wrong = BadReply::Field {
        field: "statusDescription",
        problem: "must be a status and a reason phrase, such as `200 OK`",
    };
    let Some(raw) = full.status_description.filter(|raw| raw.get() != "null") else {
        return Ok(None);
    };
    let text: Cow<'_, str> = serde_json::from_str(raw.get()).map_err(|_| wrong.clone())?;
    let (status, reason) = text.split_once(' ').unwrap_or((&text, ""));
    if status.len() != 3 || !status.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong);
    }
    let reason = ReasonPhrase::try_from(reason.as_bytes());
    reason.map(Some).map_err(|_| wrong)
}

/// As REST APIs have it: one list of both, and what stands in both is meant once.
fn merged_headers(full: &Full<'_>) -> Result<HeaderMap, BadReply> {
    no_cookies(full)?;
    let lists = map::<Vec<Scalar<'_>>>(full.multi_value_headers, "multiValueHeaders")?;
    let mut headers = HeaderMap::new();
    for (name, value) in map::<Scalar<'_>>(full.headers, "headers")? {
        let value = scalar(&value);
        let listed = |(other, values): (&String, &Vec<Scalar<'_>>)| {
            other.eq_ignore_ascii_case(&name) && values.iter().any(|v| scalar(v) == value)
        };
        if !lists.iter().any(listed) {
            add(&mut headers, &name, &value)?;
        }
    }
    add_lists(&mut headers, &lists)?;
    Ok(headers)
}

/// As load balancers have it without multi-value headers.
fn single_headers(full: &Full<'_>) -> Result<HeaderMap, BadReply> {
    no_cookies(full)?;
    let mut headers = HeaderMap::new();
    for (name, value) in map::<Scalar<'_>>(full.headers, "headers")? {
        add(&mut headers, &name, &scalar(&value))?;
    }
    if headers.is_empty() && full.multi_value_headers.is_some_and(says_something) {
        return Err(BadReply::Field {
            field: "multiValueHeaders",
            problem: "is not read by this load balancer: use `headers`, or `payload: alb-multi-value`",
        });
    }
    Ok(headers)
}

/// As load balancers have it with multi-value headers.
fn listed_headers(full: &Full<'_>) -> Result<HeaderMap, BadReply> {
    no_cookies(full)?;
    let mut headers = HeaderMap::new();
    let lists = map::<Vec<Scalar<'_>>>(full.multi_value_headers, "multiValueHeaders")?;
    add_lists(&mut headers, &lists)?;
    if headers.is_empty() && full.headers.is_some_and(says_something) {
        return Err(BadReply::Field {
            field: "headers",
            problem: "is not read by a load balancer with multi-value headers: use `multiValueHeaders`",
        });
    }
    Ok(headers)
}

fn says_something(raw: &RawValue) -> bool {
    let kept: String = raw.get().split_ascii_whitespace().collect();
    kept != "null" && kept != "{}"
}

/// Cookies are a field of payload 2.0 alone.
fn no_cookies(full: &Full<'_>) -> Result<(), BadReply> {
    match list(full.cookies)?.is_empty() {
        true => Ok(()),
        false => Err(BadReply::Field {
            field: "cookies",
            problem: "is read with `payload: http` only: give `Set-Cookie` among the headers",
        }),
    }
}

fn all_headers(full: &Full<'_>) -> Result<HeaderMap, BadReply> {
    let mut headers = HeaderMap::new();
    for (name, value) in map::<Scalar<'_>>(full.headers, "headers")? {
        add(&mut headers, &name, &scalar(&value))?;
    }
    multi_value(&mut headers, full)?;
    for cookie in list(full.cookies)? {
        add(&mut headers, SET_COOKIE.as_str(), &cookie)?;
    }
    Ok(headers)
}

/// A number, or a number in a text as some frameworks have it; final statuses only.
fn status_code(raw: &RawValue) -> Result<StatusCode, BadReply> {
    let digits = raw.get().trim_matches('"');
    digits
        .parse()
        .ok()
        .filter(|status: &u16| (200..=599).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or(BadReply::Field {
            field: "statusCode",
            problem: "must be a whole number from 200 to 599",
        })
}

fn body(full: &Full<'_>) -> Result<Bytes, BadReply> {
    let wrong = |field, problem| BadReply::Field { field, problem };
    let encoded = match full.is_base64_encoded.map(RawValue::get) {
        None | Some("false" | "null") => false,
        Some("true") => true,
        Some(_) => return Err(wrong("isBase64Encoded", "must be true or false")),
    };
    let Some(text) = full.body.filter(|raw| raw.get() != "null") else {
        return Ok(Bytes::new());
    };
    let text: Cow<'_, str> = serde_json::from_str(text.get())
        .map_err(|_| wrong("body", "must be a text; JSON.stringify or json.dumps it"))?;
    if !encoded {
        return Ok(Bytes::copy_from_slice(text.as_bytes()));
    }
    let bytes = STANDARD.decode(text.as_bytes());
    bytes
        .map(Bytes::from)
        .map_err(|_| wrong("body", "is not base64, though `isBase64Encoded` says so"))
}

fn multi_value(headers: &mut HeaderMap, full: &Full<'_>) -> Result<(), BadReply> {
    let lists = map::<Vec<Scalar<'_>>>(full.multi_value_headers, "multiValueHeaders")?;
    for name in lists.keys() {
        // What stands in both is meant once (payload 1.0 says: the lists win).
        headers.remove(name.as_str());
    }
    add_lists(headers, &lists)
}

fn add_lists(
    headers: &mut HeaderMap,
    lists: &BTreeMap<String, Vec<Scalar<'_>>>,
) -> Result<(), BadReply> {
    for (name, values) in lists {
        for value in values {
            add(headers, name, &scalar(value))?;
        }
    }
    Ok(())
}

fn map<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    field: &'static str,
) -> Result<BTreeMap<String, T>, BadReply> {
    let Some(raw) = raw else {
        return Ok(BTreeMap::new());
    };
    let read: Result<Option<_>, _> = serde_json::from_str(raw.get());
    read.map(Option::unwrap_or_default).map_err(|_| BadReply::Field {
        field,
        problem: "must map names to texts, numbers or booleans (to lists of them in `multiValueHeaders`)",
    })
}

fn list(raw: Option<&RawValue>) -> Result<Vec<String>, BadReply> {
    let Some(raw) = raw else {
        return Ok(Vec::new());
    };
    let read: Result<Option<_>, _> = serde_json::from_str(raw.get());
    read.map(Option::unwrap_or_default)
        .map_err(|_| BadReply::Field {
            field: "cookies",
            problem: "must be a list of texts",
        })
}

fn scalar<'a>(value: &'a Scalar<'_>) -> Cow<'a, str> {
    match value {
        Scalar::Text(text) => Cow::Borrowed(text),
        Scalar::Bool(value) => Cow::Owned(value.to_string()),
        Scalar::Number(number) => Cow::Owned(number.to_string()),
    }
}

/// Framing belongs to the connection, not to the handler: API Gateway drops these too.
fn is_framing(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ]
    .contains(name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str())
}

fn add(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), BadReply> {
    let bad = || BadReply::Header(name.chars().filter(|c| !c.is_control()).take(80).collect());
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
    let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?;
    if is_framing(&header) {
        return Ok(());
    }
    if headers.len() >= MAX_HEADERS {
        return Err(BadReply::TooManyHeaders);
    }
    headers.append(header, value);
    Ok(())
}

#[cfg(test)]
#[path = "http_reply_tests.rs"]
mod tests;
