//! Verdicts about two versions: known ones, and that no event that is made up refutes one.

use contract::{Contracts, Direction, Verdict, compare};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::folder::read;

fn versions(earlier: Value, later: Value) -> Contracts {
    read(&[("a.made/1.json", earlier), ("a.made/1.1.json", later)]).expect("reads")
}

fn verdict(earlier: &Value, later: &Value, direction: Direction) -> Verdict {
    let contracts = versions(earlier.clone(), later.clone());
    let versions: Vec<_> = contracts
        .versions("a.made")
        .expect("are there")
        .values()
        .collect();
    compare(versions[0], versions[1], direction)
}

/// Backward and forward: `+` shown, `-` refuted, `?` neither.
#[track_caller]
fn check(earlier: Value, later: Value, expected: &str) {
    let sign = |direction| match verdict(&earlier, &later, direction) {
        Verdict::Compatible => '+',
        Verdict::Incompatible { .. } => '-',
        Verdict::Undecided { .. } => '?',
    };
    let got: String = [sign(Direction::Backward), sign(Direction::Forward)]
        .iter()
        .collect();
    assert_eq!(got, expected, "{earlier} to {later}");
}

fn object(properties: Value, required: Value) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

#[test]
fn what_changes_between_versions() {
    let base = || object(json!({"id": {"type": "string"}}), json!(["id"]));
    check(base(), base(), "++");
    // A new optional property: events of before may have had anything there.
    check(
        base(),
        object(
            json!({"id": {"type": "string"}, "note": {"type": "string"}}),
            json!(["id"]),
        ),
        "-+",
    );
    let closed = |mut schema: Value| {
        schema["additionalProperties"] = json!(false);
        schema
    };
    let wider = || {
        object(
            json!({"id": {"type": "string"}, "note": {"type": "string"}}),
            json!(["id"]),
        )
    };
    check(closed(base()), closed(wider()), "+-");
    check(
        base(),
        object(
            json!({"id": {"type": "string"}, "n": {}}),
            json!(["id", "n"]),
        ),
        "-+",
    );
    check(
        base(),
        object(json!({"id": {"type": ["string", "null"]}}), json!(["id"])),
        "+-",
    );
    check(
        base(),
        object(json!({"id": {"type": "integer"}}), json!(["id"])),
        "--",
    );
    check(json!({"type": "integer"}), json!({"type": "number"}), "+-");
    check(
        json!({"enum": ["a", "b"]}),
        json!({"enum": ["a", "b", "c"]}),
        "+-",
    );
    check(json!({"enum": ["a", "b"]}), json!({"type": "string"}), "+-");
    check(
        json!({"type": "number", "minimum": 1}),
        json!({"type": "number", "minimum": 0}),
        "+-",
    );
    check(
        json!({"type": "string", "maxLength": 9}),
        json!({"type": "string", "maxLength": 10}),
        "+-",
    );
    check(
        json!({"type": "array", "items": {"type": "integer"}}),
        json!({"type": "array", "items": {"type": "number"}}),
        "+-",
    );
    check(
        json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
        json!({"type": ["null", "string"]}),
        "++",
    );
    check(
        json!({"type": "string", "pattern": "^a+$"}),
        json!({"type": "string"}),
        "+-",
    );
    check(
        json!({"allOf": [{"type": "string"}, {"minLength": 2}]}),
        json!({"type": "string", "minLength": 1}),
        "+-",
    );
    check(
        json!({"type": "integer", "multipleOf": 6}),
        json!({"type": "integer", "multipleOf": 3}),
        "+-",
    );
    // What cannot be compared is said to be so.
    check(
        json!({"type": "string", "pattern": "^[ab]$"}),
        json!({"type": "string", "pattern": "^(a|b)$"}),
        "??",
    );
}

#[test]
fn schemas_that_refer_to_themselves_are_compared() {
    let tree = |leaf: Value| {
        json!({
            "$ref": "#/$defs/node",
            "$defs": {"node": {
                "type": "object",
                "properties": {"value": leaf, "next": {"$ref": "#/$defs/node"}},
                "additionalProperties": false,
            }},
        })
    };
    check(
        tree(json!({"type": "integer"})),
        tree(json!({"type": "number"})),
        "+-",
    );
}

