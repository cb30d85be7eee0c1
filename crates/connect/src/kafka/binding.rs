//! Records of Kafka as events and back: the Kafka Protocol Binding for CloudEvents 1.0.2
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>). Pure.
//!
//! Read are binary mode, structured mode in JSON, and records that are no CloudEvents, for which a type was declared. Written is
//! either mode. A record that cannot be read says why; it is nobody's event. How large a record may be is for the caller to say.

use std::collections::BTreeMap;

use model::{
    Event, Time, TraceContext,
    event::{EventData, MAX_ATTRIBUTE},
    outside::KafkaMode,
};
use serde_json::{Map, Value};

/// A record, without where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers; of several with the same name the last.
    pub headers: BTreeMap<String, Vec<u8>>,
    /// Its timestamp; `None` in one to be written: now.
    pub time: Option<Time>,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The event.
    pub event: Event,
    /// The trace of whoever wrote it.
    pub trace: Option<TraceContext>,
    /// How deep the chain of events and calls is that it comes from; 0: it begins one.
    pub depth: u8,
}

/// Where a record is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The bridge: two clusters may have topics of the same name.
    pub bridge: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

const CONTENT_TYPE: &str = "content-type";
const TRACEPARENT: &str = "traceparent";
const JSON: &str = "application/json";
const STRUCTURED: &str = "application/cloudevents+json";
/// How deep the chain of events and calls is that a record comes from: what goes from topic to topic in a circle ends.
const DEPTH_HEADER: &str = "tangelo-depth";
/// Deeper JSON is refused: `Limits::depth` of the default profile.
const DEPTH: usize = 64;

/// Reads a record. `kind` is the type of those that are no CloudEvents.
///
/// # Errors
/// Why it is no event.
pub fn read(message: &Message, place: Place<'_>, kind: Option<&str>) -> Result<Read, String> {
    let header = |name: &str| {
        let bytes = message.headers.get(name)?;
        Some(std::str::from_utf8(bytes).map_err(|_| format!("the header `{name}` is not UTF-8")))
    };
    let content_type = header(CONTENT_TYPE).transpose()?;
    let essence = content_type.map(essence).unwrap_or_default();
    let event = if essence.starts_with("application/cloudevents") {
        structured(message, &essence)?
    } else if message.headers.contains_key("ce_specversion") {
        binary(message, content_type)?
    } else {
        let kind = kind.ok_or("it is no CloudEvent, and no `type` is declared for its topic")?;
        plain(message, place, kind, content_type)?
    };
    // What only says where it is from is not what a record is refused for.
    let said = |name: &str| header(name).and_then(Result::ok);
    Ok(Read {
        event,
        trace: said(TRACEPARENT).and_then(TraceContext::from_traceparent),
        depth: said(DEPTH_HEADER).map_or(0, |text| text.parse().unwrap_or(u8::MAX)),
    })
}

