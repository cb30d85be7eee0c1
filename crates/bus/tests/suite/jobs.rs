//! Redrives and replays: in order, at a rate, over kills; and what else operators do to dead letters.

use std::{collections::BTreeMap, time::Duration};

use bus::{DeadLetter, DeadLetterFilter, Delivery, Error, Replay, Settled};
use model::{AfterDead, EventFilter, Name, Order, Position, Subscription, event::EventData};
use serde_json::json;

use crate::fixture::{Fixture, all, fault, ids, key_of, replay};

const KEY: &str = "shop/w/s";

async fn set(fixture: &Fixture, order: Option<Order>) {
    let subscription = Subscription {
        order,
        ..Subscription::new(Name::literal("s"), EventFilter(all()))
    };
    fixture.set(KEY, subscription).await;
}

/// Publishes events and lets every delivery end as `how`.
async fn published(
    fixture: &Fixture,
    kind: &str,
    ids: std::ops::RangeInclusive<u32>,
    how: &Settled,
) {
    let count = ids.clone().count();
    fixture.publish(kind, ids).await;
    for _ in 0..count {
        let delivery = fixture.next().await;
        fixture.settle(delivery, how.clone()).await;
    }
}

async fn letters(fixture: &Fixture) -> Vec<DeadLetter> {
    let letters = fixture
        .bus
        .dead_letters(DeadLetterFilter::default(), 1000)
        .await;
    letters.expect("reads")
}

/// What comes while the clock goes on by `step`, until nothing did for a while.
async fn drain(fixture: &Fixture, step: Duration) -> Vec<Delivery> {
    let (mut got, mut idle) = (Vec::new(), 0);
    while idle < 4 {
        match fixture.next_or_none().await {
            Some(delivery) => {
                idle = 0;
                got.push(delivery);
            }
            None => {
                idle += 1;
                fixture.clock.advance(step);
            }
        }
    }
    got
}

