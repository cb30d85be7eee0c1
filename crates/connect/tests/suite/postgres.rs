//! The outbox of a Postgres database, with Debian's server. Skipped, visibly, where there is none.

use connect::{Address, Error, Feed, init};
use model::code;
use testkit::Postgres;

use crate::fixture::{self, drain, ids, options, sent};

fn address(server: &Postgres) -> Address {
    Address::postgres(&server.url(), None).expect("an URL")
}

/// A server with an outbox.
fn database() -> Option<Postgres> {
    let server = Postgres::start()?;
    let sql = init::outbox(init::Dialect::Postgres, "tangelo_outbox");
    server.psql(&sql).expect("the statements work");
    server.psql(&sql).expect("the statements work twice");
    Some(server)
}

async fn client(server: &Postgres) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls)
        .await
        .expect("it answers");
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn rows_come_once_and_bad_ones_are_set_aside() {
    let Some(server) = database() else { return };
    let run = |text: &str| drop(server.psql(text).expect("it works"));
    fixture::rows_come_once_and_bad_ones_are_set_aside(address(&server), run).await;
}

#[tokio::test]
async fn one_relay_at_a_time() {
    let Some(server) = database() else { return };
    fixture::the_second_is_refused(address(&server)).await;
}

#[tokio::test]
async fn rows_are_deleted_unless_they_are_kept() {
    let Some(server) = database() else { return };
    let insert = "INSERT INTO tangelo_outbox (id, type) VALUES ('1', 'a.b'), ('2', 'a.b')";
    let count = || {
        let text = "SELECT count(*) || ' ' || count(sent_at) FROM tangelo_outbox";
        server.psql(text).expect("it counts")
    };
    server.psql(insert).expect("it works");
    let mut feed = Feed::open(options(address(&server))).await.expect("opens");
    let items = feed.next().await.expect("works");
    assert_eq!((ids(&items), count().as_str()), (vec!["1", "2"], "2 0"));
    feed.settle(sent(&items[..1])).await.expect("works");
    assert_eq!(count(), "1 0", "what is settled goes, and nothing else");
    assert_eq!(drain(&mut feed).await, ["2"]);
    assert_eq!(count(), "0 0");
    drop(feed);
    server.psql(insert).expect("it works");
    let keep = || connect::Options {
        keep: true,
        ..options(address(&server))
    };
    let opened = testkit::eventually("the lock of the feed before is free", || async {
        Feed::open(keep()).await.ok()
    });
    assert_eq!(drain(&mut opened.await).await, ["1", "2"]);
    assert_eq!(count(), "2 2", "they are marked, and come no more");
}

/// Transactions of one key wait for each other, so that positions are in the order of commits; those of other keys do not, and a
/// transaction that stays open holds nobody else's events.
#[tokio::test]
async fn keys_are_in_the_order_of_their_commits_and_long_transactions_hold_nobody() {
    let Some(server) = database() else { return };
    let insert = "INSERT INTO tangelo_outbox (id, type, key) VALUES";
    let (slow, fast) = (client(&server).await, client(&server).await);
    // The slow one takes the earlier position, and commits last.
    slow.batch_execute(&format!("BEGIN; {insert} ('s1', 'a.b', 'k')"))
        .await
        .expect("works");
    let blocked = tokio::spawn(async move {
        fast.batch_execute(
            "INSERT INTO tangelo_outbox (id, type, key) VALUES ('other', 'a.b', 'other')",
        )
        .await
        .expect("works");
        fast.batch_execute("INSERT INTO tangelo_outbox (id, type, key) VALUES ('f', 'a.b', 'k')")
            .await
            .expect("works");
    });
    let mut feed = Feed::open(options(address(&server))).await.expect("opens");
    let mut seen = Vec::new();
    while seen.is_empty() {
        seen = drain(&mut feed).await;
    }
    assert_eq!(
        seen,
        ["other"],
        "it does not wait for the transaction of another key"
    );
    slow.batch_execute(&format!("{insert} ('s2', 'a.b', 'k'); COMMIT"))
        .await
        .expect("works");
    blocked.await.expect("it ended");
    assert_eq!(drain(&mut feed).await, ["s1", "s2", "f"]);
}

/// Many that write the same keys at the same time: nothing is missed, and every key is in the order in which it was committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_lose_no_row_and_no_order() {
    let Some(server) = database() else { return };
    server
        .psql("CREATE TABLE counters (key text PRIMARY KEY, n int); INSERT INTO counters SELECT 'k' || i, 0 FROM generate_series(0, 4) i")
        .expect("works");
    let mut writers = Vec::new();
    for writer in 0..4_usize {
        let client = client(&server).await;
        writers.push(tokio::spawn(async move {
            for number in 0..100 {
                let key = format!("k{}", (writer + number) % 5);
                // The outbox's lock is taken first: the counter then counts in the order of commits.
                let text = format!(
                    "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('tangelo_outbox {key}', 0));
                     UPDATE counters SET n = n + 1 WHERE key = '{key}';
                     INSERT INTO tangelo_outbox (id, type, key)
                       SELECT key || ':' || to_char(n, 'FM0000'), 'a.b', key FROM counters WHERE key = '{key}'; COMMIT"
                );
                client.batch_execute(&text).await.expect("works");
            }
        }));
    }
    let mut feed = Feed::open(options(address(&server))).await.expect("opens");
    let mut all = Vec::new();
    while all.len() < 400 {
        let some = drain(&mut feed).await;
        if some.is_empty() {
            feed.changed().await;
        }
        all.extend(some);
    }
    for writer in writers {
        writer.await.expect("it ended");
    }
    assert_eq!(drain(&mut feed).await, Vec::<String>::new());
    for key in ["k0", "k1", "k2", "k3", "k4"] {
        let of_key: Vec<_> = all.iter().filter(|id| id.starts_with(key)).collect();
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
}

