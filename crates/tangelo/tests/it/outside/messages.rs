//! Publishing over a WebSocket: Node's own client, a kill with many events under way, and a key that is taken away.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde_json::Value;
use testkit::{Server, eventually};

use super::receiver::server;

const TILL: &str = "tgk_till-0123456789";
const SECRETS: [(&str, &str); 1] = [("TILL", TILL)];
const MANIFEST: &str = "
app: orders
subscriptions:
  warehouse:
    event: {type: [order.paid]}
    to: {pull: {lease: 30s}}
keys:
  till: {secret: TILL, publishes: [order.*]}
";

#[tokio::test]
async fn nothing_that_was_acknowledged_is_lost_by_a_kill_and_the_rest_is_sent_again() -> Result<()>
{
    const COUNT: usize = 4000;
    let (mut server, _folder) = server(&SECRETS)?;
    server.deploy(&[("tangelo.yaml", MANIFEST)])?;
    let url = |server: &Server| {
        let gateway = server.addresses().gateway.replace("http://", "ws://");
        format!("{gateway}/_tangelo/bus/orders/events")
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/outside/messages.mjs");
    let mut client = Command::new("timeout")
        .args([
            "100",
            "node",
            "--experimental-websocket",
            "--no-warnings",
            script,
        ])
        .args([&url(&server), TILL])
        .arg(COUNT.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("node")?;
    let (mut tell, heard) = (client.stdin.take(), client.stdout.take());
    let mut heard = BufReader::new(heard.context("it is piped")?).lines();
    assert_eq!(heard.next().context("it speaks")??, "half");
    server.kill()?;
    server.restart()?;
    writeln!(tell.as_mut().context("it is piped")?, "{}", url(&server))?;
    let said = heard.next().context("it goes on")??;
    let said: Value = serde_json::from_str(&said)?;
    assert_eq!(said["acknowledged"], COUNT, "{said}");
    // Every one is there, and once: those that were stored and not answered are told to be duplicates.
    let stored = eventually("all are there to be pulled", || async {
        let all = server.json(&["subscriptions"]).ok()?;
        all["subscriptions"][0]["backlog"]
            .as_u64()
            .filter(|backlog| *backlog >= COUNT as u64)
    })
    .await;
    assert_eq!(stored, COUNT as u64, "{said}");
    assert!(client.wait()?.success());
    Ok(())
}
