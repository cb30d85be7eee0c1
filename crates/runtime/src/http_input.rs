//! What an invocation hands over, as an HTTP request: for Wasm components, processes and external services alike.
//!
//! Requests pass as they came; events become a POST to `/` in CloudEvents binary mode (HTTP binding 1.0.2, §3.1)
//! and plain JSON a POST to `/`. All carry the headers by which a workload sees its trace, its request id, its
//! idempotency key and the milliseconds it has left.

use std::{fmt::Write, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST},
};
use model::{
    Event, Invocation, Time, Trigger,
    event::{EventData, MAX_ATTRIBUTE},
};
use serde_json::Value;

use crate::{body::Body, call::Input};

/// The trace that the request belongs to (W3C Trace Context).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The same, as AWS writes it.
pub const XRAY: HeaderName = HeaderName::from_static("x-amzn-trace-id");
/// The id of the invocation.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Milliseconds that are left when the request is handed over.
pub const DEADLINE: HeaderName = HeaderName::from_static("x-tangelo-deadline-ms");
/// The subscription through which an event comes (`app/workload/name`): what has it is a delivery, since nobody else can set it.
pub const SUBSCRIPTION: HeaderName = HeaderName::from_static("x-tangelo-subscription");
/// Stable over all attempts of the same work.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Which headers say what trace a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traces {
    /// `traceparent`: no SDK of AWS runs in a Wasm component, and each header costs a guest as much as the platform.
    W3c,
    /// `X-Amzn-Trace-Id` too.
    Both,
}

/// The request that an HTTP workload gets for `input`, handed over at `now` (monotonic).
///
/// Headers of the platform replace what the client sent under the same names, except for the idempotency key.
#[must_use]
pub fn request(
    input: Input,
    invocation: &Invocation,
    traces: Traces,
    now: Instant,
) -> Box<Request<Body>> {
    let mut request = match input {
        Input::Http(request) => request,
        Input::Event(event) => Box::new(event_request(&event, invocation)),
        Input::Events(events) => {
            let list: Vec<Value> = events.iter().map(|event| event.to_json()).collect();
            let batch = "application/cloudevents-batch+json";
            let list = Value::from(list).to_string().into();
            Box::new(typed(list, batch, invocation))
        }
        Input::Payload(payload) | Input::Stream(payload) => {
            Box::new(typed(payload, "application/json", invocation))
        }
    };
    set_platform_headers(request.headers_mut(), invocation, traces, now);
    request
}

fn set_platform_headers(
    headers: &mut HeaderMap,
    invocation: &Invocation,
    traces: Traces,
    now: Instant,
) {
    // What a client or the gateway called the request goes on; only what has no name yet gets the invocation's.
    if find(headers, &REQUEST_ID).is_none() {
        headers.insert(REQUEST_ID, ascii(invocation.id.to_string()));
    }
    for (name, value) in told(invocation, traces, now) {
        headers.insert(name, value);
    }
    if traces == Traces::W3c {
        remove(headers, &XRAY);
    }
    match &invocation.trigger {
        Trigger::Event { subscription, .. } => {
            headers.insert(SUBSCRIPTION, ascii(subscription.to_string()));
        }
        _ => remove(headers, &SUBSCRIPTION),
    }
    if let Some(key) = &invocation.idempotency_key
        && !headers.contains_key(IDEMPOTENCY_KEY)
    {
        headers.insert(IDEMPOTENCY_KEY, encoded(key));
    }
}

/// The first value of `name`. Requests have few headers: looking at each takes less than hashing a name of 20 letters,
/// unless that is one of those that HTTP's own documents name.
#[must_use]
pub fn find<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    headers
        .iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Takes off what is rarely there.
pub fn remove(headers: &mut HeaderMap, name: &HeaderName) {
    if find(headers, name).is_some() {
        headers.remove(name);
    }
}

