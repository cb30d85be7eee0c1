//! What holds for every pattern and every event, as functions that fuzz targets call (`cargo xtask fuzz`) and tests replay
//! the corpus with. Not for anything else: each panics when its law does not hold.

use serde_json::{Value, json};

use crate::{Index, Pattern};

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

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_patterns_keeps_the_law() {
        testkit::replay("patterns", super::patterns);
    }

    #[test]
    fn the_corpus_of_event_paths_keeps_the_law() {
        testkit::replay("event_paths", super::event_paths);
    }
}
