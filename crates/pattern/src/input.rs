//! What a target gets of an event: EventBridge's `Input`, `InputPath` and `InputTransformer`
//! (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html>).
//!
//! Pure. Outside of quotes a variable of a JSON template is its value as JSON; inside of quotes, and in a template that is
//! a text, it is its value as text, where objects and lists lose the quotes of what is in them. What is not there is
//! an empty text.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write};

use model::InputSpec;
use serde_json::Value;

use crate::path::Path;

/// The longest template, in bytes (EventBridge's limit).
pub const MAX_TEMPLATE: usize = 8192;
/// Most variables of a template (EventBridge's limit).
pub const MAX_VARIABLES: usize = 100;
/// What a template makes of an event is larger than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it makes more than {0} bytes of this event")]
pub struct TooLarge(pub usize);

/// The beginning of names that nobody may give.
const RESERVED: &str = "aws.";

/// What a target gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Always the same.
    Constant(Value),
    /// A part of the event; nothing is found: an empty object.
    Path(Path),
    /// A text with variables.
    Template(Template),
}

/// A template that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
    json: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Variable { what: Variable, quoted: bool },
}

#[derive(Debug, Clone, PartialEq)]
enum Variable {
    Path(Path),
    RuleArn,
    RuleName,
    IngestionTime,
    /// The event without its payload.
    Envelope,
    Event,
}

/// What a template is filled with.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// The event, as JSON.
    pub event: &'f Value,
    /// The field of it that `aws.events.event` leaves out: `detail`, or `data` of a CloudEvent.
    pub payload: &'f str,
    /// `aws.events.rule-name`.
    pub rule_name: &'f str,
    /// `aws.events.rule-arn`.
    pub rule_arn: &'f str,
    /// `aws.events.event.ingestion-time`, in ISO 8601.
    pub ingestion_time: &'f str,
}

impl Input {
    /// Reads what a subscription says.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence without its end.
    pub fn compile(spec: &InputSpec) -> Result<Self, String> {
        Ok(match spec {
            InputSpec::Constant(value) => Self::Constant(value.clone()),
            InputSpec::Path(path) => {
                let read = Path::parse(path);
                Self::Path(read.map_err(|error| format!("the path `{path}` {error}"))?)
            }
            InputSpec::Template { paths, template } => {
                Self::Template(Template::parse(paths, template)?)
            }
        })
    }

    /// What the target gets: JSON, or the text that a template is; at most `most` bytes.
    ///
    /// # Errors
    /// When it would be more: a variable may stand in a template a thousand times.
    pub fn apply(&self, facts: &Facts<'_>, most: usize) -> Result<String, TooLarge> {
        let text = match self {
            Self::Constant(value) => value.to_string(),
            Self::Path(path) => path
                .find(facts.event)
                .map_or_else(|| "{}".to_owned(), |found| found.to_string()),
            Self::Template(template) => template.fill(facts, most)?,
        };
        match text.len() <= most {
            true => Ok(text),
            false => Err(TooLarge(most)),
        }
    }
}

impl Template {
    /// Reads a template with the paths of its variables.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence without its end.
    pub fn parse(paths: &BTreeMap<String, String>, text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_TEMPLATE {
            return Err(format!("a template has 1 to {MAX_TEMPLATE} bytes"));
        }
        if paths.len() > MAX_VARIABLES {
            return Err(format!("a template has at most {MAX_VARIABLES} variables"));
        }
        let mut variables = BTreeMap::new();
        for (name, path) in paths {
            let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            if name.is_empty() || name.len() > 256 || !name.bytes().all(legal) {
                return Err(format!(
                    "`{name}` is no name of a variable: letters, digits, `_`, `-`"
                ));
            }
            if name
                .get(..RESERVED.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(RESERVED))
            {
                return Err(format!(
                    "`{name}` cannot be given: names with `aws.` are predefined"
                ));
            }
            let path = Path::parse(path).map_err(|error| format!("the path `{path}` {error}"))?;
            variables.insert(name.as_str(), path);
        }
        let json = text.trim_start().starts_with(['{', '[']);
        let parts = parts(text, &variables)?;
        let template = Self { parts, json };
        if json {
            template.check()?;
        }
        Ok(template)
    }

    /// Whether a JSON template is one whatever its variables are.
    fn check(&self) -> Result<(), String> {
        let mut sample = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => sample.push_str(text),
                Part::Variable { quoted: true, .. } => sample.push('x'),
                Part::Variable { quoted: false, .. } => sample.push_str("null"),
            }
        }
        let read: Result<Value, _> = serde_json::from_str(&sample);
        read.map(drop).map_err(|error| {
            format!("the template is no JSON when its variables are filled in: {error}")
        })
    }

    /// Ends with the part by which it is more than `most`: no more than one value beyond that is ever held.
    fn fill(&self, facts: &Facts<'_>, most: usize) -> Result<String, TooLarge> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Variable { what, quoted } => {
                    let value = what.value(facts);
                    match value.as_deref() {
                        None if self.json && !quoted => out.push_str("\"\""),
                        None => {}
                        Some(value) if *quoted => unquoted(value, &mut out),
                        Some(Value::String(text)) if !self.json => out.push_str(text),
                        Some(value) => {
                            write!(out, "{value}").expect("writing to a text cannot fail")
                        }
                    }
                }
            }
            if out.len() > most {
                return Err(TooLarge(most));
            }
        }
        Ok(out)
    }
}

