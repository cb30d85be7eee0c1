//! Changes of tables as events: triggers of a SQLite file, and a slot of Debian's Postgres.

use std::path::Path;

use connect::{Address, Capture, Feed, Options, What};
use model::{code, event::EventData};
use serde_json::{Value, json};
use testkit::Postgres;

use crate::fixture::{self, ids, sent};

fn capture(address: &Address) -> Capture {
    Capture {
        address: address.clone(),
        tables: vec!["orders".to_owned()],
        slot: "tangelo_shop_orders".to_owned(),
    }
}

fn options(address: &Address) -> Options {
    Options {
        what: What::Capture,
        table: "tangelo_shop_orders".to_owned(),
        ..fixture::options(address.clone())
    }
}

/// Type, subject and data of all that is there, settled.
async fn changes(feed: &mut Feed) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    loop {
        let items = feed.next().await.expect("works");
        if items.is_empty() {
            return all;
        }
        for item in &items {
            let event = &item.event.as_ref().expect("is one").event;
            let EventData::Json(data) = &event.data else {
                panic!("has data")
            };
            let subject = event.subject.clone().unwrap_or_default();
            all.push((event.kind.clone(), subject, data.clone()));
        }
        feed.settle(sent(&items)).await.expect("works");
    }
}

fn run(file: &Path, text: &str) {
    let db = rusqlite::Connection::open(file).expect("a file");
    db.execute_batch(text).expect("it works");
}

#[tokio::test]
async fn triggers_tell_of_every_change_with_what_was_and_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orders.db");
    run(
        &file,
        "CREATE TABLE orders (id TEXT PRIMARY KEY, total REAL, \"odd 'name\" TEXT, picture BLOB)",
    );
    let address = Address::Sqlite(file.clone());
    let capture = capture(&address);
    let Err(error) = Feed::open(options(&address)).await else {
        panic!("nothing is captured yet")
    };
    assert_eq!(error.code(), code::CAPTURE_MISSING);
    assert!(
        error.to_string().contains("tangelo capture init"),
        "{error}"
    );
    assert!(!capture.status().await.expect("looks")[0].captured);
    assert!(capture.init().await.expect("works")[0].captured);
    assert!(capture.init().await.expect("works again")[0].captured);
    run(
        &file,
        "INSERT INTO orders VALUES ('o-1', 9e999, 'x', x'00ff'); UPDATE orders SET total = 2, picture = NULL;
         BEGIN; UPDATE orders SET total = 3; ROLLBACK; UPDATE orders SET id = 'o-2'; DELETE FROM orders",
    );
    let mut feed = Feed::open(options(&address)).await.expect("opens");
    let all = changes(&mut feed).await;
    let first = json!({"id": "o-1", "total": "Inf", "odd 'name": "x", "picture": {"hex": "00FF"}});
    let second = json!({"id": "o-1", "total": 2.0, "odd 'name": "x", "picture": null});
    let third = json!({"id": "o-2", "total": 2.0, "odd 'name": "x", "picture": null});
    let told = |word: &str, id: &str, before: &Value, after: &Value| {
        let data = json!({
            "table": "orders", "operation": word, "key": {"id": id}, "before": before, "after": after,
        });
        (format!("orders.{word}"), format!("orders/{id}"), data)
    };
    let expected = [
        told("inserted", "o-1", &Value::Null, &first),
        told("updated", "o-1", &first, &second),
        told("updated", "o-2", &second, &third),
        told("deleted", "o-2", &third, &Value::Null),
    ];
    assert_eq!(all, expected);
    // A column that came later is told of by the status, and captured after another init.
    run(&file, "ALTER TABLE orders ADD COLUMN note TEXT");
    let status = capture.status().await.expect("looks");
    let problem = status[0].problem.clone().unwrap_or_default();
    assert!(problem.contains("columns have changed"), "{problem}");
    assert!(capture.init().await.expect("works")[0].captured);
    run(&file, "INSERT INTO orders (id, note) VALUES ('o-3', 'n')");
    assert_eq!(changes(&mut feed).await[0].2["after"]["note"], "n");
    run(&file, "INSERT INTO orders (id) VALUES ('o-4')");
    assert_eq!(capture.drop().await.expect("works"), 1);
    run(&file, "INSERT INTO orders (id) VALUES ('o-5')");
    assert!(!capture.status().await.expect("looks")[0].captured);
}

