//! Streams: versions, expectations, repetitions, pages, snapshots, and what is taken out again.

use bytes::Bytes;
use model::{AppName, Position, Time};
use store::{
    Error, Store,
    log::{Appended, NewEvent, Snapshot, StreamKey},
};

use crate::fixture::{Nodes, event, space};

fn stream(subject: &str) -> StreamKey {
    StreamKey {
        app: AppName::literal("shop"),
        subject: subject.to_owned(),
    }
}

fn events(ids: std::ops::RangeInclusive<u32>) -> Vec<NewEvent> {
    ids.map(|id| event(id, 10)).collect()
}

async fn append(
    store: &Store,
    subject: &str,
    expected: u64,
    ids: std::ops::RangeInclusive<u32>,
) -> Result<Vec<(u64, Appended)>, Error> {
    let log = store.log();
    log.append_to_stream(&space(), stream(subject), expected, events(ids))
        .await
}

/// Versions and ids from a version on.
async fn read(store: &Store, subject: &str, from: u64, limit: u32) -> Vec<(u64, String)> {
    let log = store.log();
    let page = log.stream(&space(), stream(subject), from, limit).await;
    let page = page.expect("reads").expect("there is one");
    let row = |(version, logged): (u64, store::log::Logged)| (version, logged.event.id.clone());
    page.events.into_iter().map(row).collect()
}

fn versions(appended: &[(u64, Appended)]) -> Vec<u64> {
    appended.iter().map(|(version, _)| *version).collect()
}

#[tokio::test]
async fn events_are_numbered_and_appended_only_where_the_stream_is() {
    for nodes in Nodes::each().await {
        let first = append(&nodes.a, "o-1", 0, 1..=3).await.expect("appends");
        assert_eq!(versions(&first), [1, 2, 3]);
        let other = append(&nodes.b, "o-2", 0, 4..=4).await.expect("appends");
        assert_eq!(versions(&other), [1]);
        for wrong in [0, 2, 4] {
            let refused = append(&nodes.b, "o-1", wrong, 5..=5).await;
            assert!(matches!(refused, Err(Error::Version(3))), "{refused:?}");
        }
        let more = append(&nodes.b, "o-1", 3, 5..=6).await.expect("appends");
        assert_eq!(versions(&more), [4, 5]);
        let all = ["1", "2", "3", "5", "6"];
        let expected: Vec<_> = (1..).zip(all.map(str::to_owned)).collect();
        assert_eq!(read(&nodes.b, "o-1", 1, 100).await, expected);
        assert_eq!(read(&nodes.a, "o-1", 2, 2).await, expected[1..3]);
        assert!(read(&nodes.a, "o-1", 6, 2).await.is_empty());
        let none = nodes.a.log().stream(&space(), stream("o-3"), 1, 1).await;
        assert_eq!(none.expect("reads"), None);
        // In the log they are events like all others, in the order of the appends.
        let log = nodes
            .a
            .log()
            .range(&space(), Position(0), Position(9), 9)
            .await;
        let ids: Vec<_> = log
            .expect("reads")
            .iter()
            .map(|one| one.event.id.clone())
            .collect();
        assert_eq!(ids, ["1", "2", "3", "4", "5", "6"]);
        nodes.ends().await;
    }
}

#[tokio::test]
async fn a_repeated_append_is_answered_as_before_and_a_part_of_it_is_refused() {
    for nodes in Nodes::each().await {
        let first = append(&nodes.a, "o-1", 0, 1..=2).await.expect("appends");
        append(&nodes.a, "o-1", 2, 3..=3).await.expect("appends");
        let again = append(&nodes.b, "o-1", 0, 1..=2)
            .await
            .expect("is answered");
        assert_eq!(versions(&again), versions(&first));
        assert!(again.iter().all(|(_, appended)| appended.duplicate));
        assert_eq!(again[1].1.position, first[1].1.position);
        for (subject, expected, ids) in [("o-1", 3, 3..=4), ("o-1", 3, 2..=4), ("o-2", 0, 1..=2)] {
            let part = append(&nodes.a, subject, expected, ids).await;
            assert!(matches!(part, Err(Error::Conflict(_))), "{part:?}");
        }
        let twice = [events(9..=9), events(9..=9)].concat();
        let log = nodes.a.log();
        let twice = log
            .append_to_stream(&space(), stream("o-1"), 3, twice)
            .await;
        assert!(matches!(twice, Err(Error::Conflict(_))), "{twice:?}");
        assert_eq!(
            read(&nodes.a, "o-1", 1, 100).await.len(),
            3,
            "nothing came of it"
        );
        nodes.ends().await;
    }
}

