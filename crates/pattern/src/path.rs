//! Paths into a JSON value, as EventBridge's `InputPath` has them: dots, array indices, wildcards.
//! (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html>)
//!
//! Pure. A path without a wildcard finds one value or none; one with a wildcard finds a list of all that it fits.

use std::borrow::Cow;

use model::{Event, Time, event::EventData};
use serde_json::Value;

/// The longest path, in bytes (EventBridge's limit of `InputPath`).
pub const MAX_PATH: usize = 256;

/// A path that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    /// All values of an object or an array.
    All,
}

impl Path {
    /// Reads `$.detail.items[0].name`.
    ///
    /// # Errors
    /// What is wrong with it, as half a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATH {
            return Err(format!("is longer than {MAX_PATH} bytes"));
        }
        let mut rest = text
            .strip_prefix('$')
            .ok_or("must begin with `$`, as in `$.data.id`")?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = match rest.as_bytes()[0] {
                b'.' => field(&rest[1..])?,
                b'[' => bracket(&rest[1..])?,
                _ => return Err("wants a `.` or a `[` between its steps".to_owned()),
            };
            steps.push(step);
            rest = after;
        }
        Ok(Self { steps })
    }

    /// What it finds in `value`.
    #[must_use]
    pub fn find<'v>(&self, value: &'v Value) -> Option<Cow<'v, Value>> {
        find(&self.steps, value)
    }

    /// What [`Path::find`] finds, read more plainly: all places that fit, and from them the one or the list.
    pub(crate) fn find_plainly(&self, value: &Value) -> Option<Value> {
        let mut places = vec![value.clone()];
        for step in &self.steps {
            let below = |place: &Value| -> Vec<Value> {
                match (step, place) {
                    (Step::Field(name), Value::Object(fields)) => {
                        fields.get(name).cloned().into_iter().collect()
                    }
                    (Step::Index(at), Value::Array(items)) => {
                        items.get(*at).cloned().into_iter().collect()
                    }
                    (Step::All, Value::Array(items)) => items.clone(),
                    (Step::All, Value::Object(fields)) => fields.values().cloned().collect(),
                    _ => Vec::new(),
                }
            };
            places = places.iter().flat_map(below).collect();
        }
        if self.steps.contains(&Step::All) {
            return (!places.is_empty()).then_some(Value::Array(places));
        }
        places.into_iter().next()
    }

    /// What it finds in the JSON format of an event, without making that.
    #[must_use]
    pub fn find_in_event<'v>(&self, event: &'v Event) -> Option<Cow<'v, Value>> {
        let whole =
            || find(&self.steps, &event.to_json()).map(|found| Cow::Owned(found.into_owned()));
        let Some((Step::Field(first), rest)) = self.steps.split_first() else {
            return whole();
        };
        let text = |text: &str| Some(Cow::Owned(Value::from(text)));
        let attribute = match first.as_str() {
            "data" => {
                let EventData::Json(data) = &event.data else {
                    return None;
                };
                return find(rest, data);
            }
            // As it is only in JSON.
            "data_base64" => return whole(),
            "id" => text(&event.id),
            "source" => text(&event.source),
            "type" => text(&event.kind),
            "specversion" => text("1.0"),
            "subject" => text(event.subject.as_deref()?),
            "time" => text(&event.time.map(Time::rfc3339)?),
            "datacontenttype" => text(event.content_type.as_deref()?),
            "dataschema" => text(event.schema.as_deref()?),
            name => event.extensions.get(name).map(Cow::Borrowed),
        };
        attribute.filter(|_| rest.is_empty())
    }
}

fn field(rest: &str) -> Result<(Step, &str), String> {
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    if name == "*" {
        return Ok((Step::All, after));
    }
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/' | ':' | '@');
    if name.is_empty() || !name.chars().all(legal) {
        return Err(format!(
            "has a step `{name}`: names of letters, digits, `-`, `_` and `/`, indices and `*` are known"
        ));
    }
    Ok((Step::Field(name.to_owned()), after))
}