#[test]
fn a_witness_is_one() {
    let earlier = object(
        json!({"lines": {"type": "array", "items": object(json!({"sku": {"type": "string"}}), json!([]))}}),
        json!(["lines"]),
    );
    let later = object(
        json!({"lines": {"type": "array", "items": object(json!({"sku": {"type": "string"}}), json!(["sku"]))}}),
        json!(["lines"]),
    );
    let Verdict::Incompatible {
        witness,
        violations,
    } = verdict(&earlier, &later, Direction::Backward)
    else {
        panic!("a new required property breaks old events");
    };
    assert_eq!(witness, json!({"lines": [{}]}));
    assert_eq!(violations[0].pointer, "/lines/0");
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..4).prop_map(Value::from),
        Just(json!(0.5)),
        "[ab]{0,3}".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[ab]", inner), 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn schema() -> impl Strategy<Value = Value> {
    const KINDS: &[&str] = &[
        "null", "boolean", "object", "array", "number", "integer", "string",
    ];
    let kinds = prop::sample::subsequence(KINDS, 1..4);
    let leaf = prop_oneof![
        kinds.prop_map(|kinds| json!({"type": kinds})),
        prop::collection::vec(scalar(), 1..4).prop_map(|values| json!({"enum": values})),
        scalar().prop_map(|value| json!({"const": value})),
        (-2..4).prop_map(|n| json!({"type": "number", "minimum": n})),
        (-2..4).prop_map(|n| json!({"exclusiveMaximum": n})),
        (1..4).prop_map(|n| json!({"type": "integer", "multipleOf": n})),
        (0..3, 0..4).prop_map(
            |(least, most)| json!({"type": "string", "minLength": least, "maxLength": most})
        ),
        Just(json!({"pattern": "^a"})),
        any::<bool>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let list = || prop::collection::vec(inner.clone(), 1..3);
        let properties = prop::collection::vec(("[ab]", inner.clone()), 0..3);
        let required = prop::sample::subsequence(vec!["a", "b"], 0..=2);
        let additional = prop::option::of(inner.clone());
        let object = (properties, required, additional).prop_map(|(properties, required, additional)| {
            let properties: serde_json::Map<_, _> = properties.into_iter().collect();
            let mut schema = json!({"type": "object", "properties": properties, "required": required});
            if let Some(additional) = additional {
                schema["additionalProperties"] = additional;
            }
            schema
        });
        prop_oneof![
            3 => object,
            1 => (inner.clone(), 0..3).prop_map(|(items, least)| json!({"type": "array", "items": items, "minItems": least})),
            1 => list().prop_map(|cases| json!({"anyOf": cases})),
            1 => list().prop_map(|cases| json!({"oneOf": cases})),
            1 => list().prop_map(|parts| json!({"allOf": parts})),
            1 => inner.clone().prop_map(|not| json!({"not": not})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A verdict is shown or refuted for all events, so that no event made up says otherwise.
    #[test]
    fn no_event_refutes_a_verdict(
        earlier in schema(),
        later in schema(),
        related in any::<bool>(),
        events in prop::collection::vec(value(), 60),
    ) {
        let later = if related { json!({"anyOf": [earlier, later]}) } else { later };
        let contracts = versions(earlier, later);
        let both: Vec<_> = contracts.versions("a.made").expect("are there").values().collect();
        for direction in [Direction::Backward, Direction::Forward] {
            let (written, read) = match direction {
                Direction::Backward => (both[0], both[1]),
                Direction::Forward => (both[1], both[0]),
            };
            match compare(both[0], both[1], direction) {
                Verdict::Compatible => for event in &events {
                    prop_assert!(!written.allows(event) || read.allows(event), "{event} refutes {direction}");
                },
                Verdict::Incompatible { witness, .. } => {
                    prop_assert!(written.allows(&witness) && !read.allows(&witness));
                }
                Verdict::Undecided { .. } => {}
            }
        }
    }
}