/// Tables of more columns than a function of SQLite takes arguments, without a key.
#[tokio::test]
async fn wide_tables_are_told_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wide.db");
    let columns: Vec<_> = (0..150).map(|n| format!("c{n}")).collect();
    run(
        &file,
        &format!("CREATE TABLE orders ({})", columns.join(", ")),
    );
    let address = Address::Sqlite(file.clone());
    capture(&address).init().await.expect("works");
    run(&file, "INSERT INTO orders (c0, c149) VALUES (1, 'last')");
    let mut feed = Feed::open(options(&address)).await.expect("opens");
    let (_, subject, data) = changes(&mut feed).await.remove(0);
    let after = data["after"].as_object().expect("a row");
    assert_eq!(
        (after.len(), &after["c0"], &after["c77"], &after["c149"]),
        (150, &json!(1), &Value::Null, &json!("last"))
    );
    assert_eq!(
        (subject.as_str(), &data["key"]),
        ("orders/1", &json!({"rowid": 1}))
    );
}

#[tokio::test]
async fn a_slot_tells_of_every_change_with_transaction_and_place() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    server
        .psql("CREATE TABLE orders (id text PRIMARY KEY, total numeric, note text, tags jsonb)")
        .expect("works");
    let address = Address::postgres(&server.url(), None).expect("an URL");
    let capture = capture(&address);
    let Err(error) = Feed::open(options(&address)).await else {
        panic!("nothing is captured yet")
    };
    assert_eq!(error.code(), code::CAPTURE_MISSING);
    let status = capture.status().await.expect("looks");
    assert!(
        status[0]
            .problem
            .as_deref()
            .is_some_and(|p| p.contains("no slot")),
        "{status:?}"
    );
    assert!(capture.init().await.expect("works")[0].captured);
    assert_eq!(capture.init().await.expect("works again")[0].problem, None);
    // A value that is stored apart (TOAST) and has not changed, and another schema of the table halfway.
    server
        .psql(
            "INSERT INTO orders SELECT 'o-1', 12.50, string_agg(md5(i::text), ''), '{\"a\": [1]}' FROM generate_series(1, 500) i;
             UPDATE orders SET total = 13; ALTER TABLE orders ADD COLUMN paid boolean;
             BEGIN; UPDATE orders SET paid = true; DELETE FROM orders; COMMIT;
             BEGIN; INSERT INTO orders VALUES ('never'); ROLLBACK; TRUNCATE orders",
        )
        .expect("works");
    let mut feed = Feed::open(options(&address)).await.expect("opens");
    let items = feed.next().await.expect("works");
    let before: Vec<String> = ids(&items).into_iter().map(str::to_owned).collect();
    assert_eq!(before.len(), 5, "{before:?}");
    // Killed before it is settled: the same comes again, with the same ids.
    drop(feed);
    server.kill().expect("ends");
    server.restart().expect("starts");
    let mut feed = testkit::eventually("it opens again", || async {
        Feed::open(options(&address)).await.ok()
    })
    .await;
    let again = feed.next().await.expect("works");
    assert_eq!(ids(&again), before);
    feed.settle(sent(&again)).await.expect("works");
    let data = |place: usize| match &again[place].event.as_ref().expect("is one").event.data {
        EventData::Json(data) => data.clone(),
        other => panic!("{other:?}"),
    };
    let kinds: Vec<_> = again
        .iter()
        .map(|item| item.event.as_ref().expect("is one").event.kind.as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "orders.inserted",
            "orders.updated",
            "orders.updated",
            "orders.deleted",
            "orders.truncated"
        ]
    );
    let (inserted, updated, paid, deleted) = (data(0), data(1), data(2), data(3));
    assert_eq!(
        inserted["after"]["note"].as_str().map(str::len),
        Some(16_000)
    );
    assert_eq!(
        (&inserted["after"]["total"], &inserted["after"]["tags"]),
        (&json!(12.5), &json!({"a": [1]}))
    );
    assert_eq!(
        (&updated["before"]["total"], &updated["after"]["total"]),
        (&json!(12.5), &json!(13.0))
    );
    assert_eq!(
        updated["after"]["note"], inserted["after"]["note"],
        "an unchanged value is there"
    );
    assert_eq!(
        (&paid["after"]["paid"], &deleted["before"]["paid"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(deleted["key"], json!({"id": "o-1"}));
    let (one, other) = (&paid["transaction"], &deleted["transaction"]);
    assert_eq!(
        (&one["id"], &one["commit_lsn"]),
        (&other["id"], &other["commit_lsn"])
    );
    assert_eq!(
        (&one["sequence"], &other["sequence"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(feed.next().await.expect("works"), []);
    assert!(feed.backlog().await.expect("looks").retained.is_some());
    drop(feed);
    what_is_settled_does_not_come_again(&server, &address, &capture).await;
}

async fn what_is_settled_does_not_come_again(
    server: &Postgres,
    address: &Address,
    capture: &Capture,
) {
    let mut feed = testkit::eventually("it opens again", || async {
        Feed::open(options(address)).await.ok()
    })
    .await;
    server
        .psql("INSERT INTO orders (id) VALUES ('o-2')")
        .expect("works");
    let all = changes(&mut feed).await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].1, "orders/o-2");
    drop(feed);
    testkit::eventually("the slot is free to go", || async {
        capture.drop().await.ok()
    })
    .await;
    assert!(!capture.status().await.expect("looks")[0].captured);
    assert_eq!(
        server
            .psql("SELECT count(*) FROM pg_replication_slots")
            .expect("works"),
        "0"
    );
}

/// A server with an empty table `orders`.
fn with_orders() -> Option<(Postgres, Address)> {
    let server = Postgres::start()?;
    server
        .psql("CREATE TABLE orders (id int PRIMARY KEY)")
        .expect("works");
    let address = Address::postgres(&server.url(), None).expect("an URL");
    Some((server, address))
}

/// The server may give up what a slot was to keep: it stays there, and nothing comes from it any more.
#[tokio::test]
async fn a_slot_that_the_server_gave_up_is_said_and_made_anew() {
    let Some((server, address)) = with_orders() else {
        return;
    };
    let capture = capture(&address);
    assert!(capture.init().await.expect("works")[0].captured);
    server
        .psql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        .expect("works");
    server.psql("SELECT pg_reload_conf()").expect("works");
    testkit::eventually("the server gives it up", || async {
        let lost = "INSERT INTO orders SELECT coalesce(max(id), 0) + 1 FROM orders; SELECT pg_switch_wal(); CHECKPOINT;
                    SELECT wal_status FROM pg_replication_slots";
        let said = server.psql(lost).ok()?;
        (said.lines().last() == Some("lost")).then_some(())
    })
    .await;
    let status = capture.status().await.expect("looks");
    let problem = status[0].problem.as_deref().unwrap_or_default();
    assert!(
        !status[0].captured
            && problem.contains("changes were lost")
            && problem.contains("`tangelo capture drop`, then init"),
        "{status:?}"
    );
    let Err(error) = Feed::open(options(&address)).await else {
        panic!("nothing can be read from it")
    };
    assert!(
        error.code() == code::CAPTURE_MISSING && error.to_string().contains("changes were lost"),
        "{error}"
    );
    // To make it again changes nothing; to drop it first does.
    assert!(!capture.init().await.expect("works")[0].captured);
    assert_eq!(capture.drop().await.expect("works"), 1);
    assert!(capture.init().await.expect("works")[0].captured);
    server
        .psql("INSERT INTO orders VALUES (1000000)")
        .expect("works");
    let mut feed = Feed::open(options(&address)).await.expect("opens");
    let all = changes(&mut feed).await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].1, "orders/1000000");
}

/// A transaction of more changes than a batch has comes in batches, and moves the slot when all of it was settled.
#[tokio::test]
async fn a_large_transaction_is_told_in_pieces() {
    let Some((server, address)) = with_orders() else {
        return;
    };
    capture(&address).init().await.expect("works");
    server
        .psql("INSERT INTO orders SELECT generate_series(1, 7000); DELETE FROM orders WHERE id = 7000")
        .expect("works");
    let mut feed = Feed::open(options(&address)).await.expect("opens");
    let all = changes(&mut feed).await;
    assert_eq!(all.len(), 7001);
    assert!(
        all.iter()
            .take(7000)
            .enumerate()
            .all(|(n, (_, subject, _))| *subject == format!("orders/{}", n + 1))
    );
    assert_eq!(feed.next().await.expect("works"), []);
}
