//! A row of an outbox as the event that it describes. Pure: both databases read into the same row.

use std::collections::BTreeMap;

use model::{Event, Time, TraceContext, event::EventData};
use serde_json::Value;

use crate::{Item, Relayed};

/// The columns that an outbox has, beside those that a database adds for itself.
const COLUMNS: &[&str] = &[
    "position",
    "id",
    "type",
    "source",
    "subject",
    "key",
    "time",
    "dataschema",
    "datacontenttype",
    "extensions",
    "data",
    "traceparent",
    "created_at",
    "sent_at",
    "refused",
];

/// Those that are texts, as statements ask for them.
pub(crate) const TEXTS: &[&str] = COLUMNS.split_at(1).1.split_at(9).0;

/// The columns of an outbox that are not among `found`, in words; empty when all are.
pub(crate) fn missing(found: &[String]) -> String {
    if found.is_empty() {
        return "there is no such table".to_owned();
    }
    let missing: Vec<&str> = COLUMNS
        .iter()
        .copied()
        .filter(|column| !found.iter().any(|name| name == column))
        .collect();
    match missing.as_slice() {
        [] => String::new(),
        [one] => format!("it lacks the column `{one}`"),
        several => format!("it lacks the columns {}", several.join(", ")),
    }
}

/// The extension of CloudEvents that says what an event is ordered by (extensions/partitioning).
const PARTITION_KEY: &str = "partitionkey";

/// A row as it was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) position: i64,
    /// The column that is no text in UTF-8 and should be.
    pub(crate) garbled: Option<&'static str>,
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) source: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) key: Option<String>,
    /// RFC 3339.
    pub(crate) time: Option<String>,
    pub(crate) schema: Option<String>,
    pub(crate) content_type: Option<String>,
    /// A JSON object.
    pub(crate) extensions: Option<String>,
    pub(crate) data: Data,
    pub(crate) traceparent: Option<String>,
}

/// The data of a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Data {
    #[default]
    None,
    Text(String),
    Bytes(Vec<u8>),
    /// What a database has as a number.
    Number(serde_json::Number),
}

impl Row {
    /// What the row is ordered by: its key, else its subject.
    fn order(&self) -> Option<String> {
        self.key.clone().or_else(|| self.subject.clone())
    }

    /// The event that it describes; `source` is that of rows that name none.
    pub(crate) fn item(self, source: &str) -> Item {
        Item {
            place: self.position,
            key: self.order(),
            event: self.event(source),
        }
    }

    fn event(self, source: &str) -> Result<Relayed, String> {
        if let Some(column) = self.garbled {
            return Err(format!("`{column}` is no text in UTF-8"));
        }
        let time = match &self.time {
            None => None,
            Some(text) => Some(
                Time::parse_rfc3339(text)
                    .ok_or_else(|| format!("`time` is `{}`, no RFC 3339 time", shown(text)))?,
            ),
        };
        let trace = match &self.traceparent {
            None => None,
            Some(text) => Some(
                TraceContext::from_traceparent(text)
                    .ok_or_else(|| format!("`traceparent` is `{}`, which is none", shown(text)))?,
            ),
        };
        let mut extensions = extensions(self.extensions.as_deref())?;
        if let Some(key) = self.key {
            extensions
                .entry(PARTITION_KEY.to_owned())
                .or_insert(Value::String(key));
        }
        let data = data(self.data, self.content_type.as_deref())?;
        let event = Event {
            id: self.id,
            source: self.source.unwrap_or_else(|| source.to_owned()),
            kind: self.kind,
            subject: self.subject,
            time,
            content_type: self.content_type,
            schema: self.schema,
            extensions,
            data,
        };
        event.check().map_err(|invalid| invalid.to_string())?;
        Ok(Relayed {
            event,
            trace,
            depth: 0,
        })
    }
}

/// A row that is too large to be read.
pub(crate) fn too_large(position: i64, key: Option<String>, size: u64, limit: u64) -> Item {
    Item {
        place: position,
        key,
        event: Err(format!(
            "the row has {size} bytes; an event has at most {limit}"
        )),
    }
}

fn extensions(text: Option<&str>) -> Result<BTreeMap<String, Value>, String> {
    let Some(text) = text else {
        return Ok(BTreeMap::new());
    };
    let wrong =
        |problem: &dyn std::fmt::Display| format!("`extensions` is no JSON object: {problem}");
    match model::json::read(text.as_bytes()) {
        Ok(Value::Object(fields)) => Ok(fields.into_iter().collect()),
        Ok(_) => Err(wrong(&"it is another value")),
        Err(error) => Err(wrong(&error)),
    }
}

