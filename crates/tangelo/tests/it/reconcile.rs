//! Reconciliation through the binary: a row is corrupted, the next sweep says so and hands it to a workload that mends it, once.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::{python, server};

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

/// Stock and levels that agree, and the manifest that compares them.
fn stocked(server: &Server) -> Result<String> {
    let place = server.scratch();
    std::fs::create_dir_all(&place)?;
    std::fs::write(
        place.join("levels.json"),
        r#"[{"sku": "a", "quantity": 3}, {"sku": "b", "quantity": 5}]"#,
    )?;
    run(
        server,
        "CREATE TABLE stock (sku TEXT PRIMARY KEY, quantity REAL); INSERT INTO stock VALUES ('a', 3), ('b', 5)",
    )?;
    Ok(MANIFEST.replace("PLACE", &place.to_string_lossy()))
}

fn sweep(server: &Server) -> Result<Value> {
    server.json(&["reconcile", "run", "stock/levels"])
}

#[tokio::test]
async fn a_corrupted_row_is_reported_and_repaired_once() -> Result<()> {
    let mut server = server();
    let place = server.scratch();
    let manifest = stocked(&server)?;
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

fn shown(server: &Server) -> Option<Value> {
    server.json(&["reconcile", "show", "stock/levels"]).ok()
}

/// Nobody asks for a sweep: it comes by itself, and what has not lasted is handed to nobody.
#[tokio::test]
async fn sweeps_come_by_themselves_and_what_passes_is_not_handed() -> Result<()> {
    let server = server();
    let place = server.scratch();
    let manifest = stocked(&server)?;
    std::fs::write(place.join("strike"), "")?;
    let manifest = manifest.replace("every: 1d", "every: 1s\n    after: 5s");
    server.deploy(&[("tangelo.yaml", &manifest), ("code/app.py", CODE)])?;
    let last =
        || async { server.json(&["reconcile"]).ok()?["reconciliations"][0]["last"]["at"].as_u64() };
    let first = eventually("it is swept", &last).await;
    eventually("and again", || async {
        (last().await? > first).then_some(())
    })
    .await;
    let found = |key: &'static str| {
        let server = &server;
        move || async move {
            let shown = shown(server)?;
            let all = shown["differences"].as_array()?;
            all.iter().find(|one| one["key"] == key).cloned()
        }
    };
    run(&server, "UPDATE stock SET quantity = 50 WHERE sku = 'b'")?;
    let passing = eventually("it is found", found("b")).await;
    assert_eq!(passing["handed_at"], Value::Null, "{passing}");
    run(&server, "UPDATE stock SET quantity = 5 WHERE sku = 'b'")?;
    eventually("it has settled by itself", || async {
        shown(&server)?["differences"]
            .as_array()?
            .is_empty()
            .then_some(())
    })
    .await;
    run(&server, "UPDATE stock SET quantity = 30 WHERE sku = 'a'")?;
    let lasting = eventually("the other one is handed", || async {
        found("a")().await.filter(|one| one["handed_at"].is_u64())
    })
    .await;
    let time = |name: &str| lasting[name].as_u64().unwrap_or_default();
    let lasted = time("handed_at") - time("found_at");
    assert!(lasted >= 5_000_000, "after {lasted} us: {lasting}");
    let repairs = eventually("repair has it", || async {
        let all = mended(&server);
        (!all.is_empty()).then_some(all)
    })
    .await;
    assert_eq!(repairs.len(), 1, "{repairs:?}");
    assert_eq!(repairs[0]["difference"]["key"], "a");
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

/// A shop's own list of orders, and a read model of them that is fed from the log.
const PROJECTED: &str = "
app: shop
workloads:
  index:
    as: service
    run: {process: {command: [python3, index.py]}}
    state: [folder]
    on: [{event: {type: [order.created]}, name: orders, projection: {}}]
databases:
  shop:
    sqlite: {file: 'PLACE/shop.db'}
reconcile:
  orders:
    every: 1d
    key: id
    left: {query: {database: shop, sql: 'SELECT id, total FROM orders'}}
    right: {projection: {workload: index, name: orders, path: /rows}}
";

/// Keeps a list for each generation; takes an event only while there is no file `hold`, and gets one total wrong when it is told to.
const INDEX: &str = r#"
folder = os.environ["TANGELO_STATE_DIR"]

def load(generation):
    try:
        return json.load(open("%s/%s" % (folder, generation)))
    except FileNotFoundError:
        return {}

class Handler(Answers):
    def do_GET(self):
        self.answer(200, list(load(self.headers["x-tangelo-generation"]).values()))
    def do_POST(self):
        data = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if os.path.exists("PLACE/hold"):
            return self.answer(503, {})
        generation = self.headers["ce-tangelogeneration"]
        rows = load(generation)
        rows[data["id"]] = data
        if os.path.exists("PLACE/wrong") and generation == "1":
            rows[data["id"]]["total"] = 0
        with open(folder + "/new", "w") as file:
            json.dump(rows, file)
        os.replace(folder + "/new", "%s/%s" % (folder, generation))
        self.answer(200, {})
"#;

/// What a projection has not had yet is no difference; what its live generation got wrong is one, and none of the next generation.
#[tokio::test]
async fn a_projection_is_compared_once_it_has_had_every_event() -> Result<()> {
    let server = server();
    let place = server.scratch();
    std::fs::create_dir_all(&place)?;
    run(
        &server,
        "CREATE TABLE orders (id TEXT PRIMARY KEY, total REAL)",
    )?;
    let there = |text: &str| text.replace("PLACE", &place.to_string_lossy());
    server.deploy(&[
        ("tangelo.yaml", &there(PROJECTED)),
        ("index.py", &python::service(&there(INDEX))),
    ])?;
    let order = |id: u32| -> Result<()> {
        run(&server, &format!("INSERT INTO orders VALUES ('{id}', 10)"))?;
        let data = json!({"id": id.to_string(), "total": 10}).to_string();
        server.json(&["publish", "order.created", "-d", &data])?;
        Ok(())
    };
    let sweep = || server.json(&["reconcile", "run", "shop/orders"]);
    // Compared at once: each sweep waits for what was published before it.
    for id in 1..=20 {
        order(id)?;
        let swept = sweep()?;
        let told = (&swept["differences"], &swept["rows"]);
        assert_eq!(told, (&json!(0), &json!([id, id])), "{swept}");
    }
    // It takes nothing: that is said, and no row is said to be missing.
    std::fs::write(place.join("hold"), "")?;
    order(21)?;
    let failed = server.cli(&["--json", "reconcile", "run", "shop/orders"])?;
    let failed: Value = serde_json::from_slice(&failed.stdout)?;
    assert_eq!(failed["error"]["code"], "TG1010", "{failed}");
    let why = failed["error"]["message"].to_string();
    assert!(
        why.contains("projection `shop/index/orders` is behind by 1 event"),
        "{why}"
    );
    let shown = server.json(&["reconcile", "show", "shop/orders"])?;
    assert_eq!(shown["differences"], json!([]));
    // It takes it, and gets it wrong.
    std::fs::write(place.join("wrong"), "")?;
    std::fs::remove_file(place.join("hold"))?;
    let swept = eventually("it has had it", || async { sweep().ok() }).await;
    assert_eq!(swept["differences"], 1, "{swept}");
    let shown = server.json(&["reconcile", "show", "shop/orders"])?;
    let found = &shown["differences"][0];
    assert_eq!(
        (&found["kind"], &found["key"]),
        (&json!("differs"), &json!("21"))
    );
    // Built anew it is right: the generation that is live is asked.
    server.json(&["projections", "rebuild", "shop/index/orders"])?;
    eventually("the new one is live", || async {
        let shown = server
            .json(&["projections", "show", "shop/index/orders"])
            .ok()?;
        (shown["live"] == 2).then_some(())
    })
    .await;
    let swept = sweep()?;
    let told = (&swept["differences"], &swept["resolved"], &swept["rows"]);
    assert_eq!(told, (&json!(0), &json!(1), &json!([21, 21])), "{swept}");
    Ok(())
}
