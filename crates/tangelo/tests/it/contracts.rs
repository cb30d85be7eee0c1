//! Contracts: what breaks one is refused with its place, and costs nobody else anything; what is not shipped blocks who expects it.

use std::path::PathBuf;

use anyhow::Result;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use testkit::{Server, eventually};

use crate::server;

pub(crate) const MANIFEST: &str = "
app: shop
workloads:
  orders:
    as: function
    run: {lambda: {runtime: python3, handler: app.handler, code: code}}
    publishes: [order.created]
gateway:
  routes:
    - {path: /events, methods: [POST], to: events}
";

pub(crate) const HANDLER: (&str, &str) = (
    "code/app.py",
    "def handler(event, context):\n    return None\n",
);

pub(crate) fn v1() -> String {
    let line = json!({"type": "object", "required": ["count"], "properties": {"count": {"type": "integer", "minimum": 1}}});
    json!({
        "type": "object",
        "required": ["id"],
        "properties": {"id": {"type": "string"}, "lines": {"type": "array", "items": line}},
        "additionalProperties": false,
    })
    .to_string()
}

pub(crate) fn v2() -> String {
    json!({"type": "object", "required": ["id", "total"], "properties": {"id": {"type": "string"}, "total": {"type": "integer"}}}).to_string()
}

/// An app in a folder of its own.
pub(crate) fn app(server: &Server, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let folder = server.scratch().join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    for (path, text) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("has one"))?;
        std::fs::write(path, text)?;
    }
    Ok(folder)
}

pub(crate) fn said(result: Result<Value>) -> String {
    format!("{:#}", result.expect_err("is refused"))
}

#[tokio::test]
async fn a_bad_event_is_refused_with_every_place_and_costs_the_others_nothing() -> Result<()> {
    let server = server();
    server.deploy(&[
        HANDLER,
        ("tangelo.yaml", MANIFEST),
        ("contracts/order.created/1.json", &v1()),
    ])?;
    let event = |data: Value| json!({"specversion": "1.0", "source": "/t", "type": "order.created", "data": data});
    let batch = json!([
        event(json!({"id": "a"})),
        event(json!({"id": 7, "lines": [{"count": 1}, {"count": 0}]})),
        {"specversion": "1.0", "source": "/t", "type": "other.made", "data": 5},
    ]);
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let answer = server
        .gateway()
        .send(Method::POST, "/events", &headers, batch.to_string().into())
        .await?;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    let rows = answer.json();
    assert_eq!(rows["accepted"], 2);
    let refused = rows["events"][1]["refused"].as_str().expect("says why");
    assert_eq!(rows["events"][1]["code"], "TG0508");
    assert!(
        refused.contains("`/id`") && refused.contains("`/lines/1/count`"),
        "{refused}"
    );
    // By the command line, too; and it says which version it was checked by.
    let error = said(server.json(&["publish", "order.created", "-d", "{}"]));
    assert!(error.contains("TG0508"), "{error}");
    let position = rows["events"][0]["position"].to_string();
    let pinned = server.scratch().join("pinned.json");
    std::fs::write(
        &pinned,
        r#"{"dataschema": [{"prefix": "/contracts/order.created/1."}]}"#,
    )?;
    let pinned = pinned.to_str().expect("is UTF-8");
    let explain = ["events", "explain", "--pattern", pinned, "--position"];
    let logged = server.json(&[&explain[..], &[&position]].concat())?;
    assert_eq!(
        logged["event"]["dataschema"], "/contracts/order.created/1.0.0",
        "{logged}"
    );
    Ok(())
}

#[tokio::test]
async fn versions_live_side_by_side_and_what_breaks_them_is_refused_with_an_event_that_shows_it()
-> Result<()> {
    let server = server();
    server.deploy(&[
        HANDLER,
        ("tangelo.yaml", MANIFEST),
        ("contracts/order.created/1.json", &v1()),
    ])?;
    let incompatible = [
        HANDLER,
        ("tangelo.yaml", MANIFEST),
        ("contracts/order.created/1.json", &*v1()),
        ("contracts/order.created/1.1.json", &*v2()),
    ];
    let error = said(server.deploy(&incompatible));
    assert!(
        error.contains("TG0510") && error.contains("not backward compatible: one allows {"),
        "{error}"
    );
    // A new major version may break.
    let both = [
        HANDLER,
        ("tangelo.yaml", MANIFEST),
        ("contracts/order.created/1.json", &*v1()),
        ("contracts/order.created/2.json", &*v2()),
        ("contracts/order.created/1.1.json", &*v1()),
    ];
    server.deploy(&both)?;
    let publish = async |version: &str, data: Value| {
        let event = json!({
            "specversion": "1.0", "source": "/t", "type": "order.created", "data": data,
            "dataschema": format!("/contracts/order.created/{version}"),
        });
        let headers = [("content-type", "application/cloudevents+json")];
        let sent = server
            .gateway()
            .send(Method::POST, "/events", &headers, event.to_string().into())
            .await;
        sent.expect("answers").status
    };
    assert_eq!(publish("1", json!({"id": "a"})).await, StatusCode::ACCEPTED);
    assert_eq!(
        publish("2", json!({"id": "a"})).await,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        publish("2", json!({"id": "a", "total": 5})).await,
        StatusCode::ACCEPTED
    );
    assert_eq!(
        publish("3", json!({"id": "a", "total": 5})).await,
        StatusCode::BAD_REQUEST
    );
    Ok(())
}

