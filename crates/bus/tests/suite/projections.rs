//! Projections: fed from the beginning and in order, rebuilt beside the live one, switched when they have caught up.

use std::time::Duration;

use bus::{Delivery, Error, Generation, GenerationState as State, Projection, Settled};
use model::{
    Batch, EventFilter, Name, Position, RetryPolicy, Subscription, SubscriptionKey,
    projection::{Projection as Declared, Switching},
};
use serde_json::{Value, json};

use crate::fixture::{Fixture, all, fault, ids, key_of, space};

const KEY: &str = "shop/w/model";

fn declared(filter: Value, switch: Switching) -> Subscription {
    Subscription {
        projection: Some(Declared { switch }),
        retry: RetryPolicy::endless(),
        ..Subscription::new(Name::literal("model"), EventFilter(filter))
    }
}

fn key() -> SubscriptionKey {
    key_of(KEY)
}

async fn set(fixture: &Fixture, subscription: Option<Subscription>) {
    let wanted = subscription.into_iter().map(|one| (key(), one)).collect();
    let app = Name::literal("shop");
    let set = fixture.bus.set_subscriptions(&space(), &app, wanted).await;
    set.expect("sets");
}

async fn the(fixture: &Fixture) -> Projection {
    let all = fixture.bus.projections().await.expect("reads");
    all.into_iter().next().expect("there is one")
}

fn states(projection: &Projection) -> Vec<(u32, State)> {
    let state = |one: &Generation| (one.generation, one.state);
    projection.generations.iter().map(state).collect()
}

fn generation(delivery: &Delivery) -> u32 {
    let said = delivery.event.extensions["tangelogeneration"].as_str();
    said.and_then(|said| said.parse().ok()).expect("is said")
}

async fn done(fixture: &Fixture, delivery: Delivery) {
    let settled = fixture.bus.settle(delivery, Settled::Done).await;
    settled.expect("settles");
}

/// Takes and settles what there is, and says what came for which generation.
async fn drain(fixture: &Fixture) -> Vec<(u32, String)> {
    let mut came = Vec::new();
    while let Some(delivery) = fixture.next_or_none().await {
        came.push((generation(&delivery), delivery.event.id.clone()));
        done(fixture, delivery).await;
    }
    came
}

fn of(came: &[(u32, String)], generation: u32) -> Vec<String> {
    let of = came.iter().filter(|(number, _)| *number == generation);
    of.map(|(_, id)| id.clone()).collect()
}

/// What the log tells of the projection.
async fn told(fixture: &Fixture) -> Vec<String> {
    let log = fixture.store.log();
    let events = log.range(&space(), Position(0), Position(1000), 500).await;
    let events = events.expect("reads").into_iter();
    let own = events.filter(|one| one.event.source == format!("/tangelo/projections/{KEY}"));
    own.map(|one| one.event.kind.clone()).collect()
}

/// Lets the clock go on until the generation is live.
async fn live(fixture: &Fixture, generation: u32) {
    for _ in 0..50 {
        if the(fixture).await.live == generation {
            return;
        }
        fixture.clock.advance(Duration::from_millis(100));
        fixture.store.flush().await.expect("writes");
    }
    panic!("{generation} is not live: {:?}", the(fixture).await);
}

#[tokio::test]
async fn what_was_published_before_comes_in_order_and_nothing_overtakes_what_failed() {
    let fixture = Fixture::new().await;
    fixture.publish("t", 1..=5).await;
    set(&fixture, Some(declared(all(), Switching::Auto))).await;
    fixture.publish("t", 6..=8).await;
    let first = fixture.next().await;
    assert_eq!((generation(&first), first.event.id.as_str()), (1, "1"));
    assert!(
        fixture.next_or_none().await.is_none(),
        "one after another, while it runs"
    );
    fixture.clock.advance(Duration::from_secs(2));
    let lag = the(&fixture).await.generations.remove(0);
    assert_eq!((lag.lag_events, lag.lag_seconds), (8, 2.0), "{lag:?}");
    let mut failing = first;
    for attempt in 2..20 {
        fixture.fail(failing).await;
        fixture.clock.advance(Duration::from_secs(31));
        failing = fixture.next().await;
        let came = (failing.event.id.as_str(), failing.attempt);
        assert_eq!(came, ("1", attempt), "nothing overtakes it, however often");
    }
    done(&fixture, failing).await;
    assert_eq!(of(&drain(&fixture).await, 1), ids(2..=8));
    let lag = the(&fixture).await.generations.remove(0);
    assert_eq!((lag.lag_events, lag.position.0, lag.dead), (0, 8, 0));
}

