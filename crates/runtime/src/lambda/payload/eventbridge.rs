//! Events as EventBridge hands them to Lambda, and back: `type` is `detail-type`, `data` is `detail`, and the list
//! `resources` is the extension `awsresources`, a JSON list in a text.
//!
//! Pure. What EventBridge knows survives both ways. What only a CloudEvent can say (subject, further extensions,
//! media type, schema) stands under one more key, `cloudevent`, and only when there is something to say.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use model::{
    Event, Time,
    event::{EventData, InvalidEvent, MAX_ATTRIBUTE},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{ACCOUNT, REGION};

/// The extension that holds EventBridge's `Resources`.
pub const RESOURCES: &str = "awsresources";

/// EventBridge's event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Always `0`.
    pub version: String,
    /// The event's id.
    pub id: String,
    /// The event's type.
    #[serde(rename = "detail-type")]
    pub detail_type: String,
    /// The event's source.
    pub source: String,
    /// The account that published it.
    pub account: String,
    /// When it happened, to the second.
    pub time: String,
    /// The region that published it.
    pub region: String,
    /// ARNs of what it is about.
    #[serde(default)]
    pub resources: Vec<String>,
    /// The event's data; an object wherever the publisher was an AWS SDK.
    pub detail: Value,
    /// What EventBridge has no place for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloudevent: Option<Map<String, Value>>,
}

/// What a consumer gets for `event`; `now` stands in for a time that the event does not say.
#[must_use]
pub fn envelope(event: &Event, now: Time) -> Envelope {
    Envelope {
        version: "0".to_owned(),
        id: event.id.clone(),
        detail_type: event.kind.clone(),
        source: event.source.clone(),
        account: ACCOUNT.to_owned(),
        time: to_the_second(event.time.unwrap_or(now)),
        region: REGION.to_owned(),
        resources: resources(event).unwrap_or_default(),
        detail: detail(event),
        cloudevent: Some(beyond(event)).filter(|more| !more.is_empty()),
    }
}

/// The event that an envelope says.
///
/// # Errors
/// [`InvalidEvent`] names the attribute, resources of more than 1024 bytes included.
pub fn event(envelope: Envelope) -> Result<Event, InvalidEvent> {
    let more = envelope.cloudevent.unwrap_or_default();
    let mut fields = json!({
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": envelope.detail_type,
        "time": envelope.time,
    });
    let all = fields.as_object_mut().expect("it was written as an object");
    let binary = more.contains_key("data_base64");
    if !binary {
        all.insert("data".to_owned(), envelope.detail);
    }
    if !envelope.resources.is_empty() {
        let list = Value::from(envelope.resources).to_string();
        if list.len() > MAX_ATTRIBUTE {
            return Err(InvalidEvent::Attribute {
                name: "resources".to_owned(),
                problem: "is longer than 1024 bytes as JSON",
            });
        }
        all.insert(RESOURCES.to_owned(), list.into());
    }
    all.extend(more);
    Event::from_json(fields)
}

fn resources(event: &Event) -> Option<Vec<String>> {
    serde_json::from_str(event.extensions.get(RESOURCES)?.as_str()?).ok()
}

fn detail(event: &Event) -> Value {
    match &event.data {
        EventData::None => json!({}),
        EventData::Json(value) => value.clone(),
        EventData::Binary(bytes) => json!({"data_base64": STANDARD.encode(bytes)}),
    }
}

/// What the envelope's own keys do not say, in the CloudEvents JSON format.
fn beyond(event: &Event) -> Map<String, Value> {
    let mut more = Map::new();
    let texts = [
        ("subject", &event.subject),
        ("datacontenttype", &event.content_type),
        ("dataschema", &event.schema),
    ];
    for (name, value) in texts {
        let usual = name == "datacontenttype" && value.as_deref() == Some("application/json");
        if let Some(value) = value.as_ref().filter(|_| !usual) {
            more.insert(name.to_owned(), value.as_str().into());
        }
    }
    let readable = resources(event).is_some();
    let extensions: BTreeMap<_, _> = event.extensions.iter().collect();
    for (name, value) in extensions {
        if name != RESOURCES || !readable {
            more.insert(name.clone(), value.clone());
        }
    }
    if let EventData::Binary(bytes) = &event.data {
        more.insert("data_base64".to_owned(), STANDARD.encode(bytes).into());
    }
    more
}