impl Variable {
    fn predefined(name: &str) -> Option<Self> {
        Some(match name {
            "aws.events.rule-arn" => Self::RuleArn,
            "aws.events.rule-name" => Self::RuleName,
            "aws.events.event.ingestion-time" => Self::IngestionTime,
            "aws.events.event" => Self::Envelope,
            "aws.events.event.json" => Self::Event,
            _ => return None,
        })
    }

    fn value<'f>(&self, facts: &Facts<'f>) -> Option<Cow<'f, Value>> {
        let text = |text: &str| Some(Cow::Owned(Value::from(text)));
        match self {
            Self::Path(path) => path.find(facts.event),
            Self::RuleArn => text(facts.rule_arn),
            Self::RuleName => text(facts.rule_name),
            Self::IngestionTime => text(facts.ingestion_time),
            Self::Event => Some(Cow::Borrowed(facts.event)),
            Self::Envelope => {
                let mut event = facts.event.clone();
                if let Value::Object(fields) = &mut event {
                    fields.remove(facts.payload);
                }
                Some(Cow::Owned(event))
            }
        }
    }
}

/// A template as texts and variables, each variable with whether it stands in quotes.
fn parts(text: &str, variables: &BTreeMap<&str, Path>) -> Result<Vec<Part>, String> {
    let (mut parts, mut plain, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if c == '<'
            && let Some((name, beyond)) = variable(after)
        {
            let given = variables.get(name).cloned().map(Variable::Path);
            let what = given
                .or_else(|| Variable::predefined(name))
                .ok_or_else(|| {
                    format!("the template has `<{name}>`, and no path is given for that")
                })?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Variable { what, quoted });
            rest = beyond;
            continue;
        }
        plain.push(c);
        rest = after;
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => {
                if let Some(escaped) = rest.chars().next() {
                    plain.push(escaped);
                    rest = &rest[escaped.len_utf8()..];
                }
            }
            _ => {}
        }
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// The name between `<`, which is gone, and `>`, and what comes after.
fn variable(rest: &str) -> Option<(&str, &str)> {
    let (name, beyond) = rest.split_once('>')?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (!name.is_empty() && name.bytes().all(legal)).then_some((name, beyond))
}

