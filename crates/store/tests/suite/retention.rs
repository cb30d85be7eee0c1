//! How long events are kept: by app, by time and by size; and that whoever still needs one keeps it.

use std::time::Duration;

use model::{AppName, ByteSize, Position, Retention, Time};
use store::{
    Store,
    log::{Chunk, JobSpec, LogState, NewEvent, Place, Step, StreamKey},
};

use crate::fixture::{Cursors, Nodes, cursor, event, key, space, subscribe};

const HOUR: Duration = Duration::from_secs(3600);

fn app(name: &'static str) -> AppName {
    AppName::literal(name)
}

fn of(name: &'static str, ids: std::ops::RangeInclusive<u32>) -> Vec<NewEvent> {
    let one = |id| event(format!("{name}-{id}"), 100).of(Some(app(name)));
    ids.map(one).collect()
}

async fn append(store: &Store, events: Vec<NewEvent>) {
    let appended = store.log().append(&space(), events).await;
    appended.expect("appends");
}

async fn keep(store: &Store, name: &'static str, age: Duration, bytes: u64) {
    let keep = Retention {
        age,
        bytes: ByteSize(bytes),
    };
    let kept = store.log().keep(&space(), &app(name), Some(keep)).await;
    kept.expect("keeps");
}

/// Removes all that may go, in chunks; how many.
async fn retain(store: &Store) -> u64 {
    let mut removed = 0;
    loop {
        let chunk = store.log().retain(&space(), Retention::default()).await;
        let chunk = chunk.expect("retains");
        assert!(chunk.removed <= 500, "{chunk:?}");
        removed += chunk.removed;
        if !chunk.more {
            return removed;
        }
    }
}

/// The ids that are left.
async fn left(store: &Store) -> Vec<String> {
    let log = store.log();
    let all = log
        .range(&space(), Position(0), Position(100_000), 10_000)
        .await;
    let all = all.expect("reads").into_iter();
    all.map(|logged| logged.event.id.clone()).collect()
}

async fn state(store: &Store) -> LogState {
    let states = store.log().states().await.expect("reads");
    states.into_iter().next().expect("there is one log")
}

#[tokio::test]
async fn each_app_keeps_its_events_as_long_as_it_says() {
    for nodes in Nodes::each().await {
        keep(&nodes.a, "short", HOUR, 1 << 30).await;
        for round in 0..4 {
            let ids = round * 10 + 1..=round * 10 + 10;
            append(&nodes.a, of("short", ids.clone())).await;
            append(&nodes.b, of("usual", ids)).await;
            nodes.clock.advance(HOUR / 2);
        }
        assert_eq!(
            retain(&nodes.b).await,
            20,
            "two rounds of one app are too old"
        );
        let rest = left(&nodes.a).await;
        assert_eq!(rest.len(), 60);
        assert!(!rest.contains(&"short-20".to_owned()) && rest.contains(&"short-21".to_owned()));
        let now = state(&nodes.a).await;
        let events: Vec<_> = now.apps.iter().map(|app| app.events).collect();
        assert_eq!((now.events, events), (60, vec![0, 20, 40]));
        assert_eq!(now.gone_through, Position(30), "the last that went");
        nodes.clock.advance(Retention::default().age);
        assert_eq!(retain(&nodes.a).await, 60);
        let now = state(&nodes.a).await;
        assert_eq!((now.events, now.bytes, now.oldest), (0, 0, None));
        nodes.ends().await;
    }
}

#[tokio::test]
async fn the_oldest_go_when_all_of_an_app_is_too_large() {
    for nodes in Nodes::each().await {
        append(&nodes.a, of("large", 1..=1200)).await;
        append(&nodes.a, of("other", 1..=50)).await;
        let bytes = |state: &LogState, at: usize| state.apps[at].bytes;
        let before = state(&nodes.a).await;
        let each = bytes(&before, 1) / 1200;
        keep(&nodes.a, "large", HOUR * 1000, each * 100).await;
        let removed = retain(&nodes.a).await;
        assert!((1095..=1105).contains(&removed), "{removed}");
        let now = state(&nodes.a).await;
        assert!(bytes(&now, 1) <= each * 100);
        assert_eq!(
            bytes(&now, 2),
            bytes(&before, 2),
            "others have their own size"
        );
        assert_eq!(
            left(&nodes.a).await.last().map(String::as_str),
            Some("other-50")
        );
        append(&nodes.a, of("large", 1201..=1300)).await;
        let removed = retain(&nodes.a).await;
        assert!((95..=105).contains(&removed), "{removed}");
        nodes.ends().await;
    }
}