/// EventBridge's times have no fraction, and handlers parse them so.
fn to_the_second(time: Time) -> String {
    let text = time.rfc3339();
    text.split_once('.')
        .map_or_else(|| text.clone(), |(whole, _)| format!("{whole}Z"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: Time = Time::from_millis(1_767_268_800_000);

    fn read(event: Value) -> Event {
        Event::from_json(event).expect("is an event")
    }

    #[test]
    fn an_event_becomes_exactly_the_envelope() {
        let event = read(json!({
            "specversion": "1.0", "id": "e-1", "source": "/orders", "type": "order.created",
            "time": "2026-01-02T03:04:05.678901Z", "datacontenttype": "application/json",
            "awsresources": "[\"arn:aws:s3:::a\",\"arn:aws:s3:::b\"]", "data": {"total": 12.5},
        }));
        let expected = json!({
            "version": "0", "id": "e-1", "detail-type": "order.created", "source": "/orders",
            "account": "000000000000", "time": "2026-01-02T03:04:05Z", "region": "us-east-1",
            "resources": ["arn:aws:s3:::a", "arn:aws:s3:::b"], "detail": {"total": 12.5},
        });
        let got = serde_json::to_value(envelope(&event, NOON)).expect("is JSON");
        assert_eq!(got, expected);
    }

    #[test]
    fn what_eventbridge_cannot_say_is_not_lost() {
        let event = read(json!({
            "specversion": "1.0", "id": "e-1", "source": "/orders", "type": "t", "subject": "o-1",
            "partitionkey": "c-7", "data_base64": "AAE=",
        }));
        let got = envelope(&event, NOON);
        assert_eq!(got.time, "2026-01-01T12:00:00Z");
        assert_eq!(got.detail, json!({"data_base64": "AAE="}));
        let more = json!({"subject": "o-1", "partitionkey": "c-7", "data_base64": "AAE="});
        assert_eq!(got.cloudevent.clone().map(Value::Object), Some(more));
        let back = super::event(got).expect("is an event");
        assert_eq!(
            (back.subject, back.data, back.extensions),
            (event.subject, event.data, event.extensions)
        );
    }

    #[test]
    fn resources_have_a_limit_that_is_named() {
        let mut long = envelope(
            &read(json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t"})),
            NOON,
        );
        long.resources = vec!["arn:".to_owned() + &"x".repeat(1024)];
        let problem = super::event(long).expect_err("too long").to_string();
        assert_eq!(problem, "`resources` is longer than 1024 bytes as JSON");
    }

    fn a_text() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9 /:._-]{1,40}"
    }

    proptest! {
        /// What `PutEvents` takes (Source, DetailType, Detail, Resources) comes out again as it went in.
        #[test]
        fn entries_round_trip(
            source in a_text(), detail_type in a_text(),
            resources in proptest::collection::vec(a_text(), 0..5),
            detail in proptest::collection::btree_map(a_text(), any::<i64>(), 0..5),
        ) {
            let sent = Envelope {
                version: "0".into(), id: "e-1".into(), detail_type, source, account: ACCOUNT.into(),
                time: "2026-01-02T03:04:05Z".into(), region: REGION.into(), resources,
                detail: serde_json::to_value(detail).expect("is JSON"), cloudevent: None,
            };
            let event = super::event(sent.clone()).expect("is an event");
            prop_assert_eq!(envelope(&event, NOON), sent);
        }

        /// Every CloudEvent comes back from its envelope, but for the fraction of its second.
        #[test]
        fn events_round_trip(
            subject in proptest::option::of(a_text()), schema in proptest::option::of(a_text()),
            kind in proptest::option::of("(text/plain|application/cbor)"),
            extension in proptest::option::of(a_text()), odd in proptest::option::of(a_text()),
            data in prop_oneof![
                any::<i64>().prop_map(|n| EventData::Json(json!({"n": n}))),
                a_text().prop_map(|t| EventData::Json(t.into())),
                any::<Vec<u8>>().prop_map(EventData::Binary),
            ],
        ) {
            let mut extensions = BTreeMap::new();
            extensions.extend(extension.map(|text| ("partitionkey".to_owned(), Value::from(text))));
            extensions.extend(odd.map(|text| (RESOURCES.to_owned(), Value::from(text))));
            let event = Event {
                id: "e".into(), source: "/s".into(), kind: "t".into(), subject, time: Some(NOON),
                content_type: kind, schema, extensions, data,
            };
            prop_assert_eq!(super::event(envelope(&event, NOON)).expect("is an event"), event);
        }
    }
}
