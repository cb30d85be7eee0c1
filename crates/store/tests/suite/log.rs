//! The log: order, duplicates, ranges, cursors, retries, dead letters, retention.

use std::time::Duration;

use model::{Clock, Error as Fault, Namespace, Position, Time, code};
use store::{
    Error, Options, Store, Urgency,
    log::{
        Attempt, DeadLetterFilter, GivenUp, Retention, RetryRow, SubscriptionId, tail::Committed,
    },
};

use crate::fixture::{Cursors, Nodes, START, cursor, event, key, space, subscribe, subscription};

fn fault() -> Fault {
    Fault::new(code::FUNCTION_ERROR, "no")
}

async fn append(nodes: &Nodes, ids: std::ops::RangeInclusive<u32>) {
    for id in ids {
        let done = nodes.a.log().append(&space(), vec![event(id, 10)]).await;
        assert!(!done.expect("appends")[0].duplicate);
    }
}

#[tokio::test]
async fn positions_are_in_order_of_commits_over_all_nodes() {
    for nodes in Nodes::each().await {
        let (a, b) = (nodes.a.log(), nodes.b.log());
        for round in 0..20u32 {
            let log = if round % 2 == 0 { &a } else { &b };
            let pair = vec![event(2 * round, 10), event(2 * round + 1, 10)];
            let appended = log.append(&space(), pair).await.expect("appends");
            let positions: Vec<_> = appended.iter().map(|a| a.position.0).collect();
            let first = u64::from(2 * round + 1);
            assert_eq!(positions, [first, first + 1]);
        }
        let all = b.range(&space(), Position(0), Position(99), 100).await;
        let ids: Vec<_> = all
            .expect("reads")
            .iter()
            .map(|l| l.event.id.clone())
            .collect();
        assert_eq!(ids, (0..40).map(|id| id.to_string()).collect::<Vec<_>>());
        nodes.ends().await;
    }
}

#[tokio::test]
async fn the_same_id_within_the_window_is_answered_with_the_first_position() {
    for nodes in Nodes::each().await {
        append(&nodes, 1..=3).await;
        let again = async || nodes.b.log().append(&space(), vec![event(2, 10)]).await;
        let seen = again().await.expect("appends")[0];
        assert_eq!((seen.position, seen.duplicate), (Position(2), true));
        nodes.clock.advance(Duration::from_secs(599));
        assert!(again().await.expect("appends")[0].duplicate);
        nodes.clock.advance(Duration::from_secs(2));
        let new = again().await.expect("appends")[0];
        assert_eq!((new.position, new.duplicate), (Position(4), false));
        let other = model::Name::literal("other");
        let elsewhere = nodes.a.log().append(&other, vec![event(2, 10)]).await;
        let elsewhere = elsewhere.expect("appends")[0];
        assert_eq!(
            (elsewhere.position, elsewhere.duplicate),
            (Position(1), false)
        );
        nodes.ends().await;
    }
}

#[tokio::test]
async fn a_time_is_found_in_a_log_also_where_the_clock_was_set_back() {
    let at = |minute: u64| START + Duration::from_secs(60 * minute);
    let dir = tempfile::tempdir().expect("a temporary folder");
    // Three times a hundred events, one a minute; the second time begins ten minutes before the end of the first.
    for (first, from) in [(1, 0), (101, 90), (201, 190)] {
        let clock = Clock::virtual_at(at(from));
        let store = Store::open(Options::new(dir.path(), clock.clone())).expect("opens");
        for id in first..first + 100 {
            store
                .log()
                .append(&space(), vec![event(id, 10)])
                .await
                .expect("appends");
            clock.advance(Duration::from_secs(60));
        }
        store.close().await.expect("closes");
    }
    let options = Options::new(dir.path(), Clock::virtual_at(at(500)));
    let log = Store::open(options).expect("opens").log();
    let all = log.range(&space(), Position(0), Position(300), 500).await;
    let all = all.expect("reads");
    assert_eq!(all.len(), 300);
    let seek = async |after: u64, through: u64, time: Time| {
        let (space, after, through) = (space(), Position(after), Position(through));
        let found = log.seek(&space, after, through, time).await;
        found.expect("reads").0
    };
    for (time, expected) in [
        (at(0), 0),
        (at(1), 1),
        (at(50), 50),
        (at(50) + Duration::from_micros(1), 51),
        (at(150), 160),
        (at(289), 299),
        (at(290), 300),
        (at(999), 300),
    ] {
        assert_eq!(seek(0, 300, time).await, expected, "{time:?}");
    }
    assert_eq!(seek(40, 60, at(0)).await, 40);
    assert_eq!(seek(40, 60, at(999)).await, 60);
    assert_eq!(seek(70, 60, at(50)).await, 70, "there is nothing between");
    let nowhere = Namespace::new("nowhere").expect("is a name");
    let empty = log.seek(&nowhere, Position(3), Position(9), at(1)).await;
    assert_eq!(empty.expect("reads"), Position(3));
    let back = Duration::from_secs(10 * 60);
    for minute in 0..300 {
        let time = at(minute);
        let place = seek(0, 300, time).await;
        for logged in &all {
            let right = match logged.position.0 <= place {
                true => logged.at < time + back,
                false => logged.at >= time - back,
            };
            assert!(right, "{:?} at {:?}, {time:?}", logged.position, logged.at);
        }
    }
}