/// `type/subtype`, in lower case.
fn essence(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

fn is_json(content_type: Option<&str>) -> bool {
    content_type.is_none_or(|kind| {
        let kind = essence(kind);
        kind.ends_with("/json") || kind.ends_with("+json")
    })
}

fn structured(message: &Message, essence: &str) -> Result<Event, String> {
    if essence != STRUCTURED {
        return Err(format!("`{}` is not spoken", short(essence)));
    }
    let value = json(message.value.as_deref().unwrap_or_default())?;
    Event::from_json(value).map_err(|error| error.to_string())
}

fn binary(message: &Message, content_type: Option<&str>) -> Result<Event, String> {
    let mut fields = Map::new();
    for (name, value) in &message.headers {
        let Some(name) = name.strip_prefix("ce_") else {
            continue;
        };
        if matches!(name, "data" | "data_base64" | "datacontenttype") {
            return Err(format!("`ce_{name}` is no attribute of an event"));
        }
        let value = std::str::from_utf8(value);
        let value = value.map_err(|_| format!("the header `ce_{}` is not UTF-8", short(name)))?;
        fields.insert(name.to_owned(), value.into());
    }
    if let Some(kind) = content_type {
        fields.insert("datacontenttype".to_owned(), kind.into());
    }
    let mut event = Event::from_json(Value::Object(fields)).map_err(|error| error.to_string())?;
    event.data = match message.value.as_deref() {
        None | Some([]) => EventData::None,
        Some(bytes) if is_json(content_type) => EventData::Json(json(bytes)?),
        Some(bytes) => EventData::Binary(bytes.to_vec()),
    };
    Ok(event)
}

/// What is no CloudEvent: its id says where it is, so that it is the same however often it is read.
fn plain(
    message: &Message,
    place: Place<'_>,
    kind: &str,
    content_type: Option<&str>,
) -> Result<Event, String> {
    let Place {
        bridge,
        topic,
        partition,
        offset,
    } = place;
    let (content_type, data) = match (message.value.as_deref(), content_type) {
        (None | Some([]), kind) => (kind.map(str::to_owned), EventData::None),
        (Some(bytes), Some(kind)) if is_json(Some(kind)) => {
            (Some(kind.to_owned()), EventData::Json(json(bytes)?))
        }
        (Some(bytes), Some(kind)) => (Some(kind.to_owned()), EventData::Binary(bytes.to_vec())),
        (Some(bytes), None) => guessed(bytes),
    };
    let event = Event {
        id: format!("{topic}-{partition}-{offset}"),
        source: format!("/kafka/{bridge}/{topic}"),
        kind: kind.to_owned(),
        subject: message.key.as_deref().and_then(subject),
        time: message.time,
        content_type,
        schema: None,
        extensions: BTreeMap::new(),
        data,
    };
    event.check().map_err(|error| error.to_string())?;
    Ok(event)
}

/// A key that can be a subject; numbers and the like in bytes cannot.
fn subject(key: &[u8]) -> Option<String> {
    let key = std::str::from_utf8(key).ok()?;
    let good = (1..=MAX_ATTRIBUTE).contains(&key.len()) && !key.chars().any(char::is_control);
    good.then(|| key.to_owned())
}

/// What a value is that does not say it: JSON, text or bytes.
fn guessed(bytes: &[u8]) -> (Option<String>, EventData) {
    if let Ok(value) = json(bytes) {
        return (None, EventData::Json(value));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some("text/plain".to_owned()), EventData::Json(text.into())),
        Err(_) => {
            let kind = "application/octet-stream".to_owned();
            (Some(kind), EventData::Binary(bytes.to_vec()))
        }
    }
}

fn json(bytes: &[u8]) -> Result<Value, String> {
    let value = model::json::read(bytes).map_err(|e| format!("its value is not JSON: {e}"))?;
    match deeper_than(&value, DEPTH) {
        true => Err(format!("its JSON is nested deeper than {DEPTH}")),
        false => Ok(value),
    }
}

