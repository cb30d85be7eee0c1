//! Verdicts about two versions: known ones, and that no event refutes one, made for either version or made up.

use contract::{Contracts, Direction, Verdict, compare};
use model::Ids;
use proptest::{prelude::*, strategy::ValueTree as _};
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

/// Random numbers of a seed.
struct Dice(Ids);

impl Dice {
    /// Below `sides`.
    fn roll(&self, sides: u64) -> u64 {
        u64::try_from(self.0.random() % u128::from(sides)).expect("is below")
    }

    fn of<'a, T>(&self, list: &'a [T]) -> Option<&'a T> {
        let at = self.roll(list.len().max(1) as u64);
        list.get(usize::try_from(at).ok()?)
    }
}

/// A value as a schema of [`schema`] asks for it, more often than not: near its bounds, of one of its cases and types.
fn made_for(schema: &Value, dice: &Dice) -> Value {
    let list = |name: &str| schema[name].as_array().map(Vec::as_slice);
    if let Some(fixed) = schema.get("const") {
        return fixed.clone();
    }
    if let Some(values) = list("enum") {
        return dice.of(values).cloned().unwrap_or_default();
    }
    if let Some(cases) = ["anyOf", "oneOf", "allOf"].into_iter().find_map(list) {
        let case = dice.of(cases).cloned().unwrap_or_default();
        return made_for(&case, dice);
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        Value::Null if schema["exclusiveMaximum"].is_number() => vec![json!("number")],
        Value::Null if schema["pattern"].is_string() => vec![json!("string")],
        Value::Null => ["null", "boolean", "integer", "string"]
            .map(Value::from)
            .into(),
        kind => vec![kind.clone()],
    };
    let kind = dice.of(&kinds).and_then(Value::as_str).unwrap_or_default();
    scalar_for(kind, schema, dice).unwrap_or_else(|| compound_for(kind, schema, dice))
}

fn scalar_for(kind: &str, schema: &Value, dice: &Dice) -> Option<Value> {
    let number = |name: &str| schema[name].as_i64();
    let some = dice.roll(3).cast_signed();
    Some(match kind {
        "null" => Value::Null,
        "boolean" => json!(some == 0),
        "integer" | "number" => match (number("minimum"), number("exclusiveMaximum")) {
            (Some(least), _) => json!(least + some),
            (None, Some(beyond)) => json!(beyond - 1 - some),
            (None, None) if kind == "number" && some == 0 => json!(0.5),
            (None, None) => json!(some * number("multipleOf").unwrap_or(1)),
        },
        "string" => {
            let least = schema["minLength"].as_u64().unwrap_or(0);
            let most = schema["maxLength"].as_u64().unwrap_or(least + 2).max(least);
            let length = least + dice.roll(most - least + 1);
            let first = if schema["pattern"].is_string() {
                "a"
            } else {
                ""
            };
            let rest = (0..length).map(|_| if dice.roll(2) == 0 { 'a' } else { 'b' });
            json!(format!("{first}{}", rest.collect::<String>()))
        }
        _ => return None,
    })
}

fn compound_for(kind: &str, schema: &Value, dice: &Dice) -> Value {
    if kind == "array" {
        let least = schema["minItems"].as_u64().unwrap_or(0);
        let count = least + dice.roll(2);
        return (0..count)
            .map(|_| made_for(&schema["items"], dice))
            .collect();
    }
    let is_required = |name: &str| {
        schema["required"]
            .as_array()
            .is_some_and(|all| all.contains(&json!(name)))
    };
    let mut fields = serde_json::Map::new();
    for name in ["a", "b"] {
        if is_required(name) || dice.roll(2) == 0 {
            let of = schema["properties"].get(name);
            let of = of.unwrap_or_else(|| &schema["additionalProperties"]);
            fields.insert(name.to_owned(), made_for(of, dice));
        }
    }
    Value::Object(fields)
}

/// The events made for a schema would show nothing if it refused them.
#[test]
fn events_made_for_a_schema_are_mostly_allowed() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut allowed, mut all) = (0, 0);
    for seed in 0..300 {
        let schema = schema().new_tree(&mut runner).expect("makes one").current();
        let contracts = versions(schema.clone(), json!(true));
        let first = contracts
            .versions("a.made")
            .expect("is there")
            .values()
            .next();
        let event = made_for(&schema, &Dice(Ids::seeded(seed)));
        allowed += u32::from(first.expect("is there").allows(&event));
        all += 1;
    }
    assert!(allowed * 10 >= all * 6, "{allowed} of {all}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A verdict is shown or refuted for all events, so that no event made up says otherwise.
    #[test]
    fn no_event_refutes_a_verdict(
        earlier in schema(),
        later in schema(),
        related in any::<bool>(),
        others in prop::collection::vec(value(), 30),
        seed in any::<u64>(),
    ) {
        let later = if related { json!({"anyOf": [earlier, later]}) } else { later };
        let dice = Dice(Ids::seeded(seed));
        let of_both = || [made_for(&earlier, &dice), made_for(&later, &dice)];
        let events: Vec<_> = (0..30).flat_map(|_| of_both()).chain(others).collect();
        let contracts = versions(earlier.clone(), later.clone());
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
