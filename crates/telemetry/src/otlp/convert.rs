//! Between our spans and those of `opentelemetry.proto.trace.v1`.

use std::collections::BTreeMap;

use model::{SpanId, Time, TraceId};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span as Proto, Status, span::SpanKind as ProtoKind,
        status::StatusCode,
    },
};

use crate::span::{AttrValue, Attributes, Span, SpanKind};

/// Longest text of an attribute or a status that is taken in, in bytes.
const TEXT: usize = 4096;
/// Longest key that is taken in, in bytes.
const KEY: usize = 256;
/// Most attributes of one span that are taken in.
const ATTRIBUTES: usize = 128;

/// Spans as a request, grouped by the service that they are of.
pub(super) fn to_request<'a>(spans: impl Iterator<Item = &'a Span>) -> ExportTraceServiceRequest {
    let mut services: BTreeMap<String, Vec<Proto>> = BTreeMap::new();
    for span in spans {
        services
            .entry(service_name(span))
            .or_default()
            .push(to_proto(span));
    }
    ExportTraceServiceRequest {
        resource_spans: services
            .into_iter()
            .map(|(name, spans)| of_service(name, spans))
            .collect(),
    }
}

/// `app/workload`, `app/gateway` for what the platform does for an app, else `tangelo`.
fn service_name(span: &Span) -> String {
    let app = span.app.as_ref().map(|app| format!("{app}/gateway"));
    span.service()
        .or(app)
        .unwrap_or_else(|| "tangelo".to_owned())
}

