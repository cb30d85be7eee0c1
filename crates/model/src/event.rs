//! A CloudEvent 1.0 (<https://github.com/cloudevents/spec>, v1.0.2): the attributes, checked, and the data.
//!
//! The JSON format is here because the log, the mesh, the CLI and the doors all store or send it. The HTTP
//! bindings live with the doors that speak them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::Time;

/// The longest id, source, type or subject, in bytes.
pub const MAX_ATTRIBUTE: usize = 1024;
/// Most extension attributes that a publisher gives an event: each is a header where it is delivered.
pub const MAX_EXTENSIONS: usize = 64;
/// The longest name of an extension attribute, in bytes.
pub const MAX_EXTENSION_NAME: usize = 64;

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Unique within its source.
    pub id: String,
    /// Who says so: an URI reference.
    pub source: String,
    /// What happened: `order.created`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it happened, by the publisher's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Media type of the data; `None`: JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The schema of the data: an URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Extension attributes; names are lower-case letters and digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extensions: BTreeMap<String, Value>,
    /// The data.
    #[serde(default)]
    pub data: EventData,
}

/// The data of an event.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventData {
    /// No data.
    #[default]
    None,
    /// JSON.
    Json(Value),
    /// Anything else, as base64 in JSON.
    Binary(#[serde(with = "base64_bytes")] Vec<u8>),
}

/// The attributes that every event has or may have, all of them texts (CloudEvents 1.0.2, sections 3.1 and 3.3).
pub const ATTRIBUTES: &[&str] = &[
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "specversion",
];

/// Why something is not a CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// A required attribute is missing or empty.
    #[error("`{0}` is required and must not be empty")]
    Missing(&'static str),
    /// An attribute has the wrong type or form.
    #[error("`{name}` {problem}")]
    Attribute {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Only 1.0 is spoken.
    #[error("`specversion` is `{0}`; only `1.0` is spoken")]
    SpecVersion(String),
    /// The text is no JSON object.
    #[error("an event in JSON is an object")]
    NotAnObject,
}

impl Event {
    /// Reads the JSON format (one object). Doors fill in `id` and `time` before, where a publisher left them out.
    ///
    /// # Errors
    /// [`InvalidEvent`] names the attribute.
    pub fn from_json(value: Value) -> Result<Self, InvalidEvent> {
        let Value::Object(mut fields) = value else {
            return Err(InvalidEvent::NotAnObject);
        };
        let spec_version =
            text(&mut fields, "specversion")?.ok_or(InvalidEvent::Missing("specversion"))?;
        if spec_version != "1.0" {
            return Err(InvalidEvent::SpecVersion(spec_version));
        }
        let mut required =
            |name: &'static str| text(&mut fields, name)?.ok_or(InvalidEvent::Missing(name));
        let (id, source, kind) = (required("id")?, required("source")?, required("type")?);
        let event = Self {
            id,
            source,
            kind,
            subject: text(&mut fields, "subject")?,
            time: text(&mut fields, "time")?
                .map(|t| parse_time(&t))
                .transpose()?,
            content_type: text(&mut fields, "datacontenttype")?,
            schema: text(&mut fields, "dataschema")?,
            data: take_data(&mut fields)?,
            extensions: fields.into_iter().filter(|(_, v)| !v.is_null()).collect(),
        };
        event.check()?;
        Ok(event)
    }

    /// The JSON format.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("specversion".into(), "1.0".into());
        fields.insert("id".into(), self.id.as_str().into());
        fields.insert("source".into(), self.source.as_str().into());
        fields.insert("type".into(), self.kind.as_str().into());
        let optional = [
            ("subject", self.subject.clone()),
            ("time", self.time.map(Time::rfc3339)),
            ("datacontenttype", self.content_type.clone()),
            ("dataschema", self.schema.clone()),
        ];
        fields.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?.into()))),
        );
        fields.extend(self.extensions.clone());
        match &self.data {
            EventData::None => None,
            EventData::Json(value) => fields.insert("data".into(), value.clone()),
            EventData::Binary(bytes) => {
                fields.insert("data_base64".into(), base64_bytes::encode(bytes).into())
            }
        };
        Value::Object(fields)
    }

    /// Checks what every way in must check: required attributes, lengths, names and types of extensions.
    ///
    /// # Errors
    /// [`InvalidEvent`] names the attribute.
    pub fn check(&self) -> Result<(), InvalidEvent> {
        let attributes = [
            ("id", Some(&self.id)),
            ("source", Some(&self.source)),
            ("type", Some(&self.kind)),
            ("subject", self.subject.as_ref()),
            ("datacontenttype", self.content_type.as_ref()),
            ("dataschema", self.schema.as_ref()),
        ];
        for (name, value) in attributes
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
        {
            if value.is_empty() {
                return Err(InvalidEvent::Missing(name));
            }
            check_text(name, value)?;
        }
        self.extensions
            .iter()
            .try_for_each(|(name, value)| check_extension(name, value))
    }
}

