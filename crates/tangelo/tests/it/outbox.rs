//! Outboxes through the binary: rows that apps commit are events, whatever is in the way, and operators see what waits and why.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};
use testkit::{Postgres, Server, eventually};

use crate::{ECHO, server};

const SQLITE: &str = "
app: rows
workloads:
  reader:
    as: service
    run: {process: {command: [python3, echo.py]}}
    state: [folder]
    on: [{event: {type: [{prefix: order.}]}}]
databases:
  orders:
    sqlite: {workload: reader, file: orders.db}
    outbox: {publishes: [order.created, 'order.late.*']}
gateway:
  routes: [{path: /reader/*, to: reader, rewrite: /*}]
";

const POSTGRES: &str = "
app: rows
workloads:
  reader:
    as: service
    run: {process: {command: [python3, echo.py]}}
    state: [folder]
    on: [{event: {type: [{prefix: order.}]}}]
databases:
  orders:
    postgres: {url: 'URL', password: ORDERS_PASSWORD}
    outbox: {publishes: [order.created], sent: keep, poll: 60s}
gateway:
  routes: [{path: /reader/*, to: reader, rewrite: /*}]
";

async fn seen(server: &Server) -> Vec<String> {
    let Ok(answer) = server.gateway().get("/reader/seen").await else {
        return Vec::new();
    };
    let rows = answer.json();
    let ids = rows.as_array().into_iter().flatten();
    ids.filter_map(|row| row["id"].as_str().map(str::to_owned))
        .collect()
}

fn status(server: &Server) -> Option<Value> {
    let answer = server.json(&["outbox", "status"]).ok()?;
    answer["outboxes"].get(0).cloned()
}

async fn reaches(server: &Server, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || async { status(server).filter(&is) }).await
}

/// Where a SQLite file of the workload is.
fn file(server: &Server) -> PathBuf {
    server.data().join("state/rows/reader/orders.db")
}

fn run(server: &Server, text: &str) -> Result<()> {
    let db = rusqlite::Connection::open(file(server))?;
    db.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(db.execute_batch(text)?)
}

#[tokio::test]
async fn what_is_in_the_way_is_said_and_bad_rows_are_set_aside() -> Result<()> {
    let mut server = server();
    server.deploy(&[("tangelo.yaml", SQLITE), ("echo.py", ECHO)])?;
    let waits =
        |code: &'static str| move |s: &Value| s["state"] == "waiting" && s["why"]["code"] == code;
    reaches(&server, "there is no file yet", waits("TG1001")).await;
    run(&server, "CREATE TABLE orders (id)")?;
    let told = reaches(&server, "there is no table yet", waits("TG1002")).await;
    assert!(
        told["why"]["message"]
            .to_string()
            .contains("tangelo outbox init sqlite"),
        "{told}"
    );
    assert!(told["since"].is_number(), "{told}");
    let sql = server.json(&["outbox", "init", "sqlite"])?;
    run(&server, sql["sql"].as_str().unwrap_or_default())?;
    reaches(&server, "it relays", |s| s["state"] == "relaying").await;
    run(
        &server,
        "INSERT INTO tangelo_outbox (id, type, subject, data) VALUES ('1', 'order.created', 'a', '{\"n\": 1}'),
           ('2', 'order.lost', 'a', '{}'), ('3', 'order.created', 'a', 'no json'), ('4', 'order.late.by.1', 'a', '{}')",
    )?;
    eventually("the good ones arrive", || async {
        let mut seen = seen(&server).await;
        seen.sort();
        (seen == ["1", "4"]).then_some(())
    })
    .await;
    reaches(&server, "two are set aside", |s| {
        s["refused"] == 2 && s["waiting"] == 0 && s["sent"] == 2
    })
    .await;
    let refused = server.json(&["outbox", "refused", "rows/orders"])?;
    let reasons: Vec<_> = refused["refused"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|r| r["reason"].to_string())
        .collect();
    assert!(
        reasons[0].contains("does not declare that it publishes `order.lost`"),
        "{refused}"
    );
    assert!(reasons[1].contains("`data` is no JSON"), "{refused}");
    run(
        &server,
        "UPDATE tangelo_outbox SET data = '{}' WHERE id = '3'",
    )?;
    let position = refused["refused"][1]["position"].to_string();
    assert_eq!(
        server.json(&["outbox", "retry", "rows/orders", &position])?,
        json!({"retried": 1})
    );
    eventually("the mended one arrives", || async {
        seen(&server).await.contains(&"3".to_owned()).then_some(())
    })
    .await;
    assert_eq!(
        server.json(&["outbox", "discard", "rows/orders", "--all"])?,
        json!({"discarded": 1})
    );
    let text = server.cli(&["outbox"])?;
    let text = String::from_utf8(text.stdout)?;
    assert!(
        text.contains("rows/orders") && text.contains("relaying"),
        "{text}"
    );
    // What is committed while no server runs is found by the next.
    server.stop()?;
    run(
        &server,
        "INSERT INTO tangelo_outbox (id, type) VALUES ('5', 'order.created')",
    )?;
    server.restart()?;
    eventually("it arrives later", || async {
        seen(&server).await.contains(&"5".to_owned()).then_some(())
    })
    .await;
    // An app that is removed is relayed no more.
    server.json(&["remove", "rows"])?;
    eventually("no relay is left", || async {
        status(&server).is_none().then_some(())
    })
    .await;
    Ok(())
}

/// A server that goes away and comes back, a password that is a secret, rows that stay.
#[tokio::test]
async fn rows_of_a_postgres_are_relayed_through_its_restarts() -> Result<()> {
    let Some(mut database) = Postgres::start() else {
        return Ok(());
    };
    let secrets = tempfile::NamedTempFile::new()?;
    std::fs::write(secrets.path(), "ORDERS_PASSWORD = \"sesame-4711\"\n")?;
    let secrets = secrets.path().to_string_lossy().into_owned();
    let server = Server::start_with(crate::TANGELO, &["--secrets", &secrets])?;
    database.psql("CREATE ROLE guarded LOGIN PASSWORD 'sesame-4711'")?;
    let url = database.url().replace("postgres@", "guarded@");
    server.deploy(&[
        ("tangelo.yaml", &POSTGRES.replace("URL", &url)),
        ("echo.py", ECHO),
    ])?;
    let waits =
        |code: &'static str| move |s: &Value| s["state"] == "waiting" && s["why"]["code"] == code;
    reaches(&server, "there is no table", waits("TG1002")).await;
    let sql = server.json(&["outbox", "init", "postgres"])?;
    database.psql(sql["sql"].as_str().unwrap_or_default())?;
    let told = reaches(&server, "the role has no grants", waits("TG1003")).await;
    assert!(!told.to_string().contains("sesame"), "{told}");
    database.psql("GRANT SELECT, UPDATE, DELETE ON tangelo_outbox TO guarded")?;
    reaches(&server, "it relays", |s| s["state"] == "relaying").await;
    let insert = |ids: &str| {
        database.psql(&format!(
            "INSERT INTO tangelo_outbox (id, type, subject, data) SELECT i::text, 'order.created', 'k', '{{}}' FROM generate_series({ids}) i"
        ))
    };
    // It polls once a minute here: the commit wakes it.
    insert("1, 20")?;
    let all = |count: usize| {
        let server = &server;
        async move {
            eventually("all arrive, in order", || async {
                let seen = seen(server).await;
                (seen.len() >= count).then_some(seen)
            })
            .await
        }
    };
    all(20).await;
    insert("21, 40")?;
    database.kill()?;
    reaches(&server, "the database is down", waits("TG1001")).await;
    database.restart()?;
    database.psql("INSERT INTO tangelo_outbox (id, type) VALUES ('41', 'order.created')")?;
    let mut seen = all(41).await;
    seen.sort_by_key(|id| id.parse::<u32>().unwrap_or_default());
    seen.dedup();
    let expected: Vec<_> = (1..=41).map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
    reaches(&server, "nothing waits", |s| {
        s["waiting"] == 0 && s["state"] == "relaying"
    })
    .await;
    assert_eq!(
        database.psql("SELECT count(*) FROM tangelo_outbox WHERE sent_at IS NOT NULL")?,
        "41"
    );
    Ok(())
}

/// A commit that tells nobody: the trigger that wakes is optional.
#[tokio::test]
async fn rows_without_the_trigger_that_wakes_are_found_by_polling() -> Result<()> {
    let Some(database) = Postgres::start() else {
        return Ok(());
    };
    let server = server();
    let sql = server.json(&["outbox", "init", "postgres"])?;
    database.psql(sql["sql"].as_str().unwrap_or_default())?;
    database.psql("DROP TRIGGER tangelo_outbox_wake ON tangelo_outbox")?;
    let manifest = POSTGRES.replace("URL", &database.url());
    let manifest = manifest.replace(", password: ORDERS_PASSWORD", "");
    let manifest = manifest.replace("sent: keep, poll: 60s", "poll: 1s");
    server.deploy(&[("tangelo.yaml", &manifest), ("echo.py", ECHO)])?;
    reaches(&server, "it relays", |s| s["state"] == "relaying").await;
    // One after another: a row is not found by the look of the one before.
    for number in 1..=3_usize {
        database.psql(&format!(
            "INSERT INTO tangelo_outbox (id, type) VALUES ('{number}', 'order.created')"
        ))?;
        eventually("it arrives", || async {
            (seen(&server).await.len() == number).then_some(())
        })
        .await;
    }
    eventually("rows are deleted", || async {
        let left = database.psql("SELECT count(*) FROM tangelo_outbox").ok()?;
        (left == "0").then_some(())
    })
    .await;
    Ok(())
}

/// A file that the watch misses: its name is a link, and what is written is written in another folder.
#[cfg(unix)]
#[tokio::test]
async fn rows_of_a_file_that_tells_nothing_are_found_by_polling() -> Result<()> {
    let server = server();
    let manifest = SQLITE.replace("'order.late.*']", "'order.late.*'], poll: 1s");
    server.deploy(&[("tangelo.yaml", &manifest), ("echo.py", ECHO)])?;
    let elsewhere = server.scratch().join("elsewhere.db");
    let sql = server.json(&["outbox", "init", "sqlite"])?;
    let db = rusqlite::Connection::open(&elsewhere)?;
    db.execute_batch(sql["sql"].as_str().unwrap_or_default())?;
    std::os::unix::fs::symlink(&elsewhere, file(&server))?;
    reaches(&server, "it relays", |s| s["state"] == "relaying").await;
    for number in 1..=3_usize {
        let id = number.to_string();
        let row = "INSERT INTO tangelo_outbox (id, type, subject, data) VALUES (?1, 'order.created', 'a', '{}')";
        db.execute(row, [id])?;
        eventually("it arrives", || async {
            (seen(&server).await.len() == number).then_some(())
        })
        .await;
    }
    Ok(())
}

/// An app that is killed at a moment of its choice around its commit. `direct` publishes itself, after the commit; `outbox` commits
/// the row of the event with the order.
const CUT_OFF: &str = r#"
import json, os, signal, sqlite3, sys, urllib.request
file, gateway, way, moment, id = sys.argv[1:]
def passes(here):
    if here == moment:
        os.kill(os.getpid(), signal.SIGKILL)
db = sqlite3.connect(file, timeout=10, isolation_level=None)
db.execute("BEGIN IMMEDIATE")
db.execute("INSERT INTO orders VALUES (?)", (id,))
if way == "outbox":
    db.execute("INSERT INTO tangelo_outbox (id, type, data) VALUES (?, 'order.created', '{}')", (id,))
passes("before-the-commit")
db.execute("COMMIT")
passes("after-the-commit")
if way == "direct":
    head = {"ce-specversion": "1.0", "ce-id": id, "ce-source": "/rows/orders", "ce-type": "order.created",
            "content-type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(gateway + "/events", b"{}", head)).read()
passes("at-the-end")
"#;

/// The distributed transaction problem: between its commit and its publish an app loses the event when it publishes itself, and
/// never with an outbox.
#[tokio::test]
async fn a_kill_between_commit_and_publish_loses_the_event_only_without_an_outbox() -> Result<()> {
    let server = server();
    let manifest = SQLITE.replace("rewrite: /*}", "rewrite: /*}, {path: /events, to: events}");
    server.deploy(&[("tangelo.yaml", &manifest), ("echo.py", ECHO)])?;
    let sql = server.json(&["outbox", "init", "sqlite"])?;
    run(&server, sql["sql"].as_str().unwrap_or_default())?;
    run(&server, "CREATE TABLE orders (id TEXT)")?;
    let moments = [
        "before-the-commit",
        "after-the-commit",
        "at-the-end",
        "never",
    ];
    for way in ["direct", "outbox"] {
        for moment in moments {
            let mut app = std::process::Command::new("python3");
            app.args(["-c", CUT_OFF]).arg(file(&server));
            app.args([
                &server.addresses().gateway,
                way,
                moment,
                &format!("{way}-{moment}"),
            ]);
            assert_eq!(app.status()?.success(), moment == "never", "{way} {moment}");
        }
    }
    let db = rusqlite::Connection::open(file(&server))?;
    let mut orders = db.prepare("SELECT id FROM orders ORDER BY rowid")?;
    let orders: Vec<String> = orders
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let committed = |way: &str| {
        moments[1..]
            .iter()
            .map(|m| format!("{way}-{m}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(orders, [committed("direct"), committed("outbox")].concat());
    // Whatever was on its way has arrived before what is committed last.
    run(
        &server,
        "INSERT INTO tangelo_outbox (id, type) VALUES ('last', 'order.created')",
    )?;
    let events = eventually("the last one arrives", || async {
        let seen = seen(&server).await;
        let has = |id: &str| seen.iter().any(|one| one == id);
        (has("last") && committed("outbox").iter().all(|id| has(id))).then_some(seen)
    })
    .await;
    let lost: Vec<_> = orders
        .iter()
        .filter(|order| !events.contains(order))
        .collect();
    assert_eq!(lost, ["direct-after-the-commit"]);
    assert!(
        !events
            .iter()
            .any(|event| event.ends_with("before-the-commit")),
        "{events:?}"
    );
    Ok(())
}