#[tokio::test]
async fn who_expects_what_is_not_shipped_is_blocked_and_told_by_whom_it_must_be() -> Result<()> {
    let server = server();
    server.deploy(&[
        HANDLER,
        ("tangelo.yaml", MANIFEST),
        ("contracts/order.created/1.json", &v1()),
    ])?;
    let consumer = |filter: &str| {
        format!(
            "app: mail\nworkloads:\n  confirm:\n    as: function\n    run: {{lambda: {{runtime: python3, handler: app.handler, code: code}}}}\n    \
             on: [{{event: {{type: [order.created], {filter}}}}}]\n"
        )
    };
    // In a folder of its own: the contract is the other app's.
    let folder = server.scratch().join("mail");
    std::fs::create_dir_all(folder.join("code"))?;
    std::fs::write(folder.join(HANDLER.0), HANDLER.1)?;
    let deploy = |filter: &str| {
        std::fs::write(folder.join("tangelo.yaml"), consumer(filter))?;
        server.deploy_folder(&folder)
    };
    let error = said(deploy("data: {discount: [{numeric: ['>', 0]}]}"));
    assert!(
        error.contains("TG0511")
            && error.contains("`data.discount`")
            && error.contains("`shop/orders` must ship one later than 1"),
        "{error}"
    );
    let error = said(deploy(
        "dataschema: [{prefix: /contracts/order.created/2.}]",
    ));
    assert!(
        error.contains("expects version 2")
            && error.contains("`shop/orders` has not shipped: there is 1"),
        "{error}"
    );
    deploy("data: {lines: {count: [{numeric: ['>', 1]}]}}")?;
    Ok(())
}

