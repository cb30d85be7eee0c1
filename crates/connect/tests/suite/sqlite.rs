//! The outbox of a SQLite file.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
};

use connect::{Address, Feed, init};
use model::code;
use tempfile::TempDir;

use crate::fixture::{self, drain, options, sent};

/// A file with an outbox.
fn database() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orders.db");
    let db = rusqlite::Connection::open(&file).expect("a file");
    let sql = init::outbox(init::Dialect::Sqlite, "tangelo_outbox");
    db.execute_batch(&sql).expect("the statements work");
    // And again.
    db.execute_batch(&sql).expect("the statements work twice");
    (folder, file)
}

fn run(file: &Path, text: &str) {
    let db = rusqlite::Connection::open(file).expect("a file");
    db.execute_batch(text).expect("it works");
}

/// A process that commits `count` orders under each of three keys, one transaction each, and prints nothing.
fn writer(file: &Path, name: &str, count: u32) -> Child {
    const WRITER: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30)
for number in range(int(sys.argv[3])):
    with db:
        db.execute('BEGIN IMMEDIATE')
        key = f'{sys.argv[2]}-{number % 3}'
        db.execute('INSERT INTO tangelo_outbox (id, type, key, data) VALUES (?, ?, ?, ?)',
                   (f'{key}:{number:04}', 'order.created', key, '{}'))
";
    let mut command = Command::new("python3");
    command.args(["-c", WRITER]).arg(file);
    let child = command.arg(name).arg(count.to_string()).spawn();
    child.expect("python3 is there")
}

#[tokio::test]
async fn rows_come_once_and_bad_ones_are_set_aside() {
    let (_folder, file) = database();
    let address = Address::Sqlite(file.clone());
    fixture::rows_come_once_and_bad_ones_are_set_aside(address, |text| run(&file, text)).await;
}

#[tokio::test]
async fn one_relay_at_a_time() {
    let (_folder, file) = database();
    fixture::the_second_is_refused(Address::Sqlite(file)).await;
}

#[tokio::test]
async fn data_of_other_types_is_taken_as_it_is() {
    let (_folder, file) = database();
    run(
        &file,
        "INSERT INTO tangelo_outbox (type, datacontenttype, data) VALUES
           ('a.b', 'image/png', x'89504e47'), ('a.b', NULL, 7), ('a.b', NULL, x'7b7d'), ('a.b', 'text/plain', 'hi')",
    );
    let mut feed = Feed::open(options(Address::Sqlite(file)))
        .await
        .expect("opens");
    let items = feed.next().await.expect("works");
    let data = items
        .iter()
        .map(|item| item.event.as_ref().expect("is one").event.data.clone());
    use model::event::EventData::{Binary, Json};
    let expected = [
        Binary(vec![0x89, 0x50, 0x4e, 0x47]),
        Json(7.into()),
        Json(serde_json::json!({})),
        Binary(b"hi".to_vec()),
    ];
    assert_eq!(data.collect::<Vec<_>>(), expected);
    let ids: std::collections::HashSet<_> = fixture::ids(&items).into_iter().collect();
    assert_eq!(ids.len(), 4, "ids are made where none is given");
}

#[tokio::test]
async fn rows_are_deleted_unless_they_are_kept() {
    let (_folder, file) = database();
    run(
        &file,
        "INSERT INTO tangelo_outbox (id, type) VALUES ('1', 'a.b'), ('2', 'a.b')",
    );
    let count = || -> u32 {
        let db = rusqlite::Connection::open(&file).expect("a file");
        let text = "SELECT count(*) FROM tangelo_outbox";
        db.query_row(text, [], |row| row.get(0)).expect("counts")
    };
    let mut feed = Feed::open(options(Address::Sqlite(file.clone())))
        .await
        .expect("opens");
    let items = feed.next().await.expect("works");
    assert_eq!((fixture::ids(&items), count()), (vec!["1", "2"], 2));
    feed.settle(sent(&items[..1])).await.expect("works");
    assert_eq!(count(), 1, "what is settled goes, and nothing else");
    assert_eq!(drain(&mut feed).await, ["2"]);
    assert_eq!(count(), 0);
}

