//! How long the log keeps events: those that somebody needs stay, what goes stays gone over a kill, and a replay of it says so.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::server;

const MANIFEST: &str = "
app: brief
workloads:
  sink:
    as: service
    run: {process: {command: [python3, echo.py]}}
    state: [folder]
    on: [{event: {type: [item.made]}, name: made, batch: {size: 100, window: 10ms}}]
gateway:
  routes:
    - {path: /events, to: events}
events: {retention: {time: 1s}}
";

const KEY: &str = "brief/sink/made";
const COUNT: u64 = 1200;

async fn publish(server: &Server) -> Result<()> {
    for batch in 0..COUNT / 200 {
        let event = |number: u64| json!({"specversion": "1.0", "id": format!("{batch}-{number}"), "source": "/s", "type": "item.made", "data": {}});
        let events: Value = (0..200).map(event).collect();
        let kind = [("content-type", "application/cloudevents-batch+json")];
        let gateway = server.gateway();
        let sent = gateway.send(
            http::Method::POST,
            "/events",
            &kind,
            events.to_string().into(),
        );
        assert_eq!(sent.await?.status, http::StatusCode::ACCEPTED);
    }
    Ok(())
}

fn log(server: &Server) -> Option<Value> {
    Some(server.json(&["events", "status"]).ok()?["logs"][0].clone())
}

#[tokio::test]
async fn what_is_needed_stays_and_what_went_is_told() -> Result<()> {
    let mut server = server();
    server.deploy(&[("tangelo.yaml", MANIFEST), ("echo.py", crate::ECHO)])?;
    server.json(&["subscriptions", "pause", KEY])?;
    publish(&server).await?;
    let held = eventually("the subscription holds the log", || async {
        let log = log(&server)?;
        (log["events"] == COUNT && !log["held"].as_array()?.is_empty()).then_some(log)
    })
    .await;
    assert_eq!(
        held["held"][0]["by"],
        format!("subscription {KEY}"),
        "{held}"
    );
    assert_eq!(held["apps"][1]["app"], "brief");
    let metrics = server.control().get("/metrics").await?.text();
    let line = format!("tangelo_log_held_events{{namespace=\"default\"}} {COUNT}");
    assert!(metrics.contains(&line), "{metrics}");
    // Also over a kill, and however old they are by then.
    server.kill()?;
    server.restart()?;
    assert_eq!(
        log(&server).map(|log| log["events"].clone()),
        Some(json!(COUNT))
    );
    server.json(&["subscriptions", "resume", KEY])?;
    let gone = eventually("all of them go when nobody needs them", || async {
        let log = log(&server)?;
        (log["events"] == 0).then_some(log)
    })
    .await;
    assert_eq!(
        (&gone["bytes"], &gone["gone_through"]),
        (&json!(0), &json!(COUNT))
    );
    let dry = server.json(&["events", "replay", KEY, "--dry-run"])?;
    assert_eq!(
        (&dry["would_deliver"], &dry["gone_through"]),
        (&json!(0), &json!(COUNT))
    );
    server.kill()?;
    server.restart()?;
    let after = log(&server).unwrap_or_default();
    assert_eq!(
        (&after["events"], &after["head"]),
        (&json!(0), &json!(COUNT))
    );
    Ok(())
}
