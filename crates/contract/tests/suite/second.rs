//! Contracts against a second validator, Python's `jsonschema`: both refuse the same data, at the same places.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::folder::read;

/// The other validator: one process for all that is asked.
struct Second(Child);

impl Second {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/validate.py");
        let started = Command::new(testkit::tools("contract").join("venv/bin/python"))
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(started.expect("python starts"))
    }

    /// For each value the places where it breaks the contract.
    fn broken_places(files: &[(&str, Value)], values: &[Value]) -> Vec<Vec<String>> {
        static ONE: OnceLock<Mutex<Second>> = OnceLock::new();
        let one = ONE.get_or_init(|| Mutex::new(Self::start()));
        let mut one = one.lock().unwrap_or_else(PoisonError::into_inner);
        let named = files
            .iter()
            .map(|(path, schema)| ((*path).to_owned(), schema.clone()));
        let named: Map<String, Value> = named.collect();
        let ask = json!({"files": named, "of": CONTRACT, "values": values});
        let input = one.0.stdin.as_mut().expect("is piped");
        writeln!(input, "{ask}").expect("it listens");
        let mut answer = String::new();
        let output = one.0.stdout.as_mut().expect("is piped");
        // Nothing else is said before the next question.
        let read = BufReader::new(output).read_line(&mut answer);
        read.expect("it answers");
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{ask} ended it"))
    }
}

const CONTRACT: &str = "a.made/1.json";
const COMMON: &str = "common/part.json";

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..4).prop_map(Value::from),
        prop::sample::select(vec![-0.0, 0.5, 1.0, 2.0, 2.5, 1e20]).prop_map(Value::from),
        "[ab]{0,3}".prop_map(Value::from),
        prop::sample::select(vec!["é", "𐐀𐐀", "a b", "~/"]).prop_map(Value::from),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", "", "a/b~"]).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Keywords that hold no schemas.
fn leaf() -> impl Strategy<Value = Value> {
    const KINDS: &[&str] = &[
        "null", "boolean", "object", "array", "number", "integer", "string",
    ];
    const PATTERNS: &[&str] = &["^a", "b$", "^[ab]{2}$", "a|é", "^.$", "[^a]"];
    let kinds = prop::sample::subsequence(KINDS, 1..4);
    let bound = prop::sample::select(vec![
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
    ]);
    let length = prop::sample::select(vec![
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
    ]);
    prop_oneof![
        kinds.prop_map(|kinds| json!({"type": kinds})),
        prop::collection::vec(value(), 1..4).prop_map(|values| json!({"enum": values})),
        value().prop_map(|value| json!({"const": value})),
        (bound, -2..4).prop_map(|(bound, n)| json!({(bound): n})),
        prop::sample::select(vec![json!(1), json!(2), json!(0.5), json!(2.5)])
            .prop_map(|step| json!({"multipleOf": step})),
        (length, 0..4).prop_map(|(length, n)| json!({(length): n})),
        prop::sample::select(PATTERNS).prop_map(|pattern| json!({"pattern": pattern})),
        any::<bool>().prop_map(|unique| json!({"uniqueItems": unique})),
        prop::collection::btree_set(name(), 0..3).prop_map(|names| json!({"required": names})),
        (name(), prop::collection::btree_set(name(), 0..3))
            .prop_map(|(name, names)| json!({"dependentRequired": {(name): names}})),
        // An annotation, as 2020-12 has it.
        Just(json!({"format": "date-time"})),
        Just(json!({"$ref": "#/$defs/part"})),
        Just(json!({"$ref": "../common/part.json"})),
        Just(json!({"$ref": "../common/part.json#/properties/a"})),
        any::<bool>().prop_map(Value::from),
    ]
}

fn schema() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 24, 3, |inner| {
        let list = || prop::collection::vec(inner.clone(), 1..3);
        let named = || {
            prop::collection::vec((name(), inner.clone()), 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect()))
        };
        let one = prop::sample::select(vec![
            "additionalProperties", "propertyNames", "items", "contains", "not",
            "unevaluatedProperties", "unevaluatedItems",
        ]);
        let several = prop::sample::select(vec!["anyOf", "oneOf", "allOf", "prefixItems"]);
        let by_name = prop::sample::select(vec!["properties", "dependentSchemas"]);
        let keyword = prop_oneof![
            3 => (by_name, named()).prop_map(|(keyword, schemas)| json!({(keyword): schemas})),
            3 => (one, inner.clone()).prop_map(|(keyword, schema)| json!({(keyword): schema})),
            2 => (several, list()).prop_map(|(keyword, schemas)| json!({(keyword): schemas})),
            1 => inner.clone().prop_map(|schema| json!({"patternProperties": {"^a": schema}})),
            1 => (inner.clone(), 0..3, 0..3)
                .prop_map(|(schema, least, most)| json!({"contains": schema, "minContains": least, "maxContains": most})),
            1 => (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(cond, then, other)| json!({"if": cond, "then": then, "else": other})),
        ];
        // Keywords work on each other where they stand together.
        prop::collection::vec(prop_oneof![2 => keyword, 1 => leaf()], 1..4).prop_map(together)
    })
}

fn together(schemas: Vec<Value>) -> Value {
    let mut all = Map::new();
    for schema in schemas {
        match schema {
            Value::Object(fields) => all.extend(fields),
            other => return other,
        }
    }
    Value::Object(all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_second_validator_refuses_the_same_data_at_the_same_places(
        contract in schema(),
        part in leaf(),
        common in leaf(),
        values in prop::collection::vec(value(), 30),
    ) {
        // Parts refer to nothing, so that nothing refers to itself.
        let plain = |part: Value| match part.get("$ref") {
            Some(_) => json!({"type": "string"}),
            None => part,
        };
        let mut contract = together(vec![contract]);
        if let Value::Object(fields) = &mut contract {
            fields.insert("$defs".to_owned(), json!({"part": plain(part)}));
        }
        let common = json!({"properties": {"a": plain(common)}, "maxProperties": 2});
        let files = [(CONTRACT, contract), (COMMON, common)];
        let contracts = read(&files).expect("is within what is spoken");
        // The other one does not say where a value is that nothing may be at, and both are free to say or not that what failed
        // beside was not looked at.
        let vague = |(_, schema): &(&str, Value)| {
            let text = schema.to_string();
            text.contains("false") || text.contains("unevaluated")
        };
        let says_where = !files.iter().any(vague);
        let own = contracts.contract_of("a.made", None).expect("has one").expect("is there");
        let theirs = Second::broken_places(&files, &values);
        for (value, theirs) in values.iter().zip(theirs) {
            prop_assert_eq!(own.allows(value), theirs.is_empty(), "{} at {:?}", value, theirs);
            if !says_where {
                continue;
            }
            let mut places: Vec<String> = own.violations(value).into_iter().map(|v| v.pointer).collect();
            places.dedup();
            prop_assert_eq!(places, theirs, "{}", value);
        }
    }
}