#[tokio::test]
async fn rows_stay_where_they_are_kept() {
    let (_folder, file) = database();
    run(
        &file,
        "INSERT INTO tangelo_outbox (id, type) VALUES ('1', 'a.b')",
    );
    let keep = connect::Options {
        keep: true,
        ..options(Address::Sqlite(file.clone()))
    };
    let mut feed = Feed::open(keep).await.expect("opens");
    assert_eq!(drain(&mut feed).await, ["1"]);
    let db = rusqlite::Connection::open(&file).expect("a file");
    let at: String = db
        .query_row("SELECT sent_at FROM tangelo_outbox", [], |row| row.get(0))
        .expect("the row is there");
    assert!(model::Time::parse_rfc3339(&at).is_some(), "{at}");
}

/// The file is shared with processes that write it: nobody fails, nothing is missed, and keys keep their order.
#[tokio::test]
async fn rows_of_processes_that_write_come_in_the_order_of_each_key() {
    let (_folder, file) = database();
    let mut writers: Vec<_> = ["a", "b"].map(|name| writer(&file, name, 300)).into();
    let mut feed = Feed::open(options(Address::Sqlite(file)))
        .await
        .expect("opens");
    let mut all = Vec::new();
    let mut ended = false;
    while !ended || all.len() < 600 {
        ended = writers
            .iter_mut()
            .all(|w| matches!(w.try_wait(), Ok(Some(_))));
        all.extend(drain(&mut feed).await);
        assert!(!ended || all.len() == 600, "{} of 600", all.len());
    }
    for mut writer in writers {
        assert!(
            writer.wait().expect("it ended").success(),
            "the app never failed"
        );
    }
    for key in ["a-0", "a-1", "a-2", "b-0", "b-1", "b-2"] {
        let of_key: Vec<_> = all.iter().filter(|id| id.starts_with(key)).collect();
        assert_eq!(of_key.len(), 100);
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
}

#[tokio::test]
async fn a_commit_wakes_the_feed() {
    let (_folder, file) = database();
    let mut feed = Feed::open(options(Address::Sqlite(file.clone())))
        .await
        .expect("opens");
    assert_eq!(feed.next().await.expect("works"), []);
    let mut writer = writer(&file, "a", 1);
    // Nothing but the watch wakes it: without one this test would not end.
    let mut items = Vec::new();
    while items.is_empty() {
        feed.changed().await;
        items = feed.next().await.expect("works");
    }
    feed.settle(sent(&items)).await.expect("works");
    writer.wait().expect("it ended");
}

#[tokio::test]
async fn what_cannot_be_relayed_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orders.db");
    let open = || async {
        let opened = Feed::open(options(Address::Sqlite(file.clone()))).await;
        let Err(error) = opened else {
            panic!("nothing to open")
        };
        (error.code(), error.to_string())
    };
    let (code, told) = open().await;
    assert_eq!(code, code::DATABASE_UNREACHABLE);
    assert!(told.contains("there is no such file"), "{told}");
    assert!(!file.exists(), "an app's file is not made for it");
    run(&file, "CREATE TABLE orders (id)");
    let (code, told) = open().await;
    assert_eq!(code, code::OUTBOX_MISSING);
    assert!(
        told.contains("there is no such table; `tangelo outbox init sqlite` prints it"),
        "{told}"
    );
    run(&file, "CREATE TABLE tangelo_outbox (id, type, payload)");
    let (code, told) = open().await;
    assert_eq!(code, code::OUTBOX_MISSING);
    assert!(
        told.contains("it lacks the columns position, source"),
        "{told}"
    );
    std::fs::write(
        &file,
        "this is no database, and long enough to be looked at as one",
    )
    .expect("writes");
    assert_eq!(open().await.0, code::DATABASE_UNREACHABLE);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_opened_anew() {
    let (folder, file) = database();
    let mut feed = Feed::open(options(Address::Sqlite(file.clone())))
        .await
        .expect("opens");
    let (_other, fresh) = database();
    run(
        &fresh,
        "PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO tangelo_outbox (id, type) VALUES ('new', 'a.b')",
    );
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path().join(format!("orders.db{suffix}")));
    }
    std::fs::copy(&fresh, &file).expect("copies");
    let error = feed.next().await.expect_err("the old file is gone");
    assert!(error.to_string().contains("replaced"), "{error}");
    drop(feed);
    let mut feed = fixture::reopened(Address::Sqlite(file)).await;
    assert_eq!(drain(&mut feed).await, ["new"]);
}
