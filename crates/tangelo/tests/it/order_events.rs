//! The example `order-events`: a service with an outbox, functions that subscribe, and what a broken function costs the service.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};
use http::StatusCode;
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::{TANGELO, server};

const RAISES: &str = "def handler(event, context):\n    raise RuntimeError('unplugged')\n";
const HANGS: &str = "import time\ndef handler(event, context):\n    time.sleep(600)\n";

fn example() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/order-events")
}

/// A server with a copy of the example, to be changed.
fn deployed() -> Result<Server> {
    let server = server();
    let copied = Command::new("cp")
        .arg("-r")
        .arg(example())
        .arg(server.scratch())
        .status()?;
    anyhow::ensure!(copied.success(), "the example is copied");
    server.deploy_folder(&server.scratch())?;
    Ok(server)
}

/// An order that is made, paid and shipped.
async fn whole_order(server: &Server, total: u32) -> Result<String> {
    let gateway = server.gateway();
    let order = json!({"customer": "ada@example.com", "total": total});
    let made = gateway.post("/orders", &order).await?;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let id = made.json()["id"].as_str().context("an id")?.to_owned();
    for step in ["pay", "ship"] {
        let done = gateway
            .post(&format!("/orders/{id}/{step}"), &json!({}))
            .await?;
        assert_eq!(done.status, StatusCode::OK, "{}", done.text());
    }
    Ok(id)
}

async fn seen(server: &Server, path: &str) -> Value {
    let answer = server.gateway().get(path).await;
    answer.map_or(Value::Null, |answer| answer.json())
}

/// Waits until `orders` orders of `total` each have reached both consumers, and looks that each event reached whom it should, once.
async fn all_arrived(server: &Server, orders: u64, total: u32) {
    let whole = json!({
        "orders": orders, "revenue": orders as f64 * f64::from(total), "kinds": ["order.created", "order.paid"],
    });
    eventually("the dashboard has everything", || async {
        (seen(server, "/dashboard").await == whole).then_some(())
    })
    .await;
    let mails = eventually("every mail is written", || async {
        let mails = seen(server, "/mails").await;
        (mails.as_array()?.len() as u64 >= orders * 2).then_some(mails)
    })
    .await;
    let count = |kind: &str| {
        let of_kind = mails.as_array().into_iter().flatten();
        of_kind.filter(|mail| mail["kind"] == kind).count() as u64
    };
    let counts = ["order.created", "order.shipped", "order.paid"].map(count);
    assert_eq!(counts, [orders, orders, 0], "{mails}");
}

#[tokio::test]
async fn each_event_reaches_its_subscribers_and_the_lint_tells_of_what_nobody_publishes()
-> Result<()> {
    let checked = Command::new(TANGELO)
        .args(["--json", "check"])
        .arg(example())
        .output()?;
    let told: Value = serde_json::from_slice(&checked.stdout)?;
    assert!(
        told.to_string()
            .contains("nobody in this app publishes `order.delayed`"),
        "{told}"
    );
    assert_eq!(
        told.to_string()
            .matches("nobody in this app publishes")
            .count(),
        1,
        "{told}"
    );
    let server = deployed()?;
    let printed = server.json(&["outbox", "init", "sqlite"])?;
    let example = std::fs::read_to_string(example().join("orders/outbox.sql"))?;
    assert_eq!(
        printed["sql"], example,
        "the example has the outbox that is printed"
    );
    whole_order(&server, 40).await?;
    all_arrived(&server, 1, 40).await;
    let refused = server
        .gateway()
        .post("/orders", &json!({"customer": "x"}))
        .await?;
    assert_eq!(
        refused.status,
        StatusCode::BAD_REQUEST,
        "what is refused announces nothing"
    );
    let status = eventually("the relay has counted", || async {
        let status = server.json(&["outbox"]).ok()?["outboxes"][0].clone();
        (status["sent"] == 3 && status["waiting"] == 0).then_some(status)
    })
    .await;
    assert_eq!(
        (&status["state"], &status["refused"], &status["lag_ms"]),
        (&json!("relaying"), &json!(0), &json!(0)),
        "{status}"
    );
    Ok(())
}

/// Each consumer in turn raises and hangs: orders go on, and it catches up when it is mended.
#[tokio::test]
async fn unplugged_consumers_are_not_noticed_and_catch_up() -> Result<()> {
    let mut server = deployed()?;
    let mut orders = 0;
    for (consumer, broken) in [("notification", RAISES), ("analytics", HANGS)] {
        let file = server.scratch().join(consumer).join("app.py");
        let good = std::fs::read_to_string(&file)?;
        std::fs::write(&file, broken)?;
        server.deploy_folder(&server.scratch())?;
        for _ in 0..5 {
            whole_order(&server, 10).await?;
            orders += 1;
        }
        // Everything has left the outbox: the service waits for nobody, and keeps nothing back.
        eventually("the outbox is empty", || async {
            let status = server.json(&["outbox"]).ok()?["outboxes"][0].clone();
            (status["waiting"] == 0 && status["sent"] == orders * 3).then_some(())
        })
        .await;
        std::fs::write(&file, good)?;
        server.deploy_folder(&server.scratch())?;
        all_arrived(&server, orders, 10).await;
    }
    // And with the server gone in between: what was committed is in the file.
    whole_order(&server, 10).await?;
    server.kill()?;
    server.restart()?;
    all_arrived(&server, orders + 1, 10).await;
    Ok(())
}
