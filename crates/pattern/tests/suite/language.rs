//! What patterns match and what they refuse.

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
fn a_dot_in_a_name_is_a_step() {
    let pattern = json!({"detail": {"state": {"status": ["running"]}}});
    check(
        pattern.clone(),
        json!({"detail": {"state.status": "running"}}),
        true,
    );
    check(
        pattern,
        json!({"detail.state": {"status": "running"}}),
        true,
    );
    check(json!({"a.b": [1]}), json!({"a": {"b": 1}}), true);
    check(json!({"": [1]}), json!({"": 1}), true);
}

#[test]
fn absence_is_of_the_elements_that_were_chosen_before() {
    let pattern = json!({"items": {"a": [1], "gift": [{"exists": false}]}});
    check(
        pattern.clone(),
        json!({"items": [{"a": 1}, {"gift": true}]}),
        true,
    );
    check(pattern, json!({"items": [{"a": 1, "gift": true}]}), false);
    // As event-ruler: fields are gone through by name, and nothing is chosen before the first.
    let pattern = json!({"items": {"a": [{"exists": false}], "gift": [true]}});
    check(pattern, json!({"items": [{"a": 1}, {"gift": true}]}), false);
}

#[test]
fn a_later_field_of_the_same_name_stands() {
    let pattern = json!({"a": [1], "$or": [{"a": [2]}, {"b": [3]}]});
    check(pattern.clone(), json!({"a": 2}), true);
    check(pattern.clone(), json!({"a": 1}), false);
    check(pattern, json!({"a": 1, "b": 3}), true);
}

#[test]
fn addresses_are_compared_as_addresses() {
    check(
        json!({"ip": ["2001:db8::1"]}),
        json!({"ip": "2001:0DB8:0:0::1"}),
        true,
    );
    check(
        json!({"ip": ["10.0.0.1"]}),
        json!({"ip": "010.0.0.1"}),
        true,
    );
    check(
        json!({"ip": [{"anything-but": "10.0.0.1"}]}),
        json!({"ip": "010.0.0.1"}),
        true,
    );
    check(
        json!({"ip": [{"cidr": "10.0.0.0/24"}]}),
        json!({"ip": ["x", "10.0.0.255"]}),
        true,
    );
}

#[test]
fn texts_of_json_are_read_as_on_aws() {
    let matches =
        |pattern: &str, event: Value| Pattern::parse(pattern).expect("a pattern").matches(&event);
    assert!(matches(r#"{"a": [1], "a": [2]}"#, json!({"a": 2})));
    let refused = |pattern: &str| Pattern::parse(pattern).expect_err("no pattern").reason;
    assert!(refused(r#"{"a": [1e-400]}"#).contains("too small"));
    assert!(refused(r#"{"a": [1e400]}"#).contains("out of range"));
    assert!(refused("{").contains("JSON"));
}

/// An array of many elements costs what it holds, not what its elements multiply to; names with dots, which make several
/// arrays of one path, cost what the limit of choices allows.
#[test]
fn many_elements_are_gone_through_once() {
    let fields: serde_json::Map<_, _> = ('a'..='j').map(|c| (c.to_string(), json!([1]))).collect();
    let pattern = json!({"items": {"deep": fields}});
    let element =
        |n: usize| json!({"deep": {"a": 1, (char::from(b'b' + (n % 9) as u8).to_string()): 1}});
    let items: Vec<Value> = (0..3_000).map(element).collect();
    check(pattern, json!({"items": items}), false);
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
        json!({"a": [{"wildcard": "x**"}]}),
        "/a/0/wildcard",
        "not `**`",
    );
    refused(
        json!({"a": [{"anything-but": {"wildcard": ["x", 1]}}]}),
        "/a/0/anything-but/wildcard",
        "expected a text",
    );
    refused(
        json!({"a": [{"cidr": "10.0.0.0/33"}]}),
        "/a/0/cidr",
        "0 to 32 bits",
    );
    refused(
        json!({"$or": [{"prefix": ["x"]}, {"b": [1]}]}),
        "/$or/0/prefix",
        "may be named",
    );
    refused(
        json!({"a": [{"numeric": [">", 5, "<", 5]}]}),
        "/a/0/numeric",
        "less than",
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
    let or = |n: usize| json!([{"a": [n]}, {"b": [n]}, {"c": [n]}, {"d": [n]}]);
    let ors = (0..6)
        .map(|n| (format!("f{n}"), json!({"$or": or(n)})))
        .collect();
    refused(Value::Object(ors), "/f4/$or", "more than 1000 ways");
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