#[tokio::test]
async fn a_batch_that_failed_comes_again_one_by_one_and_in_order() {
    let fixture = Fixture::new().await;
    fixture.publish("t", 1..=6).await;
    let batch = Batch {
        size: 4,
        window: Duration::ZERO,
    };
    let subscription = Subscription {
        batch: Some(batch),
        ..declared(all(), Switching::Auto)
    };
    set(&fixture, Some(subscription)).await;
    let name = fixture.bus.ready().await;
    let taken = fixture.bus.take(&name).await;
    let taken_ids: Vec<_> = taken.iter().map(|one| one.event.id.clone()).collect();
    assert_eq!(taken_ids, ids(1..=4));
    assert!(taken.iter().all(|one| one.serial));
    for (nth, delivery) in taken.into_iter().enumerate() {
        let end = match nth {
            0 => Settled::Done,
            _ => Settled::Retry(fault()),
        };
        fixture.bus.settle(delivery, end).await.expect("settles");
    }
    fixture.clock.advance(Duration::from_secs(31));
    for id in ["2", "3", "4"] {
        let name = fixture.bus.ready().await;
        let again = fixture.bus.take(&name).await;
        let again_ids: Vec<_> = again.iter().map(|one| one.event.id.as_str()).collect();
        assert_eq!(again_ids, [id], "what failed comes alone");
        for delivery in again {
            assert_eq!(delivery.attempt, 2);
            done(&fixture, delivery).await;
        }
        fixture.clock.advance(Duration::from_secs(31));
    }
    let name = fixture.bus.ready().await;
    assert_eq!(fixture.bus.take(&name).await.len(), 2);
}

#[tokio::test]
async fn a_rebuild_is_fed_beside_the_live_one_over_a_crash_and_switched_when_it_caught_up() {
    let fixture = Fixture::new().await;
    set(&fixture, Some(declared(all(), Switching::Auto))).await;
    fixture.publish("t", 1..=9).await;
    assert_eq!(of(&drain(&fixture).await, 1), ids(1..=9));
    let begun = fixture.bus.rebuild(&key(), false, "me").await;
    assert_eq!(begun.expect("begins"), 2);
    let again = fixture.bus.rebuild(&key(), false, "me").await;
    assert!(
        matches!(again, Err(Error::ProjectionConflict(_))),
        "{again:?}"
    );
    for id in 1..=3 {
        let delivery = fixture.next().await;
        assert_eq!(generation(&delivery), 2);
        assert_eq!(delivery.event.id, id.to_string());
        done(&fixture, delivery).await;
    }
    assert_eq!(
        states(&the(&fixture).await),
        [(1, State::Live), (2, State::Building)]
    );
    let fixture = fixture.crash().await;
    fixture.publish("t", 10..=11).await;
    assert_eq!(the(&fixture).await.live, 1, "it has not caught up");
    let came = drain(&fixture).await;
    assert_eq!(of(&came, 1), ids(10..=11));
    // What settled last may not have been noted before the crash.
    let second: Vec<u32> = of(&came, 2)
        .iter()
        .map(|id| id.parse().expect("one"))
        .collect();
    assert!(
        second.is_sorted() && second.ends_with(&[10, 11]),
        "{second:?}"
    );
    assert!((1..=4).contains(&second[0]), "{second:?}");
    live(&fixture, 2).await;
    assert_eq!(told(&fixture).await, ["tangelo.projection.switched"]);
    assert_eq!(
        states(&the(&fixture).await),
        [(1, State::Former), (2, State::Live)]
    );
    fixture.publish("t", 12..=12).await;
    let came = drain(&fixture).await;
    assert_eq!((of(&came, 1), of(&came, 2)), (ids(12..=12), ids(12..=12)));
    let live_one = fixture.bus.drop_generation(&key(), 2, "me").await;
    assert!(matches!(live_one, Err(Error::ProjectionConflict(_))));
    assert!(
        fixture
            .bus
            .switch(&key(), 1, "me")
            .await
            .expect("goes back")
    );
    assert!(!fixture.bus.switch(&key(), 1, "me").await.expect("is there"));
    fixture
        .bus
        .drop_generation(&key(), 2, "me")
        .await
        .expect("drops");
    assert_eq!(
        told(&fixture).await[1..],
        ["tangelo.projection.switched", "tangelo.projection.dropped"]
    );
    fixture.publish("t", 13..=13).await;
    assert_eq!(drain(&fixture).await, [(1, "13".to_owned())]);
    let gone = fixture.bus.switch(&key(), 2, "me").await;
    assert!(matches!(gone, Err(Error::NoSuchProjection { .. })));
    let fixture = fixture.restart().await;
    assert_eq!(states(&the(&fixture).await), [(1, State::Live)]);
    assert_eq!(
        fixture
            .bus
            .rebuild(&key(), false, "me")
            .await
            .expect("begins"),
        3
    );
}

