//! Why an event does not match a pattern: every field that fails, with what was found and what was expected there.

use serde_json::{Map, Value, json};

use crate::{
    flat::Flat,
    fold::fold,
    matcher::{Known, meets, passing},
    paths::Paths,
    syntax::{Field, Pattern, Way},
    test::{Scalar, Test},
};

/// Most values of an event that are shown for one field.
const MAX_SHOWN: usize = 8;
/// Most ways that are explained.
const MAX_EXPLAINED: usize = 20;

/// What came of an event and a pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Whether the event matches.
    pub matches: bool,
    /// The ways in which it could match (`$or` makes several), the nearest first, at most 20; none when it matches.
    pub ways: Vec<Vec<Failure>>,
    /// How many ways the pattern has.
    pub ways_in_all: usize,
}

/// A field that fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The field of the event: its steps, joined by dots.
    pub field: String,
    /// Where the pattern asks for it: a JSON Pointer (RFC 6901).
    pub pointer: String,
    /// What would have passed, one of these.
    pub expected: Vec<String>,
    /// The values there, at most 8.
    pub found: Vec<Value>,
    /// Why that fails, in words.
    pub reason: String,
}

impl Explanation {
    /// `{"matches", "ways": [[{"field", "pointer", "expected", "found", "reason"}]], "ways_in_all"}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let failure = |failure: &Failure| {
            json!({
                "field": failure.field,
                "pointer": failure.pointer,
                "expected": failure.expected,
                "found": failure.found,
                "reason": failure.reason,
            })
        };
        let way = |failures: &Vec<Failure>| failures.iter().map(failure).collect::<Vec<_>>();
        json!({
            "matches": self.matches,
            "ways": self.ways.iter().map(way).collect::<Vec<_>>(),
            "ways_in_all": self.ways_in_all,
        })
    }
}

impl Pattern {
    /// Why `event`, in any JSON format, matches or not.
    #[must_use]
    pub fn explain(&self, event: &Value) -> Explanation {
        let flat = Flat::of_json(&self.paths, event);
        let matches = self.matches(event);
        let mut ways = Vec::new();
        if !matches {
            ways.extend(
                self.ways
                    .iter()
                    .map(|way| explain(&self.paths, way, &flat, event)),
            );
            ways.sort_by_key(Vec::len);
            ways.truncate(MAX_EXPLAINED);
        }
        Explanation {
            matches,
            ways,
            ways_in_all: self.ways.len(),
        }
    }
}

fn explain(paths: &Paths, way: &Way, flat: &Flat<'_>, event: &Value) -> Vec<Failure> {
    if !event.is_object() {
        return vec![Failure {
            field: String::new(),
            pointer: String::new(),
            expected: vec!["an object".to_owned()],
            found: vec![event.clone()],
            reason: "an event is an object".to_owned(),
        }];
    }
    let alone: Vec<_> = way
        .iter()
        .filter_map(|field| explain_field(field, flat, event))
        .collect();
    if alone.is_empty() && !meets(paths, way, flat, &mut Known::default()) {
        return vec![not_together(way, flat)];
    }
    alone
}

fn explain_field(field: &Field, flat: &Flat<'_>, event: &Value) -> Option<Failure> {
    let leaf = &field.leaf;
    let found = flat.at(field.path);
    let absent = leaf.absent && found.is_empty();
    if absent || passing(leaf, found).next().is_some() {
        return None;
    }
    // With elements of arrays chosen, what is there elsewhere may count as absent: that is looked at for all fields together.
    if leaf.absent
        && found
            .iter()
            .any(|one| flat.members.of(one.member).is_some())
    {
        return None;
    }
    let scalars: Vec<&Scalar<'_>> = found.iter().map(|one| &one.scalar).collect();
    let raw = raw_values(event, &leaf.name);
    let reason = if scalars.is_empty() {
        reason_without_values(&raw).to_owned()
    } else {
        reason_of_values(&leaf.tests, &scalars, leaf.absent)
    };
    let mut expected: Vec<String> = leaf.tests.iter().map(Test::to_string).collect();
    if leaf.absent {
        expected.push("no value".to_owned());
    }
    let shown: Vec<Value> = match scalars.is_empty() {
        true => raw.into_iter().take(MAX_SHOWN).map(outline).collect(),
        false => scalars
            .iter()
            .take(MAX_SHOWN)
            .map(|one| one.to_json())
            .collect(),
    };
    Some(Failure {
        field: leaf.name.clone(),
        pointer: leaf.pointer.clone(),
        expected,
        found: shown,
        reason,
    })
}

