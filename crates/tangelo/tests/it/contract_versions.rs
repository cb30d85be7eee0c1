//! Versions of contracts over several apps: consumers of two live side by side, none is taken from under who pins it, and who
//! publishes and takes what is seen over all that is deployed.

use std::path::PathBuf;

use anyhow::Result;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::{
    contracts::{HANDLER, MANIFEST, app, said, v1, v2},
    server,
};

/// Prints the id and the version of each event.
const CONSUMER: &str = "def handler(event, context):\n    print('took', event['id'], event.get('cloudevent', {}).get('contractversion'))\n";

/// The app `mail`, whose workloads each take `order.created` with what is said beside `event`.
fn mail(server: &Server, consumers: &[(&str, &str)]) -> Result<PathBuf> {
    let mut manifest = "app: mail\nworkloads:\n".to_owned();
    for (name, terms) in consumers {
        manifest.push_str(&format!(
            "  {name}:\n    as: function\n    run: {{lambda: {{runtime: python3, handler: app.handler, code: code}}}}\n    \
             on: [{{event: {{type: [order.created]}}, {terms}}}]\n"
        ));
    }
    let files = [("tangelo.yaml", &*manifest), ("code/app.py", CONSUMER)];
    app(server, "mail", &files)
}

/// The app `shop` with these versions of its contract.
fn shop(server: &Server, versions: &[(&str, String)]) -> Result<PathBuf> {
    let contracts = versions.iter().map(|(version, text)| {
        let path = format!("contracts/order.created/{version}.json");
        (path, text.as_str())
    });
    let contracts: Vec<_> = contracts.collect();
    let mut files = vec![HANDLER, ("tangelo.yaml", MANIFEST)];
    files.extend(contracts.iter().map(|(path, text)| (path.as_str(), *text)));
    app(server, "shop", &files)
}

