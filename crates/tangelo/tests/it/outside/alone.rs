//! The bus of an app without workloads, as those outside use it: curl and Python, and nothing of Tangelo.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::{Server, eventually};

use super::receiver::{Receiver, SECRET, server};

const TILL: &str = "tgk_till-0123456789";
const WAREHOUSE: &str = "tgk_warehouse-0123456789";
const SECRETS: [(&str, &str); 3] = [
    ("PARTNER", SECRET),
    ("TILL", TILL),
    ("WAREHOUSE", WAREHOUSE),
];

const MANIFEST: &str = "
app: orders
subscriptions:
  warehouse:
    event: {type: [order.paid]}
    order: {key: $.subject}
    retry: {attempts: 3, backoff: 10ms, max_backoff: 50ms}
    to: {pull: {lease: 30s}}
keys:
  till: {secret: TILL, publishes: [order.*]}
  warehouse: {secret: [WAREHOUSE, NEXT], pulls: [warehouse]}
";

/// Status and body of what curl was answered.
fn curl(server: &Server, key: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
    let url = format!("{}/_tangelo/bus/{path}", server.addresses().gateway);
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--write-out",
        "\n%{http_code}",
        "--header",
    ]);
    curl.arg(format!("authorization: Bearer {key}"));
    if let Some(body) = body {
        curl.args([
            "--header",
            "content-type: application/cloudevents+json",
            "--data",
        ]);
        curl.arg(body.to_string());
    }
    let Output { stdout, stderr, .. } = curl.arg(url).output().context("curl")?;
    let text = String::from_utf8(stdout)?;
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    ensure!(!status.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    Ok((status.parse()?, body))
}

fn event(kind: &str, id: &str) -> Value {
    json!({"specversion": "1.0", "type": kind, "source": "/till", "id": id, "subject": id, "data": {"id": id}})
}

fn publish(server: &Server, id: &str) -> Result<()> {
    let (status, said) = curl(
        server,
        TILL,
        "orders/events",
        Some(&event("order.paid", id)),
    )?;
    ensure!(status == 202, "{said}");
    Ok(())
}

async fn pull(server: &Server, query: &str) -> Vec<Value> {
    eventually("there is something to pull", || async {
        let path = format!("orders/pull/warehouse?wait=1s&{query}");
        let (_, said) = curl(server, WAREHOUSE, &path, None).ok()?;
        said["events"]
            .as_array()
            .filter(|rows| !rows.is_empty())
            .cloned()
    })
    .await
}

#[tokio::test]
async fn outside_producers_and_consumers_need_nothing_but_http() -> Result<()> {
    const COUNT: usize = 12;
    let receiver = Receiver::start(&[SECRET], None)?;
    let (server, _folder) = server(&SECRETS)?;
    let partner = format!(
        "  partner:\n    event: {{type: [order.paid]}}\n    to: {{webhook: {{url: 'http://127.0.0.1:{0}', secret: PARTNER, egress: ['127.0.0.1:{0}']}}}}\nkeys:",
        receiver.port
    );
    let deployed = server.deploy(&[("tangelo.yaml", &MANIFEST.replace("keys:", &partner))])?;
    assert!(deployed["notes"].to_string().contains("NEXT"), "{deployed}");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/outside/client.py");
    let client = Command::new("python3")
        .args([
            script,
            &server.addresses().gateway,
            TILL,
            WAREHOUSE,
            &COUNT.to_string(),
        ])
        .output()?;
    let told = String::from_utf8_lossy(&client.stderr);
    let said: Value = serde_json::from_slice(&client.stdout).context(told.into_owned())?;
    assert_eq!(said["accepted"], COUNT);
    let taken: Vec<u64> = serde_json::from_value(said["taken"].clone())?;
    for key in 0..4 {
        let own: Vec<u64> = taken.iter().copied().filter(|n| n % 4 == key).collect();
        assert!(
            own.is_sorted() && own.len() == COUNT / 4,
            "in order: {own:?}"
        );
    }
    assert!(
        said["keys"]
            .as_array()
            .is_some_and(|all| all.iter().all(|n| n == 1))
    );
    // The same events came to the endpoint.
    let seen = receiver.saw(COUNT).await;
    assert!(seen.iter().all(|one| one.valid == [true]));
    eventually("all is settled", || async {
        let all = server.json(&["subscriptions"]).ok()?;
        let idle = |row: &Value| row["backlog"] == 0 && row["in_flight"] == 0 && row["dead"] == 0;
        all["subscriptions"]
            .as_array()?
            .iter()
            .all(idle)
            .then_some(())
    })
    .await;
    seen_by_operators(&server, COUNT)
}

