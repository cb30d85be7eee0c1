//! Publishing over a WebSocket: Node's own client, a kill with many events under way, and a key that is taken away.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
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

#[tokio::test]
async fn a_key_that_is_taken_away_closes_a_connection_that_says_nothing() -> Result<()> {
    let (server, _folder) = server(&SECRETS)?;
    server.deploy(&[("tangelo.yaml", MANIFEST)])?;
    let gateway = server.addresses().gateway.clone();
    let address = gateway.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "GET /_tangelo/bus/orders/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TILL}\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )?;
    let (mut heard, mut line) = (BufReader::new(stream), String::new());
    heard.read_line(&mut line)?;
    assert!(line.contains(" 101 "), "{line}");
    while !line.trim_end().is_empty() {
        line.clear();
        heard.read_line(&mut line)?;
    }
    let (without, _) = MANIFEST.split_once("keys:").context("it has keys")?;
    server.deploy(&[("tangelo.yaml", without)])?;
    let mut last = Vec::new();
    heard.read_to_end(&mut last)?;
    // A close, and why (RFC 6455, section 5.5.1).
    let told = String::from_utf8_lossy(&last);
    assert_eq!(last.first(), Some(&0x88), "{told}");
    assert_eq!(last.get(2..4), Some(&1008_u16.to_be_bytes()[..]), "{told}");
    assert!(told.contains("no good key"), "{told}");
    Ok(())
}
