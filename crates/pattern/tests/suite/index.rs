//! The index agrees with a naive matcher, whatever comes and goes.

use std::collections::BTreeMap;

use model::Event;
use pattern::{Index, Pattern};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{generate, naive};

fn compile(pattern: &Value) -> Pattern {
    Pattern::compile(pattern).unwrap_or_else(|error| panic!("{error}: {pattern}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn one_pattern_agrees(pattern in generate::pattern(), event in generate::event()) {
        let compiled = compile(&pattern);
        let expected = naive::matches(&pattern, &event);
        prop_assert_eq!(compiled.matches(&event), expected, "{} on {}", pattern, event);
        let explained = compiled.explain(&event);
        prop_assert_eq!(explained.matches, expected);
        prop_assert_eq!(explained.ways.iter().all(|way| !way.is_empty()), true);
        prop_assert_eq!(explained.ways.is_empty(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Keys are few, so that most changes replace or remove.
    #[test]
    fn many_patterns_agree(
        changes in prop::collection::vec((0..60_u32, prop::option::weighted(0.7, generate::pattern())), 1..150),
        events in prop::collection::vec(generate::event(), 1..6),
    ) {
        let (mut index, mut kept) = (Index::default(), BTreeMap::new());
        for (key, pattern) in changes {
            match pattern {
                Some(pattern) => {
                    index.insert(key, &compile(&pattern));
                    kept.insert(key, pattern);
                }
                None => prop_assert_eq!(index.remove(&key), kept.remove(&key).is_some()),
            }
        }
        for _ in 0..2 {
            for event in &events {
                let matches = |(_, pattern): &(&u32, &Value)| naive::matches(pattern, event);
                let expected: Vec<u32> = kept.iter().filter(matches).map(|(key, _)| *key).collect();
                prop_assert_eq!(index.matches_json(event), expected, "{} on {:?}", event, kept);
            }
            // And after some went, in another order than they came.
            for key in (0..60).rev().step_by(2) {
                prop_assert_eq!(index.remove(&key), kept.remove(&key).is_some());
            }
        }
        for key in kept.into_keys() {
            index.remove(&key);
        }
        prop_assert!(index.is_empty());
    }
}

fn event(kind: &str, data: Value) -> Event {
    let event =
        json!({"specversion": "1.0", "id": "1", "source": "/s", "type": kind, "data": data});
    Event::from_json(event).expect("is one")
}

#[test]
fn an_event_is_seen_as_its_json() {
    let mut event = event("order.paid", json!({"a": [{"b": 1}]}));
    event.time = Some(model::Time::parse_rfc3339("2026-01-02T03:04:05Z").expect("is one"));
    event.subject = Some("o-1".to_owned());
    event.extensions.insert("region".to_owned(), json!("eu"));
    let view = event.to_json();
    let check = |filter: Value, expected: bool| {
        let compiled = compile(&filter);
        assert_eq!(compiled.matches_event(&event), expected, "{filter}");
        assert_eq!(compiled.matches(&view), expected, "{filter}");
        let mut index = Index::default();
        index.insert(7, &compiled);
        assert_eq!(
            index.matches(&event).len(),
            usize::from(expected),
            "{filter}"
        );
    };
    check(
        json!({"type": ["order.paid"], "subject": ["o-1"], "specversion": ["1.0"]}),
        true,
    );
    check(json!({"time": [{"prefix": "2026-01-02T03:04:05"}]}), true);
    check(json!({"region": ["eu"], "data": {"a": {"b": [1]}}}), true);
    check(
        json!({"dataschema": [{"exists": false}], "data_base64": [{"exists": false}]}),
        true,
    );
    check(json!({"datacontenttype": [{"exists": true}]}), false);
    event.data = model::event::EventData::Binary(vec![0, 1]);
    let filter = compile(&json!({"data_base64": ["AAE="]}));
    assert!(filter.matches_event(&event));
}

/// What each event costs: how many patterns are looked at closely.
#[track_caller]
fn candidates(patterns: impl Iterator<Item = Value>, kind: &str, data: Value) -> (usize, usize) {
    let mut index = Index::default();
    for (key, pattern) in patterns.enumerate() {
        index.insert(key, &compile(&pattern));
    }
    let event = event(kind, data);
    (index.candidates(&event), index.matches(&event).len())
}

#[test]
fn what_does_not_match_is_hardly_looked_at() {
    let of_customers = (0..5_000).map(|n| {
        json!({"type": ["order.created"], "data": {"customer": [format!("c{n}")], "live": [true]}})
    });
    let data = json!({"customer": "c17", "live": true, "total": 5, "path": "/a/b/c"});
    let (looked_at, matched) = candidates(of_customers, "order.created", data.clone());
    assert_eq!(matched, 1);
    assert!(looked_at <= 20, "{looked_at}");
    // No field alone tells them apart.
    let of_pairs = (0..5_000).map(|n| {
        json!({"type": [format!("t{}", n % 71)], "data": {"customer": [format!("c{}", n / 71)]}})
    });
    let (looked_at, matched) = candidates(of_pairs, "t3", data.clone());
    assert_eq!(matched, 1);
    assert!(looked_at <= 20, "{looked_at}");
    let ranges =
        (0..5_000).map(|n| json!({"data": {"total": [{"numeric": [">=", n, "<", n + 1]}]}}));
    assert_eq!(candidates(ranges, "x", data.clone()), (1, 1));
    let texts = (0..5_000).map(|n| match n % 3 {
        0 => json!({"data": {"path": [{"prefix": format!("/a/{n}")}]}}),
        1 => json!({"data": {"path": [{"wildcard": format!("*b{n}*")}]}}),
        _ => json!({"data": {"path": [{"suffix": {"equals-ignore-case": format!("{n}/C")}}]}}),
    });
    assert_eq!(candidates(texts, "x", data), (0, 0));
}

/// Nine fields have two alternatives each, so that there are 512 ways, none of which is met in the end.
#[test]
fn what_the_ways_of_a_pattern_share_is_looked_at_once() {
    let text = "a".repeat(1_000_000) + "b";
    let (one, other) = (json!([{"wildcard": "*b*"}]), json!([{"wildcard": "*ab*"}]));
    let never = json!([{"wildcard": "*q*"}]);
    let (mut event, mut all, mut either) =
        (json!({"z": text}), json!({"z": never}), json!({"z": never}));
    for n in 0..9 {
        let name = format!("f{n}");
        event[&name] = json!({"one": text, "other": text});
        all[&name] = json!({"one": one, "other": other});
        either[&name] = json!({"$or": [{"one": one}, {"other": other}]});
    }
    let clock = model::Clock::system();
    let timed = |pattern: &Value| {
        let pattern = compile(pattern);
        let begun = clock.monotonic();
        assert!(!pattern.matches(&event));
        clock.monotonic() - begun
    };
    let (once, ways) = (timed(&all), timed(&either));
    assert!(
        ways < once * 20,
        "{ways:?} for 512 ways, {once:?} for one of all fields"
    );
}