#[tokio::test]
async fn of_many_appends_with_the_same_expectation_exactly_one_is_done() {
    for nodes in Nodes::each().await {
        for round in 0..8u32 {
            let version = u64::from(round);
            let mut appends = tokio::task::JoinSet::new();
            for nth in 0..40u32 {
                let store = [&nodes.a, &nodes.b][nth as usize % 2].clone();
                let id = 1000 + round * 100 + nth;
                appends.spawn(async move { append(&store, "o-1", version, id..=id).await });
            }
            let ends = appends.join_all().await;
            let done = ends.iter().filter(|end| end.is_ok()).count();
            assert_eq!(done, 1, "round {round}");
            let told = |end: &Result<Vec<(u64, Appended)>, Error>| match end {
                Ok(_) => true,
                Err(Error::Version(at)) => *at == version + 1,
                Err(_) => false,
            };
            assert!(ends.iter().all(told), "{ends:?}");
        }
        let all: Vec<u64> = read(&nodes.a, "o-1", 1, 100)
            .await
            .iter()
            .map(|(v, _)| *v)
            .collect();
        assert_eq!(all, (1..=8).collect::<Vec<_>>());
        nodes.ends().await;
    }
}

#[tokio::test]
async fn pages_hold_what_fits() {
    for nodes in Nodes::each().await {
        let log = nodes.a.log();
        let large = (1..=3).map(|id| event(id, 3 << 20)).collect();
        let appended = log
            .append_to_stream(&space(), stream("o-1"), 0, large)
            .await;
        appended.expect("appends");
        assert_eq!(
            read(&nodes.a, "o-1", 1, 100).await.len(),
            1,
            "4 MiB are the most"
        );
        assert_eq!(read(&nodes.a, "o-1", 2, 100).await[0].0, 2);
        nodes.ends().await;
    }
}

#[tokio::test]
async fn snapshots_only_go_on_and_are_got_as_they_were_put() {
    for nodes in Nodes::each().await {
        let log = nodes.a.log();
        let snapshot = |version, body: &[u8]| Snapshot {
            version,
            at: Time(0),
            kind: "application/x-own".to_owned(),
            body: Bytes::copy_from_slice(body),
        };
        let space = space();
        let put = |one| log.put_snapshot(&space, stream("o-1"), one);
        let none = put(snapshot(1, b"x")).await;
        assert!(matches!(none, Err(Error::NotFound(_))), "{none:?}");
        append(&nodes.a, "o-1", 0, 1..=5).await.expect("appends");
        for beyond in [0, 6] {
            let refused = put(snapshot(beyond, b"x")).await;
            assert!(matches!(refused, Err(Error::Version(5))), "{refused:?}");
        }
        assert_eq!(
            log.snapshot(&space, stream("o-1")).await.expect("reads"),
            None
        );
        let large = vec![7; 100_000];
        put(snapshot(3, &large)).await.expect("puts");
        put(snapshot(4, b"\0four")).await.expect("puts");
        let earlier = put(snapshot(3, b"x")).await;
        assert!(matches!(earlier, Err(Error::Conflict(_))), "{earlier:?}");
        put(snapshot(4, b"again"))
            .await
            .expect("the same version again");
        let got = nodes.b.log().snapshot(&space, stream("o-1")).await;
        let got = got.expect("reads").expect("is there");
        let said = (got.version, got.kind.as_str(), &got.body[..]);
        assert_eq!(said, (4, "application/x-own", &b"again"[..]));
        nodes.ends().await;
    }
}

#[tokio::test]
async fn what_is_taken_out_is_gone_from_the_stream_and_numbers_go_on() {
    for nodes in Nodes::each().await {
        let log = nodes.a.log();
        append(&nodes.a, "o-1", 0, 1..=700).await.expect("appends");
        let (space, app) = (space(), AppName::literal("shop"));
        let cut = |through| log.truncate_stream(&space, stream("o-1"), through);
        assert!(matches!(cut(701).await, Err(Error::Version(700))));
        assert!(cut(690).await.expect("cuts"), "in chunks");
        assert!(!cut(690).await.expect("cuts"));
        assert!(!cut(690).await.expect("nothing is left to cut"));
        assert!(!cut(5).await.expect("nothing is left to cut"));
        let page = log.stream(&space, stream("o-1"), 1, 100).await;
        let page = page.expect("reads").expect("is there");
        assert_eq!((page.head.first, page.head.version), (691, 700));
        assert_eq!(page.events.len(), 10);
        let next = append(&nodes.a, "o-1", 700, 701..=701)
            .await
            .expect("appends");
        assert_eq!(versions(&next), [701]);
        assert!(!cut(701).await.expect("cuts"));
        let listed = log.streams(&space, &app, "o".to_owned(), None, 9);
        let listed = listed.await.expect("reads");
        assert_eq!((listed[0].first, listed[0].version), (702, 701));
        let event = log.event(&space, Position(1)).await.expect("reads");
        assert!(event.is_some(), "the log still has it");
        nodes.ends().await;
    }
}