fn reason_without_values(raw: &[&Value]) -> &'static str {
    match raw {
        [] => "there is no such field",
        [Value::Object(_), ..] => "it is an object, and tests are of values: name a field of it",
        _ => "it is a list without values",
    }
}

fn reason_of_values(tests: &[Test], scalars: &[&Scalar<'_>], absent: bool) -> String {
    if tests.is_empty() && absent {
        return "it must not be there".to_owned();
    }
    for scalar in scalars {
        for test in tests {
            if let Some(hint) = near_miss(test, scalar) {
                return hint;
            }
        }
    }
    match scalars {
        [_] => "the value does not pass".to_owned(),
        _ => format!("none of the {} values passes", scalars.len()),
    }
}

/// What a reader would otherwise look for a long time.
fn near_miss(test: &Test, scalar: &Scalar<'_>) -> Option<String> {
    let is_kind = |found: &str, wanted: &str| Some(format!("it is {found}, not {wanted}"));
    match (test, scalar) {
        (Test::Text(expected, _), Scalar::Text(text)) if fold(expected) == fold(text) => {
            Some("it differs in upper and lower case (`equals-ignore-case` would pass)".to_owned())
        }
        (Test::Text(expected, _), Scalar::Text(text)) if expected.trim() == text.trim() => {
            Some("it differs in white space at the ends".to_owned())
        }
        (Test::Number(number), Scalar::Text(text)) if number.to_string() == **text => {
            is_kind("a text", "a number")
        }
        (Test::Numeric(_), Scalar::Text(text)) if text.parse::<f64>().is_ok() => {
            is_kind("a text", "a number")
        }
        (Test::Text(expected, _), Scalar::Number(_, number)) if *expected == number.to_string() => {
            is_kind("a number", "a text")
        }
        (Test::Bool(value), Scalar::Text(text)) if value.to_string() == **text => {
            is_kind("a text", "true or false")
        }
        (Test::Text(expected, _), Scalar::Bool(value)) if *expected == value.to_string() => {
            is_kind("true or false", "a text")
        }
        (Test::AnythingBut(tests), scalar) => {
            let failed = tests.iter().find(|test| test.passes(scalar))?;
            Some(format!("it is {failed}"))
        }
        _ => None,
    }
}

fn not_together(way: &Way, flat: &Flat<'_>) -> Failure {
    let in_elements = |field: &&Field| {
        let mut found = flat.at(field.path).iter();
        found.any(|one| flat.members.of(one.member).is_some())
    };
    let fields: Vec<_> = way.iter().filter(in_elements).collect();
    let names: Vec<&str> = fields
        .iter()
        .map(|field| field.leaf.name.as_str())
        .collect();
    let shared = shared_steps(&names);
    Failure {
        pointer: fields
            .first()
            .map_or_else(String::new, |field| field.leaf.pointer.clone()),
        expected: vec![format!(
            "one element of the list that meets {} together",
            names.join(", ")
        )],
        found: Vec::new(),
        reason: "each is met, but not by the same element of the list".to_owned(),
        field: shared,
    }
}

/// The steps that all names begin with.
fn shared_steps(names: &[&str]) -> String {
    let Some((first, rest)) = names.split_first() else {
        return String::new();
    };
    let mut steps: Vec<&str> = first.split('.').collect();
    for name in rest {
        let same = steps
            .iter()
            .zip(name.split('.'))
            .take_while(|(one, other)| *one == other);
        let same = same.count();
        steps.truncate(same);
    }
    steps.join(".")
}

/// All values at a path, whatever they are.
fn raw_values<'e>(event: &'e Value, name: &str) -> Vec<&'e Value> {
    let (mut values, mut looking) = (Vec::new(), vec![(event, name)]);
    while let Some((value, name)) = looking.pop() {
        match value {
            Value::Object(fields) => {
                for (step, inner) in fields {
                    match name.strip_prefix(step.as_str()) {
                        Some("") => values.push(inner),
                        Some(rest) => {
                            looking.extend(rest.strip_prefix('.').map(|rest| (inner, rest)))
                        }
                        None => {}
                    }
                }
            }
            Value::Array(items) => looking.extend(items.iter().map(|item| (item, name))),
            _ => {}
        }
    }
    values
}

/// A value that is no scalar, without what is in it.
fn outline(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let names = fields.iter().take(MAX_SHOWN);
            let names = names.map(|(name, _)| (name.clone(), Value::from("…")));
            Value::Object(names.collect::<Map<_, _>>())
        }
        Value::Array(_) => json!([]),
        scalar => scalar.clone(),
    }
}
