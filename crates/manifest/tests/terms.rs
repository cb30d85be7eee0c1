//! How a subscription is delivered, as a manifest says it: rate, order, batches, inputs; and what is wrong with it.

use std::{collections::BTreeMap, time::Duration};

use manifest::parse;
use model::{
    AfterDead, Batch, InputSpec, Limits, Order, RetryPolicy, Subscription,
    projection::{Projection, Switching},
};
use serde_json::json;

fn manifest(terms: &str) -> String {
    format!(
        "app: one\nworkloads:\n  it: {{as: service, run: {{process: {{command: [./a]}}}}, on: [{{event: {{type: a}}, {terms}}}]}}\n"
    )
}

#[track_caller]
fn read(terms: &str) -> Subscription {
    let parsed = parse(&manifest(terms), "tangelo.yaml", &Limits::default());
    let app = parsed
        .app
        .unwrap_or_else(|| panic!("{:#?}", parsed.diagnostics));
    app.workloads["it"].on[0].clone()
}

#[track_caller]
fn on(terms: &str, expected: &str) {
    let parsed = parse(&manifest(terms), "tangelo.yaml", &Limits::default());
    let told: Vec<_> = parsed
        .diagnostics
        .iter()
        .map(|d| d.message.as_str())
        .collect();
    assert!(
        told.iter().any(|message| message.contains(expected)),
        "{terms}: {told:#?}"
    );
}

#[test]
fn terms_are_read() {
    let order = |dead| {
        Some(Order {
            key: "$.data.id".to_owned(),
            dead,
        })
    };
    assert_eq!(read("rate: 600/m").rate, "600/m".parse().ok());
    assert_eq!(
        read("order: {key: $.data.id}").order,
        order(AfterDead::Hold)
    );
    assert_eq!(
        read("order: {key: $.data.id, dead: skip}").order,
        order(AfterDead::Skip)
    );
    let window = Duration::from_secs(2);
    assert_eq!(
        read("batch: {size: 9, window: 2s}").batch,
        Some(Batch { size: 9, window })
    );
    assert_eq!(
        read("input: {constant: {a: [1, null]}}").input,
        Some(InputSpec::Constant(json!({"a": [1, null]})))
    );
    assert_eq!(
        read("input: {path: $.data}").input,
        Some(InputSpec::Path("$.data".to_owned()))
    );
    let paths = BTreeMap::from([("id".to_owned(), "$.id".to_owned())]);
    let template = "no. <id>".to_owned();
    assert_eq!(
        read("input: {template: no. <id>, paths: {id: $.id}}").input,
        Some(InputSpec::Template { paths, template })
    );
}

#[test]
fn what_is_wrong_with_terms_is_told() {
    on("rate: 10", "expected a rate such as `10/s`, found a number");
    on("rate: 10/d", "`10/d` is no rate");
    on("order: {dead: hold}", "`key` is missing");
    on("order: {key: subject}", "must begin with `$`");
    on(
        "order: {key: $.subject, dead: stop}",
        "`stop` is not known here",
    );
    on("batch: {window: 1s}", "`size` is missing");
    on("batch: {size: 1}", "out of range");
    on("batch: {size: 10, window: 1h}", "out of range");
    on("input: {}", "one of `path`, `template` and `constant`");
    on("input: {path: $.a, constant: 1}", "one of `path`");
    on("input: {path: $.a, paths: {}}", "there is none");
    on("input: {path: $a}", "between its steps");
    on("input: {template: '<who>'}", "`<who>`");
    on("input: {template: '{', paths: {}}", "no JSON");
}

#[test]
fn projections_are_read_and_what_is_wrong_with_them_is_told() {
    let read_one = read("projection: {}");
    assert_eq!(read_one.projection, Some(Projection::default()));
    assert_eq!(read_one.retry, RetryPolicy::endless());
    assert!(read_one.is_serial());
    let manual = read("projection: {switch: manual}, retry: {attempts: 3}");
    let switch = manual.projection.map(|one| one.switch);
    assert_eq!(
        (switch, manual.retry.attempts),
        (Some(Switching::Manual), 3)
    );
    assert_eq!(manual.retry.max_age, RetryPolicy::endless().max_age);
    let keyed = read("projection: {}, order: {key: $.subject}, concurrency: 4");
    assert!(!keyed.is_serial());
    on("projection: true", "expected a map with `switch`");
    on("projection: {switsch: auto}", "unknown key `switsch`");
    on("projection: {switch: never}", "`never` is not known here");
    on("projection: {}, concurrency: 2", "it has no `concurrency`");
    let long = "a".repeat(51);
    on(
        &format!("projection: {{}}, name: {long}"),
        "at most 50 bytes",
    );
    let both = "name: m, projection: {}}, {event: {type: b}, name: m-g2";
    on(both, "`m-g2` and `m` would be one and the same");
}

#[test]
fn a_contract_is_a_test_on_the_version_that_an_event_was_checked_by() {
    let filter = |terms: &str| read(terms).filter.0;
    assert_eq!(
        filter("contract: 2"),
        json!({"type": ["a"], "contractversion": [{"prefix": "2."}]})
    );
    assert_eq!(
        filter("contract: [2, 1, 2]")["contractversion"],
        json!([{"prefix": "1."}, {"prefix": "2."}])
    );
    on("contract: 0", "0 is out of range");
    on("contract: 1.2", "1.2 is out of range");
    on("contract: []", "names a major version at least");
    on("contract: [1, two]", "a whole number from 1");
    let other = |event: &str, expected: &str| {
        let manifest = manifest("contract: 1").replace("{type: a}", event);
        let parsed = parse(&manifest, "tangelo.yaml", &Limits::default());
        let told = format!("{:?}", parsed.diagnostics);
        assert!(
            parsed.app.is_none() && told.contains(expected),
            "{event}: {told}"
        );
    };
    let by_name = "`contract` is of types that `event` names one by one";
    other("{type: [{prefix: order.}]}", by_name);
    other("{source: [/shop]}", by_name);
    other("{type: a, contractversion: [1.0.0]}", "say the same");
}
