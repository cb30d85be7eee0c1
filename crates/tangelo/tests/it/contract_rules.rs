//! What is said of types and contracts when an app is checked and deployed: names, sides that are missing, what versions promise;
//! and what others are told of them (AsyncAPI).

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};
use testkit::Server;

use crate::{
    contracts::{HANDLER, MANIFEST, app, said, v1, v2},
    server,
};

/// The messages of `check` with a severity.
fn checked(checked: &Value, severity: &str) -> Vec<String> {
    let findings = checked["contracts"].as_array().expect("a list").iter();
    findings
        .filter(|finding| finding["severity"] == severity)
        .map(|finding| finding["message"].as_str().expect("is said").to_owned())
        .collect()
}

fn list(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).expect("a list of texts")
}

#[tokio::test]
async fn a_bad_name_and_a_missing_side_are_said_alike_at_check_and_deploy() -> Result<()> {
    let server = server();
    let manifest = MANIFEST.replace("order.created]", "OrderLost]")
        + "  mail:\n    as: function\n    run: {lambda: {runtime: python3, handler: app.handler, code: code}}\n    \
             on: [{event: {type: [order.delayed]}}]\n";
    // Workloads first, and the route away: whatever comes last in the text may be added to.
    let manifest = manifest.replace(
        "gateway:\n  routes:\n    - {path: /events, methods: [POST], to: events}\n",
        "",
    );
    let with: [(&str, &str); 3] = [
        HANDLER,
        ("tangelo.yaml", &manifest),
        ("contracts/order.kept/1.json", "{}"),
    ];
    // Whether or not the app has contracts.
    for files in [&with[..2], &with[..]] {
        let folder = app(&server, "shop", files)?;
        let at = folder.to_str().expect("is UTF-8");
        let output = server.cli(&["--json", "check", at])?;
        assert_eq!(output.status.code(), Some(0), "what is no error fails none");
        let check: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!(check["valid"], true, "{check}");
        assert_eq!(checked(&check, "error"), [""; 0], "{check}");
        let warnings = checked(&check, "warning");
        let name = "`OrderLost`: a type is `noun.verb-past` in lower case, such as `order.created` (`orders` publishes it)";
        assert!(
            warnings.iter().any(|warning| warning == name)
                && warnings
                    .contains(&"`OrderLost` of `orders` has no consumer in this app".to_owned()),
            "{warnings:?}"
        );
        assert_eq!(check["diagnostics"][0]["code"], "TG0106", "{check}");
        // The deploy says the same, of all that is deployed; as often as it is asked.
        for _ in 0..2 {
            let deployed = server.deploy_folder(&folder)?;
            let warnings = list(&deployed["warnings"]);
            assert!(warnings.iter().any(|warning| warning == name), "{deployed}");
            let notes = list(&deployed["notes"]).join("\n");
            assert!(
                notes.contains("no deployed app takes `OrderLost`, which `orders` publishes")
                    && notes.contains(
                        "no deployed app publishes `order.delayed`, which `mail` waits for"
                    ),
                "{deployed}"
            );
        }
        // As people read it, each once.
        let output = server.cli(&["deploy", at])?;
        let told = String::from_utf8(output.stderr)? + &String::from_utf8(output.stdout)?;
        assert_eq!(
            told.matches("warning: `OrderLost`: a type is").count(),
            1,
            "{told}"
        );
        assert_eq!(told.matches("takes `OrderLost`").count(), 1, "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_name_of_a_contract_is_an_error_at_check_and_deploy() -> Result<()> {
    let server = server();
    let files = [
        HANDLER,
        ("tangelo.yaml", MANIFEST),
        ("contracts/OrderLost/1.json", "{}"),
    ];
    let folder = app(&server, "shop", &files)?;
    let output = server.cli(&["--json", "check", folder.to_str().expect("is UTF-8")])?;
    assert_eq!(output.status.code(), Some(1));
    let check: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(check["valid"], false, "{check}");
    let errors = checked(&check, "error").join("\n");
    assert!(errors.contains("`OrderLost`: a type is"), "{errors}");
    let error = said(server.deploy_folder(&folder));
    assert!(
        error.contains("TG0509") && error.contains("`OrderLost`: a type is"),
        "{error}"
    );
    Ok(())
}

/// A schema of `order.created` that promises `mode`.
fn promises(mode: &str, properties: Value) -> String {
    json!({
        "type": "object", "required": ["id"], "properties": properties,
        "additionalProperties": false, "x-compatibility": mode,
    })
    .to_string()
}

/// What a deploy of these versions says: of an app that was not there before, so that nothing but these counts.
fn deploy(server: &Server, name: &str, versions: &[(&str, String)]) -> Result<Value> {
    let manifest = MANIFEST.replace("app: shop", &format!("app: {name}"));
    let manifest = manifest.replace("path: /events", &format!("path: /{name}"));
    let paths = versions.iter().map(|(version, text)| {
        let path = format!("contracts/order.created/{version}.json");
        (path, text.as_str())
    });
    let paths: Vec<_> = paths.collect();
    let mut files = vec![HANDLER, ("tangelo.yaml", &manifest)];
    files.extend(paths.iter().map(|(path, text)| (path.as_str(), *text)));
    server.deploy_folder(&app(server, name, &files)?)
}

#[tokio::test]
async fn a_deploy_keeps_each_version_to_what_it_promises() -> Result<()> {
    let server = server();
    let text = json!({"type": "string"});
    let first = promises("backward", json!({"id": text, "note": text}));
    // Beside the first: what has more is read by later readers alone, what has less by earlier ones alone.
    let more = json!({"id": text, "note": text, "place": text});
    let less = json!({"id": text});
    let same = json!({"id": text, "note": text});
    let other = json!({"id": {"type": "integer"}});
    let backward = Some("1 and 1.1 are not backward compatible: one allows {");
    let forward = Some("1 and 1.1 are not forward compatible: one allows {");
    let cases = [
        ("backward", &more, None),
        ("backward", &less, backward),
        ("forward", &more, forward),
        ("forward", &less, None),
        ("full", &more, forward),
        ("full", &less, backward),
        ("full", &same, None),
        ("none", &other, None),
        ("backward", &other, backward),
        ("forward", &other, forward),
    ];
    for (at, (mode, properties, refused)) in cases.into_iter().enumerate() {
        let versions = [
            ("1", first.clone()),
            ("1.1", promises(mode, properties.clone())),
        ];
        let told = deploy(&server, &format!("shop-{at}"), &versions);
        match refused {
            None => {
                let deployed = told?;
                assert_eq!(deployed["revision"], 1, "{mode} {properties}: {deployed}");
            }
            Some(why) => {
                let error = said(told);
                assert!(
                    error.contains("TG0510") && error.contains(why),
                    "{mode} {properties}: {error}"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_version_is_kept_to_all_earlier_ones_and_not_to_the_last_alone() -> Result<()> {
    let server = server();
    let (text, number) = (json!({"type": "string"}), json!({"type": "integer"}));
    let first = promises("backward", json!({"id": text}));
    // Promises nothing, so that it may stand beside the first.
    let second = promises("none", json!({"id": number}));
    let third = promises("backward", json!({"id": number, "place": text}));
    let all = [("1", first), ("1.1", second), ("1.2", third.clone())];
    let error = said(deploy(&server, "shop", &all));
    assert!(
        error.contains("TG0510")
            && error.contains("`order.created` 1 and 1.2 are not backward compatible")
            && !error.contains("1.1 and 1.2"),
        "{error}"
    );
    // Nor to those of another major version.
    let [first, (_, second), _] = all;
    deploy(&server, "shop", &[first, ("2", second), ("2.1", third)])?;
    Ok(())
}

#[tokio::test]
async fn what_the_own_contracts_lack_is_said_before_the_deploy_is_refused() -> Result<()> {
    let server = server();
    let on = "    on:\n      - event: {type: [order.created], data: {place: [here]}}\n      - {event: {type: [order.created]}, name: third, contract: 3}\n";
    let manifest = MANIFEST.replace("gateway:", &format!("{on}gateway:"));
    let files: [(&str, &str); 3] = [
        HANDLER,
        ("tangelo.yaml", &manifest),
        ("contracts/order.created/1.json", &v1()),
    ];
    let folder = app(&server, "shop", &files)?;
    let at = folder.to_str().expect("is UTF-8");
    let warnings = checked(&server.json(&["check", at])?, "warning");
    let refused = said(server.deploy_folder(&folder));
    for lacks in [
        "`orders` expects `data.place` of `order.created`, which no shipped version declares",
        "`orders` expects version 3 of `order.created`, which",
    ] {
        assert!(
            warnings.iter().any(|one| one.starts_with(lacks)),
            "{warnings:?}"
        );
        assert!(refused.contains(lacks), "{refused}");
    }
    // What is live and was changed in place is told from what it is to be.
    let [handler, (name, _), contract] = files;
    let files = [handler, (name, MANIFEST), contract];
    server.deploy_folder(&app(&server, "shop", &files)?)?;
    let [handler, manifest, (name, _)] = files;
    let files = [handler, manifest, (name, &v2())];
    let error = said(server.deploy_folder(&app(&server, "shop", &files)?));
    let place = "`order.created` 1 as it is live and as it is to be are not backward compatible";
    assert!(error.contains(place), "{error}");
    Ok(())
}

/// Every `$ref` of a document.
fn refs(document: &Value) -> Vec<&str> {
    let (mut found, mut looking) = (Vec::new(), vec![document]);
    while let Some(value) = looking.pop() {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                looking.extend(fields.values());
            }
            Value::Array(items) => looking.extend(items),
            _ => {}
        }
    }
    found
}

#[tokio::test]
async fn the_export_is_asyncapi_3() -> Result<()> {
    let server = server();
    let manifest = MANIFEST.replace("order.created]", "order.created, 'Order~lost/x']")
        + "keys:\n  till: {secret: TILL, publishes: [order.created]}\n";
    let money = r#"{"type": "integer", "minimum": 0}"#;
    let with_ref =
        json!({"type": "object", "properties": {"total": {"$ref": "../common/money.json"}}});
    let files = [
        HANDLER,
        ("tangelo.yaml", &*manifest),
        ("contracts/order.created/1.json", &*v1()),
        ("contracts/order.created/2.json", &*v2()),
        ("contracts/order.paid/1.json", &*with_ref.to_string()),
        ("contracts/common/money.json", money),
    ];
    let folder = app(&server, "shop", &files)?;
    let document = server.json(&["contracts", "asyncapi", folder.to_str().expect("is UTF-8")])?;
    // https://www.asyncapi.com/docs/reference/specification/v3.0.0: what an object must have.
    assert_eq!(document["asyncapi"], "3.0.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let at = |place: &str| {
        let pointer = place.strip_prefix('#').expect("of this document");
        document.pointer(pointer)
    };
    let all = refs(&document);
    assert!(
        all.iter().any(|place| place.contains("money")),
        "the schema's own, too: {all:?}"
    );
    for place in all {
        assert!(at(place).is_some(), "nothing is at {place}");
    }
    let channels = document["channels"].as_object().expect("some");
    let names: BTreeSet<&str> = channels.keys().map(String::as_str).collect();
    assert_eq!(
        Vec::from_iter(names),
        ["Order~lost/x", "order.created", "order.paid"]
    );
    for (name, channel) in channels {
        assert_eq!(channel["address"], **name, "{channel}");
        for message in channel["messages"].as_object().expect("some").values() {
            let message = at(message["$ref"].as_str().expect("refers")).expect("is there");
            let payload = &message["payload"];
            assert_eq!(message["name"], **name);
            assert!(
                payload["schemaFormat"].is_string() && payload["schema"].is_object(),
                "{message}"
            );
        }
    }
    let versions = channels["order.created"]["messages"].as_object();
    assert_eq!(
        versions.map(serde_json::Map::len),
        Some(2),
        "one for each version"
    );
    let operations = document["operations"].as_object().expect("some");
    assert_eq!(operations.len(), 3, "{operations:?}");
    for operation in operations.values() {
        assert_eq!(operation["action"], "send", "{operation}");
        let channel = operation["channel"]["$ref"].as_str().expect("refers");
        assert!(channel.starts_with("#/channels/"), "{operation}");
    }
    let key = "till.key-send-order.created";
    assert_eq!(
        operations[key]["channel"]["$ref"],
        "#/channels/order.created"
    );
    // Keys of components are of these characters alone.
    let messages = document["components"]["messages"]
        .as_object()
        .expect("some");
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    assert!(
        messages.keys().all(|name| name.chars().all(plain)),
        "{messages:?}"
    );
    Ok(())
}
