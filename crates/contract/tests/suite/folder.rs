//! What a folder of contracts may hold, and what of an event breaks one.

use std::collections::BTreeMap;

use contract::{Contracts, Direction, Problem};
use serde_json::{Value, json};

pub(crate) fn read(files: &[(&str, Value)]) -> Result<Contracts, Vec<Problem>> {
    let files: BTreeMap<_, _> = files
        .iter()
        .map(|(path, schema)| ((*path).to_owned(), schema.to_string()))
        .collect();
    Contracts::read(&files)
}

#[track_caller]
fn refused(files: &[(&str, Value)], expected: &str) {
    let problems = read(files).expect_err("is wrong");
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(
        said.iter().any(|problem| problem.contains(expected)),
        "{said:#?}"
    );
}

fn order() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://shop.example/order.created/1.json",
        "type": "object",
        "required": ["id", "total"],
        "properties": {
            "id": {"type": "string", "minLength": 1},
            "total": {"$ref": "../common/money.json"},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        },
        "$defs": {"line": {"type": "object", "properties": {"count": {"type": "integer", "minimum": 1}}}},
    })
}

fn money() -> Value {
    json!({"type": "object", "required": ["cents"], "properties": {"cents": {"type": "integer"}}})
}

#[test]
fn every_violation_has_its_place() {
    let contracts = read(&[
        ("order.created/1.json", order()),
        ("common/money.json", money()),
    ])
    .expect("reads");
    let contract = contracts
        .contract_of("order.created", None)
        .expect("has one")
        .expect("is there");
    let good = json!({"id": "o-1", "total": {"cents": 5}, "lines": [{"count": 1}]});
    assert!(contract.allows(&good) && contract.violations(&good).is_empty());
    let bad = json!({"id": "", "total": {"cents": "5"}, "lines": [{"count": 1}, {"count": 0}]});
    let violations = contract.violations(&bad);
    let places: Vec<&str> = violations.iter().map(|v| v.pointer.as_str()).collect();
    assert_eq!(places, ["/id", "/lines/1/count", "/total/cents"]);
    assert_eq!(contract.violations(&json!(7))[0].pointer, "");
    assert!(
        !violations.iter().any(|v| v.message.contains("\"5\"")),
        "values stay out: {violations:?}"
    );
}

#[test]
fn dataschema_chooses_the_version() {
    let any = || json!({"type": "object"});
    let files = [
        ("a.made/1.json", any()),
        ("a.made/1.2.json", any()),
        ("a.made/2.json", any()),
    ];
    let contracts = read(&files).expect("reads");
    let chosen = |uri: Option<&str>| {
        let found = contracts.contract_of("a.made", uri).expect("has one");
        found.map(|contract| contract.version.to_string())
    };
    assert_eq!(chosen(None), Ok("2".to_owned()));
    assert_eq!(chosen(Some("/contracts/a.made/1")), Ok("1.2".to_owned()));
    assert_eq!(
        chosen(Some("/contracts/a.made/1.2.json")),
        Ok("1.2".to_owned())
    );
    let missing = chosen(Some("/contracts/a.made/3")).expect_err("is not there");
    assert!(missing.contains("1, 1.2, 2"), "{missing}");
    assert!(contracts.contract_of("b.made", None).is_none());
}

#[test]
fn a_schema_says_what_it_promises_beside_earlier_versions() {
    let mode = |schema: Value| {
        let contracts = read(&[("a.made/1.json", schema)]).expect("reads");
        let contract = contracts.contract_of("a.made", None).expect("has one");
        contract.expect("is there").mode
    };
    let both = [Direction::Backward, Direction::Forward];
    for (said, directions) in [
        ("backward", &both[..1]),
        ("forward", &both[1..]),
        ("full", &both[..]),
        ("none", &both[..0]),
    ] {
        let schema = json!({"x-compatibility": said});
        assert_eq!(mode(schema).directions(), directions, "{said}");
    }
    assert_eq!(mode(json!({})).directions(), &both[..1]);
    refused(
        &[("a.made/1.json", json!({"x-compatibility": "sideways"}))],
        "`sideways` is no mode",
    );
}