#[tokio::test]
async fn the_command_line_looks_at_contracts_without_a_server() -> Result<()> {
    let server = server();
    let folder = server.scratch();
    let write = |path: &str, text: &str| -> Result<()> {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("has one"))?;
        Ok(std::fs::write(path, text)?)
    };
    write(
        "tangelo.yaml",
        &MANIFEST.replace("order.created]", "order.created, OrderLost]"),
    )?;
    write(HANDLER.0, HANDLER.1)?;
    write("contracts/order.created/1.json", &v1())?;
    write("contracts/order.created/2.json", &v2())?;
    let at = folder.to_str().expect("is UTF-8");
    let output = server.cli(&["--json", "contracts", "lint", at])?;
    assert_eq!(output.status.code(), Some(0), "nothing of it is an error");
    let found = String::from_utf8(output.stdout)?;
    assert!(
        found.contains("`OrderLost`: a type is `noun.verb-past`")
            && found.contains("`order.created` of `orders` has no consumer in this app"),
        "{found}"
    );
    let differences = server.json(&["contracts", "diff", at])?;
    assert_eq!(differences["versions"][0]["verdict"], "incompatible");
    assert!(differences["versions"][0]["violations"][0]["message"].is_string());
    let error = said(server.json(&["contracts", "diff", at, "--type", "order.lost"]));
    assert!(
        error.contains("no contract of the type `order.lost`: there are some of order.created"),
        "{error}"
    );
    let docs = String::from_utf8(server.cli(&["contracts", "docs", at])?.stdout)?;
    assert!(
        docs.contains("## order.created")
            && docs.contains("| `total` | integer | yes |")
            && docs.contains("| `lines[].count` | integer | yes |"),
        "{docs}"
    );
    // A later version that breaks what it promises; a new major version promises nothing.
    write("contracts/order.created/1.1.json", &v2())?;
    let output = server.cli(&["--json", "contracts", "diff", at])?;
    assert_eq!(output.status.code(), Some(1));
    let differences: Value = serde_json::from_slice(&output.stdout)?;
    let first = &differences["versions"][0];
    assert_eq!(
        (&first["promised"], &first["verdict"], &first["direction"]),
        (&true.into(), &"incompatible".into(), &"backward".into())
    );
    // What stands twice, and what is not of the app.
    write(
        "contracts/order.created/1.1.json",
        r#"{"type": "object", "type": "array"}"#,
    )?;
    let error = said(server.json(&["contracts", "docs", at]));
    assert!(
        error.contains("TG0509") && error.contains("`type` is there twice in one object at line 1"),
        "{error}"
    );
    std::fs::remove_file(folder.join("contracts/order.created/1.1.json"))?;
    std::os::unix::fs::symlink(
        "/etc/hostname",
        folder.join("contracts/order.created/1.1.json"),
    )?;
    let error = said(server.deploy_folder(&folder));
    assert!(
        error.contains("TG0509") && error.contains("leads out of the app's folder"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn an_event_is_scaffolded_and_passes_from_its_producer_to_its_consumer() -> Result<()> {
    let server = server();
    let folder = server.scratch();
    let at = folder.to_str().expect("is UTF-8");
    let init = |kind: &str| server.json(&["init", "--event", kind, "--name", "shop", at]);
    let error = said(init("OrderCreated"));
    assert!(error.contains("`noun.verb-past`"), "{error}");
    assert!(!folder.join("tangelo.yaml").exists());
    let written = init("order-line.created")?;
    let files = written["files"].to_string();
    for file in [
        "contracts/order-line.created/1.json",
        "functions/order_line_created.py",
        "functions/order_line_created_producer.py",
        "functions/order_line_created_consumer.py",
    ] {
        assert!(files.contains(file), "{files}");
    }
    let checked = server.json(&["check", at])?;
    assert_eq!(checked["valid"], true, "{checked}");
    assert_eq!(checked["contracts"], json!([]), "{checked}");
    assert_eq!(checked["diagnostics"], json!([]), "{checked}");
    server.deploy_folder(&folder)?;
    let publish = async |data: Value| {
        let body = data.to_string().into();
        let sent = server
            .gateway()
            .send(Method::POST, "/order-line-created", &[], body)
            .await;
        sent.expect("answers")
    };
    let refused = publish(json!({"number": 1})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text().contains("TG0508"), "{}", refused.text());
    let taken = publish(json!({"id": "one"})).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "{}", taken.text());
    eventually("the consumer took it", || async {
        let logs = server.cli(&["logs", "order-line-created-consumer"]).ok()?;
        let logs = String::from_utf8(logs.stdout).ok()?;
        (logs.contains("order-line.created ") && logs.contains(": one")).then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn an_event_is_added_to_an_app_that_is_there() -> Result<()> {
    let server = server();
    let mine = "# The shop.\napp: shop\n\nworkloads:\n  # takes what comes\n  orders:   {as: function, run: {lambda: {runtime: python3, handler: app.handler, code: code}}} # mine\n\n# Roads.\ngateway:\n  routes:\n    - {path: /events, methods: [POST], to: events}\n";
    let folder = app(&server, "shop", &[HANDLER, ("tangelo.yaml", mine)])?;
    let at = folder.to_str().expect("is UTF-8");
    let manifest = || std::fs::read_to_string(folder.join("tangelo.yaml")).expect("is there");
    let init = |kind: &str| server.json(&["init", "--event", kind, at]);
    let written = init("order.paid")?;
    assert_eq!(written["changed"], json!(["tangelo.yaml"]), "{written}");
    let made = manifest();
    let mut kept = made.lines();
    assert!(
        mine.lines().all(|line| kept.any(|other| other == line)),
        "{made}"
    );
    // A second one beside it, which the first does not stand in the way of.
    init("order.sent")?;
    let error = said(init("order.sent"));
    assert!(
        error.contains("`order.sent` has a contract already"),
        "{error}"
    );
    assert!(
        manifest().matches("order-sent-consumer:").count() == 1,
        "{}",
        manifest()
    );
    let checked = server.json(&["check", at])?;
    assert_eq!(
        (
            &checked["valid"],
            &checked["diagnostics"],
            &checked["contracts"]
        ),
        (&json!(true), &json!([]), &json!([]))
    );
    server.deploy_folder(&folder)?;
    for kind in ["order-paid", "order-sent"] {
        let sent = server
            .gateway()
            .send(
                Method::POST,
                &format!("/{kind}"),
                &[],
                r#"{"id": "one"}"#.into(),
            )
            .await?;
        assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.text());
        eventually("its consumer took it", || async {
            let logs = server.cli(&["logs", &format!("{kind}-consumer")]).ok()?;
            String::from_utf8(logs.stdout)
                .ok()?
                .contains(": one")
                .then_some(())
        })
        .await;
    }
    // Written otherwise, it is said what to add, and left alone.
    let flow = "{app: other, workloads: {orders: {as: function, run: {lambda: {runtime: python3, handler: app.handler, code: code}}, publishes: [order.paid]}}}\n";
    let folder = app(&server, "other", &[HANDLER, ("tangelo.yaml", flow)])?;
    let written = server.json(&[
        "init",
        "--event",
        "order.paid",
        folder.to_str().expect("is UTF-8"),
    ])?;
    let by_hand = written["by_hand"].as_str().expect("is said");
    // Who publishes it is there already.
    assert!(
        by_hand.starts_with("workloads:\n  order-paid-consumer:\n")
            && !by_hand.contains("producer"),
        "{by_hand}"
    );
    assert_eq!(std::fs::read_to_string(folder.join("tangelo.yaml"))?, flow);
    assert!(folder.join("contracts/order.paid/1.json").exists());
    Ok(())
}
