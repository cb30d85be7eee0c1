//! What patterns match, what they refuse, and the recorded cases of EventBridge where those are at hand.

use pattern::{MAX_TERMS, Pattern};
use proptest::prelude::*;
use serde_json::{Value, json};

fn check(pattern: Value, event: Value, expected: bool) {
    let compiled = Pattern::compile(&pattern).expect("a pattern");
    assert_eq!(compiled.matches(&event), expected, "{pattern} on {event}");
}

#[track_caller]
fn refused(pattern: Value, pointer: &str, reason: &str) {
    let error = Pattern::compile(&pattern).expect_err("not a pattern");
    assert_eq!(error.pointer, pointer, "{error}");
    assert!(error.reason.contains(reason), "{error}");
}

#[test]
fn the_design_example() {
    let pattern = json!({"type": ["order.created"], "data": {"total": [{"numeric": [">", 0]}]}});
    let event = |kind: &str, total: Value| json!({"type": kind, "data": {"total": total}});
    check(pattern.clone(), event("order.created", json!(0.5)), true);
    check(pattern.clone(), event("order.created", json!(0)), false);
    check(pattern.clone(), event("order.created", json!("7")), false);
    check(pattern, event("order.paid", json!(7)), false);
}

#[test]
fn one_element_of_an_array_meets_all_fields() {
    let pattern = json!({"data": {"items": {"sku": ["a"], "count": [{"numeric": [">=", 2]}]}}});
    check(
        pattern.clone(),
        json!({"data": {"items": [{"sku": "a", "count": 1}, {"sku": "b", "count": 9}]}}),
        false,
    );
    check(
        pattern,
        json!({"data": {"items": [{"sku": "b"}, {"sku": "a", "count": 2}]}}),
        true,
    );
}

#[test]
fn absence_is_of_the_whole_event() {
    let pattern = json!({"data": {"items": {"gift": [{"exists": false}]}}});
    check(
        pattern.clone(),
        json!({"data": {"items": [{"gift": true}, {}]}}),
        false,
    );
    check(pattern.clone(), json!({"data": {"items": [{}, {}]}}), true);
    check(pattern, json!({"type": "x"}), true);
}

#[test]
fn large_integers_stay_apart() {
    check(
        json!({"n": [9_007_199_254_740_993_u64]}),
        json!({"n": 9_007_199_254_740_992_u64}),
        false,
    );
    check(json!({"n": [200]}), json!({"n": 200.0}), true);
}

#[test]
fn mistakes_name_their_place() {
    refused(json!([]), "", "object of fields");
    refused(json!({}), "", "at least one field");
    refused(json!({"type": "a"}), "/type", "list of values");
    refused(
        json!({"a/b": {"c": [{"prefx": "x"}]}}),
        "/a~1b/c/0/prefx",
        "no test",
    );
    refused(
        json!({"a": [{"wildcard": "x*"}]}),
        "/a/0/wildcard",
        "not spoken",
    );
    refused(
        json!({"a": [{"numeric": [">", 5, "<", 5]}]}),
        "/a/0/numeric",
        "expected",
    );
    refused(
        json!({"a": [{"anything-but": ["x", 1]}]}),
        "/a/0/anything-but",
        "list of texts",
    );
    refused(json!({"$or": [{"a": [1]}]}), "/$or", "at least two");
}

#[test]
fn size_and_depth_are_bounded() {
    let deep = (0..100).fold(json!([1]), |inner, _| json!({"a": inner}));
    let error = Pattern::compile(&deep).expect_err("too deep");
    assert!(error.reason.contains("levels deep"), "{error}");
    refused(
        json!({"a": vec![1; MAX_TERMS]}),
        &format!("/a/{}", MAX_TERMS - 1),
        "terms",
    );
    refused(json!({"a": ["x".repeat(70_000)]}), "/a/0", "bytes");
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = prop_oneof![
        Just("a"),
        Just("prefix"),
        Just("exists"),
        Just("anything-but"),
        Just("numeric"),
        Just("$or"),
        Just(">"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((words.clone(), inner), 0..4)
                .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_panics(pattern in any_json(), event in any_json()) {
        if let Ok(compiled) = Pattern::compile(&pattern) {
            let first = compiled.matches(&event);
            prop_assert_eq!(first, compiled.matches(&event));
        }
    }

    #[test]
    fn a_value_and_anything_but_it_share_no_scalar(value in "[a-c]{0,2}", event in "[a-c]{0,2}") {
        let exact = Pattern::compile(&json!({"f": [value]})).expect("a pattern");
        let but = Pattern::compile(&json!({"f": [{"anything-but": value}]})).expect("a pattern");
        let event = json!({"f": event});
        prop_assert!(exact.matches(&event) != but.matches(&event));
    }
}

/// The recorded cases: not part of this repository.
fn material() -> Option<Value> {
    let file = testkit::material()?.join("conformance/event-patterns.json");
    let text = std::fs::read_to_string(file).ok()?;
    Some(serde_json::from_str(&text).expect("the material is JSON"))
}

fn verdict(case: &Value) -> Option<&'static str> {
    let parse = |name: &str| serde_json::from_str::<Value>(case[name].as_str()?).ok();
    let (Some(pattern), Some(event)) = (parse("pattern"), parse("event")) else {
        return Some("error");
    };
    match Pattern::compile(&pattern) {
        Err(error) if error.reason.contains("not spoken") => None,
        Err(_) => Some("error"),
        Ok(_) if !event.is_object() => Some("error"),
        Ok(compiled) => Some(if compiled.matches(&event) {
            "match"
        } else {
            "nomatch"
        }),
    }
}

/// A key of the event that holds a dot stands for nesting on AWS: comes with the whole language.
const KNOWN_DIFFERENCES: &[&str] = &["aws/dot_joining_event"];

fn known(case: &Value) -> bool {
    KNOWN_DIFFERENCES.iter().any(|id| case["id"] == *id)
}

#[test]
fn recorded_cases_agree() {
    let Some(material) = material() else {
        eprintln!("skipped: no conformance/event-patterns.json under TANGELO_MATERIAL");
        return;
    };
    let cases = material["cases"].as_array().expect("a list of cases");
    let judged: Vec<_> = cases
        .iter()
        .filter_map(|case| Some((case, verdict(case)?)))
        .collect();
    let wrong: Vec<_> = judged
        .iter()
        .filter(|(case, got)| (case["expected"] != *got) != known(case))
        .map(|(case, got)| {
            format!(
                "{}: expected {}, got {got}\n  {}\n  {}",
                case["id"], case["expected"], case["pattern"], case["event"]
            )
        })
        .collect();
    eprintln!(
        "{} of {} recorded cases are of kinds spoken",
        judged.len(),
        cases.len()
    );
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(judged.len() > 350, "only {} cases judged", judged.len());
}
