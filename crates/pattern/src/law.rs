//! What holds for every pattern and every event, as functions that fuzz targets call (`cargo xtask fuzz`) and tests replay
//! the corpus with. Not for anything else: each panics when its law does not hold.

use std::borrow::Cow;

use model::{Event, InputSpec};
use serde_json::{Value, json};

use crate::{
    Facts, Index, Input, Pattern,
    path::{MAX_PATH, Path},
};

/// Of a JSON list, the first item as a pattern and the others as events: a refusal points into the pattern; the index finds
/// what the pattern alone finds; an explanation explains exactly what does not match; and a pattern that went leaves
/// nothing behind.
///
/// # Panics
/// When it does not hold.
pub fn patterns(bytes: &[u8]) {
    let Ok(Value::Array(items)) = serde_json::from_slice(bytes) else {
        return;
    };
    let Some((pattern, events)) = items.split_first() else {
        return;
    };
    let compiled = match Pattern::compile(pattern) {
        Ok(compiled) => compiled,
        Err(error) => {
            assert!(pattern.pointer(&error.pointer).is_some(), "{error}");
            return;
        }
    };
    let mut index = Index::default();
    let other = Pattern::compile(&json!({"a": [{"prefix": ""}], "b": [{"exists": false}]}));
    index.insert(1, &other.expect("is a pattern"));
    index.insert(2, &compiled);
    for event in events {
        let matches = compiled.matches(event);
        assert_eq!(index.matches_json(event).contains(&2), matches);
        let explained = compiled.explain(event);
        assert_eq!(explained.matches, matches);
        assert_eq!(explained.ways.is_empty(), matches);
        assert!(explained.ways.iter().all(|failures| !failures.is_empty()));
    }
    assert!(index.remove(&2) && index.remove(&1) && index.is_empty());
    assert!(index.has_nothing(), "{index:?}");
}

/// Of any event: a pattern made of a scalar's path and value matches it, also where names hold dots, and one that asks for
/// nothing at that path does not.
///
/// # Panics
/// When it does not hold.
pub fn event_paths(bytes: &[u8]) {
    let Ok(event) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let mut looking = vec![(Vec::new(), &event)];
    let mut looks = 0;
    while let Some((path, value)) = looking.pop() {
        match value {
            Value::Object(fields) => looking.extend(fields.iter().map(|(name, value)| {
                let mut path = path.clone();
                path.push(name.as_str());
                (path, value)
            })),
            Value::Array(items) => looking.extend(items.iter().map(|item| (path.clone(), item))),
            scalar if event.is_object() && looks < 50 => {
                looks += 1;
                let flat = path.join(".");
                for (field, nested) in [(vec![flat.as_str()], false), (path, true)] {
                    let around = |inner: Value| {
                        let steps = field.iter().rev();
                        steps.fold(inner, |inner, step| json!({ (*step): inner }))
                    };
                    // `$or` is no field, and too much is refused.
                    let exact = Pattern::compile(&around(json!([scalar])));
                    let absent = Pattern::compile(&around(json!([{"exists": false}])));
                    if let (Ok(exact), Ok(absent)) = (exact, absent) {
                        assert!(exact.matches(&event), "{field:?} {nested}");
                        assert!(!absent.matches(&event), "{field:?} {nested}");
                    }
                }
            }
            _ => {}
        }
    }
}

/// Of a JSON list, the first item as what a subscription hands over and the others as events: a constant is handed over as it is;
/// a path finds what a plainer reading of it finds, in an event as in its JSON; a JSON template gives JSON whatever the event
/// says; and every value of an event is found by the path that its names and indices are.
///
/// # Panics
/// When it does not hold.
pub fn inputs(bytes: &[u8]) {
    const MOST: usize = 64 << 10;
    let Ok(Value::Array(items)) = serde_json::from_slice(bytes) else {
        return;
    };
    let Some((spec, events)) = items.split_first() else {
        return;
    };
    events.iter().for_each(found_by_their_names);
    let Ok(spec) = serde_json::from_value::<InputSpec>(spec.clone()) else {
        return;
    };
    let input = match Input::compile(&spec) {
        Ok(input) => input,
        Err(reason) => return assert!(!reason.is_empty()),
    };
    for event in events {
        let facts = Facts {
            event,
            payload: "data",
            rule_name: "r",
            rule_arn: "a/\"r\"",
            ingestion_time: "2026-01-02T03:04:05Z",
        };
        // Small enough that some is too large: it never holds more than that.
        let Ok(handed) = input.apply(&facts, MOST) else {
            continue;
        };
        assert!(handed.len() <= MOST);
        let read = || serde_json::from_str::<Value>(&handed);
        match (&spec, &input) {
            (InputSpec::Template { template, .. }, _) => {
                let json = template.trim_start().starts_with(['{', '[']);
                assert!(!json || read().is_ok(), "{template} gave {handed}");
                assert!(template.contains('<') || *template == handed);
            }
            (InputSpec::Constant(value), _) => assert_eq!(read().ok().as_ref(), Some(value)),
            (InputSpec::Path(text), Input::Path(path)) => {
                let plainly = path.find_plainly(event);
                assert_eq!(path.find(event).map(Cow::into_owned), plainly, "{text}");
                assert_eq!(read().ok(), plainly.or_else(|| Some(json!({}))), "{text}");
                if let Ok(event) = Event::from_json(event.clone()) {
                    let found = path.find_in_event(&event).map(Cow::into_owned);
                    assert_eq!(found, path.find_plainly(&event.to_json()), "{text}");
                }
            }
            (InputSpec::Path(text), _) => panic!("{text} is a path"),
        }
    }
}

fn found_by_their_names(event: &Value) {
    let mut looking = vec![("$".to_owned(), event)];
    let mut looks = 0;
    while let Some((path, value)) = looking.pop() {
        looks += 1;
        if looks > 100 {
            return;
        }
        let read = Path::parse(&path).unwrap_or_else(|error| panic!("{path} {error}"));
        assert_eq!(read.find(event).as_deref(), Some(value), "{path}");
        let below: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields
                .iter()
                .filter_map(|(name, value)| Some((format!("{path}[{}]", quoted(name)?), value)))
                .collect(),
            Value::Array(items) => (0..)
                .zip(items)
                .map(|(at, value): (usize, _)| (format!("{path}[{at}]"), value))
                .collect(),
            _ => Vec::new(),
        };
        looking.extend(below.into_iter().filter(|(path, _)| path.len() <= MAX_PATH));
    }
}

/// A name in the quotes that are not in it; without any, and for one with both, there is no path.
fn quoted(name: &str) -> Option<String> {
    let quote = ['\'', '"']
        .into_iter()
        .find(|quote| !name.contains(*quote))?;
    (!name.is_empty()).then(|| format!("{quote}{name}{quote}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_inputs_keeps_the_law() {
        testkit::replay("inputs", super::inputs);
    }

    #[test]
    fn the_corpus_of_patterns_keeps_the_law() {
        testkit::replay("patterns", super::patterns);
    }

    #[test]
    fn the_corpus_of_event_paths_keeps_the_law() {
        testkit::replay("event_paths", super::event_paths);
    }
}