#[tokio::test]
async fn large_events_are_blobs_and_read_back() {
    for nodes in Nodes::each().await {
        let large = event("large", 100_000);
        let appended = nodes.a.log().append(&space(), vec![large.clone()]).await;
        let at = appended.expect("appends")[0].position;
        let logged = nodes.b.log().event(&space(), at).await.expect("reads");
        let logged = logged.expect("is there");
        assert_eq!((&logged.event, &logged.cause), (&large.event, &large.cause));
        nodes.ends().await;
    }
}

#[tokio::test]
async fn the_tail_has_events_and_switches_in_order() {
    let nodes = Nodes::one();
    let mut tail = nodes.a.log().tail();
    append(&nodes, 1..=2).await;
    let switched = subscribe(&nodes.a).await;
    append(&nodes, 3..=3).await;
    let (mut seen, mut switches) = (Vec::new(), Vec::new());
    while seen.len() < 3 {
        for one in tail.next().await.expect("is open") {
            match one {
                Committed::Event(_, logged) => seen.push(logged.position.0),
                Committed::Switched(_, switch) => {
                    assert_eq!(seen, [1, 2]);
                    switches.push(switch.at);
                }
                Committed::Skipped(..) => panic!("there was room"),
            }
        }
    }
    assert_eq!((seen, switches), (vec![1, 2, 3], vec![switched.at]));
    nodes.a.close().await.expect("closes");
    assert!(tail.next().await.is_none());
}

#[tokio::test]
async fn a_switch_ends_begins_and_changes_ranges() {
    for nodes in Nodes::each().await {
        let (log, app) = (nodes.a.log(), model::Name::literal("shop"));
        append(&nodes, 1..=2).await;
        let first = subscribe(&nodes.a).await;
        assert_eq!((first.at, first.began[0].begin), (Position(2), Position(2)));
        assert!(subscribe(&nodes.b).await.began.is_empty(), "nothing new");

        append(&nodes, 3..=3).await;
        let mut slower = subscription("s", "order.created");
        slower.retry.attempts = 3;
        let wanted = [(key("shop/w/s"), slower)].into();
        let changed = log.switch(&space(), &app, wanted).await.expect("switches");
        assert_eq!(changed.changed[0].spec.retry.attempts, 3);
        assert!(changed.began.is_empty() && changed.ended.is_empty());

        let wanted = [(key("shop/w/s"), subscription("s", "order.paid"))].into();
        let other = log.switch(&space(), &app, wanted).await.expect("switches");
        assert_eq!(other.ended, [first.began[0].id]);
        assert_eq!(other.began[0].begin, Position(3));
        let stored = nodes.b.log().subscriptions().await.expect("reads");
        let ranges: Vec<_> = stored.iter().map(|(s, _)| (s.begin.0, s.end)).collect();
        assert_eq!(ranges, [(2, Some(Position(3))), (3, None)]);

        let owned = nodes.owner(&first);
        let living = log.finish(owned, other.began[0].id).await;
        assert!(matches!(living, Err(Error::Conflict(_))));
        log.finish(owned, first.began[0].id)
            .await
            .expect("finishes");
        assert_eq!(log.subscriptions().await.expect("reads").len(), 1);
        nodes.ends().await;
    }
}

