//! What a subscription says of how it is delivered: its rate, order by key, batches; and what an operator says: pause.

use std::{collections::BTreeMap, time::Duration};

use bus::{DeadLetterFilter, Delivery, Settled};
use model::{
    AfterDead, Batch, EventFilter, Name, Order, RetryPolicy, Subscription, code, event::EventData,
};
use serde_json::json;

use crate::fixture::{Fixture, all, cause, event, fault, ids, key_of, space};

const KEY: &str = "shop/w/s";

fn subscription() -> Subscription {
    Subscription::new(Name::literal("s"), EventFilter(all()))
}

fn ordered(dead: AfterDead) -> Subscription {
    Subscription {
        order: Some(Order {
            key: "$.data.of".to_owned(),
            dead,
        }),
        ..subscription()
    }
}

async fn set(fixture: &Fixture, subscription: Subscription) {
    fixture.set(KEY, subscription).await;
}

/// Publishes events with these keys; their ids are `KEY-NUMBER`.
async fn publish(fixture: &Fixture, keys: &[&str]) {
    let mut counts = BTreeMap::new();
    let events = keys.iter().map(|key| {
        let count: &mut u32 = counts.entry(*key).or_default();
        *count += 1;
        let mut event = event("t", 0);
        event.id = format!("{key}-{count}");
        event.data = EventData::Json(json!({"of": key}));
        (event, cause())
    });
    for receipt in fixture.bus.publish(&space(), events.collect()).await {
        receipt.expect("is published");
    }
}

async fn all_now(fixture: &Fixture) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while let Some(delivery) = fixture.next_or_none().await {
        deliveries.push(delivery);
    }
    deliveries
}

fn names(deliveries: &[Delivery]) -> Vec<&str> {
    let mut names: Vec<&str> = deliveries.iter().map(|d| d.event.id.as_str()).collect();
    names.sort_unstable();
    names
}

fn why(fixture: &Fixture) -> String {
    let stats = fixture.bus.stats();
    let stats = stats.iter().find(|s| s.subscription == key_of(KEY));
    let stats = stats.expect("it has stats");
    assert_eq!(stats.waiting_on.is_some(), stats.waiting_since.is_some());
    stats.waiting_on.clone().unwrap_or_default()
}

