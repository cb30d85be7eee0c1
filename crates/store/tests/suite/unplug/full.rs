//! A disk without room: refused is refused, nothing that was acknowledged is touched, and work goes on when there is
//! room again, what nobody waited for included.

use std::sync::Arc;

use model::{Clock, Position, code};
use store::{Options, Store, Urgency};

use super::{Disk, vfs};
use crate::fixture::{Cursors, START, cursor, event, space, subscribe};

#[tokio::test]
async fn a_full_disk_refuses_and_is_survived() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = Disk::new();
    let options = Options {
        vfs: Some(vfs::register(Arc::clone(&disk))),
        ..Options::new(dir.path(), Clock::virtual_at(START))
    };
    let store = Store::open(options).expect("opens");
    let log = store.log();
    let cursors = Cursors::of(&log);
    let began = subscribe(&store).await.began[0].clone();
    let owned = store.shards().owner(began.shard).expect("owns all");
    log.append(&space(), vec![event(1, 10)])
        .await
        .expect("appends");

    disk.set_full(true);
    cursors.note(owned, cursor(began.id, 1, &[1], false), Urgency::Soon);
    let refused: Vec<_> = (2..6)
        .map(|id| {
            tokio::spawn({
                let log = log.clone();
                async move { log.append(&space(), vec![event(id, 10)]).await }
            })
        })
        .collect();
    for refused in refused {
        let error = model::Error::from(refused.await.expect("runs").expect_err("has no room"));
        assert_eq!(error.code, code::STORE_FAILED);
    }
    assert!(
        log.event(&space(), Position(1))
            .await
            .expect("reads")
            .is_some()
    );

    disk.set_full(false);
    let next = log
        .append(&space(), vec![event(2, 10)])
        .await
        .expect("appends");
    assert_eq!((next[0].position, next[0].duplicate), (Position(2), false));
    store.flush().await.expect("commits");
    let stored = log.subscriptions().await.expect("reads");
    assert_eq!(
        stored[0].1.running,
        [Position(1)],
        "the note was written after all"
    );
    store.close().await.expect("closes");
}