/// A value inside of a JSON text: escaped for it, and without quotes of its own.
fn unquoted(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => escaped(text, out),
        Value::Array(items) => {
            out.push('[');
            for (nth, item) in items.iter().enumerate() {
                if nth > 0 {
                    out.push(',');
                }
                unquoted(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (nth, (name, value)) in fields.iter().enumerate() {
                if nth > 0 {
                    out.push(',');
                }
                escaped(name, out);
                out.push(':');
                unquoted(value, out);
            }
            out.push('}');
        }
        other => write!(out, "{other}").expect("writing to a text cannot fail"),
    }
}

fn escaped(text: &str, out: &mut String) {
    let json = Value::from(text).to_string();
    out.push_str(&json[1..json.len() - 1]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const MOST: usize = 1 << 20;

    fn paths(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(name, path): &(&str, &str)| ((*name).to_owned(), (*path).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn filled(event: &Value, template: &str) -> String {
        let paths = paths(&[
            ("id", "$.detail.id"),
            ("obj", "$.detail.obj"),
            ("list", "$.detail.list"),
            ("quote", "$.detail.quote"),
            ("none", "$.detail.none"),
            ("null", "$.detail.null"),
        ]);
        let template = Template::parse(&paths, template).expect(template);
        Input::Template(template)
            .apply(
                &Facts {
                    event,
                    payload: "detail",
                    rule_name: "my-rule",
                    rule_arn: "arn:aws:events:us-east-1:000000000000:rule/my-rule",
                    ingestion_time: "2026-01-02T03:04:05Z",
                },
                MOST,
            )
            .expect("is small")
    }

    #[test]
    fn what_grows_beyond_its_bound_is_refused_before_it_is_whole() {
        let event = json!({"detail": {"text": "\u{1}".repeat(1000)}});
        let facts = Facts {
            event: &event,
            payload: "detail",
            rule_name: "",
            rule_arn: "",
            ingestion_time: "",
        };
        let input = |template: &str| {
            let paths = paths(&[("t", "$.detail.text")]);
            Input::Template(Template::parse(&paths, template).expect("is one"))
        };
        // A control character has six bytes in JSON.
        let once = input("[<t>]");
        assert_eq!(once.apply(&facts, 6004).map(|text| text.len()), Ok(6004));
        assert_eq!(once.apply(&facts, 6003), Err(TooLarge(6003)));
        assert_eq!(
            input(&"<t>".repeat(2000)).apply(&facts, 10_000),
            Err(TooLarge(10_000))
        );
        let path = Input::Path(Path::parse("$.detail").expect("is one"));
        assert_eq!(path.apply(&facts, 100), Err(TooLarge(100)));
        assert_eq!(
            Input::Constant(json!("x")).apply(&facts, 2),
            Err(TooLarge(2))
        );
    }

    #[test]
    fn variables_are_filled_as_their_place_wants_it() {
        let event = json!({
            "id": "e", "source": "s",
            "detail": {"id": 7, "obj": {"a": "x", "b": [1, "y"]}, "list": ["A", "B"], "quote": "say \"hi\"\n", "null": null}
        });
        let check = |template: &str, expected: &str| {
            assert_eq!(filled(&event, template), expected, "{template}");
        };
        check(
            r#"{"a": <id>, "b": <obj>}"#,
            r#"{"a": 7, "b": {"a":"x","b":[1,"y"]}}"#,
        );
        check(
            r#"{"a": <quote>, "b": <none>, "c": <null>}"#,
            r#"{"a": "say \"hi\"\n", "b": "", "c": null}"#,
        );
        check(
            r#"{"a": "is <id>, <quote>"}"#,
            r#"{"a": "is 7, say \"hi\"\n"}"#,
        );
        check(
            r#"{"a": "<obj> <list>"}"#,
            r#"{"a": "{a:x,b:[1,y]} [A,B]"}"#,
        );
        check(r#"{"a": "\"<id>\" <id>"}"#, r#"{"a": "\"7\" 7"}"#);
        check(r#"[<id>, "<none>"]"#, r#"[7, ""]"#);
        check(r#""Id <id> of <list>""#, r#""Id 7 of [A,B]""#);
        check("<id> in <quote>", "7 in say \"hi\"\n");
        check("\"first <id>\"\n\"second\"", "\"first 7\"\n\"second\"");
        check("<obj>", r#"{"a":"x","b":[1,"y"]}"#);
        check("a < b > c <> <id>", "a < b > c <> 7");
        check(
            r#"{"rule": <aws.events.rule-name>, "at": <aws.events.event.ingestion-time>, "e": <aws.events.event>}"#,
            r#"{"rule": "my-rule", "at": "2026-01-02T03:04:05Z", "e": {"id":"e","source":"s"}}"#,
        );
        assert_eq!(
            serde_json::from_str::<Value>(&filled(&event, "<aws.events.event.json>")).ok(),
            Some(event.clone())
        );
    }

    #[test]
    fn constants_and_paths() {
        let event = json!({"detail": {"id": "x"}});
        let facts = Facts {
            event: &event,
            payload: "detail",
            rule_name: "",
            rule_arn: "",
            ingestion_time: "",
        };
        let path = |text: &str| Input::Path(Path::parse(text).expect("is a path"));
        assert_eq!(
            path("$.detail").apply(&facts, MOST).expect("is small"),
            r#"{"id":"x"}"#
        );
        assert_eq!(
            path("$.detail.id").apply(&facts, MOST).expect("is small"),
            r#""x""#
        );
        assert_eq!(
            path("$.missing").apply(&facts, MOST).expect("is small"),
            "{}"
        );
        assert_eq!(
            Input::Constant(json!([1]))
                .apply(&facts, MOST)
                .expect("is small"),
            "[1]"
        );
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let check = |pairs: &[(&str, &str)], template: &str, expected: &str| {
            let error = Template::parse(&paths(pairs), template).expect_err(template);
            assert!(error.contains(expected), "{error}");
        };
        check(&[], "", "bytes");
        check(&[], "<who>", "`<who>`");
        check(&[("a", "b")], "<a>", "`b` must begin");
        check(&[("aws.a", "$.a")], "<aws.a>", "predefined");
        check(&[("a b", "$.a")], "x", "no name");
        check(&[("a", "$.a")], "{\"x\": <a>", "no JSON");
        check(&[("a", "$.a")], "{<a>: 1}", "no JSON");
    }

    proptest! {
        #[test]
        fn a_json_template_gives_json_whatever_the_event_says(text in ".{0,40}", number in any::<i64>()) {
            let event = json!({"detail": {"id": text, "obj": {(text.clone()): [text]}, "list": [number], "quote": text, "null": number}});
            let out = filled(&event, r#"{"a": <id>, "b": "<id> <obj> <list>", "c": [<obj>, <none>], "d": "<quote><null>"}"#);
            prop_assert!(serde_json::from_str::<Value>(&out).is_ok(), "{out}");
        }
    }
}