/// A row that somebody has locked is passed over with what stands behind it in its key, and nothing else.
#[tokio::test]
async fn a_locked_row_holds_its_key_and_no_other() {
    let Some(server) = database() else { return };
    server
        .psql(
            "INSERT INTO tangelo_outbox (id, type, key) VALUES ('a1', 'a.b', 'a');
             INSERT INTO tangelo_outbox (id, type, key) SELECT 'a' || i, 'a.b', 'a' FROM generate_series(2, 250) i;
             INSERT INTO tangelo_outbox (id, type, key) VALUES ('b1', 'a.b', 'b')",
        )
        .expect("works");
    let operator = client(&server).await;
    operator
        .batch_execute("BEGIN; SELECT 1 FROM tangelo_outbox WHERE id = 'a1' FOR UPDATE")
        .await
        .expect("works");
    let mut feed = Feed::open(options(address(&server))).await.expect("opens");
    assert_eq!(drain(&mut feed).await, ["b1"]);
    operator.batch_execute("COMMIT").await.expect("works");
    let rest = drain(&mut feed).await;
    assert_eq!(
        (rest.len(), rest[0].as_str(), rest[249].as_str()),
        (250, "a1", "a250")
    );
}

#[tokio::test]
async fn a_commit_wakes_the_feed() {
    let Some(server) = database() else { return };
    let mut feed = Feed::open(options(address(&server))).await.expect("opens");
    assert_eq!(feed.next().await.expect("works"), []);
    let writer = client(&server).await;
    let text = "INSERT INTO tangelo_outbox (id, type) VALUES ('1', 'a.b')";
    writer.batch_execute(text).await.expect("works");
    feed.changed().await;
    let items = feed.next().await.expect("works");
    assert_eq!(ids(&items), ["1"]);
    feed.settle(sent(&items)).await.expect("works");
}

#[tokio::test]
async fn what_cannot_be_relayed_says_why() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let refused = |url: String, password: Option<&'static str>| async move {
        let address = Address::postgres(&url, password).expect("an URL");
        match Feed::open(options(address)).await {
            Ok(_) => panic!("nothing to open"),
            Err(error) => error,
        }
    };
    let error = refused(server.url(), None).await;
    assert_eq!(error.code(), code::OUTBOX_MISSING);
    assert!(
        error
            .to_string()
            .contains("`tangelo outbox init postgres` prints it"),
        "{error}"
    );
    server
        .psql(&init::outbox(init::Dialect::Postgres, "tangelo_outbox"))
        .expect("works");
    server.psql("CREATE ROLE stranger LOGIN").expect("works");
    let url = server.url().replace("postgres@", "stranger@");
    let address = Address::postgres(&url, None).expect("an URL");
    let mut feed = Feed::open(options(address)).await.expect("it may connect");
    let error = feed.next().await.expect_err("it may not read");
    assert_eq!(error.code(), code::DATABASE_FORBIDDEN);
    assert!(
        error
            .to_string()
            .contains("permission denied for table tangelo_outbox"),
        "{error}"
    );
    let error = refused(format!("{}_nothing", server.url()), None).await;
    assert_eq!(error.code(), code::DATABASE_UNREACHABLE, "{error}");
    server.kill().expect("it ends");
    let error = refused(server.url(), Some("hunter2")).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

/// The server goes away in the middle of a batch: what was taken comes again.
#[tokio::test]
async fn a_batch_that_was_cut_off_comes_again() {
    let Some(mut server) = database() else { return };
    server
        .psql("INSERT INTO tangelo_outbox (id, type) SELECT to_char(i, 'FM000'), 'a.b' FROM generate_series(1, 150) i")
        .expect("works");
    let mut feed = Feed::open(options(address(&server))).await.expect("opens");
    let items = feed.next().await.expect("works");
    assert_eq!(items.len(), 100);
    server.kill().expect("it ends");
    feed.settle(sent(&items))
        .await
        .expect_err("nobody is there");
    drop(feed);
    server.restart().expect("it starts");
    let mut feed = fixture::reopened(address(&server)).await;
    let all = drain(&mut feed).await;
    assert_eq!(
        (all.len(), all[0].as_str(), all[149].as_str()),
        (150, "001", "150")
    );
}