/// What every workload is told of its invocation. The values are pieces of one text: a text for each, and another count of
/// who has it for each when the request is copied, would cost more than the rest of this.
fn told(
    invocation: &Invocation,
    traces: Traces,
    now: Instant,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let mut text = String::with_capacity(TOLD);
    let left = invocation.deadline.saturating_duration_since(now);
    write!(text, "{}", left.as_millis()).expect("writing to a text cannot fail");
    let deadline = text.len();
    if let Some(span) = invocation.trace.parent {
        invocation.trace.push_traceparent(span, &mut text);
    }
    let traceparent = text.len();
    if let (Some(span), Traces::Both) = (invocation.trace.parent, traces) {
        invocation.trace.push_xray(span, &mut text);
    }
    let text = Bytes::from(text);
    let pieces = [
        (DEADLINE, 0..deadline),
        (TRACEPARENT, deadline..traceparent),
        (XRAY, traceparent..text.len()),
    ];
    let pieces = pieces.into_iter().filter(|(_, piece)| !piece.is_empty());
    pieces.map(move |(name, piece)| (name, visible(text.slice(piece))))
}

/// Room for these: 55 and 74 bytes, and digits.
const TOLD: usize = 160;

fn typed(body: Bytes, kind: &'static str, invocation: &Invocation) -> Request<Body> {
    let mut request = post(body, invocation);
    let kind = HeaderValue::from_static(kind);
    request.headers_mut().insert(CONTENT_TYPE, kind);
    request
}

fn post(body: Bytes, invocation: &Invocation) -> Request<Body> {
    let length = HeaderValue::from(body.len());
    let mut request = Request::new(Body::full(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static("/");
    let host = ascii(format!("{}.internal", invocation.target.workload));
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(CONTENT_LENGTH, length);
    request
}

fn event_request(event: &Arc<Event>, invocation: &Invocation) -> Request<Body> {
    let mut request = post(event_bytes(event), invocation);
    let headers = request.headers_mut();
    headers.insert("ce-specversion", HeaderValue::from_static("1.0"));
    headers.insert("ce-id", encoded(&event.id));
    headers.insert("ce-source", encoded(&event.source));
    headers.insert("ce-type", encoded(&event.kind));
    let optional = [
        ("ce-subject", event.subject.clone()),
        ("ce-time", event.time.map(Time::rfc3339)),
        ("ce-dataschema", event.schema.clone()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            headers.insert(name, encoded(&value));
        }
    }
    for (name, value) in &event.extensions {
        if let Ok(name) = HeaderName::try_from(format!("ce-{name}")) {
            headers.insert(name, extension(value));
        }
    }
    if let Some(kind) = content_type(event) {
        headers.insert(CONTENT_TYPE, kind);
    }
    request
}

/// The media type is no `ce-` header: HTTP has its own, and it is not percent-encoded.
fn content_type(event: &Event) -> Option<HeaderValue> {
    match (&event.content_type, &event.data) {
        (Some(kind), _) => HeaderValue::from_str(kind).ok(),
        (None, EventData::Json(_)) => Some(HeaderValue::from_static("application/json")),
        (None, EventData::None | EventData::Binary(_)) => None,
    }
}

fn event_bytes(event: &Event) -> Bytes {
    match &event.data {
        EventData::None => Bytes::new(),
        EventData::Binary(bytes) => Bytes::copy_from_slice(bytes),
        // A text of another media type travels in JSON as a string, and in binary mode as itself (JSON format, §3.1).
        EventData::Json(Value::String(text)) if !is_json(event.content_type.as_deref()) => {
            Bytes::copy_from_slice(text.as_bytes())
        }
        EventData::Json(value) => Bytes::from(value.to_string()),
    }
}

fn is_json(content_type: Option<&str>) -> bool {
    let Some(kind) = content_type else {
        return true;
    };
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.ends_with("/json") || essence.ends_with("+json")
}

fn extension(value: &Value) -> HeaderValue {
    match value {
        Value::String(text) => encoded(text),
        other => encoded(&other.to_string()),
    }
}

/// Percent-encodes as the HTTP binding says (§3.1.3.2): space, `"`, `%` and all outside of printable ASCII.
fn encoded(text: &str) -> HeaderValue {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'%';
    if text.bytes().all(plain) {
        return ascii(text.to_owned());
    }
    let mut out = String::with_capacity(text.len().min(MAX_ATTRIBUTE) + 16);
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a text cannot fail");
        }
    }
    ascii(out)
}

fn ascii(text: String) -> HeaderValue {
    visible(Bytes::from(text))
}

