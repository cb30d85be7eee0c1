//! Bridges to Kafka, against a cluster that speaks Kafka's protocol, with Kafka's own client on the other side: records become
//! events, events become records, whatever is killed or away meanwhile.

mod cluster;
mod inward;
mod outward;
mod secured;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::{Server, eventually};

/// A manifest with one bridge.
fn manifest(brokers: &str, ways: &str) -> String {
    format!(
        "
app: legacy
bridges:
  old:
    kafka:
      brokers: {brokers}
{ways}
"
    )
}

/// All events of the log.
fn events(server: &Server) -> Result<Vec<Value>> {
    let tail = server.cli(&["--json", "events", "tail", "-n", "1000"])?;
    ensure!(tail.status.success(), "the server answers");
    let rows = String::from_utf8(tail.stdout)?;
    let event = |row: &str| Ok(serde_json::from_str::<Value>(row)?["event"].clone());
    rows.lines().map(event).collect()
}

/// The events of a type, once there are so many.
async fn arrived(server: &Server, kind: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} of {kind} arrive"), || async {
        let mut all = events(server).ok()?;
        all.retain(|event| event["type"] == kind);
        (all.len() >= count).then_some(all)
    })
    .await
}

/// How the bridge to or from a topic is doing.
fn way(server: &Server, topic: &str) -> Result<Value> {
    let all = server.json(&["bridges"])?;
    let all = all["bridges"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|row| row["topic"] == topic);
    found.context("it is there")
}

async fn reaches(server: &Server, topic: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || async { way(server, topic).ok().filter(&is) }).await
}

/// That a way waits for a reason.
fn waits(code: &str) -> impl Fn(&Value) -> bool {
    move |row| row["state"] == "waiting" && row["why"]["code"] == code
}

fn publish(server: &Server, kind: &str, id: &str, more: &[&str]) -> Result<()> {
    let base = ["publish", kind, "--id", id, "--source", "/it"];
    server.json(&[&base[..], more].concat()).map(drop)
}

/// That all that is to go out has.
async fn written(server: &Server, subscription: &str) {
    eventually("all went out", || async {
        let all = server.json(&["subscriptions"]).ok()?;
        let rows = all["subscriptions"].as_array()?.clone();
        let row = rows
            .into_iter()
            .find(|row| row["subscription"] == subscription)?;
        let left = ["backlog", "in_flight", "retrying", "dead"];
        left.iter().all(|name| row[name] == 0).then_some(())
    })
    .await;
}