/// What was pulled is on the bill, and who has which key is on a list.
fn seen_by_operators(server: &Server, count: usize) -> Result<()> {
    let usage = server.json(&["usage", "--app", "orders"])?;
    let rows = usage["usage"].as_array().context("rows")?;
    let pulled = rows.iter().find(|row| row["workload"] == "warehouse");
    let pulled = pulled.with_context(|| usage.to_string())?;
    // One for each time that an event was handed out.
    ensure!(
        pulled["requests"].as_u64() >= Some(count as u64),
        "{pulled}"
    );
    ensure!(
        pulled["wall_us"].as_u64() > Some(0) && pulled["bytes_out"].as_u64() > Some(0),
        "{pulled}"
    );
    let keys = server.json(&["keys", "--app", "orders"])?;
    let row = |name: &str| {
        let rows = keys["keys"].as_array().into_iter().flatten();
        let row = rows.into_iter().find(|row| row["key"] == name).cloned();
        row.with_context(|| keys.to_string())
    };
    let till = row("till")?;
    ensure!(
        till["publishes"][0] == "order.*" && till["last_used"].is_string(),
        "{till}"
    );
    ensure!(till["secrets"].to_string().contains("good"), "{till}");
    ensure!(row("warehouse")?["pulls"][0] == "warehouse", "{keys}");
    ensure!(!keys.to_string().contains(TILL), "secrets stay secret");
    Ok(())
}

#[tokio::test]
async fn a_key_opens_what_it_says_and_nothing_else() -> Result<()> {
    let (server, _folder) = server(&SECRETS)?;
    server.deploy(&[("tangelo.yaml", MANIFEST)])?;
    let good = event("order.paid", "1");
    let check = |key: &str, path: &str, body: Option<&Value>, status: u16, code: &str| {
        let (found, said) = curl(&server, key, path, body)?;
        ensure!(
            found == status && said.to_string().contains(code),
            "{key} {path}: {found} {said}"
        );
        Ok(())
    };
    check(TILL, "orders/events", Some(&good), 202, "position")?;
    check(
        TILL,
        "orders/events",
        Some(&good),
        202,
        "\"duplicate\":true",
    )?;
    check(
        TILL,
        "orders/events",
        Some(&event("stock.taken", "2")),
        403,
        "TG0221",
    )?;
    check(WAREHOUSE, "orders/events", Some(&good), 403, "TG0221")?;
    check(TILL, "orders/pull/warehouse", None, 403, "TG0221")?;
    check(WAREHOUSE, "orders/pull/till", None, 403, "TG0221")?;
    check(
        "tgk_nobodys-0123456789",
        "orders/events",
        Some(&good),
        401,
        "TG0220",
    )?;
    check("", "orders/events", Some(&good), 401, "TG0220")?;
    check(TILL, "other/events", Some(&good), 401, "TG0220")?;
    check(TILL, "orders/stream", None, 404, "TG0201")?;
    check(TILL, "orders/events", None, 405, "TG0202")?;
    check(
        WAREHOUSE,
        "orders/pull/warehouse?most=1",
        None,
        400,
        "TG0211",
    )?;
    check(
        WAREHOUSE,
        "orders/pull/warehouse/ack",
        Some(&json!({"lease": "1"})),
        400,
        "TG0211",
    )?;
    check(
        WAREHOUSE,
        "orders/pull/warehouse/ack",
        Some(&json!({"leases": ["1", "é"]})),
        200,
        "\"gone\":[\"1\",\"é\"]",
    )?;
    Ok(())
}

#[tokio::test]
async fn leases_end_are_extended_and_are_gone_after_a_kill() -> Result<()> {
    let (mut server, _folder) = server(&SECRETS)?;
    server.deploy(&[("tangelo.yaml", MANIFEST)])?;
    publish(&server, "1")?;
    let waits = |server: &Server| {
        let all = server.json(&["subscriptions"]).ok()?;
        Some(all["subscriptions"][0]["waiting_on"].as_str()?.to_owned())
    };
    eventually("it says that nobody comes", || async {
        (waits(&server)? == "somebody to pull it").then_some(())
    })
    .await;
    // A lease that ends is a failed attempt; what is extended is not out again meanwhile.
    let first = pull(&server, "lease=1s").await;
    let second = pull(&server, "lease=1h").await;
    assert_eq!(
        (&first[0]["attempt"], &second[0]["attempt"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(first[0]["key"], second[0]["key"]);
    let late = json!({"leases": [first[0]["lease"], second[0]["lease"]], "lease": "1h"});
    let (_, said) = curl(
        &server,
        WAREHOUSE,
        "orders/pull/warehouse/extend",
        Some(&late),
    )?;
    assert_eq!(
        (&said["gone"][0], &said["done"][0]),
        (&first[0]["lease"], &second[0]["lease"])
    );
    // Killed, nobody's lease is good any more, and nothing is lost.
    server.kill()?;
    server.restart()?;
    let done = json!({"leases": [second[0]["lease"]]});
    let (_, said) = curl(&server, WAREHOUSE, "orders/pull/warehouse/ack", Some(&done))?;
    assert_eq!(said["gone"][0], second[0]["lease"]);
    let third = pull(&server, "lease=1h").await;
    assert_eq!(third[0]["key"], first[0]["key"]);
    let (_, said) = curl(
        &server,
        WAREHOUSE,
        "orders/pull/warehouse/nack",
        Some(&json!({"leases": [third[0]["lease"]], "dead": true, "reason": "no such article"})),
    )?;
    assert_eq!(said["done"][0], third[0]["lease"]);
    let dead = server.json(&["dead-letters"])?.to_string();
    assert!(
        dead.contains("TG0562") && dead.contains("no such article"),
        "{dead}"
    );
    Ok(())
}