#[tokio::test]
async fn whoever_needs_an_event_keeps_it_and_is_named() {
    for nodes in Nodes::each().await {
        let log = nodes.a.log();
        let cursors = Cursors::of(&log);
        let switched = subscribe(&nodes.a).await;
        let (id, owned) = (switched.began[0].id, nodes.owner(&switched));
        keep(&nodes.a, "shop", HOUR, 1 << 30).await;
        append(&nodes.a, of("shop", 1..=20)).await;
        nodes.clock.advance(HOUR * 2);
        let settled = cursors.settle(owned, cursor(id, 20, &[15], false));
        settled.expect("is open").done().await.expect("commits");
        let spec = JobSpec::Replay {
            namespace: space(),
            key: key("shop/w/s"),
            after: Position(4),
            through: Position(20),
            since: None,
            until: None,
            filter: None,
            rate: None,
            gone_through: None,
        };
        let job = log.start_job(spec, "me".to_owned()).await.expect("starts");
        assert_eq!(
            retain(&nodes.b).await,
            4,
            "the replay needs what is behind 4"
        );
        let held = state(&nodes.a).await.held;
        let held: Vec<_> = held
            .iter()
            .map(|one| (one.by.as_str(), one.after.0))
            .collect();
        let replay = format!("replay {job}");
        assert_eq!(held, [(replay.as_str(), 4), ("subscription shop/w/s", 14)]);
        let step = Step {
            job,
            from: Place {
                group: 0,
                after: Position(4),
            },
            to: Place {
                group: 0,
                after: Position(20),
            },
            chunk: Chunk::Events(id, Vec::new()),
            last: true,
        };
        log.step_job(step).await.expect("steps");
        assert_eq!(retain(&nodes.b).await, 10, "what runs is needed");
        let settled = cursors.settle(owned, cursor(id, 20, &[], true));
        settled.expect("is open").done().await.expect("commits");
        assert_eq!(retain(&nodes.b).await, 6);
        assert!(state(&nodes.a).await.held.is_empty());
        nodes.ends().await;
    }
}

#[tokio::test]
async fn what_a_stream_has_stays_and_goes_when_it_is_taken_out() {
    for nodes in Nodes::each().await {
        let log = nodes.a.log();
        keep(&nodes.a, "shop", HOUR, 500).await;
        let stream = || StreamKey {
            app: app("shop"),
            subject: "o-1".to_owned(),
        };
        let appended = log
            .append_to_stream(&space(), stream(), 0, of("shop", 1..=30))
            .await;
        appended.expect("appends");
        append(&nodes.a, of("shop", 31..=40)).await;
        nodes.clock.advance(HOUR * 2);
        assert_eq!(retain(&nodes.b).await, 10);
        let now = state(&nodes.a).await;
        let shop = &now.apps[1];
        assert_eq!((shop.events, shop.in_streams), (30, shop.bytes));
        let page = log.stream(&space(), stream(), 1, 100).await;
        assert_eq!(page.expect("reads").expect("is there").events.len(), 30);
        log.truncate_stream(&space(), stream(), 12)
            .await
            .expect("cuts");
        assert_eq!(retain(&nodes.b).await, 12, "they are as all others now");
        let page = log.stream(&space(), stream(), 1, 100).await;
        let page = page.expect("reads").expect("is there");
        assert_eq!((page.events.len(), page.events[0].0), (18, 13));
        nodes.ends().await;
    }
}

#[tokio::test]
async fn ids_out_of_their_window_go_too_however_many() {
    for nodes in Nodes::each().await {
        for batch in 0..3 {
            append(&nodes.a, of("shop", batch * 1000 + 1..=batch * 1000 + 1000)).await;
        }
        nodes.clock.advance(HOUR);
        assert_eq!(retain(&nodes.a).await, 0);
        let chunk = nodes.a.log().retain(&space(), Retention::default()).await;
        assert!(!chunk.expect("retains").more, "all ids were forgotten");
        assert!(state(&nodes.a).await.oldest.is_some_and(|at| at > Time(0)));
        nodes.ends().await;
    }
}
