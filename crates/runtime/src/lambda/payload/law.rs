//! What holds for every request that becomes an event, and for every reply: nothing of the request is lost or made up, and
//! no reply becomes a response that could be read as two.
//!
//! Called by the fuzz target (`cargo xtask fuzz payloads`) and by a test that replays the corpus. A case is a request as
//! HTTP/1.1 has it; its body is also read as a reply.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header::COOKIE, request::Parts};
use model::{Time, app::LambdaPayload};
use serde_json::Value;

use crate::body::Body;

use super::{
    alb_event, http_event::event, http_reply::response, law_lists, request::Facts, rest_event,
};

/// # Panics
/// When it does not hold.
pub(crate) fn law(bytes: &[u8]) {
    let Some((parts, body)) = request(bytes) else {
        reply(bytes);
        return;
    };
    reply(body);
    let facts = Facts {
        request_id: "id",
        api: "shop",
        function: "shop_f",
        trace: None,
        route: Some("/files/{name}/*"),
        now: Time::from_millis(1_790_000_000_000),
    };
    let event = event(&parts, body, &facts);
    let event: Value = serde_json::from_slice(&event).expect("an event is JSON");
    assert_eq!(event["rawPath"], parts.uri.path());
    let query = parts.uri.query().unwrap_or_default();
    assert_eq!(event["rawQueryString"], query);
    headers(&parts, &event);
    parameters(query, &event);
    same_body(&event, body);
    law_lists::rest(&parts, &rest_event::event(&parts, body, &facts), body);
    for multi in [false, true] {
        let event = alb_event::event(&parts, body, &facts, multi);
        law_lists::alb(&parts, &event, body, multi);
    }
}

/// The body is there, as text or in Base64, and `isBase64Encoded` says which.
pub(super) fn same_body(event: &Value, body: &[u8]) {
    let text = event["body"].as_str().unwrap_or_default();
    let came = match event["isBase64Encoded"].as_bool() {
        Some(true) => STANDARD.decode(text).expect("it says that it is Base64"),
        _ => text.as_bytes().to_vec(),
    };
    assert!(came == body, "the body is another");
}

/// Every line of every header is there, in order, and no others.
fn headers(parts: &Parts, event: &Value) {
    let shown = event["headers"].as_object().expect("there are headers");
    let names: Vec<_> = parts
        .headers
        .keys()
        .filter(|name| **name != COOKIE)
        .collect();
    let made = shown
        .keys()
        .filter(|name| !parts.headers.contains_key(*name));
    assert!(made.clone().all(|name| name.starts_with("x-")), "{shown:?}");
    assert_eq!(shown.len() - made.count(), names.len());
    for name in names {
        let lines = parts.headers.get_all(name).iter().map(text);
        let joined = lines.collect::<Vec<_>>().join(",");
        assert_eq!(shown[name.as_str()], joined, "{name}");
    }
    let lines = parts.headers.get_all(COOKIE).iter().map(text);
    let lines: Vec<String> = lines.collect();
    let cookies = lines.iter().flat_map(|line| line.split(';')).map(str::trim);
    let cookies: Vec<_> = cookies.filter(|cookie| !cookie.is_empty()).collect();
    let shown: Vec<_> = event["cookies"].as_array().into_iter().flatten().collect();
    assert_eq!(shown, cookies);
}

pub(super) fn text(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    let latin = || bytes.iter().copied().map(char::from).collect();
    String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| latin())
}

/// A second reading of the query: byte by byte, without the crate that the first one uses.
fn parameters(query: &str, event: &Value) {
    let mut expected: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let at = pair.find('=');
        let name = unquoted(&pair[..at.unwrap_or(pair.len())]);
        let value = unquoted(at.map_or("", |at| &pair[at + 1..]));
        match expected.iter_mut().find(|(other, _)| *other == name) {
            Some((_, before)) => *before = format!("{before},{value}"),
            None => expected.push((name, value)),
        }
    }
    let shown = event["queryStringParameters"].as_object();
    assert_eq!(shown.map_or(0, serde_json::Map::len), expected.len());
    for (name, value) in expected {
        assert_eq!(
            shown.and_then(|all| all.get(&name)),
            Some(&value.into()),
            "{name}"
        );
    }
}

pub(super) fn unquoted(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let digits = (byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let digit = |n: usize| digits.and_then(|d| char::from(d[n]).to_digit(16));
        let (value, used) = match (digit(0), digit(1)) {
            (Some(high), Some(low)) => (u8::try_from(high * 16 + low).expect("two digits"), 3),
            _ if byte == b'+' => (b' ', 1),
            _ => (byte, 1),
        };
        out.push(value);
        at += used;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A reply is an error, or a response whose head cannot be read as two and is no larger than what said it.
fn reply(bytes: &[u8]) {
    for format in [
        LambdaPayload::Http,
        LambdaPayload::Rest,
        LambdaPayload::Alb,
        LambdaPayload::AlbMultiValue,
    ] {
        if let Ok(answer) = response(&Bytes::copy_from_slice(bytes), format) {
            harmless(&answer, bytes);
        }
    }
}

fn harmless(answer: &http::Response<Body>, bytes: &[u8]) {
    assert!((200..=599).contains(&answer.status().as_u16()));
    let mut size = 0;
    for (name, value) in answer.headers() {
        let split = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
        assert!(!value.as_bytes().iter().any(split), "{name}");
        assert!(name != "transfer-encoding" && name != "content-length" && name != "connection");
        size += value.len();
    }
    assert!(size <= bytes.len() + 64, "more came out than went in");
}

/// The request in `bytes`, as a server hands it on, and its body.
fn request(bytes: &[u8]) -> Option<(Parts, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut read = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = read.parse(bytes) else {
        return None;
    };
    let mut request = Request::builder().method(read.method?).uri(read.path?);
    for header in read.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        request = request.header(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    let (parts, ()) = request.body(()).ok()?.into_parts();
    Some((parts, &bytes[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_keeps_the_law() {
        testkit::replay("payloads", law);
    }
}
