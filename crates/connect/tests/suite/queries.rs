//! Statements of reconciliations: what they read, and that they change nothing, whatever they try.

use std::path::Path;

use connect::{Address, query};
use serde_json::{Value, json};
use testkit::Postgres;

const STOCK: &str =
    "CREATE TABLE stock (sku TEXT PRIMARY KEY, quantity INTEGER, price REAL, note TEXT);
    INSERT INTO stock VALUES ('a', 3, 1.5, NULL), ('b', 5, 2, 'it''s; -- here')";

/// What both databases say of [`STOCK`]; a comment at the end and a semicolon are no harm.
async fn rows_are_read(address: &Address) {
    let expected = json!([
        {"sku": "a", "quantity": 3, "price": 1.5, "note": null},
        {"sku": "b", "quantity": 5, "price": 2.0, "note": "it's; -- here"},
    ]);
    for text in [
        "SELECT * FROM stock ORDER BY sku",
        "SELECT * FROM stock ORDER BY sku;\n",
        "SELECT * FROM stock ORDER BY sku -- all of it",
        "WITH s AS (SELECT * FROM stock) SELECT * FROM s ORDER BY sku",
    ] {
        let rows = query(address, text).await.expect("it is read");
        let rows: Vec<_> = rows.into_iter().map(Value::Object).collect();
        let rows: Value = rows.into();
        assert!(same(&rows, &expected), "{text}: {rows}");
    }
}

/// The same, however a number is written.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(l), Value::Array(r)) => {
            l.len() == r.len() && l.iter().zip(r).all(|(l, r)| same(l, r))
        }
        (Value::Object(l), Value::Object(r)) => {
            l.len() == r.len() && l.iter().all(|(key, l)| same(l, &r[key]))
        }
        (Value::Number(l), Value::Number(r)) => l.as_f64() == r.as_f64(),
        (l, r) => l == r,
    }
}

/// Holds that each of `texts` is refused.
async fn all_are_refused(address: &Address, texts: &[String]) {
    for text in texts {
        let rows = query(address, text).await;
        assert!(rows.is_err(), "{text} is let through: {rows:?}");
    }
}

fn all(file: &Path) -> Vec<(String, i64)> {
    let db = rusqlite::Connection::open(file).expect("a file");
    let mut statement = db
        .prepare("SELECT sku, quantity FROM stock ORDER BY sku")
        .expect("it is there");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.and_then(Iterator::collect).expect("rows")
}

#[tokio::test]
async fn a_statement_reads_a_file_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shop.db");
    let db = rusqlite::Connection::open(&file).expect("a file");
    db.execute_batch(STOCK).expect("it works");
    db.execute_batch(
        "CREATE VIRTUAL TABLE words USING fts5 (word); INSERT INTO words VALUES ('red apples')",
    )
    .expect("it works");
    drop(db);
    let address = Address::Sqlite(file.clone());
    rows_are_read(&address).await;
    let found = query(
        &address,
        "SELECT word FROM words WHERE words MATCH 'apples'",
    )
    .await;
    assert_eq!(found.expect("an index is read").len(), 1);
    let other = folder.path().join("other.db");
    let other = other.display();
    let texts = [
        "UPDATE stock SET quantity = 0".to_owned(),
        "UPDATE stock SET quantity = 0 RETURNING sku".to_owned(),
        "WITH s AS (SELECT 'a' AS sku) DELETE FROM stock WHERE sku IN (SELECT sku FROM s) RETURNING sku".to_owned(),
        "SELECT * FROM stock; DELETE FROM stock".to_owned(),
        "DROP TABLE stock".to_owned(),
        "CREATE TEMP TABLE t AS SELECT * FROM stock".to_owned(),
        "PRAGMA query_only = 0".to_owned(),
        "PRAGMA user_version = 7".to_owned(),
        "PRAGMA journal_mode = DELETE".to_owned(),
        format!("ATTACH '{other}' AS other"),
        format!("VACUUM INTO '{other}'"),
        "BEGIN IMMEDIATE".to_owned(),
    ];
    all_are_refused(&address, &texts).await;
    assert_eq!(all(&file), [("a".to_owned(), 3), ("b".to_owned(), 5)]);
    let there = std::fs::read_dir(folder.path()).expect("the folder");
    let there: Vec<_> = there.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(there, ["shop.db"], "no other file is made");
}

#[tokio::test]
async fn a_statement_reads_a_postgres_and_changes_nothing() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let address = Address::postgres(&server.url(), None).expect("an URL");
    server.psql(STOCK).expect("it works");
    server
        .psql(
            "CREATE SEQUENCE numbers;
             CREATE FUNCTION wipe() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM stock; RETURN 1; END'",
        )
        .expect("it works");
    rows_are_read(&address).await;
    let texts = [
        "UPDATE stock SET quantity = 0",
        "UPDATE stock SET quantity = 0 RETURNING sku",
        "WITH gone AS (DELETE FROM stock RETURNING sku) SELECT sku FROM gone",
        "SELECT sku FROM stock; DELETE FROM stock",
        "SELECT 1) AS q; COMMIT; DELETE FROM stock; --",
        "SELECT wipe()",
        "SELECT nextval('numbers')",
        "SELECT set_config('transaction_read_only', 'off', true), wipe()",
        "SELECT sku FROM stock FOR UPDATE",
        "COMMIT",
    ];
    all_are_refused(&address, &texts.map(str::to_owned)).await;
    let left = server.psql("SELECT string_agg(sku || quantity, ' ' ORDER BY sku) FROM stock");
    assert_eq!(left.expect("it works"), "a3 b5");
    let taken = server.psql("SELECT is_called FROM numbers");
    assert_eq!(taken.expect("it works"), "f");
}