#[test]
fn what_is_wrong_is_said_with_its_file() {
    let one = |schema: Value| [("a.made/1.json", schema)];
    refused(
        &one(json!({"$ref": "https://x.example/s.json"})),
        "leads out of the folder",
    );
    refused(
        &one(json!({"$ref": "../../secret.json"})),
        "leads out of the folder",
    );
    refused(
        &one(json!({"$ref": "../common/x.json"})),
        "which is not there",
    );
    refused(&one(json!({"$ref": "#/$defs/x"})), "which is not there");
    refused(&one(json!({"proprties": {}})), "`proprties` is no keyword");
    refused(&one(json!({"type": "strng"})), "a.made/1.json");
    refused(&one(json!({"pattern": "("})), "a.made/1.json");
    refused(
        &one(json!({"properties": {"a": {"$anchor": "x"}}})),
        "not spoken",
    );
    refused(&one(json!({"$ref": "#"})), "refers to itself");
    refused(
        &one(
            json!({"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}]}}}),
        ),
        "refers to itself",
    );
    refused(&[("a.made/x.json", json!({}))], "is no version");
    refused(&[("order.create/1.json", json!({}))], "past tense");
    refused(
        &[("a.made/1.json", json!({})), ("a.made/1.0.json", json!({}))],
        "the same version",
    );
    let problems = Contracts::read(&BTreeMap::from([(
        "a.made/1.json".to_owned(),
        "{".to_owned(),
    )]));
    assert!(
        problems.expect_err("is wrong")[0]
            .reason
            .contains("not JSON")
    );
}

#[test]
fn what_a_file_says_twice_is_refused_where_it_stands() {
    let text =
        "{\"type\": \"object\",\n \"properties\": {\"id\": {}, \"id\": {\"type\": \"string\"}}}";
    let files = BTreeMap::from([("order.created/1.json".to_owned(), text.to_owned())]);
    let problems = Contracts::read(&files).expect_err("is wrong");
    assert_eq!(
        problems[0].to_string(),
        "contracts/order.created/1.json: `id` is there twice in one object at line 2 column 30"
    );
}

#[test]
fn fields_are_listed_through_references_lists_and_cases() {
    let node = json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "at": {"type": "integer"}}});
    let schema = json!({
        "type": "object",
        "required": ["id", "state"],
        "properties": {
            "id": {"type": "string", "description": "Its | name"},
            "state": {"enum": ["new", "paid", null]},
            "kind": {"const": "order"},
            "total": {"$ref": "../common/money.json"},
            "lines": {"type": ["array", "null"], "items": {"allOf": [{"$ref": "#/$defs/node"}], "required": ["at"]}},
            "by": {"oneOf": [{"type": "string"}, {"type": "object", "properties": {"user": {"type": "string"}}}]},
            "any": true,
        },
        "$defs": {"node": node},
    });
    let contracts = read(&[
        ("order.created/1.json", schema),
        ("common/money.json", money()),
    ]);
    let contracts = contracts.expect("reads");
    let contract = contracts.contract_of("order.created", None);
    let fields = contract.expect("has one").expect("is there").fields();
    let shown = fields.iter().map(|field| {
        let required = if field.required { "!" } else { "" };
        format!("{}{required}: {}", field.path, field.kind)
    });
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            "id!: string",
            "state!: \"new\" or \"paid\" or null",
            "kind: \"order\"",
            "total: object",
            "total.cents!: integer",
            "lines: array of object or null",
            "lines[].next: object",
            "lines[].at!: integer",
            "by: string or object",
            "by.user: string",
            "any: any",
        ]
    );
    assert_eq!(fields[0].what, "Its | name");
}
