//! Dead letters that are thrown away: those that a filter asks for, and what still holds a key of order afterwards.

use std::{ops::RangeInclusive, time::Duration};

use bus::{DeadLetterFilter, Settled};
use model::{AfterDead, EventFilter, Name, Order, Subscription};

use crate::fixture::{Fixture, all, fault, ids};

const KEY: &str = "shop/w/s";

/// With an order by type.
async fn ordered() -> Fixture {
    let fixture = Fixture::new().await;
    let order = Order {
        key: "$.type".to_owned(),
        dead: AfterDead::Hold,
    };
    let subscription = Subscription {
        order: Some(order),
        ..Subscription::new(Name::literal("s"), EventFilter(all()))
    };
    fixture.set(KEY, subscription).await;
    fixture
}

/// Publishes events of a key; the first is given up, and all others with it.
async fn given_up(fixture: &Fixture, kind: &str, ids: RangeInclusive<u32>) {
    fixture.publish(kind, ids).await;
    let first = fixture.next().await;
    fixture.settle(first, Settled::Dead(fault())).await;
    assert_eq!(done(fixture).await, 0, "it holds its key");
}

/// Lets all that there is be delivered or given up; how many were delivered.
async fn done(fixture: &Fixture) -> usize {
    let mut delivered = 0;
    let mut next = Box::pin(fixture.next());
    loop {
        // It is not cut off in the middle of what it gives up.
        match tokio::time::timeout(Duration::from_millis(5), &mut next).await {
            Ok(delivery) => {
                fixture.settle(delivery, Settled::Done).await;
                delivered += 1;
                next = Box::pin(fixture.next());
            }
            Err(_) => {
                let stats = fixture.bus.stats().remove(0);
                if stats.backlog + stats.in_flight + stats.retrying == 0 {
                    return delivered;
                }
            }
        }
    }
}

fn of(kind: &str) -> DeadLetterFilter {
    DeadLetterFilter {
        kind: Some(kind.to_owned()),
        ..DeadLetterFilter::default()
    }
}

#[tokio::test]
async fn those_of_a_filter_are_thrown_away_and_their_keys_go_on() {
    let fixture = ordered().await;
    given_up(&fixture, "a", 1..=120).await;
    given_up(&fixture, "b", 121..=123).await;
    let stats = || fixture.bus.stats().remove(0);
    assert_eq!((stats().dead, stats().held_keys), (123, 2));
    let gone = fixture.bus.discard_all(of("a"), "anna").await;
    assert_eq!(gone.expect("discards"), 120);
    assert_eq!((stats().dead, stats().held_keys), (3, 1));
    let again = fixture.bus.discard_all(of("a"), "anna").await;
    assert_eq!(again.expect("finds none"), 0);
    fixture.publish("a", 124..=125).await;
    assert_eq!(fixture.drain(2).await, ids(124..=125));
    let rest = fixture.bus.discard_all(DeadLetterFilter::default(), "anna");
    assert_eq!(rest.await.expect("discards"), 3);
    assert_eq!((stats().dead, stats().held_keys), (0, 0));
}
