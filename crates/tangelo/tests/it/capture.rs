//! Changes of tables through the binary: an insert in an app's own database reaches a function, with the row before and after.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Postgres, Server, eventually};

use crate::server;

const MANIFEST: &str = "
app: changes
workloads:
  search:
    as: function
    run: {lambda: {runtime: python3, handler: app.handler, code: search}}
    on: [{event: {type: [{prefix: orders.}]}}]
    env: {INTO: 'FOLDER/changes'}
databases:
  orders:
    DATABASE
    capture: {tables: [orders], poll: 100ms}
";

const HANDLER: &str = "
import json, os
def handler(event, context):
    with open(os.environ['INTO'], 'a') as file:
        file.write(json.dumps([event['detail-type'], event['detail']['before'], event['detail']['after']]) + '\\n')
";

fn deployed(server: &Server, database: &str) -> Result<()> {
    let folder = server.scratch();
    let manifest = MANIFEST
        .replace("FOLDER", &folder.to_string_lossy())
        .replace("DATABASE", database);
    server.deploy(&[("tangelo.yaml", &manifest), ("search/app.py", HANDLER)])?;
    Ok(())
}

fn kept(server: &Server) -> Vec<Value> {
    let text = std::fs::read_to_string(server.scratch().join("changes")).unwrap_or_default();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines.collect()
}

fn state(server: &Server) -> Option<Value> {
    server.json(&["capture"]).ok()?["captures"].get(0).cloned()
}

/// Makes the capture, changes a row by `run`, and waits until the function has seen it all.
async fn changes_reach_the_function(
    server: &mut Server,
    run: &dyn Fn(&str) -> Result<()>,
) -> Result<()> {
    run("CREATE TABLE orders (id integer PRIMARY KEY, state text)")?;
    eventually("it says what is missing", || async {
        state(server).filter(|s| s["why"]["code"] == "TG1008")
    })
    .await;
    let made = server.json(&["capture", "init", "changes/orders"])?;
    assert_eq!(
        made["tables"],
        json!([{"table": "orders", "captured": true}])
    );
    eventually("it relays", || async {
        state(server).filter(|s| s["state"] == "relaying")
    })
    .await;
    run("INSERT INTO orders VALUES (1, 'new')")?;
    let inserted = json!(["orders.inserted", null, {"id": 1, "state": "new"}]);
    eventually("the insert arrives", || async {
        kept(server).contains(&inserted).then_some(())
    })
    .await;
    server.kill()?;
    run("UPDATE orders SET state = 'paid'")?;
    run("DELETE FROM orders")?;
    server.restart()?;
    let updated = json!(["orders.updated", {"id": 1, "state": "new"}, {"id": 1, "state": "paid"}]);
    let deleted = json!(["orders.deleted", {"id": 1, "state": "paid"}, null]);
    eventually("what happened meanwhile arrives", || async {
        let kept = kept(server);
        [&updated, &deleted]
            .iter()
            .all(|one| kept.contains(one))
            .then_some(())
    })
    .await;
    let shown = server.json(&["capture", "status", "changes/orders"])?;
    assert_eq!(shown["tables"][0]["captured"], true, "{shown}");
    // It goes once it is no longer declared, or while it is: the status then says so.
    eventually("it can be dropped", || async {
        server.json(&["capture", "drop", "changes/orders"]).ok()
    })
    .await;
    eventually("it says that nothing is captured", || async {
        state(server).filter(|s| s["why"]["code"] == "TG1008")
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn changes_of_a_sqlite_table_reach_a_function() -> Result<()> {
    let mut server = server();
    std::fs::create_dir_all(server.scratch())?;
    let file = server.scratch().join("orders.db");
    deployed(&server, &format!("sqlite: {{file: '{}'}}", file.display()))?;
    let run = |text: &str| {
        let db = rusqlite::Connection::open(&file)?;
        Ok(db.execute_batch(text)?)
    };
    changes_reach_the_function(&mut server, &run).await
}

#[tokio::test]
async fn changes_of_a_postgres_table_reach_a_function() -> Result<()> {
    let Some(database) = Postgres::start() else {
        return Ok(());
    };
    let mut server = server();
    deployed(&server, &format!("postgres: {{url: '{}'}}", database.url()))?;
    let run = |text: &str| database.psql(text).map(drop);
    changes_reach_the_function(&mut server, &run).await
}
