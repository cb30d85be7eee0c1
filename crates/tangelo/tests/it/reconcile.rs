//! Reconciliation through the binary: a row is corrupted, the next sweep says so and hands it to a workload that mends it, once.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::server;

/// A shop's own list of stock in a SQLite file, and a warehouse that answers with what is there.
const MANIFEST: &str = "
app: stock
workloads:
  warehouse:
    as: function
    run: {lambda: {runtime: python3, handler: app.warehouse, code: code}}
    env: {FOLDER: 'PLACE'}
  mend:
    as: function
    run: {lambda: {runtime: python3, handler: app.mend, code: code}}
    env: {FOLDER: 'PLACE'}
databases:
  shop:
    sqlite: {file: 'PLACE/shop.db'}
reconcile:
  levels:
    every: 1d
    key: sku
    left: {query: {database: shop, sql: 'SELECT sku, quantity FROM stock'}}
    right: {workload: {name: warehouse, path: /levels}}
    repair: mend
";

const CODE: &str = r#"
import json, os, sqlite3
FOLDER = os.environ["FOLDER"]

def warehouse(event, context):
    with open(FOLDER + "/levels.json") as file:
        return json.load(file)

def mend(event, context):
    with open(FOLDER + "/mended", "a") as file:
        file.write(json.dumps(event) + "\n")
    if os.path.exists(FOLDER + "/strike"):
        return
    row = event["difference"]["right"]
    db = sqlite3.connect(FOLDER + "/shop.db", timeout=10)
    with db:
        db.execute("INSERT OR REPLACE INTO stock VALUES (?, ?)", (row["sku"], row["quantity"]))
"#;

fn mended(server: &Server) -> Vec<Value> {
    let text = std::fs::read_to_string(server.scratch().join("mended")).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn run(server: &Server, text: &str) -> Result<()> {
    let db = rusqlite::Connection::open(server.scratch().join("shop.db"))?;
    Ok(db.execute_batch(text)?)
}

fn sweep(server: &Server) -> Result<Value> {
    server.json(&["reconcile", "run", "stock/levels"])
}

#[tokio::test]
async fn a_corrupted_row_is_reported_and_repaired_once() -> Result<()> {
    let mut server = server();
    let place = server.scratch();
    std::fs::create_dir_all(&place)?;
    std::fs::write(
        place.join("levels.json"),
        r#"[{"sku": "a", "quantity": 3}, {"sku": "b", "quantity": 5}]"#,
    )?;
    run(
        &server,
        "CREATE TABLE stock (sku TEXT PRIMARY KEY, quantity REAL); INSERT INTO stock VALUES ('a', 3), ('b', 5)",
    )?;
    let manifest = MANIFEST.replace("PLACE", &place.to_string_lossy());
    server.deploy(&[("tangelo.yaml", &manifest), ("code/app.py", CODE)])?;
    let swept = sweep(&server)?;
    assert_eq!(
        (&swept["differences"], &swept["rows"]),
        (&json!(0), &json!([2, 2])),
        "{swept}"
    );
    run(&server, "UPDATE stock SET quantity = 30 WHERE sku = 'a'")?;
    let swept = sweep(&server)?;
    assert_eq!(
        (&swept["differences"], &swept["handed"]),
        (&json!(1), &json!(1)),
        "{swept}"
    );
    let mend = eventually("it is handed to repair", || async {
        mended(&server).into_iter().next()
    })
    .await;
    assert_eq!(mend["difference"]["key"], "a");
    assert_eq!(mend["difference"]["columns"], json!(["quantity"]));
    eventually("it is mended", || async {
        let swept = sweep(&server).ok()?;
        (swept["differences"] == 0).then_some(())
    })
    .await;
    // Nobody mends: it is handed once, through sweeps and a kill, and again only when it is another one.
    std::fs::write(place.join("strike"), "")?;
    run(&server, "DELETE FROM stock WHERE sku = 'b'")?;
    assert_eq!(sweep(&server)?["handed"], 1);
    eventually("it is handed", || async {
        (mended(&server).len() == 2).then_some(())
    })
    .await;
    assert_eq!(sweep(&server)?["handed"], 0);
    server.kill()?;
    server.restart()?;
    let swept = sweep(&server)?;
    assert_eq!(
        (&swept["differences"], &swept["handed"]),
        (&json!(1), &json!(0)),
        "{swept}"
    );
    let shown = server.json(&["reconcile", "show", "stock/levels"])?;
    let known = &shown["differences"][0];
    assert_eq!(
        (&known["kind"], &known["key"], &known["left"]),
        (&json!("missing_left"), &json!("b"), &Value::Null)
    );
    assert!(
        known["handed_at"].is_number() && known["invocation"].is_string(),
        "{known}"
    );
    run(&server, "INSERT INTO stock VALUES ('b', 4)")?;
    assert_eq!(sweep(&server)?["handed"], 1);
    eventually("the other one is handed", || async {
        (mended(&server).len() == 3).then_some(())
    })
    .await;
    // A source that fails is no difference.
    std::fs::write(place.join("levels.json"), "{}")?;
    let failed = server.cli(&["--json", "reconcile", "run", "stock/levels"])?;
    assert!(!failed.status.success());
    let failed: Value = serde_json::from_slice(&failed.stdout)?;
    assert_eq!(failed["error"]["code"], "TG1010", "{failed}");
    let listed = server.json(&["reconcile"])?;
    assert_eq!(
        listed["reconciliations"][0]["last"]["error"]["code"],
        "TG1010"
    );
    Ok(())
}

/// What was found is forgotten with the reconciliation, also when the server that removed it did not come to that.
#[tokio::test]
async fn differences_of_what_was_removed_are_forgotten_also_by_the_next_server() -> Result<()> {
    let mut server = server();
    let place = server.scratch();
    std::fs::create_dir_all(&place)?;
    std::fs::write(place.join("levels.json"), "[]")?;
    run(
        &server,
        "CREATE TABLE stock (sku TEXT PRIMARY KEY, quantity REAL); INSERT INTO stock VALUES ('a', 3)",
    )?;
    let manifest = MANIFEST.replace("PLACE", &place.to_string_lossy());
    let manifest = manifest.replace("repair: mend", "");
    server.deploy(&[("tangelo.yaml", &manifest), ("code/app.py", CODE)])?;
    assert_eq!(sweep(&server)?["differences"], 1);
    server.stop()?;
    let file = server.data().join("state.db");
    let state = || rusqlite::Connection::open(&file);
    let count = |app: &str| -> Result<u64> {
        let text = "SELECT count(*) FROM difference WHERE app = ?1";
        Ok(state()?.query_row(text, [app], |row| row.get(0))?)
    };
    assert_eq!(count("stock")?, 1);
    // As a kill between the removal of another app and this leaves it.
    state()?.execute(
        "INSERT INTO difference SELECT 'gone', reconciliation, key, hash, body, found_at, seen_at, handed_at, invocation
         FROM difference",
        [],
    )?;
    server.restart()?;
    eventually("the other app's is forgotten", || async {
        (count("gone").ok()? == 0).then_some(())
    })
    .await;
    assert_eq!(count("stock")?, 1);
    server.json(&["remove", "stock"])?;
    eventually("so is that of one that is removed", || async {
        (count("stock").ok()? == 0).then_some(())
    })
    .await;
    Ok(())
}