fn deeper_than(value: &Value, limit: usize) -> bool {
    match value {
        Value::Array(items) => limit == 0 || items.iter().any(|v| deeper_than(v, limit - 1)),
        Value::Object(fields) => limit == 0 || fields.values().any(|v| deeper_than(v, limit - 1)),
        _ => false,
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// What is said of an event beside it.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The record's key.
    pub key: Option<String>,
    /// The trace to continue.
    pub traceparent: String,
    /// How deep the chain of events and calls is that it comes from.
    pub depth: u8,
}

/// The record of an event.
#[must_use]
pub fn write(event: &Event, mode: KafkaMode, told: Told) -> Message {
    let (mut headers, value) = match mode {
        KafkaMode::Binary => (attributes(event), bytes(event)),
        KafkaMode::Structured => {
            let kind = format!("{STRUCTURED}; charset=UTF-8").into_bytes();
            let headers = BTreeMap::from([(CONTENT_TYPE.to_owned(), kind)]);
            (headers, Some(event.to_json().to_string().into_bytes()))
        }
    };
    headers.insert(TRACEPARENT.to_owned(), told.traceparent.into_bytes());
    headers.insert(DEPTH_HEADER.to_owned(), told.depth.to_string().into_bytes());
    Message {
        key: told.key.map(String::into_bytes),
        value,
        headers,
        // Not the event's: brokers remove what is old.
        time: None,
    }
}

fn attributes(event: &Event) -> BTreeMap<String, Vec<u8>> {
    let mut headers = BTreeMap::new();
    let mut put = |name: &str, value: String| headers.insert(name.to_owned(), value.into_bytes());
    put("ce_specversion", "1.0".to_owned());
    put("ce_id", event.id.clone());
    put("ce_source", event.source.clone());
    put("ce_type", event.kind.clone());
    let optional = [
        ("ce_subject", event.subject.clone()),
        ("ce_time", event.time.map(Time::rfc3339)),
        ("ce_dataschema", event.schema.clone()),
        (CONTENT_TYPE, content_type(event)),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            put(name, value);
        }
    }
    for (name, value) in &event.extensions {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        put(&format!("ce_{name}"), text);
    }
    headers
}

fn content_type(event: &Event) -> Option<String> {
    match (&event.content_type, &event.data) {
        (Some(kind), _) => Some(kind.clone()),
        (None, EventData::Json(_)) => Some(JSON.to_owned()),
        (None, EventData::None | EventData::Binary(_)) => None,
    }
}