/// Data as the content type has it: JSON unless it says otherwise.
fn data(data: Data, content_type: Option<&str>) -> Result<EventData, String> {
    let bytes = match data {
        Data::None => return Ok(EventData::None),
        Data::Number(number) => return Ok(EventData::Json(Value::Number(number))),
        Data::Text(text) => text.into_bytes(),
        Data::Bytes(bytes) => bytes,
    };
    if !is_json(content_type) {
        return Ok(EventData::Binary(bytes));
    }
    model::json::read(&bytes)
        .map(EventData::Json)
        .map_err(|e| format!("`data` is no JSON: {e}; another `datacontenttype` takes it as it is"))
}

/// Whether data of this media type is JSON (CloudEvents JSON format 1.0.2, §3.1).
fn is_json(content_type: Option<&str>) -> bool {
    let Some(text) = content_type else {
        return true;
    };
    let media = text.split(';').next().unwrap_or_default().trim();
    let subtype = media.rsplit('/').next().unwrap_or_default();
    subtype.eq_ignore_ascii_case("json") || subtype.to_ascii_lowercase().ends_with("+json")
}

/// The beginning of a text from outside, for a message.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row() -> Row {
        Row {
            position: 7,
            id: "o-1/created".into(),
            kind: "order.created".into(),
            subject: Some("o-1".into()),
            data: Data::Text(r#"{"total": 12.5}"#.into()),
            ..Row::default()
        }
    }

    #[track_caller]
    fn refused(row: Row, why: &str) {
        let told = row.item("/s").event.expect_err(why);
        assert!(told.contains(why), "{told}");
    }

    #[test]
    fn a_row_is_the_event_that_it_describes() {
        let item = Row {
            key: Some("c-9".into()),
            time: Some("2026-01-02T03:04:05.678Z".into()),
            extensions: Some(r#"{"tenant": "north"}"#.into()),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            ..row()
        }
        .item("/shop/orders");
        assert_eq!((item.place, item.key.as_deref()), (7, Some("c-9")));
        let Relayed { event, trace, .. } = item.event.expect("is one");
        let expected = json!({
            "specversion": "1.0", "id": "o-1/created", "source": "/shop/orders", "type": "order.created",
            "subject": "o-1", "time": "2026-01-02T03:04:05.678000Z", "partitionkey": "c-9", "tenant": "north",
            "data": {"total": 12.5}
        });
        assert_eq!(event.to_json(), expected);
        assert!(trace.is_some());
        assert_eq!(row().item("/s").key.as_deref(), Some("o-1"));
    }

    #[test]
    fn data_is_what_its_type_says() {
        let of = |data, content_type: Option<&str>| {
            let row = Row {
                data,
                content_type: content_type.map(str::to_owned),
                ..row()
            };
            row.item("/s").event.expect("is one").event.data
        };
        let text = |text: &str| Data::Text(text.into());
        assert_eq!(of(Data::None, None), EventData::None);
        assert_eq!(of(text("[1]"), None), EventData::Json(json!([1])));
        assert_eq!(of(Data::Number(5.into()), None), EventData::Json(json!(5)));
        let json = Some("application/vnd.order+json; charset=utf-8");
        assert_eq!(
            of(Data::Bytes(b"{}".to_vec()), json),
            EventData::Json(json!({}))
        );
        assert_eq!(
            of(text("hi"), Some("text/plain")),
            EventData::Binary(b"hi".to_vec())
        );
    }

    #[test]
    fn what_is_no_event_says_why() {
        refused(
            Row {
                kind: String::new(),
                ..row()
            },
            "`type` is required",
        );
        refused(
            Row {
                id: String::new(),
                ..row()
            },
            "`id` is required",
        );
        refused(
            Row {
                time: Some("noon".into()),
                ..row()
            },
            "no RFC 3339 time",
        );
        refused(
            Row {
                data: Data::Text("{".into()),
                ..row()
            },
            "`data` is no JSON",
        );
        refused(
            Row {
                extensions: Some("[]".into()),
                ..row()
            },
            "`extensions` is no JSON object",
        );
        refused(
            Row {
                extensions: Some(r#"{"A-B": 1}"#.into()),
                ..row()
            },
            "no name of an extension",
        );
        refused(
            Row {
                extensions: Some(r#"{"type": "order.paid"}"#.into()),
                ..row()
            },
            "`type` is no extension",
        );
        refused(
            Row {
                garbled: Some("subject"),
                ..row()
            },
            "`subject` is no text in UTF-8",
        );
        refused(
            Row {
                traceparent: Some("x".into()),
                ..row()
            },
            "`traceparent`",
        );
    }
}
