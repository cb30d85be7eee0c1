//! How far logs elsewhere were taken in: with the events or not at all.

use std::collections::BTreeMap;

use model::{AppName, Name};
use store::{
    Store,
    log::{Intake, IntakeKey},
};

use crate::fixture::{Nodes, event, space};

fn key(partition: i32) -> IntakeKey {
    IntakeKey {
        app: AppName::literal("shop"),
        bridge: Name::literal("legacy"),
        topic: "payments".to_owned(),
        partition,
    }
}

fn at(next: i64) -> Intake {
    Intake {
        next,
        ..Intake::default()
    }
}

async fn known(store: &Store) -> BTreeMap<i32, Intake> {
    let IntakeKey {
        app, bridge, topic, ..
    } = key(0);
    let known = store.log().taken_in(&app, &bridge, &topic).await;
    known.expect("reads")
}

#[tokio::test]
async fn places_move_with_what_is_appended_and_counts_add_up() {
    for nodes in Nodes::each().await {
        assert_eq!(known(&nodes.a).await, BTreeMap::new());
        let begun = vec![(key(0), at(5)), (key(1), at(7))];
        nodes.a.log().read_on(begun).await.expect("is written");
        let adds = |next, refused: u64, why: Option<&str>| Intake {
            next,
            refused,
            last_refused: why.map(str::to_owned),
            missed: 1,
        };
        let (log, space) = (nodes.b.log(), space());
        let events = vec![event(1, 10), event(2, 10)];
        let taken = log.take_in(&space, events, key(0), adds(8, 1, Some("one")));
        let taken = taken.await.expect("appends");
        assert_eq!(taken.len(), 2);
        // Nothing of these was an event.
        let none = log.take_in(&space, Vec::new(), key(0), adds(9, 1, Some("two")));
        assert!(none.await.expect("moves").is_empty());
        let known_already = vec![event(2, 10), event(3, 10)];
        let again = log.take_in(&space, known_already, key(0), adds(11, 0, None));
        let again = again.await.expect("appends");
        assert_eq!((again[0].duplicate, again[1].duplicate), (true, false));
        let expected = Intake {
            next: 11,
            refused: 2,
            last_refused: Some("two".to_owned()),
            missed: 3,
        };
        let all = known(&nodes.a).await;
        assert_eq!((&all[&0], &all[&1]), (&expected, &at(7)));
        let back = vec![(key(0), at(0))];
        nodes.b.log().read_on(back).await.expect("is written");
        let all = known(&nodes.b).await;
        assert_eq!((all[&0].next, all[&0].refused), (0, 2));
    }
}