#[tokio::test]
async fn idle_cursors_follow_the_mark_and_others_do_not() {
    for nodes in Nodes::each().await {
        let log = nodes.a.log();
        let cursors = Cursors::of(&log);
        let switched = subscribe(&nodes.a).await;
        let (id, owned) = (switched.began[0].id, nodes.owner(&switched));
        append(&nodes, 1..=9).await;
        let through = |nodes: &Nodes| {
            let log = nodes.b.log();
            async move {
                let stored = log.subscriptions().await.expect("reads");
                (stored[0].1.through.0, stored[0].1.running.clone())
            }
        };
        log.mark(&space(), Position(5)).expect("is open");
        nodes.a.flush().await.expect("commits");
        assert_eq!(through(&nodes).await, (5, vec![]));

        let note = cursor(id, 7, &[6, 7], false);
        cursors.note(owned, note, Urgency::Ride);
        log.mark(&space(), Position(9)).expect("is open");
        nodes.a.flush().await.expect("commits");
        assert_eq!(through(&nodes).await, (7, vec![Position(6), Position(7)]));

        let settled = cursors
            .settle(owned, cursor(id, 9, &[], true))
            .expect("is open");
        settled.done().await.expect("commits");
        assert_eq!(through(&nodes).await, (9, vec![]));
        nodes.ends().await;
    }
}

fn row(id: SubscriptionId, position: u64, due: Time, attempts: u32) -> RetryRow {
    RetryRow {
        subscription: id,
        position: Position(position),
        due,
        attempts,
        born: crate::fixture::START,
        first_at: crate::fixture::START,
        history: vec![Attempt {
            at: due,
            error: fault(),
        }],
        lane: None,
        replay: None,
    }
}

#[tokio::test]
async fn retries_wait_are_tried_and_end() {
    for nodes in Nodes::each().await {
        let log = nodes.a.log();
        let switched = subscribe(&nodes.a).await;
        let (id, owned) = (switched.began[0].id, nodes.owner(&switched));
        append(&nodes, 1..=2).await;
        for (position, seconds) in [(1, 20), (2, 10)] {
            let due = nodes.clock.now() + Duration::from_secs(seconds);
            let retry = log
                .retry(owned, row(id, position, due, 1))
                .expect("is open");
            retry.done().await.expect("commits");
        }
        let waiting = nodes.b.log().waiting(id, 10).await.expect("reads");
        let order: Vec<_> = waiting.iter().map(|(w, _)| w.position.0).collect();
        assert_eq!(order, [2, 1]);
        let item = log.retry_item(id, Position(2)).await.expect("reads");
        let item = item.expect("waits");
        assert_eq!((item.logged.event.id.as_str(), item.row.attempts), ("2", 1));
        assert_eq!(item.row.history[0].error, fault());
        let done = log.retry_done(owned, id, Position(2)).expect("is open");
        done.done().await.expect("commits");
        assert_eq!(log.waiting(id, 10).await.expect("reads").len(), 1);
        nodes.ends().await;
    }
}

#[tokio::test]
async fn what_ran_when_the_server_died_has_used_an_attempt() {
    for nodes in Nodes::each().await {
        let log = nodes.a.log();
        let cursors = Cursors::of(&log);
        let switched = subscribe(&nodes.a).await;
        let (id, owned) = (switched.began[0].id, nodes.owner(&switched));
        append(&nodes, 1..=3).await;
        let retry = log
            .retry(owned, row(id, 1, nodes.clock.now(), 1))
            .expect("is open");
        retry.done().await.expect("commits");
        log.note_running(owned, id, Position(1), 2)
            .expect("is open");
        let note = cursor(id, 3, &[2, 3], false);
        cursors.note(owned, note, Urgency::Soon);
        nodes.a.flush().await.expect("commits");

        log.recover(owned, id)
            .expect("is open")
            .done()
            .await
            .expect("recovers");
        let again = log.recover(owned, id).expect("is open");
        again.done().await.expect("twice is as once");
        let attempts = async |position: u64| {
            let item = nodes.b.log().retry_item(id, Position(position)).await;
            let row = item.expect("reads").expect("waits").row;
            (row.attempts, row.history.len())
        };
        assert_eq!(attempts(1).await, (2, 2));
        assert_eq!(attempts(2).await, (1, 1));
        assert_eq!(attempts(3).await, (1, 1));
        let stored = log.subscriptions().await.expect("reads");
        assert!(stored[0].1.running.is_empty());
        nodes.ends().await;
    }
}

