//! Opening, the lock, the schema, closing.

use model::Clock;
use store::{Error, Options, Store};

use crate::fixture::{Nodes, START, event, space};

#[tokio::test]
async fn a_second_server_is_refused_until_the_first_ends() {
    let nodes = Nodes::one();
    let again = || Store::open(Options::new(nodes.dir.path(), nodes.clock.clone()));
    assert!(matches!(again(), Err(Error::Locked(_))));
    nodes.a.close().await.expect("closes");
    let second = again().expect("the lock is free");
    assert_eq!((second.boot(), second.was_clean()), (2, true));
    let closed = nodes.a.flush().await;
    assert!(matches!(closed, Err(Error::Closed)));
}

#[tokio::test]
async fn an_end_without_close_is_noticed_and_loses_nothing() {
    let Nodes {
        a, b, clock, dir, ..
    } = Nodes::one();
    let log = a.log();
    log.append(&space(), vec![event(1, 10)])
        .await
        .expect("appends");
    drop((a, b, log));
    let options = Options::new(dir.path(), clock);
    // The writer thread ends by itself, soon after the last handle went.
    let reopened = loop {
        match Store::open(options.clone()) {
            Err(Error::Locked(_)) => std::thread::yield_now(),
            other => break other.expect("opens"),
        }
    };
    assert!(!reopened.was_clean());
    let extents = reopened.log().extents().await.expect("reads");
    assert_eq!(extents[0].1.head.0, 1);
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_name() {
    let nodes = Nodes::one();
    nodes.a.close().await.expect("closes");
    let database = rusqlite::Connection::open(nodes.dir.path().join("state.db")).expect("opens");
    database
        .pragma_update(None, "user_version", 999)
        .expect("updates");
    drop(database);
    let refused = Store::open(Options::new(nodes.dir.path(), Clock::virtual_at(START)));
    let Err(error @ Error::TooNew { found: 999, .. }) = refused else {
        panic!("it was not refused");
    };
    let shown = model::Error::from(error);
    assert_eq!(shown.code, model::code::STORE_TOO_NEW);
    assert!(shown.message.contains("schema 999"), "{shown}");
}

#[tokio::test]
async fn intake_is_refused_when_the_queue_is_full_and_settles_are_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = Clock::virtual_at(START);
    let mut options = Options::new(dir.path(), clock);
    options.limits.writer_queue = model::ByteSize(4000);
    let store = Store::open(options).expect("opens");
    let refused = store.log().append(&space(), vec![event(1, 8000)]).await;
    assert!(matches!(refused, Err(Error::Busy)), "{refused:?}");
    store.flush().await.expect("others go on");
}
