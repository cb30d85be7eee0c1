//! CloudEvents over HTTP (HTTP Protocol Binding 1.0.2): binary, structured and batch mode, as they come in.
//!
//! Publishers may leave out `id` and `time`; the platform then sets them. Everything else that is required is required.

use http::{HeaderMap, Request, header};
use model::{Error, Event, Limits, code, event::EventData};
use percent_encoding::percent_decode_str;
use runtime::Body;
use serde_json::Value;

use super::{Events, coding};

/// Reads all events of a request. The outer error concerns the request, an inner one a single event of it.
pub(crate) async fn read(
    request: Request<Body>,
    limits: &Limits,
    events: &Events,
) -> Result<Vec<Result<Event, Error>>, Error> {
    let (head, body) = request.into_parts();
    let content_type = media_type(&head.headers);
    let batch = content_type == "application/cloudevents-batch+json";
    let limit = if batch {
        limits.publish_body()
    } else {
        limits.event
    };
    let bytes = events.buffers.read(body, limit, "the events are").await?;
    let bytes = coding::plain(&head.headers, bytes, limit, &events.buffers).await?;
    match content_type.as_str() {
        "application/cloudevents+json" => Ok(vec![structured(&bytes, limits, events)]),
        "application/cloudevents-batch+json" => batch_of(parse(&bytes, limits)?, limits, events),
        other if other.starts_with("application/cloudevents") => {
            let message = format!("`{other}` is not spoken: send application/cloudevents+json");
            Err(Error::new(code::BAD_EVENT, message))
        }
        _ => Ok(vec![binary(
            &head.headers,
            &content_type,
            &bytes,
            limits,
            events,
        )]),
    }
}

/// One event in the JSON format.
pub(super) fn structured(bytes: &[u8], limits: &Limits, events: &Events) -> Result<Event, Error> {
    json_event(parse(bytes, limits)?, events)
}

fn media_type(headers: &HeaderMap) -> String {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    text.split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

fn parse(bytes: &[u8], limits: &Limits) -> Result<Value, Error> {
    let value = model::json::read(bytes)
        .map_err(|e| Error::new(code::BAD_EVENT, format!("the body is not JSON: {e}")))?;
    shallow(&value, limits)?;
    Ok(value)
}

/// Whether JSON from outside is nested no deeper than it may be.
///
/// # Errors
/// `BAD_EVENT`.
pub(crate) fn shallow(value: &Value, limits: &Limits) -> Result<(), Error> {
    if deeper_than(value, limits.depth) {
        let message = format!("the JSON is nested deeper than {}", limits.depth);
        return Err(Error::new(code::BAD_EVENT, message));
    }
    Ok(())
}

/// Whether `value` is nested deeper than `limit`. (`serde_json` itself stops at 128.)
fn deeper_than(value: &Value, limit: usize) -> bool {
    match value {
        Value::Array(items) => limit == 0 || items.iter().any(|v| deeper_than(v, limit - 1)),
        Value::Object(fields) => limit == 0 || fields.values().any(|v| deeper_than(v, limit - 1)),
        _ => false,
    }
}

fn batch_of(
    value: Value,
    limits: &Limits,
    events: &Events,
) -> Result<Vec<Result<Event, Error>>, Error> {
    let Value::Array(items) = value else {
        return Err(Error::new(
            code::BAD_EVENT,
            "a batch of events is a JSON array",
        ));
    };
    if items.len() > limits.publish_batch {
        let message = format!(
            "{} events in one request; at most {} are taken",
            items.len(),
            limits.publish_batch
        );
        return Err(Error::new(code::BAD_EVENT, message));
    }
    Ok(items
        .into_iter()
        .map(|item| json_event(item, events))
        .collect())
}

fn json_event(mut value: Value, events: &Events) -> Result<Event, Error> {
    if let Value::Object(fields) = &mut value {
        let absent = |fields: &serde_json::Map<String, Value>, name: &str| {
            fields.get(name).is_none_or(Value::is_null)
        };
        if absent(fields, "id") {
            fields.insert(
                "id".into(),
                events.ids.uuid(&events.clock).to_string().into(),
            );
        }
        if absent(fields, "time") {
            fields.insert("time".into(), events.clock.now().rfc3339().into());
        }
        if absent(fields, "specversion") {
            fields.insert("specversion".into(), "1.0".into());
        }
    }
    Event::from_json(value).map_err(|e| Error::new(code::BAD_EVENT, e.to_string()))
}

/// Binary mode: attributes in `ce-` headers, the body is the data.
fn binary(
    headers: &HeaderMap,
    content_type: &str,
    bytes: &[u8],
    limits: &Limits,
    events: &Events,
) -> Result<Event, Error> {
    let mut fields = serde_json::Map::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else {
            continue;
        };
        let text = value
            .to_str()
            .map_err(|_| Error::new(code::BAD_EVENT, format!("header `ce-{name}` is not ASCII")))?;
        let text = percent_decode_str(text).decode_utf8().map_err(|_| {
            Error::new(
                code::BAD_EVENT,
                format!("header `ce-{name}` is not percent-encoded UTF-8"),
            )
        })?;
        if fields
            .insert(name.to_owned(), Value::String(text.into_owned()))
            .is_some()
        {
            return Err(Error::new(
                code::BAD_EVENT,
                format!("header `ce-{name}` is there twice"),
            ));
        }
    }
    if !fields.contains_key("specversion") {
        let message = "this is no event: send CloudEvents in binary mode (`ce-specversion`, `ce-type`, `ce-source` \
                       headers) or as application/cloudevents+json";
        return Err(Error::new(code::BAD_EVENT, message));
    }
    if !content_type.is_empty() {
        fields.insert("datacontenttype".into(), content_type.into());
    }
    let mut event = json_event(Value::Object(fields), events)?;
    event.data = data(content_type, bytes, limits)?;
    Ok(event)
}

fn data(content_type: &str, bytes: &[u8], limits: &Limits) -> Result<EventData, Error> {
    if bytes.is_empty() {
        return Ok(EventData::None);
    }
    let json = content_type.is_empty()
        || content_type == "application/json"
        || content_type.ends_with("+json");
    if json {
        parse(bytes, limits).map(EventData::Json)
    } else {
        Ok(EventData::Binary(bytes.to_vec()))
    }
}
