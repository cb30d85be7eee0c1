//! What a restart, in order or not, finds again.

use std::time::Duration;

use bus::{DeadLetterFilter, Settled};
use model::{RetryPolicy, code};
use serde_json::json;

use crate::fixture::{Fixture, all, ids};

#[tokio::test]
async fn what_was_settled_is_not_delivered_again_and_the_rest_is() {
    for in_order in [true, false] {
        let fixture = Fixture::new().await;
        fixture
            .subscribe(vec![
                ("shop/w/s", all()),
                ("shop/none/s", json!({"type": ["never"]})),
            ])
            .await;
        fixture.publish("t", 1..=10).await;
        assert_eq!(fixture.drain(4).await, ids(1..=4));
        let fixture = if in_order {
            fixture.restart().await
        } else {
            fixture.crash().await
        };
        assert_eq!(fixture.drain(6).await, ids(5..=10));
        assert!(fixture.next_or_none().await.is_none());
        let fixture = fixture.restart().await;
        assert!(fixture.next_or_none().await.is_none());
        fixture.publish("t", 11..=11).await;
        assert_eq!(fixture.drain(1).await, ids(11..=11));
    }
}

#[tokio::test]
async fn what_was_settled_out_of_order_is_known() {
    let fixture = Fixture::new().await;
    fixture.subscribe(vec![("shop/w/s", all())]).await;
    fixture.publish("t", 1..=5).await;
    let mut deliveries = Vec::new();
    for _ in 0..5 {
        deliveries.push(fixture.next().await);
    }
    for at in [3, 1] {
        let delivery = deliveries.remove(at);
        fixture
            .bus
            .settle(delivery, Settled::Done)
            .await
            .expect("settles");
    }
    deliveries.into_iter().for_each(std::mem::forget);
    fixture.store.flush().await.expect("commits what is noted");
    let fixture = fixture.crash().await;
    let mut again = Vec::new();
    for _ in 0..3 {
        let delivery = fixture.next().await;
        assert_eq!(delivery.attempt, 2, "the attempt that was cut off counts");
        again.push(delivery.event.id.clone());
        fixture
            .bus
            .settle(delivery, Settled::Done)
            .await
            .expect("settles");
    }
    again.sort();
    assert_eq!(again, ["1", "3", "5"]);
    assert!(fixture.next_or_none().await.is_none());
}

#[tokio::test]
async fn what_was_said_to_be_done_is_written_with_the_next_commit() {
    let fixture = Fixture::new().await;
    fixture.subscribe(vec![("shop/w/s", all())]).await;
    fixture.publish("t", 1..=2).await;
    let (first, second) = (fixture.next().await, fixture.next().await);
    fixture.bus.done(first).await.expect("is noted");
    assert_eq!(fixture.bus.stats()[0].in_flight, 1, "its place is free");
    std::mem::forget(second);
    fixture.publish("t", 3..=3).await;
    let fixture = fixture.crash().await;
    let mut left = fixture.drain(2).await;
    left.sort();
    assert_eq!(left, ids(2..=3));
    assert!(fixture.next_or_none().await.is_none());
}

#[tokio::test]
async fn a_retry_that_was_said_to_be_done_does_not_come_again() {
    let fixture = Fixture::new().await;
    fixture.subscribe(vec![("shop/w/s", all())]).await;
    fixture.publish("t", 1..=1).await;
    let first = fixture.next().await;
    fixture.fail(first).await;
    fixture.clock.advance(Duration::from_secs(2));
    let again = fixture.next().await;
    fixture.bus.done(again).await.expect("is settled");
    let fixture = fixture.crash().await;
    fixture.clock.advance(Duration::from_secs(60));
    assert!(fixture.next_or_none().await.is_none());
}

#[tokio::test]
async fn an_event_that_kills_the_server_again_and_again_is_given_up() {
    let mut fixture = Fixture::new().await;
    let policy = RetryPolicy {
        attempts: 3,
        ..RetryPolicy::default()
    };
    fixture
        .subscribe_with(vec![("shop/w/s".to_owned(), all(), policy)])
        .await;
    fixture.publish("t", 1..=1).await;
    let mut attempts = Vec::new();
    while let Some(delivery) = fixture.next_or_none().await {
        attempts.push(delivery.attempt);
        assert!(
            attempts.len() < 20,
            "it would kill the server for ever: {attempts:?}"
        );
        // The process dies in the attempt: nothing runs any more, not even what a drop would do.
        std::mem::forget(delivery);
        fixture = fixture.crash().await;
    }
    // The first was cut off before a commit spoke of it; from then on the bus is careful.
    let counted: Vec<u32> = (1..=3 + bus::FORGIVEN).collect();
    attempts.dedup();
    assert_eq!(attempts, counted);
    let letters = fixture
        .bus
        .dead_letters(DeadLetterFilter::default(), 9)
        .await
        .expect("reads");
    assert_eq!(
        (letters[0].reason.code, letters[0].attempts),
        (code::SHUTTING_DOWN, 3 + bus::FORGIVEN)
    );
    assert_eq!(letters[0].history.len(), counted.len());
}

#[tokio::test]
async fn retries_and_dead_letters_are_found_again() {
    let fixture = Fixture::new().await;
    fixture.subscribe(vec![("shop/w/s", all())]).await;
    fixture.publish("t", 1..=2).await;
    let first = fixture.next().await;
    fixture.fail(first).await;
    let second = fixture.next().await;
    let dead = Settled::Dead(crate::fixture::fault());
    fixture.bus.settle(second, dead).await.expect("settles");
    let fixture = fixture.crash().await;
    let stats = &fixture.bus.stats()[0];
    assert_eq!((stats.retrying, stats.dead), (1, 1));
    assert!(fixture.next_or_none().await.is_none());
    fixture.clock.advance(Duration::from_secs(2));
    let again = fixture.next().await;
    assert_eq!((again.event.id.as_str(), again.attempt), ("1", 2));
    fixture
        .bus
        .settle(again, Settled::Done)
        .await
        .expect("settles");
}

#[tokio::test]
async fn many_that_wait_for_nothing_share_one_mark() {
    let fixture = Fixture::new().await;
    let names: Vec<_> = (0..200).map(|n| format!("shop/w{n}/s")).collect();
    let idle: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), json!({"type": ["never"]})))
        .collect();
    fixture.subscribe(idle).await;
    fixture.publish("t", 1..=100).await;
    fixture.store.flush().await.expect("commits");
    let fixture = fixture.restart().await;
    let stored = fixture.store.log().subscriptions().await.expect("reads");
    assert_eq!(stored.len(), 200);
    assert!(stored.iter().all(|(_, cursor)| cursor.through.0 == 100));
}

#[tokio::test]
async fn an_ended_subscription_is_drained_after_a_restart() {
    let fixture = Fixture::new().await;
    fixture
        .subscribe(vec![("shop/a/s", all()), ("shop/b/s", all())])
        .await;
    fixture.publish("t", 1..=3).await;
    fixture.subscribe(vec![("shop/b/s", all())]).await;
    fixture.publish("t", 4..=4).await;
    let fixture = fixture.crash().await;
    let mut got = fixture.drain(7).await;
    got.sort();
    assert_eq!(got, ["1", "1", "2", "2", "3", "3", "4"]);
    assert!(fixture.next_or_none().await.is_none());
    assert_eq!(fixture.bus.stats().len(), 1);
}
