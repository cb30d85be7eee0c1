//! Input paths and transformers against cases that were recorded from EventBridge, where they are there.

use std::collections::BTreeMap;

use pattern::{Facts, Input, Path, Template};
use serde_json::{Value, json};

fn input(target: &Value) -> Input {
    if let Some(path) = target["InputPath"].as_str() {
        return Input::Path(Path::parse(path).expect("is a path"));
    }
    let transformer = &target["InputTransformer"];
    let paths: BTreeMap<String, String> =
        serde_json::from_value(transformer["InputPathsMap"].clone()).expect("paths");
    let template = transformer["InputTemplate"].as_str().expect("a template");
    Input::Template(Template::parse(&paths, template).expect("is a template"))
}

/// An event as EventBridge hands it on; the recording replaced its time by a word.
fn envelope(entry: &Value) -> Value {
    let detail = entry["Detail"].as_str().expect("a text");
    let detail: Value = serde_json::from_str(detail).expect("is JSON");
    json!({
        "version": "0", "id": "1", "detail-type": entry["DetailType"], "source": entry["Source"], "account": "111111111111",
        "time": "date", "region": "us-east-1", "resources": [], "detail": detail,
    })
}

#[test]
fn recorded_cases_come_out_as_they_did() {
    let file = testkit::material().map(|m| m.join("conformance/input-transform.json"));
    let Some(text) = file.and_then(|file| std::fs::read(file).ok()) else {
        eprintln!("skipped: the recorded cases are not here");
        return;
    };
    let cases: Vec<Value> = serde_json::from_slice(&text).expect("is JSON");
    assert!(cases.len() >= 12);
    for case in &cases {
        let target = &case["target"][0];
        let input = input(target);
        let entries = case["entries"].as_array().expect("entries");
        let expected = case["expected_bodies"].as_array().expect("bodies");
        assert_eq!(entries.len(), expected.len(), "{}", case["id"]);
        for (entry, expected) in entries.iter().zip(expected) {
            let event = envelope(entry);
            let facts = Facts {
                event: &event,
                payload: "detail",
                rule_name: "rule",
                rule_arn: "arn",
                ingestion_time: "date",
            };
            let body = input.apply(&facts, 1 << 20).expect("is small");
            // A body is recorded as JSON where it is an object, else as its text.
            match expected {
                Value::String(text) => assert_eq!(&body, text, "{}", case["id"]),
                other => {
                    let body: Value = serde_json::from_str(&body).expect("is JSON");
                    assert_eq!(&body, other, "{}", case["id"]);
                }
            }
        }
    }
}