#[tokio::test]
async fn dead_letters_carry_their_event_and_can_be_redriven_or_discarded() {
    for nodes in Nodes::each().await {
        let log = nodes.a.log();
        let cursors = Cursors::of(&log);
        let switched = subscribe(&nodes.a).await;
        let (id, owned) = (switched.began[0].id, nodes.owner(&switched));
        append(&nodes, 1..=1).await;
        nodes
            .a
            .log()
            .append(&space(), vec![event("big", 50_000)])
            .await
            .expect("appends");
        for position in [1, 2] {
            let given_up = GivenUp {
                subscription: id,
                position: Position(position),
                first_at: nodes.clock.now(),
                attempts: 8,
                reason: fault(),
                history: vec![],
                lane: None,
            };
            log.give_up(owned, given_up)
                .expect("is open")
                .done()
                .await
                .expect("commits");
        }
        let settled = cursors
            .settle(owned, cursor(id, 2, &[], true))
            .expect("is open");
        settled.done().await.expect("commits");
        nodes.clock.advance(Duration::from_secs(30 * 86_400));
        let retained = log
            .retain(&space(), Retention::default())
            .await
            .expect("retains");
        assert_eq!(retained.removed, 2, "the letters have copies");
        nodes.clock.advance(Duration::from_secs(2 * 3600));

        let letters = nodes
            .b
            .log()
            .dead_letters(DeadLetterFilter::default(), 0, 10)
            .await;
        let letters = letters.expect("reads");
        assert_eq!(letters.len(), 2);
        assert_eq!(
            (letters[0].reason.clone(), letters[0].attempts),
            (fault(), 8)
        );
        assert_eq!(letters[1].logged.event.id, "big");
        assert_eq!(log.count_dead_letters().await.expect("reads")[0].2, 2);
        let none = DeadLetterFilter {
            app: Some(model::Name::literal("other")),
            ..DeadLetterFilter::default()
        };
        assert!(
            log.dead_letters(none, 0, 10)
                .await
                .expect("reads")
                .is_empty()
        );

        let redriven = log
            .redrive(letters[1].id, "a test".to_owned())
            .await
            .expect("redrives");
        assert_eq!(
            (redriven.subscription, redriven.position),
            (id, Position(2))
        );
        let item = log
            .retry_item(id, Position(2))
            .await
            .expect("reads")
            .expect("waits");
        assert_eq!(
            (item.row.attempts, item.logged.event.id.as_str()),
            (0, "big")
        );
        log.discard(letters[0].id, "a test".to_owned())
            .await
            .expect("discards");
        let gone = log.discard(letters[0].id, "a test".to_owned()).await;
        assert!(matches!(gone, Err(Error::NotFound("dead letter"))));
        let gone = log.redrive(letters[1].id, "a test".to_owned()).await;
        assert!(matches!(gone, Err(Error::NotFound("dead letter"))));
        nodes.ends().await;
    }
}

#[tokio::test]
async fn retention_removes_what_nobody_needs_in_chunks() {
    for nodes in Nodes::each().await {
        let log = nodes.a.log();
        let cursors = Cursors::of(&log);
        let switched = subscribe(&nodes.a).await;
        let (id, owned) = (switched.began[0].id, nodes.owner(&switched));
        let batch: Vec<_> = (0..1200).map(|id| event(id, 10)).collect();
        log.append(&space(), batch).await.expect("appends");
        let keep = Retention::default();
        let none = log.retain(&space(), keep).await.expect("retains");
        assert_eq!(none.removed, 0, "they are young");
        nodes.clock.advance(keep.age + Duration::from_secs(1));
        let none = log.retain(&space(), keep).await.expect("retains");
        assert_eq!(none.removed, 0, "the subscription needs them");

        let settle = cursors
            .settle(owned, cursor(id, 1200, &[1100], false))
            .expect("is open");
        settle.done().await.expect("commits");
        let mut removed = 0;
        loop {
            let chunk = nodes.b.log().retain(&space(), keep).await.expect("retains");
            removed += chunk.removed;
            assert!(chunk.removed <= 500);
            if !chunk.more {
                break;
            }
        }
        assert_eq!(removed, 1099);
        let rest = log
            .range(&space(), Position(0), Position(9999), 10)
            .await
            .expect("reads");
        assert_eq!(rest[0].position, Position(1100));
        let next = log
            .append(&space(), vec![event("next", 1)])
            .await
            .expect("appends");
        assert_eq!(
            next[0].position,
            Position(1201),
            "positions never come again"
        );
        nodes.ends().await;
    }
}

#[tokio::test]
async fn a_log_that_its_consumers_hold_fills_up_and_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = model::Clock::virtual_at(crate::fixture::START);
    let options = store::Options {
        log_bytes: model::ByteSize(2000),
        ..store::Options::new(dir.path(), clock)
    };
    let store = store::Store::open(options).expect("opens");
    let mut full = None;
    for id in 0..20 {
        if let Err(error) = store.log().append(&space(), vec![event(id, 10)]).await {
            full = Some(error);
            break;
        }
    }
    let full = model::Error::from(full.expect("it is full"));
    assert_eq!(full.code, code::LOG_FULL);
    assert!(full.retry_after.is_some());
}