fn bytes(event: &Event) -> Option<Vec<u8>> {
    match &event.data {
        EventData::None => None,
        EventData::Binary(bytes) => Some(bytes.clone()),
        EventData::Json(Value::String(text)) if !is_json(event.content_type.as_deref()) => {
            Some(text.clone().into_bytes())
        }
        EventData::Json(value) => Some(value.to_string().into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLACE: Place<'_> = Place {
        bridge: "legacy",
        topic: "orders",
        partition: 2,
        offset: 17,
    };

    fn message(headers: &[(&str, &str)], value: Option<&[u8]>) -> Message {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
        Message {
            key: Some(b"o-1".to_vec()),
            value: value.map(<[u8]>::to_vec),
            headers: headers.iter().map(own).collect(),
            time: Some(Time::from_millis(1_790_000_000_000)),
        }
    }

    const BINARY: [(&str, &str); 5] = [
        ("ce_specversion", "1.0"),
        ("ce_type", "order.created"),
        ("ce_source", "/till"),
        ("ce_id", "1"),
        ("ce_partitionkey", "é"),
    ];

    #[test]
    fn records_are_read_in_every_mode() {
        let mut headers = BINARY.to_vec();
        headers.push(("content-type", "application/json; charset=utf-8"));
        let message_in = message(&headers, Some(b"{\"n\":1}"));
        let event = read(&message_in, PLACE, None).expect("binary").event;
        assert_eq!(
            (event.id.as_str(), event.kind.as_str()),
            ("1", "order.created")
        );
        assert_eq!(event.extensions["partitionkey"], "é");
        assert_eq!(event.data, EventData::Json(json!({"n": 1})));
        let text = event.to_json().to_string();
        let headers = [
            (
                "content-type",
                "application/cloudevents+json; charset=utf-8",
            ),
            (
                "traceparent",
                "00-00000000000000000000000000000007-0000000000000008-01",
            ),
            ("tangelo-depth", "3"),
        ];
        let same =
            read(&message(&headers, Some(text.as_bytes())), PLACE, None).expect("structured");
        assert_eq!((same.event, same.depth), (event, 3));
        assert_eq!(same.trace.map(|trace| trace.trace.0), Some(7));
        let message_in = message(&[("traceparent", "?")], Some(b"{\"n\":1}"));
        let plain = read(&message_in, PLACE, Some("order.imported")).expect("plain");
        let plain = plain.event;
        assert_eq!(
            (plain.id.as_str(), plain.source.as_str()),
            ("orders-2-17", "/kafka/legacy/orders")
        );
        assert_eq!(
            (plain.subject.as_deref(), plain.kind.as_str()),
            (Some("o-1"), "order.imported")
        );
        assert_eq!(plain.data, EventData::Json(json!({"n": 1})));
        let data = |value: Option<&[u8]>| {
            let event = read(&message(&[], value), PLACE, Some("t.t")).expect("plain");
            let event = event.event;
            (event.content_type, event.data)
        };
        assert_eq!(data(None), (None, EventData::None));
        assert_eq!(
            data(Some(b"hi there")),
            (
                Some("text/plain".to_owned()),
                EventData::Json(json!("hi there"))
            )
        );
        assert_eq!(
            data(Some(&[0, 255])),
            (
                Some("application/octet-stream".to_owned()),
                EventData::Binary(vec![0, 255])
            )
        );
    }

    #[test]
    fn a_key_that_is_no_text_is_no_subject() {
        for key in [&[0, 0, 0, 7][..], &[0xff], b"", &[b'x'; 2_000]] {
            let mut one = message(&[], Some(b"1"));
            one.key = Some(key.to_vec());
            let event = read(&one, PLACE, Some("t.t")).expect("plain").event;
            assert_eq!(event.subject, None);
        }
    }

    #[test]
    fn what_is_no_event_says_why() {
        let check = |headers: &[(&str, &str)], value: &[u8], part: &str| {
            let kind = headers.first().filter(|(name, _)| *name == CONTENT_TYPE);
            let kind = kind.map(|_| "t.t");
            let told = read(&message(headers, Some(value)), PLACE, kind).expect_err("is none");
            assert!(told.contains(part), "{told}");
        };
        check(&[], b"{}", "no `type` is declared");
        check(&BINARY[..3], b"{}", "`id`");
        check(&BINARY, b"{", "not JSON");
        check(&[(CONTENT_TYPE, "application/json")], b"{", "not JSON");
        check(
            &[("content-type", "application/cloudevents+avro")],
            b"",
            "not spoken",
        );
        check(
            &[("content-type", "application/cloudevents+json")],
            b"[]",
            "object",
        );
        let deep = format!("{}1{}", "[".repeat(70), "]".repeat(70));
        check(&BINARY, deep.as_bytes(), "nested deeper");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for data in [
            json!({"data": {"a": [1, "é"]}}),
            json!({"data": "text", "datacontenttype": "text/plain"}),
            json!({"data_base64": "AAE=", "datacontenttype": "image/png"}),
            json!({}),
        ] {
            let mut event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "s", "time": "2026-01-02T03:04:05Z", "dataschema": "/schema/1", "ext": "x"});
            for (name, value) in data.as_object().expect("is one") {
                event[name] = value.clone();
            }
            let event = Event::from_json(event).expect("is an event");
            let structured = write(&event, KafkaMode::Structured, Told::default());
            let back = read(&structured, PLACE, None).expect("is one");
            assert_eq!(back.event, event);
            let told = Told {
                key: event.subject.clone(),
                depth: 7,
                ..Told::default()
            };
            let back = read(&write(&event, KafkaMode::Binary, told), PLACE, None).expect("is one");
            assert_eq!(back.depth, 7);
            let mut back = back.event;
            if let EventData::Binary(bytes) = &back.data
                && back.content_type.as_deref() == Some("text/plain")
            {
                back.data = EventData::Json(String::from_utf8_lossy(bytes).into());
            }
            if event.content_type.is_none() {
                back.content_type = None;
            }
            assert_eq!(back, event);
        }
    }

    #[test]
    fn the_corpus_keeps_the_law() {
        testkit::replay("kafka", crate::kafka::law::law);
    }
}