#[tokio::test]
async fn a_generation_that_is_dropped_takes_what_failed_and_what_runs_with_it() {
    let fixture = Fixture::new().await;
    set(&fixture, Some(declared(all(), Switching::Manual))).await;
    fixture.publish("t", 1..=3).await;
    drain(&fixture).await;
    fixture
        .bus
        .rebuild(&key(), false, "me")
        .await
        .expect("begins");
    let delivery = fixture.next().await;
    fixture.fail(delivery).await;
    fixture.clock.advance(Duration::from_secs(31));
    let runs = fixture.next().await;
    assert_eq!((generation(&runs), runs.attempt), (2, 2));
    fixture
        .bus
        .drop_generation(&key(), 2, "me")
        .await
        .expect("drops");
    fixture.fail(runs).await;
    let fixture = fixture.restart().await;
    fixture.clock.advance(Duration::from_secs(60));
    assert!(drain(&fixture).await.is_empty());
    // Nothing of it holds the log.
    let subscriptions = fixture.store.log().subscriptions().await.expect("reads");
    assert_eq!(subscriptions.len(), 1);
}

#[tokio::test]
async fn another_filter_begins_a_generation_and_the_live_one_keeps_its_own() {
    let fixture = Fixture::new().await;
    let of_type = |kind: &str| json!({"type": [kind]});
    set(&fixture, Some(declared(of_type("a"), Switching::Auto))).await;
    fixture.publish("a", 1..=2).await;
    fixture.publish("b", 3..=4).await;
    assert_eq!(of(&drain(&fixture).await, 1), ids(1..=2));
    set(&fixture, Some(declared(of_type("a"), Switching::Auto))).await;
    assert_eq!(the(&fixture).await.generations.len(), 1, "nothing changed");
    set(&fixture, Some(declared(of_type("b"), Switching::Auto))).await;
    fixture.publish("a", 5..=5).await;
    let came = drain(&fixture).await;
    assert_eq!((of(&came, 1), of(&came, 2)), (ids(5..=5), ids(3..=4)));
    live(&fixture, 2).await;
    // Taken out of the manifest, it gets nothing more; put back, it begins anew beside what was live.
    set(&fixture, None).await;
    fixture.publish("b", 6..=6).await;
    assert!(drain(&fixture).await.is_empty());
    assert!(fixture.bus.projections().await.expect("reads").is_empty());
    set(&fixture, Some(declared(of_type("b"), Switching::Auto))).await;
    assert_eq!(drain(&fixture).await.len(), 3);
    live(&fixture, 3).await;
}
