//! Patterns and events that are made up, of few names and values, so that they often nearly match.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-c]",
        1 => Just("a.b".to_owned()),
        1 => Just(String::new()),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[aAbB]{0,3}",
        2 => "[ab]{3,8}",
        1 => Just("10.0.0.1".to_owned()),
        1 => Just("10.0.0.2".to_owned()),
        1 => Just("10.1.0.1".to_owned()),
        1 => Just("2001:db8::1".to_owned()),
        1 => Just("2001:0db8:0::1".to_owned()),
        1 => Just("1".to_owned()),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    const TEXTS: &[&str] = &[
        "-1", "0", "-0.0", "0.5", "1", "1.0", "1e0", "2", "2.5", "3", "300", "3e2",
    ];
    prop::sample::select(TEXTS).prop_map(|text| serde_json::from_str(text).expect("a number"))
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        5 => text().prop_map(Value::from),
        3 => number(),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn wildcard() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec("[ab]{0,3}", 1..4);
    pieces.prop_map(|pieces| {
        let mut text = String::new();
        for (at, piece) in pieces.iter().enumerate() {
            if at > 0 && !text.ends_with('*') {
                text.push('*');
            }
            text.push_str(piece);
        }
        text
    })
}

fn numeric() -> impl Strategy<Value = Value> {
    let one = (
        prop::sample::select(&["=", "<", "<=", ">", ">="][..]),
        number(),
    );
    let two = (number(), number(), any::<(bool, bool)>()).prop_filter_map(
        "a range is not empty",
        |(one, other, (low, high))| {
            let (low, high) = (if low { ">" } else { ">=" }, if high { "<" } else { "<=" });
            let less = one.as_f64()? < other.as_f64()?;
            less.then(|| json!([low, one, high, other]))
        },
    );
    prop_oneof![one.prop_map(|(op, number)| json!([op, number])), two]
}

fn anything_but() -> impl Strategy<Value = Value> {
    let texts = || prop::collection::vec(text(), 1..4);
    let some_text = || "[aAbB]{1,3}";
    prop_oneof![
        text().prop_map(Value::from),
        number(),
        texts().prop_map(Value::from),
        prop::collection::vec(number(), 1..4).prop_map(Value::from),
        some_text().prop_map(|text| json!({"prefix": text})),
        prop::collection::vec(some_text(), 1..3).prop_map(|texts| json!({"suffix": texts})),
        texts().prop_map(|texts| json!({"equals-ignore-case": texts})),
        wildcard().prop_map(|text| json!({"wildcard": text})),
    ]
}

fn test() -> impl Strategy<Value = Value> {
    const RANGES: &[&str] = &[
        "10.0.0.0/8",
        "10.0.0.0/31",
        "10.0.0.1/32",
        "0.0.0.0/0",
        "2001:db8::/32",
        "::/0",
    ];
    prop_oneof![
        5 => scalar(),
        1 => text().prop_map(|text| json!({"exactly": text})),
        1 => text().prop_map(|text| json!({"prefix": text})),
        1 => text().prop_map(|text| json!({"suffix": text})),
        1 => text().prop_map(|text| json!({"prefix": {"equals-ignore-case": text}})),
        1 => text().prop_map(|text| json!({"suffix": {"equals-ignore-case": text}})),
        1 => text().prop_map(|text| json!({"equals-ignore-case": text})),
        2 => wildcard().prop_map(|text| json!({"wildcard": text})),
        2 => numeric().prop_map(|list| json!({"numeric": list})),
        1 => prop::sample::select(RANGES).prop_map(|range| json!({"cidr": range})),
        2 => any::<bool>().prop_map(|exists| json!({"exists": exists})),
        2 => anything_but().prop_map(|but| json!({"anything-but": but})),
    ]
}

/// Patterns that compile.
pub(crate) fn pattern() -> impl Strategy<Value = Value> {
    let leaf = prop::collection::vec(test(), 1..4).prop_map(Value::from);
    let field = leaf.prop_recursive(3, 24, 4, |inner| {
        let plain = prop::collection::vec((name(), inner.clone()), 1..4);
        let way = prop::collection::vec((name(), inner), 1..3);
        let ways = prop::collection::vec(way, 2..4);
        let ways = prop::option::weighted(0.3, ways);
        (plain, ways, any::<bool>()).prop_map(|(plain, ways, before)| {
            let object = |fields: Vec<(String, Value)>| fields.into_iter().collect::<Map<_, _>>();
            let ways = ways.map(|ways| ways.into_iter().map(object).collect::<Vec<_>>());
            let or = ways.map(|ways| ("$or".to_owned(), json!(ways)));
            let mut fields = plain;
            if let Some(or) = or {
                fields.insert(if before { 0 } else { fields.len() }, or);
            }
            Value::Object(object(fields))
        })
    });
    field.prop_filter("the top is an object", Value::is_object)
}

/// Events with values, lists and lists of objects.
pub(crate) fn event() -> impl Strategy<Value = Value> {
    let inner = scalar().prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object(inner.clone()),
            prop::collection::vec(object(inner), 1..4).prop_map(Value::from),
        ]
    });
    object(inner)
}

fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::vec((name(), inner), 0..4)
        .prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into())
}