fn check_text(name: &str, value: &str) -> Result<(), InvalidEvent> {
    let wrong = |problem| {
        Err(InvalidEvent::Attribute {
            name: name.chars().take(40).collect(),
            problem,
        })
    };
    if value.len() > MAX_ATTRIBUTE {
        return wrong("is longer than 1024 bytes");
    }
    if value.chars().any(char::is_control) {
        return wrong("holds a control character");
    }
    Ok(())
}

fn check_extension(name: &str, value: &Value) -> Result<(), InvalidEvent> {
    let wrong = |problem| {
        Err(InvalidEvent::Attribute {
            name: name.chars().take(40).collect(),
            problem,
        })
    };
    if name.is_empty()
        || name.len() > MAX_EXTENSION_NAME
        || !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    {
        return wrong("is no name of an extension: 1 to 64 lower-case letters and digits");
    }
    if ATTRIBUTES.contains(&name) || name == "data" {
        return wrong("is no extension: events have it themselves");
    }
    match value {
        Value::Bool(_) => Ok(()),
        Value::Number(n) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
        Value::String(text) => check_text(name, text),
        _ => wrong("must be a text, a boolean or a 32-bit integer"),
    }
}

fn text(
    fields: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<String>, InvalidEvent> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(InvalidEvent::Attribute {
            name: name.to_owned(),
            problem: "must be a text",
        }),
    }
}

fn parse_time(text: &str) -> Result<Time, InvalidEvent> {
    let problem = "must be an RFC 3339 time since 1970";
    Time::parse_rfc3339(text).ok_or_else(|| InvalidEvent::Attribute {
        name: "time".to_owned(),
        problem,
    })
}

fn take_data(fields: &mut Map<String, Value>) -> Result<EventData, InvalidEvent> {
    let wrong = |problem| InvalidEvent::Attribute {
        name: "data_base64".to_owned(),
        problem,
    };
    match (fields.remove("data"), fields.remove("data_base64")) {
        (Some(_), Some(_)) => Err(wrong("must not stand beside `data`")),
        (Some(value), None) => Ok(EventData::Json(value)),
        (None, Some(Value::String(text))) => base64_bytes::decode(&text)
            .map(EventData::Binary)
            .ok_or_else(|| wrong("is not base64")),
        (None, Some(_)) => Err(wrong("must be a text")),
        (None, None) => Ok(EventData::None),
    }
}

mod base64_bytes {
    //! Binary data inside JSON, as the CloudEvents JSON format has it (RFC 4648 §4).

    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn encode(bytes: &[u8]) -> String {
        STANDARD.encode(bytes)
    }

    pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
        STANDARD.decode(text).ok()
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        decode(&text).ok_or_else(|| serde::de::Error::custom("expected base64"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_round_trips() {
        let event = json!({
            "specversion": "1.0", "id": "1", "source": "/orders", "type": "order.created", "subject": "o-1",
            "time": "2026-01-02T03:04:05.000000Z", "datacontenttype": "application/json",
            "partitionkey": "c-7", "data": {"total": 12.5}
        });
        let read = Event::from_json(event.clone()).expect("is one");
        assert_eq!(read.to_json(), event);
        let stored: Event =
            serde_json::from_value(serde_json::to_value(&read).expect("is data")).expect("is data");
        assert_eq!(stored, read);
    }

    #[test]
    fn no_extension_is_called_like_what_events_have() {
        for name in ATTRIBUTES.iter().chain(&["data"]) {
            let base = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"});
            let mut event = Event::from_json(base).expect("is one");
            event.extensions.insert((*name).to_owned(), "x".into());
            let refused = event.check().expect_err("is taken").to_string();
            assert!(
                refused.starts_with(&format!("`{name}` is no extension")),
                "{refused}"
            );
        }
    }

    #[test]
    fn mistakes_name_the_attribute() {
        let base = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"});
        let check = |change: Value, expected: &str| {
            let mut event = base.clone();
            for (name, value) in change.as_object().expect("an object") {
                event[name] = value.clone();
            }
            assert_eq!(
                Event::from_json(event).expect_err(expected).to_string(),
                expected
            );
        };
        check(
            json!({"id": null}),
            "`id` is required and must not be empty",
        );
        check(
            json!({"type": ""}),
            "`type` is required and must not be empty",
        );
        check(
            json!({"specversion": "0.3"}),
            "`specversion` is `0.3`; only `1.0` is spoken",
        );
        check(
            json!({"time": "noon"}),
            "`time` must be an RFC 3339 time since 1970",
        );
        check(json!({"source": 7}), "`source` must be a text");
        check(
            json!({"My-Ext": "x"}),
            "`My-Ext` is no name of an extension: 1 to 64 lower-case letters and digits",
        );
        check(
            json!({"ext": {}}),
            "`ext` must be a text, a boolean or a 32-bit integer",
        );
        check(
            json!({"data": 1, "data_base64": "AA=="}),
            "`data_base64` must not stand beside `data`",
        );
        check(json!({"data_base64": "!"}), "`data_base64` is not base64");
        assert_eq!(Event::from_json(json!([])), Err(InvalidEvent::NotAnObject));
    }
}
