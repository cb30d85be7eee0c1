//! Explanations name every field that fails, what was found and what was expected.

use pattern::Pattern;
use serde_json::{Value, json};

/// Lines of `field: reason (expected; found)` of the nearest way.
fn explained(pattern: Value, event: Value) -> Vec<String> {
    let explained = Pattern::compile(&pattern)
        .expect("a pattern")
        .explain(&event);
    assert_eq!(explained.matches, explained.ways.is_empty());
    let nearest = explained.ways.into_iter().next().unwrap_or_default();
    nearest
        .into_iter()
        .map(|failure| {
            format!(
                "{} {}: {} ({}; {})",
                failure.field,
                failure.pointer,
                failure.reason,
                failure.expected.join(" | "),
                Value::from(failure.found)
            )
        })
        .collect()
}

#[test]
fn all_failing_fields_are_named() {
    let pattern = json!({
        "type": ["order.created"],
        "data": {"total": [{"numeric": [">", 0, "<=", 5]}], "kind": ["a", {"prefix": "b"}], "gone": [1], "ok": [1]},
    });
    let event =
        json!({"type": "Order.Created", "data": {"total": 6, "kind": ["x", "y"], "ok": 1.0}});
    let expected = [
        "data.gone /data/gone: there is no such field (1; [])",
        r#"data.kind /data/kind: none of the 2 values passes ("a" | a text that begins with "b"; ["x","y"])"#,
        "data.total /data/total: the value does not pass (a number > 0 <= 5; [6])",
        r#"type /type: it differs in upper and lower case (`equals-ignore-case` would pass) ("order.created"; ["Order.Created"])"#,
    ];
    assert_eq!(explained(pattern, event), expected);
}

#[test]
fn near_misses_are_named() {
    let check = |test: Value, value: Value, expected: &str| {
        let lines = explained(json!({"a": [test]}), json!({"a": value}));
        assert!(lines.len() == 1 && lines[0].contains(expected), "{lines:?}");
    };
    check(json!(5), json!("5"), "it is a text, not a number");
    check(json!("5"), json!(5), "it is a number, not a text");
    check(
        json!({"numeric": [">", 1]}),
        json!("2"),
        "it is a text, not a number",
    );
    check(
        json!(true),
        json!("true"),
        "it is a text, not true or false",
    );
    check(json!("x"), json!("x "), "white space");
    check(
        json!({"anything-but": {"prefix": "x"}}),
        json!("xy"),
        r#"it is a text that begins with "x""#,
    );
    check(json!({"exists": false}), json!(1), "it must not be there");
    check(json!("x"), json!({"b": 1}), "it is an object");
    check(json!("x"), json!([]), "a list without values");
}

#[test]
fn elements_that_do_not_go_together() {
    let pattern = json!({"data": {"items": {"sku": ["a"], "count": [2]}}});
    let event = json!({"data": {"items": [{"sku": "a", "count": 1}, {"sku": "b", "count": 2}]}});
    let lines = explained(pattern, event);
    assert_eq!(
        lines,
        [
            "data.items /data/items/count: each is met, but not by the same element of the list \
          (one element of the list that meets data.items.count, data.items.sku together; [])"
        ]
    );
}

#[test]
fn the_nearest_way_comes_first() {
    let pattern = json!({"$or": [{"a": [1], "b": [1]}, {"c": [{"exists": true}]}], "d": [1]});
    let pattern = Pattern::compile(&pattern).expect("a pattern");
    let explained = pattern.explain(&json!({"d": 1}));
    let fields = |at: usize| {
        explained.ways[at]
            .iter()
            .map(|failure| failure.field.as_str())
    };
    assert!(fields(0).eq(["c"]) && fields(1).eq(["a", "b"]));
    assert_eq!(explained.to_json()["ways"][0][0]["pointer"], "/$or/1/c");
    assert_eq!(explained.ways_in_all, 2);
    assert!(!pattern.explain(&json!([1])).matches);
}