fn of_service(name: String, spans: Vec<Proto>) -> ResourceSpans {
    ResourceSpans {
        resource: Some(Resource {
            attributes: vec![text("service.name", name)],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "tangelo".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            }),
            spans,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}

fn to_proto(span: &Span) -> Proto {
    let mut attributes: Vec<KeyValue> = span
        .attributes
        .iter()
        .map(|(k, v)| key_value(k, v))
        .collect();
    attributes.extend(
        span.invocation
            .map(|id| text("faas.invocation_id", id.to_string())),
    );
    Proto {
        trace_id: span.trace.0.to_be_bytes().to_vec(),
        span_id: span.id.0.to_be_bytes().to_vec(),
        parent_span_id: span
            .parent
            .map_or_else(Vec::new, |id| id.0.to_be_bytes().to_vec()),
        flags: 1,
        name: span.name.to_string(),
        kind: kind_to_proto(span.kind) as i32,
        start_time_unix_nano: span.start.0.saturating_mul(1000),
        end_time_unix_nano: span.end.0.saturating_mul(1000),
        attributes,
        status: span.error.as_ref().map(|message| Status {
            message: message.clone(),
            code: StatusCode::Error as i32,
        }),
        ..Proto::default()
    }
}

const fn kind_to_proto(kind: SpanKind) -> ProtoKind {
    match kind {
        SpanKind::Internal => ProtoKind::Internal,
        SpanKind::Server => ProtoKind::Server,
        SpanKind::Client => ProtoKind::Client,
        SpanKind::Producer => ProtoKind::Producer,
        SpanKind::Consumer => ProtoKind::Consumer,
    }
}

fn text(key: &str, value: String) -> KeyValue {
    key_value(key, &AttrValue::from(value))
}

fn key_value(key: &str, value: &AttrValue) -> KeyValue {
    let value = match value {
        AttrValue::Bool(truth) => Value::BoolValue(*truth),
        AttrValue::Int(number) => Value::IntValue(*number),
        AttrValue::Float(number) => Value::DoubleValue(*number),
        AttrValue::Text(text) => Value::StringValue(text.to_string()),
    };
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A span that came in, without who sent it; `None` when it has no valid identity.
pub(super) fn from_proto(proto: Proto) -> Option<Span> {
    let trace = u128::from_be_bytes(proto.trace_id.try_into().ok()?);
    let id = u64::from_be_bytes(proto.span_id.try_into().ok()?);
    if trace == 0 || id == 0 {
        return None;
    }
    let parent = proto
        .parent_span_id
        .try_into()
        .map_or(0, u64::from_be_bytes);
    let mut attributes: Attributes = proto
        .attributes
        .into_iter()
        .take(ATTRIBUTES)
        .filter_map(pair)
        .collect();
    let exception = proto.events.iter().find(|event| event.name == "exception");
    let raised = exception.and_then(|event| exception_text(&event.attributes));
    if !proto.events.is_empty() {
        attributes.push(
            "otlp.events",
            AttrValue::Int(proto.events.len().try_into().unwrap_or(i64::MAX)),
        );
    }
    Some(Span {
        trace: TraceId(trace),
        id: SpanId(id),
        parent: (parent != 0).then_some(SpanId(parent)),
        name: cut(proto.name, KEY).into(),
        kind: kind_from_proto(proto.kind),
        start: Time(proto.start_time_unix_nano / 1000),
        end: Time(proto.end_time_unix_nano.max(proto.start_time_unix_nano) / 1000),
        app: None,
        workload: None,
        invocation: None,
        error: error_text(proto.status, raised),
        attributes,
        local_root: false,
    })
}

/// What a resource calls itself; none when it does not say.
pub(super) fn service_of(resource: &Resource) -> Option<String> {
    let named = resource
        .attributes
        .iter()
        .find(|a| a.key == "service.name")?;
    match named.value.as_ref()?.value.as_ref()? {
        Value::StringValue(name) if !name.is_empty() => Some(cut(name.clone(), KEY)),
        _ => None,
    }
}

fn kind_from_proto(kind: i32) -> SpanKind {
    match ProtoKind::try_from(kind) {
        Ok(ProtoKind::Server) => SpanKind::Server,
        Ok(ProtoKind::Client) => SpanKind::Client,
        Ok(ProtoKind::Producer) => SpanKind::Producer,
        Ok(ProtoKind::Consumer) => SpanKind::Consumer,
        Ok(ProtoKind::Internal | ProtoKind::Unspecified) | Err(_) => SpanKind::Internal,
    }
}

fn error_text(status: Option<Status>, raised: Option<String>) -> Option<String> {
    let status = status.filter(|status| status.code == StatusCode::Error as i32)?;
    let message = Some(status.message).filter(|message| !message.is_empty());
    let message = message.or(raised).unwrap_or_else(|| "failed".to_owned());
    Some(cut(message, TEXT))
}

/// `type: message` of an exception event (OpenTelemetry, semantic conventions for exceptions).
fn exception_text(attributes: &[KeyValue]) -> Option<String> {
    let of = |key: &str| {
        let found = attributes.iter().find(|a| a.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()),
            _ => None,
        }
    };
    match (of("exception.type"), of("exception.message")) {
        (Some(kind), Some(message)) => Some(format!("{kind}: {message}")),
        (kind, message) => message.or(kind),
    }
}

fn pair(pair: KeyValue) -> Option<(String, AttrValue)> {
    let value = match pair.value?.value? {
        Value::StringValue(text) => AttrValue::from(cut(text, TEXT)),
        Value::BoolValue(truth) => AttrValue::Bool(truth),
        Value::IntValue(number) => AttrValue::Int(number),
        Value::DoubleValue(number) => AttrValue::from(number),
        other => AttrValue::from(flat(&other)),
    };
    Some((cut(pair.key, KEY), value))
}

/// What has no value of its own here, as JSON.
fn flat(value: &Value) -> String {
    let value = AnyValue {
        value: Some(value.clone()),
    };
    cut(serde_json::to_string(&value).unwrap_or_default(), TEXT)
}

pub(super) fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_spans_survive_the_journey() {
        let mut span = crate::assembler::tests::span(5, 7, Some(6));
        span.attributes.push("http.route", "/a");
        span.attributes.push("http.response.status_code", 200_i64);
        span.attributes.push("x", 1.5);
        span.attributes.push("y", true);
        span.error = Some("it broke".to_owned());
        let request = to_request([&span].into_iter());
        let service = &request.resource_spans[0];
        let resource = service.resource.clone().expect("has one");
        assert_eq!(
            resource.attributes,
            [text("service.name", "shop/web".to_owned())]
        );
        let back = from_proto(service.scope_spans[0].spans[0].clone()).expect("is one");
        let expected = Span {
            app: None,
            workload: None,
            ..span
        };
        assert_eq!(back, expected);
    }

    #[test]
    fn what_comes_in_is_cut_to_size() {
        let long = "ä".repeat(3000);
        let proto = Proto {
            trace_id: vec![1; 16],
            span_id: vec![1; 8],
            name: long.clone(),
            attributes: (0..200)
                .map(|n| text(&format!("{n}{long}"), long.clone()))
                .collect(),
            status: Some(Status {
                code: 2,
                message: long,
            }),
            ..Proto::default()
        };
        let span = from_proto(proto).expect("is one");
        assert_eq!(
            (span.name.len(), span.attributes.iter().len()),
            (KEY, ATTRIBUTES)
        );
        assert!(span.attributes.iter().all(|(key, _)| key.len() <= KEY));
        assert_eq!(span.error.map(|e| e.len()), Some(TEXT));
    }

    #[test]
    fn exceptions_become_errors_and_bad_ids_nothing() {
        use opentelemetry_proto::tonic::trace::v1::span::Event;
        let attributes = [
            ("exception.type", "KeyError"),
            ("exception.message", "'id'"),
        ];
        let mut proto = Proto {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            status: Some(Status {
                code: 2,
                message: String::new(),
            }),
            events: vec![Event {
                name: "exception".to_owned(),
                attributes: attributes.map(|(k, v)| text(k, v.to_owned())).to_vec(),
                ..Event::default()
            }],
            ..Proto::default()
        };
        let span = from_proto(proto.clone()).expect("is one");
        assert_eq!(span.error.as_deref(), Some("KeyError: 'id'"));
        proto.trace_id = vec![0; 16];
        assert_eq!(from_proto(proto.clone()), None);
        proto.trace_id = vec![1; 15];
        assert_eq!(from_proto(proto), None);
    }
}