fn bracket(rest: &str) -> Result<(Step, &str), String> {
    let (inside, after) = match rest.as_bytes().first() {
        Some(&quote @ (b'\'' | b'"')) => {
            let end = rest[1..].find(char::from(quote)).map(|end| end + 2);
            let end = end.filter(|end| rest[*end..].starts_with(']'));
            rest.split_at(end.ok_or("has a `[` with no `]`")?)
        }
        _ => rest.split_at(rest.find(']').ok_or("has a `[` with no `]`")?),
    };
    let after = &after[1..];
    let quoted = |quote: char| inside.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(name) = quoted('\'')
        .or_else(|| quoted('"'))
        .filter(|name| !name.is_empty())
    {
        return Ok((Step::Field(name.to_owned()), after));
    }
    if inside == "*" {
        return Ok((Step::All, after));
    }
    let digits = inside.bytes().all(|b| b.is_ascii_digit());
    let index = inside.parse().ok().filter(|_| digits);
    let index = index.ok_or_else(|| format!("has `[{inside}]`, which is no index"))?;
    Ok((Step::Index(index), after))
}

fn find<'v>(steps: &[Step], value: &'v Value) -> Option<Cow<'v, Value>> {
    let Some((step, rest)) = steps.split_first() else {
        return Some(Cow::Borrowed(value));
    };
    match step {
        Step::Field(name) => find(rest, value.get(name)?),
        Step::Index(at) => find(rest, value.as_array()?.get(*at)?),
        Step::All => {
            let below: Vec<&Value> = match value {
                Value::Array(items) => items.iter().collect(),
                Value::Object(fields) => fields.values().collect(),
                _ => return None,
            };
            let nested = rest.contains(&Step::All);
            let mut all = Vec::new();
            for found in below.into_iter().filter_map(|value| find(rest, value)) {
                match found.into_owned() {
                    Value::Array(more) if nested => all.extend(more),
                    one => all.push(one),
                }
            }
            (!all.is_empty()).then_some(Cow::Owned(Value::Array(all)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_what_they_name() {
        let value = json!({
            "detail-type": "t", "a/b": 1, "q'x": 7,
            "detail": {"id": "x", "list": [{"n": 1, "m": [1, 2]}, {"n": 2, "m": [3]}, {}], "nothing": null}
        });
        let check = |path: &str, expected: Value| {
            let found = Path::parse(path)
                .expect(path)
                .find(&value)
                .map(Cow::into_owned);
            assert_eq!(found.unwrap_or_else(|| json!("NONE")), expected, "{path}");
        };
        check("$", value.clone());
        check("$.detail-type", json!("t"));
        check("$.a/b", json!(1));
        check("$.detail.id", json!("x"));
        check("$['detail'][\"id\"]", json!("x"));
        check("$[\"q'x\"]", json!(7));
        check("$.detail.list[1].n", json!(2));
        check("$.detail.list[*].n", json!([1, 2]));
        check("$.detail.list[*].m[*]", json!([1, 2, 3]));
        check("$.detail.list.*.n", json!([1, 2]));
        check("$.detail.nothing", json!(null));
        check("$.detail.list[9]", json!("NONE"));
        check("$.detail.id.deeper", json!("NONE"));
        check("$.detail.list[*].missing", json!("NONE"));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let long = format!("$.{}", "x".repeat(MAX_PATH));
        for bad in [
            "",
            "detail",
            "$detail",
            "$.",
            "$..a",
            "$.a b",
            "$.a[",
            "$.a[]",
            "$.a[-1]",
            "$.a['x",
            "$.a[?(@.x)]",
            "$.a[1:2]",
            "$.a[+1]",
            &long,
        ] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_is_read_as_its_json_would_be() {
        let event = Event::from_json(json!({
            "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "o-1", "tenant": "acme",
            "time": "2026-01-02T03:04:05Z", "data": {"order": {"id": 7}, "list": [1, 2]}
        }))
        .expect("is an event");
        let json = event.to_json();
        for path in [
            "$",
            "$.id",
            "$.source",
            "$.type",
            "$.subject",
            "$.tenant",
            "$.time",
            "$.specversion",
            "$.data",
            "$.data.order.id",
            "$.data.list[*]",
            "$.missing",
            "$.id.deeper",
            "$.dataschema",
            "$.*",
        ] {
            let path = Path::parse(path).expect(path);
            let found = path.find_in_event(&event).map(Cow::into_owned);
            assert_eq!(found, path.find(&json).map(Cow::into_owned), "{path:?}");
        }
    }
}