#[tokio::test]
async fn a_rate_is_kept_and_said() {
    let fixture = Fixture::new().await;
    let slow = Subscription {
        rate: "2/s".parse().ok(),
        ..subscription()
    };
    set(&fixture, slow).await;
    fixture.publish("t", 1..=20).await;
    let (mut taken, begun) = (Vec::new(), fixture.clock.now());
    while taken.len() < 20 {
        while let Some(delivery) = fixture.next_or_none().await {
            assert_eq!(delivery.attempt, 1, "waiting costs no attempt");
            taken.push(delivery.event.id.clone());
            fixture.settle(delivery, Settled::Done).await;
        }
        let seconds = fixture.clock.now().since(begun).as_secs();
        assert!(
            taken.len() as u64 <= 2 + 2 * (seconds + 1),
            "{}",
            taken.len()
        );
        if taken.len() < 20 {
            assert_eq!(why(&fixture), "its rate of 2/s");
        }
        fixture.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(taken, ids(1..=20));
}

#[tokio::test]
async fn a_pause_outlives_deploys_and_kills_and_costs_no_attempt() {
    let mut fixture = Fixture::new().await;
    set(&fixture, subscription()).await;
    fixture.publish("t", 1..=2).await;
    let running = fixture.next().await;
    let key = key_of(KEY);
    let paused = fixture.bus.pause(&key, "anna", Some("too loud")).await;
    let paused = paused.expect("pauses");
    fixture.settle(running, Settled::Retry(fault())).await;
    fixture.clock.advance(Duration::from_secs(60));
    assert!(fixture.next_or_none().await.is_none(), "it is paused");
    fixture = fixture.crash().await;
    let changed = Subscription {
        concurrency: Some(5),
        ..subscription()
    };
    set(&fixture, changed).await;
    fixture.publish("t", 3..=3).await;
    assert!(fixture.next_or_none().await.is_none(), "it still is");
    assert_eq!(why(&fixture), "it is paused");
    assert_eq!(fixture.bus.stats()[0].paused, Some(paused));
    assert!(fixture.bus.resume(&key, "bert").await.expect("resumes"));
    assert!(!fixture.bus.resume(&key, "bert").await.expect("answers"));
    let deliveries = all_now(&fixture).await;
    assert_eq!(names(&deliveries), ["1", "2", "3"]);
    let attempts = |id: &str| {
        let of = deliveries.iter().find(|d| d.event.id == id);
        of.expect("it came").attempt
    };
    assert_eq!((attempts("1"), attempts("2"), attempts("3")), (2, 1, 1));
    let log = fixture.store.log();
    let audit = log.audit(Some(KEY.to_owned()), 9).await.expect("reads");
    let done: Vec<_> = audit
        .iter()
        .map(|a| (a.by.as_str(), a.action.as_str()))
        .collect();
    assert_eq!(done, [("bert", "resume"), ("anna", "pause")]);
    let unknown = fixture
        .bus
        .pause(&key_of("shop/w/none"), "anna", None)
        .await;
    assert!(matches!(unknown, Err(bus::Error::NoSuchSubscription(_))));
}

#[tokio::test]
async fn the_events_of_a_key_come_one_after_another_also_over_retries_and_kills() {
    let mut fixture = Fixture::new().await;
    set(&fixture, ordered(AfterDead::Hold)).await;
    publish(&fixture, &["a", "a", "b", "a", "c", "b"]).await;
    let mut first = all_now(&fixture).await;
    assert_eq!(names(&first), ["a-1", "b-1", "c-1"]);
    assert_eq!(why(&fixture), "earlier events of the same keys");
    let of = |deliveries: &mut Vec<Delivery>, id: &str| {
        let at = deliveries.iter().position(|d| d.event.id == id);
        deliveries.swap_remove(at.expect("it came"))
    };
    fixture
        .settle(of(&mut first, "a-1"), Settled::Retry(fault()))
        .await;
    fixture.settle(of(&mut first, "b-1"), Settled::Done).await;
    fixture.settle(of(&mut first, "c-1"), Settled::Done).await;
    let second = all_now(&fixture).await;
    assert_eq!(names(&second), ["b-2"], "a waits for its retry, b does not");
    second.into_iter().for_each(std::mem::forget);
    fixture = fixture.crash().await;
    fixture.clock.advance(Duration::from_secs(10));
    let third = all_now(&fixture).await;
    let attempts: Vec<_> = third
        .iter()
        .map(|d| (d.event.id.as_str(), d.attempt))
        .collect();
    assert_eq!(names(&third), ["a-1", "b-2"], "{attempts:?}");
    assert!(
        attempts.iter().all(|(_, attempt)| *attempt == 2),
        "{attempts:?}"
    );
    for delivery in third {
        fixture.settle(delivery, Settled::Done).await;
    }
    assert_eq!(fixture.drain(2).await, ["a-2", "a-3"]);
    assert!(fixture.next_or_none().await.is_none());
}

#[tokio::test]
async fn what_fails_is_tried_again_before_the_rest_of_its_key() {
    let fixture = Fixture::new().await;
    set(&fixture, ordered(AfterDead::Hold)).await;
    publish(&fixture, &["a", "a"]).await;
    for attempt in 1..=3 {
        let delivery = fixture.next().await;
        assert_eq!(
            (delivery.event.id.as_str(), delivery.attempt),
            ("a-1", attempt)
        );
        fixture.settle(delivery, Settled::Retry(fault())).await;
        assert!(fixture.next_or_none().await.is_none(), "it waits");
        assert_eq!(why(&fixture), "earlier events of the same keys");
        fixture.clock.advance(Duration::from_secs(10));
    }
    assert_eq!(fixture.drain(2).await, ["a-1", "a-2"]);
}

#[tokio::test]
async fn a_dead_letter_holds_its_key_until_it_is_redriven() {
    let mut fixture = Fixture::new().await;
    set(&fixture, ordered(AfterDead::Hold)).await;
    publish(&fixture, &["a", "b", "a", "a"]).await;
    for delivery in all_now(&fixture).await {
        let how = match delivery.event.id.as_str() {
            "a-1" => Settled::Dead(fault()),
            _ => Settled::Done,
        };
        fixture.settle(delivery, how).await;
    }
    assert!(
        fixture.next_or_none().await.is_none(),
        "the rest of a is held"
    );
    let stats = &fixture.bus.stats()[0];
    assert_eq!((stats.dead, stats.held_keys, stats.backlog), (3, 1, 0));
    fixture = fixture.crash().await;
    let letters = fixture
        .bus
        .dead_letters(DeadLetterFilter::default(), 9)
        .await;
    let letters = letters.expect("reads");
    let codes: Vec<_> = letters
        .iter()
        .map(|l| (l.reason.code, l.attempts))
        .collect();
    let held = (code::EARLIER_IS_DEAD, 0);
    assert_eq!(codes, [(fault().code, 1), held, held]);
    let redriven = fixture
        .bus
        .redrive_all(DeadLetterFilter::default(), "a test")
        .await;
    assert_eq!(redriven.expect("redrives"), 3);
    assert_eq!(fixture.drain(3).await, ["a-1", "a-2", "a-3"]);
    assert_eq!(fixture.bus.stats()[0].held_keys, 0);
}

#[tokio::test]
async fn a_key_goes_on_without_its_dead_letter_where_that_is_asked_for() {
    let fixture = Fixture::new().await;
    set(&fixture, ordered(AfterDead::Skip)).await;
    publish(&fixture, &["a", "a", "a"]).await;
    let first = fixture.next().await;
    fixture.settle(first, Settled::Dead(fault())).await;
    let second = fixture.next().await;
    assert_eq!(second.event.id, "a-2");
    let redriven = fixture
        .bus
        .redrive_all(DeadLetterFilter::default(), "a test")
        .await;
    assert_eq!(redriven.expect("redrives"), 1);
    assert!(fixture.next_or_none().await.is_none(), "one at a time");
    fixture.settle(second, Settled::Done).await;
    assert_eq!(fixture.drain(2).await, ["a-1", "a-3"]);
}

#[tokio::test]
async fn a_key_with_much_starves_none_with_little() {
    let fixture = Fixture::new().await;
    let one = Subscription {
        concurrency: Some(1),
        ..ordered(AfterDead::Hold)
    };
    set(&fixture, one).await;
    let mut keys = vec!["loud"; 500];
    keys.extend(["quiet"; 3]);
    publish(&fixture, &keys).await;
    let first = fixture.drain(6).await;
    let quiet = first.iter().filter(|id| id.starts_with("quiet")).count();
    assert_eq!(quiet, 3, "{first:?}");
    let rest = fixture.drain(497).await;
    let numbers: Vec<u32> = rest
        .iter()
        .filter_map(|id| id.strip_prefix("loud-")?.parse().ok())
        .collect();
    assert_eq!(numbers, (4..=500).collect::<Vec<_>>());
}

#[tokio::test]
async fn another_key_of_order_waits_for_what_there_was_before() {
    let fixture = Fixture::new().await;
    set(&fixture, subscription()).await;
    publish(&fixture, &["a", "b"]).await;
    let before = all_now(&fixture).await;
    set(&fixture, ordered(AfterDead::Hold)).await;
    publish(&fixture, &["c"]).await;
    assert!(fixture.next_or_none().await.is_none());
    assert_eq!(why(&fixture), "what it had before its last deploy");
    for delivery in before {
        fixture.settle(delivery, Settled::Done).await;
    }
    assert_eq!(fixture.drain(1).await, ["c-1"]);
}

#[tokio::test]
async fn a_batch_waits_until_it_is_full_or_its_window_is_over() {
    let fixture = Fixture::new().await;
    let window = Duration::from_secs(5);
    let batched = Subscription {
        batch: Some(Batch { size: 3, window }),
        concurrency: Some(1),
        retry: RetryPolicy {
            backoff: Duration::from_secs(1),
            ..RetryPolicy::default()
        },
        ..subscription()
    };
    set(&fixture, batched).await;
    let key = key_of(KEY);
    fixture.publish("t", 1..=4).await;
    assert_eq!(fixture.bus.ready().await, key);
    let batch = fixture.bus.take(&key).await;
    assert_eq!(names(&batch), ["1", "2", "3"]);
    assert!(batch.iter().all(|delivery| delivery.batched));
    assert!(fixture.next_or_none().await.is_none());
    assert!(why(&fixture).contains("concurrency"), "{}", why(&fixture));
    for (delivery, how) in
        batch
            .into_iter()
            .zip([Settled::Done, Settled::Retry(fault()), Settled::Done])
    {
        fixture.settle(delivery, how).await;
    }
    assert!(fixture.next_or_none().await.is_none());
    assert_eq!(why(&fixture), "more events for its batch");
    fixture.clock.advance(window);
    assert_eq!(fixture.bus.ready().await, key);
    let batch = fixture.bus.take(&key).await;
    let attempts: Vec<_> = batch
        .iter()
        .map(|d| (d.event.id.as_str(), d.attempt))
        .collect();
    assert_eq!(attempts, [("2", 2), ("4", 1)]);
}

#[tokio::test]
async fn a_batch_of_an_ordered_subscription_has_one_event_of_a_key() {
    let fixture = Fixture::new().await;
    let batched = Subscription {
        batch: Some(Batch {
            size: 10,
            window: Duration::ZERO,
        }),
        ..ordered(AfterDead::Hold)
    };
    set(&fixture, batched).await;
    publish(&fixture, &["a", "a", "b", "c", "c"]).await;
    let key = fixture.bus.ready().await;
    let first = fixture.bus.take(&key).await;
    assert_eq!(names(&first), ["a-1", "b-1", "c-1"]);
    for delivery in first {
        fixture.settle(delivery, Settled::Done).await;
    }
    let mut rest = Vec::new();
    while rest.len() < 2 {
        let key = fixture.bus.ready().await;
        rest.extend(fixture.bus.take(&key).await);
    }
    assert_eq!(names(&rest), ["a-2", "c-2"]);
}

#[tokio::test]
async fn what_comes_in_an_order_is_done_only_when_it_will_not_come_again() {
    let fixture = Fixture::new().await;
    set(&fixture, ordered(AfterDead::Skip)).await;
    publish(&fixture, &["a", "a"]).await;
    let first = fixture.next().await;
    fixture.bus.done(first).await.expect("is settled");
    let fixture = fixture.crash().await;
    assert_eq!(fixture.drain(1).await, ["a-2"]);
    assert!(fixture.next_or_none().await.is_none());
}

#[tokio::test]
async fn a_reason_stands_since_it_began() {
    let fixture = Fixture::new().await;
    set(&fixture, subscription()).await;
    let key = key_of(KEY);
    let since = || fixture.bus.stats()[0].waiting_since;
    fixture.publish("t", 1..=1).await;
    // Refused again and again, it waits since it was refused first.
    let refused = fixture.clock.now();
    for _ in 0..3 {
        assert_eq!(fixture.bus.ready().await, key);
        let wait = Duration::from_secs(5);
        fixture.bus.park(&key, wait, "no permit");
        assert_eq!(why(&fixture), "no permit");
        assert_eq!(since(), Some(refused));
        fixture.clock.advance(wait);
    }
    assert_eq!(fixture.bus.ready().await, key);
    fixture
        .bus
        .park(&key, Duration::from_secs(5), "something else");
    assert_eq!(since(), Some(fixture.clock.now()));
    fixture.clock.advance(Duration::from_secs(5));
    // What fails waits since it failed, each time anew.
    for attempt in 1..=3 {
        let delivery = fixture.next().await;
        assert_eq!(delivery.attempt, attempt);
        assert_eq!((why(&fixture), since()), (String::new(), None));
        fixture.settle(delivery, Settled::Retry(fault())).await;
        let failed = fixture.clock.now();
        assert_eq!(why(&fixture), "the next attempts of what failed");
        fixture.clock.advance(Duration::from_millis(400));
        assert!(fixture.next_or_none().await.is_none(), "it is not due");
        assert_eq!(since(), Some(failed));
        fixture.clock.advance(Duration::from_secs(10));
    }
    assert_eq!(fixture.drain(1).await, ids(1..=1));
    assert_eq!((why(&fixture), since()), (String::new(), None));
    fixture.publish("t", 2..=2).await;
    assert_eq!(fixture.bus.ready().await, key);
    fixture.bus.park(&key, Duration::from_secs(5), "no permit");
    assert_eq!(since(), Some(fixture.clock.now()), "the first time is over");
}

#[tokio::test]
async fn what_fails_together_is_tried_again_apart() {
    let fixture = Fixture::new().await;
    set(&fixture, subscription()).await;
    fixture.publish("t", 1..=16).await;
    let mut failed = all_now(&fixture).await;
    assert_eq!(failed.len(), 16);
    let at = fixture.clock.now();
    let (range, mut waits) = (store::log::SubscriptionId(1), Vec::new());
    for delivery in failed.drain(..) {
        let position = delivery.position;
        fixture.settle(delivery, Settled::Retry(fault())).await;
        let item = fixture.store.log().retry_item(range, position).await;
        let row = item.expect("reads").expect("waits").row;
        assert_eq!(row.attempts, 1);
        waits.push(row.due.since(at));
    }
    let (least, most) = (Duration::from_millis(500), Duration::from_secs(1));
    assert!(
        waits.iter().all(|wait| (least..=most).contains(wait)),
        "{waits:?}"
    );
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() >= 12, "{waits:?}");
}