#[tokio::test]
async fn a_pinned_version_is_met_however_its_publisher_spells_it() -> Result<()> {
    let server = server();
    server.deploy_folder(&shop(&server, &[("1", v1()), ("2", v2()), ("2.1", v2())])?)?;
    let consumers = [
        ("one", "contract: 1"),
        ("two", "contract: 2"),
        ("both", "contract: [1, 2]"),
    ];
    server.deploy_folder(&mail(&server, &consumers)?)?;
    let publish = async |id: &str, schema: Option<&str>, data: Value| {
        let mut event = json!({
            "specversion": "1.0", "source": "/t", "type": "order.created", "id": id, "data": data,
            // Whatever a publisher copies from elsewhere.
            "contractversion": "1.0.0",
        });
        if let Some(schema) = schema {
            event["dataschema"] = schema.into();
        }
        let headers = [("content-type", "application/cloudevents+json")];
        let body = event.to_string().into();
        let sent = server
            .gateway()
            .send(Method::POST, "/events", &headers, body)
            .await;
        let sent = sent.expect("answers");
        assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.text());
    };
    let (first, second) = (json!({"id": "a"}), json!({"id": "a", "total": 5}));
    let spellings = [
        ("a", Some("/contracts/order.created/1"), &first),
        (
            "b",
            Some("https://x.example/order.created/v1.0.json"),
            &first,
        ),
        ("c", Some("urn:shop:order.created:1.0.0"), &first),
        ("d", Some("/contracts/order.created/2"), &second),
        ("e", Some("https://x.example/schemas#2.0"), &second),
        ("f", Some("/contracts/order.created/2.json"), &second),
        ("g", None, &second),
    ];
    for (id, schema, data) in spellings {
        publish(id, schema, data.clone()).await;
    }
    // A type without a contract has no version, whatever it says.
    let other = json!({
        "specversion": "1.0", "source": "/t", "type": "other.made", "id": "h", "contractversion": "1.0.0",
    });
    let headers = [("content-type", "application/cloudevents+json")];
    let sent = server
        .gateway()
        .send(Method::POST, "/events", &headers, other.to_string().into())
        .await?;
    let position = sent.json()["events"][0]["position"].to_string();
    let pattern = server.scratch().join("any.json");
    std::fs::write(&pattern, r#"{"id": [{"exists": true}]}"#)?;
    let pattern = pattern.to_str().expect("is UTF-8");
    let logged = server.json(&[
        "events",
        "explain",
        "--pattern",
        pattern,
        "--position",
        &position,
    ])?;
    assert_eq!(logged["event"]["contractversion"], Value::Null, "{logged}");
    let v1s = ["a 1.0.0", "b 1.0.0", "c 1.0.0"];
    let v2s = ["d 2.1.0", "e 2.0.0", "f 2.1.0", "g 2.1.0"];
    let took = |workload: &str| -> Vec<String> {
        let logs = server.cli(&["logs", workload]).expect("answers").stdout;
        let logs = String::from_utf8(logs).expect("is UTF-8");
        let lines = logs.lines().filter_map(|line| line.split_once("took "));
        let mut took: Vec<String> = lines.map(|(_, what)| what.trim().to_owned()).collect();
        took.sort();
        took
    };
    // What took all has taken what comes last: nothing else is under way.
    for (workload, expected) in [
        ("both", [&v1s[..], &v2s[..]].concat()),
        ("one", v1s.to_vec()),
        ("two", v2s.to_vec()),
    ] {
        eventually("it took its versions", || async {
            (took(workload).len() >= expected.len()).then_some(())
        })
        .await;
        assert_eq!(took(workload), expected, "{workload}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_live_consumer_pins_is_not_taken_away() -> Result<()> {
    let server = server();
    // Nobody has shipped anything yet.
    let error = said(server.deploy_folder(&mail(&server, &[("confirm", "contract: 1")])?));
    assert!(
        error.contains("TG0511")
            && error.contains("`order.created`, which has no contract in any deployed app"),
        "{error}"
    );
    server.deploy_folder(&shop(&server, &[("2", v2())])?)?;
    server.deploy_folder(&shop(&server, &[("1", v1()), ("2", v2())])?)?;
    server.deploy_folder(&mail(&server, &[("confirm", "contract: 1")])?)?;
    let only_second = shop(&server, &[("2", v2())])?;
    let error = said(server.deploy_folder(&only_second));
    let pinned = "`mail/confirm` pins version 1 of `order.created`, which this takes away: what is left is 2";
    assert!(
        error.contains("TG0515") && error.contains(pinned),
        "{error}"
    );
    // Neither by way of an earlier revision.
    let error = said(server.json(&["rollback", "shop", "--to", "1"]));
    assert!(
        error.contains("TG0515") && error.contains(pinned),
        "{error}"
    );
    // Nor all of it.
    let error = said(server.deploy_folder(&shop(&server, &[])?));
    assert!(
        error.contains("TG0515") && error.contains("no version is left"),
        "{error}"
    );
    let error = said(server.json(&["remove", "shop"]));
    assert!(
        error.contains("TG0515") && error.contains("no version is left"),
        "{error}"
    );
    // Both live side by side while the consumer moves on, and then the first may go.
    server.deploy_folder(&mail(&server, &[("confirm", "contract: [1, 2]")])?)?;
    let error = said(server.deploy_folder(&shop(&server, &[("2", v2())])?));
    assert!(error.contains(pinned), "{error}");
    server.deploy_folder(&mail(&server, &[("confirm", "contract: 2")])?)?;
    server.deploy_folder(&shop(&server, &[("2", v2())])?)?;
    // Who pins goes first.
    server.json(&["remove", "mail"])?;
    server.json(&["remove", "shop"])?;
    Ok(())
}

#[tokio::test]
async fn other_data_of_a_dead_letter_keeps_to_the_version_of_its_event() -> Result<()> {
    let server = server();
    server.deploy_folder(&shop(&server, &[("1", v1()), ("2", v2())])?)?;
    let folder = mail(&server, &[("confirm", "retry: {attempts: 1}")])?;
    std::fs::write(
        folder.join("code/app.py"),
        "def handler(event, context):\n    raise ValueError('no')\n",
    )?;
    server.deploy_folder(&folder)?;
    let published = server.json(&[
        "publish",
        "order.created",
        "-d",
        r#"{"id": "o-1"}"#,
        "--dataschema",
        "/contracts/order.created/1",
        "--time",
        "2026-01-02T03:04:05Z",
        "--extension",
        "tenant=blue",
    ])?;
    assert_eq!(published["accepted"], 1, "{published}");
    let letter = eventually("a dead letter", || async {
        let letters = server.json(&["dead-letters"]).ok()?;
        letters["dead_letters"].as_array()?.first().cloned()
    })
    .await;
    let event = &letter["event"];
    assert_eq!(
        (&event["tenant"], &event["time"], &event["contractversion"]),
        (
            &"blue".into(),
            &"2026-01-02T03:04:05.000000Z".into(),
            &"1.0.0".into()
        ),
        "{event}"
    );
    let id = letter["id"].to_string();
    let bad = r#"{"id": 7, "lines": [{"count": 0}]}"#;
    let error = said(server.json(&["dead-letters", "edit", &id, "-d", bad]));
    assert!(
        error.contains("TG0508") && error.contains("`/id`") && error.contains("`/lines/0/count`"),
        "{error}"
    );
    // What version 2 would take is none of version 1.
    let second = r#"{"id": "o-1", "total": 5}"#;
    let error = said(server.json(&["dead-letters", "edit", &id, "-d", second]));
    assert!(error.contains("TG0508"), "{error}");
    server.json(&["dead-letters", "edit", &id, "-d", r#"{"id": "o-2"}"#])?;
    let shown = server.json(&["dead-letters", "show", &id])?;
    assert_eq!(shown["event"]["data"], json!({"id": "o-2"}));
    Ok(())
}

#[tokio::test]
async fn producers_and_consumers_are_seen_over_all_apps() -> Result<()> {
    let server = server();
    let notes = |deployed: &Value| deployed["notes"].to_string();
    let deployed = server.deploy_folder(&shop(&server, &[("1", v1())])?)?;
    assert!(
        notes(&deployed)
            .contains("no deployed app takes `order.created`, which `orders` publishes"),
        "{deployed}"
    );
    let folder = mail(&server, &[("confirm", "contract: 1")])?;
    let deployed = server.deploy_folder(&folder)?;
    assert_eq!(deployed["notes"], json!([]), "its producer is another app");
    assert_eq!(deployed["warnings"], json!([]), "{deployed}");
    // Alone it cannot be known.
    let checked = server.json(&["check", folder.to_str().expect("is UTF-8")])?;
    assert_eq!(checked["diagnostics"][0]["code"], "TG0106", "{checked}");
    let deployed = server.deploy_folder(&shop(&server, &[("1", v1()), ("1.1", v1())])?)?;
    assert_eq!(deployed["notes"], json!([]), "somebody takes it");
    let graph = server.json(&["contracts", "graph", "--type", "order.created"])?;
    let expected = json!([{
        "type": "order.created",
        "contracts": [{"app": "shop", "versions": ["1", "1.1"]}],
        "producers": [{"app": "shop", "name": "orders"}],
        "consumers": [{"app": "mail", "name": "confirm", "subscription": "order-created", "versions": [1]}],
    }]);
    assert_eq!(graph["types"], expected, "{graph}");
    let shown = String::from_utf8(server.cli(&["contracts", "graph"])?.stdout)?;
    assert!(
        shown.contains("shop: 1, 1.1") && shown.contains("mail/confirm (1)"),
        "{shown}"
    );
    // What nobody publishes anywhere, and what is another schema elsewhere.
    let late = mail(&server, &[("confirm", "contract: 1")])?;
    let manifest = std::fs::read_to_string(late.join("tangelo.yaml"))?;
    let manifest = manifest
        + "  late:\n    as: function\n    run: {lambda: {runtime: python3, handler: app.handler, code: code}}\n    on: [{event: {type: [order.craeted]}}]\n";
    std::fs::write(late.join("tangelo.yaml"), manifest)?;
    std::fs::create_dir_all(late.join("contracts/order.created"))?;
    std::fs::write(late.join("contracts/order.created/1.json"), v2())?;
    let told = notes(&server.deploy_folder(&late)?);
    assert!(
        told.contains("no deployed app publishes `order.craeted`, which `late` waits for")
            && told.contains("did you mean `order.created`?")
            && told.contains("version 1 of `order.created` is another schema in app `shop`"),
        "{told}"
    );
    Ok(())
}
