//! Two nodes on one database: a shard is written by its owner only, also by one who does not know that it lost it.

use std::time::Duration;

use store::{Error, Urgency, shards::Shard};

use crate::fixture::{Cursors, Nodes, cursor, event, space, subscribe};

const LEASE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_node_that_pauses_past_its_lease_writes_nothing_more() {
    let nodes = Nodes::two().await;
    let (log, other) = (nodes.a.log(), nodes.b.log());
    let (cursors, others) = (Cursors::of(&log), Cursors::of(&other));
    let switched = subscribe(&nodes.a).await;
    let (id, old) = (switched.began[0].id, nodes.owner(&switched));
    let batch = (1..=4).map(|id| event(id, 10)).collect();
    log.append(&space(), batch).await.expect("appends");
    let settle = |through| {
        cursors
            .settle(old, cursor(id, through, &[], false))
            .expect("is open")
    };
    settle(1).done().await.expect("a owns it");
    assert!(
        nodes
            .b
            .shards()
            .acquire(LEASE)
            .await
            .expect("asks")
            .is_empty()
    );

    nodes.clock.advance(LEASE + Duration::from_secs(1));
    settle(2).done().await.expect("late, but nobody took it");
    let taken = nodes.b.shards().acquire(LEASE).await.expect("takes");
    assert_eq!(taken.len(), 256);
    let refused = settle(3).done().await;
    assert!(matches!(refused, Err(Error::NotOwner(shard)) if shard == old.shard.0));
    cursors.note(old, cursor(id, 4, &[], true), Urgency::Ride);
    nodes.a.flush().await.expect("commits, without the note");

    let new = nodes.b.shards().owner(old.shard).expect("b owns it");
    assert!(new.epoch > old.epoch);
    let through = || async {
        let stored = other.subscriptions().await.expect("reads");
        stored[0].1.through.0
    };
    assert_eq!(through().await, 2);
    let settled = others
        .settle(new, cursor(id, 4, &[], true))
        .expect("is open");
    settled.done().await.expect("b owns it");
    assert_eq!(through().await, 4);
    assert!(
        nodes
            .a
            .shards()
            .renew(LEASE)
            .await
            .expect("asks")
            .is_empty()
    );
    assert!(matches!(
        nodes.a.shards().owner(old.shard),
        Err(Error::NotOwner(_))
    ));
}

#[tokio::test]
async fn what_is_given_back_is_free_at_once() {
    let nodes = Nodes::two().await;
    nodes.a.shards().release().await.expect("gives back");
    let taken = nodes.b.shards().acquire(LEASE).await.expect("takes");
    assert_eq!(taken.len(), 256);
    assert!(nodes.a.shards().owner(Shard(0)).is_err());
}

#[tokio::test]
async fn a_refused_write_takes_no_other_of_its_batch_with_it() {
    let nodes = Nodes::two().await;
    let switched = subscribe(&nodes.a).await;
    let (id, old) = (switched.began[0].id, nodes.owner(&switched));
    nodes.clock.advance(LEASE + Duration::from_secs(1));
    nodes.b.shards().acquire(LEASE).await.expect("takes");
    let log = nodes.a.log();
    let cursors = Cursors::of(&log);
    let refused = cursors
        .settle(old, cursor(id, 1, &[], true))
        .expect("is open");
    let space = space();
    let appended = log.append(&space, vec![event(1, 10)]);
    let (refused, appended) = (refused.done().await, appended.await);
    assert!(matches!(refused, Err(Error::NotOwner(_))));
    assert_eq!(appended.expect("appends")[0].position.0, 1);
}