fn visible(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).expect("printable ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::{
        AppName, Class, Clock, Ids, Namespace, Position, SpanId, Target, TraceContext, TraceId,
        invocation::Select,
    };
    use serde_json::json;

    use super::*;

    fn invocation(now: Instant) -> Invocation {
        let clock = Clock::virtual_at(Time::from_millis(1_790_000_000_000));
        Invocation {
            id: Ids::seeded(1).invocation(&clock),
            target: Arc::new(Target {
                namespace: Namespace::literal("default"),
                app: AppName::literal("shop"),
                workload: AppName::literal("mail"),
                select: Select::Live,
            }),
            trigger: Trigger::Direct,
            class: Class::Async,
            principals: Vec::new(),
            trace: TraceContext {
                trace: TraceId(7),
                parent: Some(SpanId(8)),
                sampled: true,
            },
            deadline: now + Duration::from_millis(1500),
            depth: 0,
            idempotency_key: Some("k 1".into()),
            attempt: 1,
        }
    }

    fn sent(event: serde_json::Value) -> (HeaderMap, Bytes) {
        let now = Clock::system().monotonic();
        let event = Arc::new(Event::from_json(event).expect("is an event"));
        let invocation = Invocation {
            trigger: Trigger::Event {
                subscription: "shop/mail/created".parse().expect("is a key"),
                position: Position(7),
                event: event.id.as_str().into(),
            },
            ..invocation(now)
        };
        let request = request(Input::Event(event), &invocation, Traces::Both, now);
        assert_eq!(
            (request.method(), request.uri().path()),
            (&Method::POST, "/")
        );
        let (head, body) = request.into_parts();
        let body = match body {
            Body::Full(Some(bytes)) => bytes,
            _ => Bytes::new(),
        };
        (head.headers, body)
    }

    #[test]
    fn events_are_posts_in_binary_mode() {
        let (headers, body) = sent(json!({
            "specversion": "1.0", "id": "1", "source": "/orders", "type": "order.created", "subject": "Euro € 100%",
            "time": "2026-01-02T03:04:05Z", "partitionkey": "c 7", "express": true, "data": {"total": 12.5}
        }));
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        assert_eq!(header("ce-specversion"), Some("1.0"));
        assert_eq!(header("ce-type"), Some("order.created"));
        assert_eq!(header("ce-subject"), Some("Euro%20%E2%82%AC%20100%25"));
        assert_eq!(header("ce-time"), Some("2026-01-02T03:04:05.000000Z"));
        assert_eq!(header("ce-partitionkey"), Some("c%207"));
        assert_eq!(header("ce-express"), Some("true"));
        assert_eq!(header("content-type"), Some("application/json"));
        assert_eq!(header("host"), Some("mail.internal"));
        assert_eq!(header("idempotency-key"), Some("k%201"));
        assert_eq!(header("x-tangelo-deadline-ms"), Some("1500"));
        assert_eq!(header("x-tangelo-subscription"), Some("shop/mail/created"));
        assert_eq!(
            header("traceparent"),
            Some("00-00000000000000000000000000000007-0000000000000008-01")
        );
        assert_eq!(body, r#"{"total":12.5}"#);
    }

    #[test]
    fn data_of_other_media_types_is_sent_as_it_is() {
        let event = |kind: &str, data: serde_json::Value| json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "datacontenttype": kind, "data": data});
        assert_eq!(sent(event("text/plain", json!("hi"))).1, "hi");
        assert_eq!(sent(event("application/x+json", json!("hi"))).1, "\"hi\"");
        let binary = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data_base64": "AAE="});
        assert_eq!(&*sent(binary).1, [0, 1]);
    }

    #[test]
    fn a_client_keeps_its_request_id_and_idempotency_key_and_nothing_else_of_ours() {
        let now = Clock::system().monotonic();
        let mut client = Request::new(Body::Empty);
        for name in [
            IDEMPOTENCY_KEY,
            REQUEST_ID,
            TRACEPARENT,
            DEADLINE,
            SUBSCRIPTION,
        ] {
            client
                .headers_mut()
                .insert(name, HeaderValue::from_static("theirs"));
        }
        client
            .headers_mut()
            .insert(XRAY, HeaderValue::from_static("theirs"));
        let request = request(Input::http(client), &invocation(now), Traces::W3c, now);
        assert_eq!(request.headers().get(XRAY), None);
        assert_eq!(request.headers()[IDEMPOTENCY_KEY], "theirs");
        assert_eq!(request.headers()[REQUEST_ID], "theirs");
        for name in [TRACEPARENT, DEADLINE] {
            assert_ne!(request.headers()[name], "theirs");
        }
        assert_eq!(
            request.headers().get(SUBSCRIPTION),
            None,
            "it is no delivery"
        );
    }
}