fn names(deliveries: &[Delivery]) -> Vec<String> {
    let mut names: Vec<u32> = deliveries
        .iter()
        .map(|delivery| delivery.event.id.parse().expect("is a number"))
        .collect();
    names.sort_unstable();
    names.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_redrive_keeps_its_rate_and_goes_on_after_a_kill() {
    let mut fixture = Fixture::new().await;
    set(&fixture, None).await;
    published(&fixture, "t", 1..=20, &Settled::Dead(fault())).await;
    let rate = "4/s".parse().expect("is a rate");
    let filter = DeadLetterFilter::default();
    let job = fixture.bus.redrive_slowly(filter, rate, "anna").await;
    let job = job.expect("begins").expect("there is something");
    let mut seen = BTreeMap::new();
    while let Some(delivery) = fixture.next_or_none().await {
        *seen.entry(delivery.event.id.clone()).or_insert(0) += 1;
        fixture.settle(delivery, Settled::Done).await;
    }
    assert!((1..=8).contains(&seen.len()), "{seen:?}");
    fixture = fixture.crash().await;
    for delivery in drain(&fixture, Duration::from_secs(1)).await {
        *seen.entry(delivery.event.id.clone()).or_insert(0) += 1;
        fixture.settle(delivery, Settled::Done).await;
    }
    assert_eq!(seen.len(), 20, "{seen:?}");
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    let ended = fixture.bus.job_ended(job).await.expect("ends");
    assert_eq!((ended.done, ended.skipped, ended.cancelled), (20, 0, false));
    assert!(letters(&fixture).await.is_empty());
    let audit = fixture.store.log().audit(None, 9).await.expect("reads");
    assert_eq!(
        (audit[0].by.as_str(), audit[0].action.as_str()),
        ("anna", "redrive")
    );
}

#[tokio::test]
async fn a_replay_delivers_a_range_again_marked_and_goes_on_after_a_kill() {
    let mut fixture = Fixture::new().await;
    set(&fixture, None).await;
    published(&fixture, "a", 1..=10, &Settled::Done).await;
    published(&fixture, "b", 11..=30, &Settled::Done).await;
    let replay = Replay {
        after: Position(5),
        filter: Some(EventFilter(json!({"type": ["b"]}))),
        rate: "5/s".parse().ok(),
        ..replay(KEY)
    };
    let count = fixture.bus.count_replay(&replay).await;
    assert_eq!(count.expect("counts"), 20);
    assert!(
        fixture.next_or_none().await.is_none(),
        "counting delivers nothing"
    );
    let job = fixture.bus.start_replay(replay.clone(), "anna").await;
    let job = job.expect("begins");
    let mut got = Vec::new();
    while let Some(delivery) = fixture.next_or_none().await {
        got.push(delivery);
    }
    assert!((1..=10).contains(&got.len()), "{}", got.len());
    let first = got[0].idempotency_key.clone();
    assert!(first.ends_with(&format!(":replay:{job}")), "{first}");
    let mark = got[0].event.extensions.get("tangeloreplay");
    assert_eq!(mark, Some(&job.to_string().into()));
    for delivery in got.drain(..) {
        fixture.settle(delivery, Settled::Done).await;
    }
    fixture = fixture.crash().await;
    let ended = fixture
        .bus
        .job(job)
        .await
        .expect("reads")
        .expect("is there");
    let before = ended.done;
    let rest = drain(&fixture, Duration::from_secs(1)).await;
    assert!(rest.iter().all(|delivery| delivery.replay == Some(job)));
    for delivery in rest {
        got.push(delivery);
    }
    let last = names(&got);
    assert!(
        last.len() as u64 <= 20 && last.last().is_some_and(|id| id == "30"),
        "{last:?} after {before}"
    );
    for delivery in got {
        fixture.settle(delivery, Settled::Done).await;
    }
    let ended = fixture.bus.job_ended(job).await.expect("ends");
    assert_eq!((ended.done, ended.skipped), (20, 0));
    let other = Replay {
        key: key_of("shop/w/none"),
        ..replay
    };
    let refused = fixture.bus.start_replay(other, "anna").await;
    assert!(matches!(refused, Err(Error::NoSuchSubscription(_))));
}

#[tokio::test]
async fn a_replay_can_be_called_off_and_never_overtakes_what_is_new() {
    let fixture = Fixture::new().await;
    set(&fixture, None).await;
    published(&fixture, "t", 1..=3, &Settled::Done).await;
    fixture.publish("t", 4..=5).await;
    let (fourth, fifth) = (fixture.next().await, fixture.next().await);
    let replay = replay(KEY);
    let job = fixture
        .bus
        .start_replay(replay, "anna")
        .await
        .expect("begins");
    let got = drain(&fixture, Duration::from_millis(300)).await;
    assert_eq!(names(&got), ids(1..=3), "4 and 5 are on their first way");
    assert!(fixture.bus.cancel_job(job, "bert").await.expect("ends it"));
    assert!(!fixture.bus.cancel_job(job, "bert").await.expect("answers"));
    for delivery in got.into_iter().chain([fourth, fifth]) {
        fixture.settle(delivery, Settled::Done).await;
    }
    assert!(drain(&fixture, Duration::from_secs(1)).await.is_empty());
    let ended = fixture.bus.job_ended(job).await.expect("has ended");
    assert!(ended.cancelled, "{ended:?}");
}

#[tokio::test]
async fn other_data_is_delivered_after_an_edit() {
    let fixture = Fixture::new().await;
    set(&fixture, None).await;
    published(&fixture, "t", 1..=1, &Settled::Dead(fault())).await;
    let letter = letters(&fixture).await.remove(0);
    let data = json!({"mended": "x".repeat(40_000)});
    let edited = fixture
        .bus
        .edit_dead_letter(letter.id, EventData::Json(data.clone()), "anna");
    edited.await.expect("edits");
    fixture
        .bus
        .redrive(letter.id, "anna")
        .await
        .expect("redrives");
    let again = fixture.next().await;
    assert_eq!(
        (again.event.id.as_str(), &again.event.data),
        ("1", &EventData::Json(data))
    );
    fixture.settle(again, Settled::Done).await;
    let gone = fixture
        .bus
        .edit_dead_letter(letter.id, EventData::Json(json!(1)), "anna")
        .await;
    assert!(matches!(gone, Err(Error::NoSuchDeadLetter(_))));
}

#[tokio::test]
async fn a_letter_cannot_overtake_an_earlier_one_of_its_key() {
    let fixture = Fixture::new().await;
    let order = Order {
        key: "$.source".to_owned(),
        dead: AfterDead::Hold,
    };
    set(&fixture, Some(order)).await;
    fixture.publish("t", 1..=3).await;
    let first = fixture.next().await;
    fixture.settle(first, Settled::Dead(fault())).await;
    assert!(fixture.next_or_none().await.is_none());
    let dead = letters(&fixture).await;
    assert_eq!(dead.len(), 3);
    let early = fixture.bus.redrive(dead[2].id, "anna").await;
    assert!(matches!(early, Err(Error::EarlierFirst(..))), "{early:?}");
    fixture
        .bus
        .redrive(dead[0].id, "anna")
        .await
        .expect("redrives");
    let again = fixture.next().await;
    assert_eq!(again.event.id, "1");
    fixture.settle(again, Settled::Dead(fault())).await;
    let all = DeadLetterFilter::default();
    let redriven = fixture.bus.redrive_all(all, "anna").await;
    assert_eq!(redriven.expect("redrives"), 3);
    assert_eq!(
        fixture.drain(3).await,
        ids(1..=3),
        "in order, whenever each died"
    );
}

#[tokio::test]
async fn letters_are_found_by_type_and_code() {
    let fixture = Fixture::new().await;
    set(&fixture, None).await;
    published(&fixture, "a", 1..=2, &Settled::Dead(fault())).await;
    let other = model::Error::new(model::code::TOO_DEEP, "deep");
    published(&fixture, "b", 3..=3, &Settled::Dead(other)).await;
    let of = |kind: Option<&str>, code| DeadLetterFilter {
        kind: kind.map(str::to_owned),
        code,
        ..DeadLetterFilter::default()
    };
    let count = async |filter| {
        fixture
            .bus
            .dead_letters(filter, 9)
            .await
            .expect("reads")
            .len()
    };
    assert_eq!(count(of(Some("a"), None)).await, 2);
    assert_eq!(count(of(None, Some(model::code::TOO_DEEP))).await, 1);
    let redriven = fixture.bus.redrive_all(of(Some("b"), None), "anna").await;
    assert_eq!(redriven.expect("redrives"), 1);
    assert_eq!(fixture.drain(1).await, ids(3..=3));
}
