//! Subscriptions that somebody comes for: on the terms of all others, and to nobody's loop. And what asks for its events
//! later, which is no attempt.

use std::time::Duration;

use bus::{Delivery, Error, Settled};
use model::{
    Error as Fault, EventFilter, Name, Order, RetryPolicy, Subscription, SubscriptionKey, code,
};

use crate::fixture::{Fixture, START, all, fault, ids, key_of, space};

fn key() -> SubscriptionKey {
    key_of("shop/w/s")
}

async fn set(fixture: &Fixture, change: impl FnOnce(&mut Subscription)) {
    let mut subscription = Subscription::new(Name::literal("s"), EventFilter(all()));
    change(&mut subscription);
    let app = Name::literal("shop");
    let wanted = vec![(key(), subscription)];
    let set = fixture.bus.set_subscriptions(&space(), &app, wanted).await;
    set.expect("sets");
}

async fn pull(fixture: &Fixture, most: usize) -> Vec<Delivery> {
    let now = fixture.clock.now();
    fixture.bus.pull(&key(), most, now).await.expect("pulls")
}

/// Pulls until there is something: what was published is matched by another task.
async fn pull_some(fixture: &Fixture, most: usize) -> Vec<Delivery> {
    let until = fixture.clock.now() + Duration::from_secs(3600);
    let pulled = fixture.bus.pull(&key(), most, until).await;
    pulled.expect("pulls")
}

fn names(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| d.event.id.clone()).collect()
}

fn why(fixture: &Fixture) -> Option<String> {
    let stats = fixture.bus.stats();
    let stats = stats.into_iter().find(|s| s.subscription == key());
    stats.expect("it has stats").waiting_on
}

#[tokio::test]
async fn what_is_pulled_is_in_flight_until_it_is_settled_and_comes_again_when_it_failed() {
    let fixture = Fixture::new().await;
    set(&fixture, |subscription| subscription.pulled = true).await;
    fixture.publish("t", 1..=5).await;
    assert!(fixture.next_or_none().await.is_none(), "no loop is told");
    assert_eq!(why(&fixture).as_deref(), Some("somebody to pull it"));
    let mut taken = pull_some(&fixture, 3).await;
    assert_eq!(names(&taken), ids(1..=3));
    let failed = taken.remove(1);
    let again = failed.idempotency_key.clone();
    fixture.fail(failed).await;
    for delivery in taken {
        let settled = fixture.bus.settle(delivery, Settled::Done).await;
        settled.expect("settles");
    }
    let rest = pull(&fixture, 10).await;
    assert_eq!(names(&rest), ids(4..=5), "the one that failed waits");
    fixture.clock.advance(Duration::from_secs(2));
    let retried = pull_some(&fixture, 10).await;
    assert_eq!(names(&retried), ["2"]);
    assert_eq!(
        (retried[0].attempt, &retried[0].idempotency_key),
        (2, &again)
    );
    let crashed = {
        drop((rest, retried));
        fixture.crash().await
    };
    crashed.clock.advance(Duration::from_secs(60));
    let mut left = Vec::new();
    while left.len() < 3 {
        left.extend(pull_some(&crashed, 10).await);
    }
    let mut left = names(&left);
    left.sort();
    assert_eq!(left, ["2", "4", "5"], "what was not settled is not lost");
}

#[tokio::test]
async fn whoever_waits_is_woken_by_what_is_published_and_by_time() {
    let fixture = Fixture::new().await;
    set(&fixture, |subscription| subscription.pulled = true).await;
    let (waiting, publishing) = tokio::join!(pull_some(&fixture, 10), fixture.publish("t", 1..=1));
    let () = publishing;
    assert_eq!(names(&waiting), ids(1..=1));
    for delivery in waiting {
        fixture.fail(delivery).await;
    }
    let later = async {
        tokio::task::yield_now().await;
        fixture.clock.advance(Duration::from_secs(5));
    };
    let (retried, ()) = tokio::join!(pull_some(&fixture, 10), later);
    assert_eq!(names(&retried), ids(1..=1));
}

#[tokio::test]
async fn order_concurrency_and_pauses_hold_for_who_pulls() {
    let fixture = Fixture::new().await;
    let order = Order {
        key: "$.data.of".to_owned(),
        dead: model::AfterDead::Hold,
    };
    set(&fixture, |subscription| {
        subscription.pulled = true;
        subscription.order = Some(order.clone());
        subscription.concurrency = Some(2);
    })
    .await;
    fixture.publish("t", 1..=6).await;
    // Keys are 1, 2, 0, 1, 2, 0: one of each at most, and two in all.
    let first = pull_some(&fixture, 10).await;
    assert_eq!(names(&first), ids(1..=2));
    assert!(pull(&fixture, 10).await.is_empty());
    fixture.bus.pause(&key(), "it", None).await.expect("pauses");
    for delivery in first {
        let settled = fixture.bus.settle(delivery, Settled::Done).await;
        settled.expect("settles");
    }
    assert!(pull(&fixture, 10).await.is_empty());
    fixture.bus.resume(&key(), "it").await.expect("resumes");
    assert_eq!(names(&pull_some(&fixture, 10).await), ids(3..=4));
}

#[tokio::test]
async fn what_is_delivered_cannot_be_pulled_and_what_ended_is_given_up() {
    let fixture = Fixture::new().await;
    set(&fixture, |_| {}).await;
    let now = fixture.clock.now();
    let refused = fixture.bus.pull(&key(), 1, now).await;
    assert!(matches!(refused, Err(Error::NotPulled(_))));
    let unknown = fixture.bus.pull(&key_of("shop/w/x"), 1, now).await;
    assert!(matches!(unknown, Err(Error::NoSuchSubscription(_))));
    set(&fixture, |subscription| subscription.pulled = true).await;
    fixture.publish("t", 1..=2).await;
    let app = Name::literal("shop");
    let space = space();
    let none = fixture.bus.set_subscriptions(&space, &app, Vec::new());
    none.await.expect("sets");
    // The loop is told, so that it gives up what nobody will come for.
    assert_eq!(fixture.bus.ready().await, key());
    assert_eq!(fixture.bus.give_up_ended(&key(), &fault()).await, 2);
}

#[tokio::test]
async fn what_is_asked_for_later_costs_no_attempt_and_ends_with_its_age() {
    let fixture = Fixture::new().await;
    set(&fixture, |subscription| {
        subscription.retry = RetryPolicy {
            attempts: 1,
            max_age: Duration::from_secs(100),
            ..RetryPolicy::default()
        };
    })
    .await;
    fixture.publish("t", 1..=1).await;
    let later = || Fault::new(code::ENDPOINT_BUSY, "later").retry_after(Duration::from_secs(40));
    for _ in 0..2 {
        let delivery = fixture.next().await;
        assert_eq!(delivery.attempt, 1);
        let settled = fixture.bus.settle(delivery, Settled::Later(later())).await;
        settled.expect("settles");
        assert!(fixture.next_or_none().await.is_none());
        fixture.clock.advance(Duration::from_secs(40));
    }
    let fixture = fixture.restart().await;
    let delivery = fixture.next().await;
    assert_eq!(delivery.attempt, 1, "over a restart, too");
    assert_eq!(fixture.clock.now().since(START), Duration::from_secs(80));
    let settled = fixture.bus.settle(delivery, Settled::Later(later())).await;
    settled.expect("settles");
    assert_eq!(fixture.bus.stats()[0].dead, 1, "it would be too old");
}
