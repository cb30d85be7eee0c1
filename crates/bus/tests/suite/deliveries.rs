//! Publishing and delivering within one life of the server.

use std::{collections::BTreeMap, time::Duration};

use bus::{DeadLetterFilter, Error, Settled};
use model::{Error as Fault, RetryPolicy, code};
use serde_json::json;

use crate::fixture::{Fixture, all, cause, event, fault, ids, key_of, space};

#[tokio::test]
async fn events_go_to_those_who_asked_in_order() {
    let fixture = Fixture::new().await;
    let filters = vec![
        ("shop/mail/created", json!({"type": ["order.created"]})),
        ("shop/count/all", json!({"type": [{"prefix": "order."}]})),
    ];
    fixture.subscribe(filters).await;
    fixture.publish("order.created", 1..=2).await;
    fixture.publish("order.paid", 3..=3).await;
    fixture.publish("other", 4..=4).await;
    let (mut mail, mut count) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let delivery = fixture.next().await;
        let id = delivery.event.id.clone();
        assert_eq!((delivery.attempt, &*delivery.cause), (1, &cause()));
        let key = delivery.key.to_string();
        assert_eq!(&*delivery.idempotency_key, format!("{key}:/tests:{id}"));
        if key == "shop/mail/created" {
            mail.push(id)
        } else {
            count.push(id)
        }
        fixture
            .bus
            .settle(delivery, Settled::Done)
            .await
            .expect("settles");
    }
    assert_eq!((mail, count), (ids(1..=2), ids(1..=3)));
    assert!(fixture.next_or_none().await.is_none());
    for stats in fixture.bus.stats() {
        assert_eq!((stats.backlog, stats.in_flight, stats.retrying), (0, 0, 0));
    }
}

#[tokio::test]
async fn bad_and_large_events_are_refused_and_cost_the_others_nothing() {
    let fixture = Fixture::new().await;
    let mut nameless = event("t", 2);
    nameless.id.clear();
    let mut large = event("t", 3);
    large.data = model::event::EventData::Json(json!("x".repeat(1 << 20)));
    let events = [event("t", 1), nameless, large, event("t", 4), event("t", 1)];
    let events = events.into_iter().map(|event| (event, cause())).collect();
    let receipts = fixture.bus.publish(&space(), events).await;
    let code = |at: usize| receipts[at].as_ref().expect_err("is refused").code;
    assert_eq!(
        (code(1), code(2)),
        (code::BAD_EVENT, code::PAYLOAD_TOO_LARGE)
    );
    let place = |at: usize| {
        receipts[at]
            .as_ref()
            .map(|r| (r.position.0, r.duplicate))
            .expect("is published")
    };
    assert_eq!(
        (place(0), place(3), place(4)),
        ((1, false), (2, false), (1, true))
    );
    let many = (0..1001).map(|id| (event("t", id), cause())).collect();
    let receipts = fixture.bus.publish(&space(), many).await;
    assert_eq!(receipts.len(), 1001);
    assert!(
        receipts
            .iter()
            .all(|r| r.as_ref().is_err_and(|e| e.code == code::BAD_EVENT))
    );
}

#[tokio::test]
async fn a_failure_is_tried_again_later_and_then_dead() {
    let fixture = Fixture::new().await;
    let policy = RetryPolicy {
        attempts: 3,
        ..RetryPolicy::default()
    };
    fixture
        .subscribe_with(vec![("shop/w/s".to_owned(), all(), policy)])
        .await;
    fixture.publish("t", 1..=1).await;
    let mut keys = Vec::new();
    for attempt in 1..=3 {
        let delivery = fixture.next().await;
        assert_eq!(delivery.attempt, attempt);
        keys.push(delivery.idempotency_key.clone());
        fixture.fail(delivery).await;
        if attempt < 3 {
            assert!(fixture.next_or_none().await.is_none(), "it waits");
            assert_eq!(fixture.bus.stats()[0].retrying, 1);
        }
        fixture.clock.advance(Duration::from_secs(10));
    }
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert!(fixture.next_or_none().await.is_none());
    let letters = fixture
        .bus
        .dead_letters(DeadLetterFilter::default(), 10)
        .await
        .expect("reads");
    let letter = &letters[0];
    assert_eq!(
        (letter.attempts, letter.history.len(), &letter.reason),
        (3, 3, &fault())
    );
    assert_eq!(
        (letter.trace, letter.event["id"].clone()),
        (cause().trace.trace, json!("1"))
    );
    assert_eq!(fixture.bus.stats()[0].dead, 1);

    fixture
        .bus
        .redrive(letter.id, "a test")
        .await
        .expect("redrives");
    let again = fixture.next().await;
    assert_eq!((again.attempt, &again.idempotency_key), (1, &keys[0]));
    fixture
        .bus
        .settle(again, Settled::Done)
        .await
        .expect("settles");
    assert_eq!(fixture.bus.stats()[0].dead, 0);
    let gone = fixture.bus.redrive(letter.id, "a test").await;
    assert!(matches!(gone, Err(Error::NoSuchDeadLetter(_))));
}

#[tokio::test]
async fn what_nothing_can_mend_is_dead_at_once_and_can_be_discarded() {
    let fixture = Fixture::new().await;
    fixture.subscribe(vec![("shop/w/s", all())]).await;
    fixture.publish("t", 1..=2).await;
    for _ in 0..2 {
        let delivery = fixture.next().await;
        let reason = Fault::new(code::INPUT_NOT_SUPPORTED, "never");
        fixture
            .bus
            .settle(delivery, Settled::Dead(reason))
            .await
            .expect("settles");
    }
    let filter = |key: &str| DeadLetterFilter {
        subscription: Some(key_of(key)),
        ..DeadLetterFilter::default()
    };
    assert!(
        fixture
            .bus
            .dead_letters(filter("shop/w/other"), 9)
            .await
            .expect("reads")
            .is_empty()
    );
    let letters = fixture
        .bus
        .dead_letters(filter("shop/w/s"), 9)
        .await
        .expect("reads");
    assert_eq!(letters.len(), 2);
    fixture
        .bus
        .discard(letters[0].id, "a test")
        .await
        .expect("discards");
    assert!(matches!(
        fixture.bus.discard(letters[0].id, "a test").await,
        Err(Error::NoSuchDeadLetter(_))
    ));
    let redriven = fixture
        .bus
        .redrive_all(DeadLetterFilter::default(), "a test")
        .await
        .expect("redrives");
    assert_eq!((redriven, fixture.drain(1).await), (1, ids(2..=2)));
}

#[tokio::test]
async fn one_without_a_permit_is_parked_and_the_others_go_on() {
    let fixture = Fixture::new().await;
    fixture
        .subscribe(vec![("shop/a/s", all()), ("shop/b/s", all())])
        .await;
    fixture.publish("t", 1..=3).await;
    let (mut of_b, mut parked) = (0, false);
    while of_b < 3 {
        let key = fixture.bus.ready().await;
        if key == key_of("shop/a/s") {
            assert!(!parked, "it was parked for longer");
            fixture.bus.park(&key, Duration::from_secs(5), "no permit");
            parked = true;
            continue;
        }
        let delivery = fixture.bus.take(&key).await.pop().expect("has one");
        fixture
            .bus
            .settle(delivery, Settled::Done)
            .await
            .expect("settles");
        of_b += 1;
    }
    if !parked {
        let key = fixture.bus.ready().await;
        fixture.bus.park(&key, Duration::from_secs(5), "no permit");
    }
    let why = fixture.bus.stats()[0].waiting_on.clone();
    assert_eq!(why.as_deref(), Some("no permit"));
    assert!(fixture.next_or_none().await.is_none());
    fixture.clock.advance(Duration::from_secs(6));
    for id in ids(1..=3) {
        let delivery = fixture.next().await;
        let (event, attempt) = (&delivery.event.id, delivery.attempt);
        assert_eq!((event, attempt), (&id, 1), "what is refused is no attempt");
        fixture.settle(delivery, Settled::Done).await;
    }
}

#[tokio::test]
async fn one_that_falls_behind_reads_the_log_and_gets_all() {
    let fixture = Fixture::new().await;
    fixture
        .subscribe(vec![
            ("shop/slow/s", all()),
            ("shop/fast/s", json!({"type": ["rare"]})),
        ])
        .await;
    for chunk in 0..4u32 {
        fixture
            .publish("t", chunk * 1000..=chunk * 1000 + 999)
            .await;
    }
    fixture.publish("rare", 9999..=9999).await;
    let (mut slow, mut fast) = (Vec::new(), Vec::new());
    let mut all = 0;
    while all < 4002 {
        let delivery = fixture.next().await;
        let id = delivery.event.id.clone();
        if delivery.key == key_of("shop/slow/s") {
            slow.push(id)
        } else {
            fast.push(id)
        }
        all += 1;
        // Settled side by side: what is shown is the window, not the fsyncs.
        let bus = fixture.bus.clone();
        tokio::spawn(async move { bus.settle(delivery, Settled::Done).await.expect("settles") });
    }
    let mut expected = ids(0..=3999);
    expected.push("9999".to_owned());
    assert_eq!((slow, fast), (expected, ids(9999..=9999)));
}

#[tokio::test]
async fn those_that_fall_behind_together_get_all_that_each_asked_for() {
    let fixture = Fixture::new().await;
    let odd = json!({"data": {"of": [1]}});
    let wanted = [
        ("shop/all/s", all()),
        ("shop/odd/s", odd),
        ("shop/too/s", all()),
    ];
    fixture.subscribe(wanted.to_vec()).await;
    for chunk in 0..4u32 {
        let numbers = chunk * 900..=chunk * 900 + 899;
        fixture.publish("t", numbers).await;
    }
    let mut got: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for _ in 0..3600 * 2 + 1200 {
        let delivery = fixture.next().await;
        let of = got.entry(delivery.key.to_string()).or_default();
        of.push(delivery.event.id.clone());
        fixture.bus.done(delivery).await.expect("is noted");
    }
    let odd = (0..3600).filter(|id| id % 3 == 1).map(|id| id.to_string());
    assert_eq!(got["shop/odd/s"], odd.collect::<Vec<_>>());
    assert_eq!(got["shop/all/s"], ids(0..=3599));
    assert_eq!(got["shop/too/s"], ids(0..=3599));
    assert!(fixture.next_or_none().await.is_none());
}

#[tokio::test]
async fn concurrency_of_a_subscription_is_kept() {
    let fixture = Fixture::new().await;
    let subscription = model::Subscription {
        name: model::Name::literal("s"),
        filter: model::EventFilter(all()),
        retry: RetryPolicy::default(),
        concurrency: Some(2),
        rate: None,
        order: None,
        batch: None,
        input: None,
        projection: None,
        pulled: false,
        serial: false,
    };
    let app = model::Name::literal("shop");
    let wanted = vec![(key_of("shop/w/s"), subscription)];
    fixture
        .bus
        .set_subscriptions(&space(), &app, wanted)
        .await
        .expect("sets");
    fixture.publish("t", 1..=3).await;
    let (first, _second) = (fixture.next().await, fixture.next().await);
    assert!(fixture.next_or_none().await.is_none());
    fixture
        .bus
        .settle(first, Settled::Done)
        .await
        .expect("settles");
    assert_eq!(fixture.next().await.event.id, "3");
}

#[tokio::test]
async fn a_delivery_that_is_dropped_is_tried_again() {
    let fixture = Fixture::new().await;
    fixture.subscribe(vec![("shop/w/s", all())]).await;
    fixture.publish("t", 1..=1).await;
    drop(fixture.next().await);
    let again = loop {
        fixture.clock.advance(Duration::from_secs(1));
        if let Some(delivery) = fixture.next_or_none().await {
            break delivery;
        }
    };
    assert_eq!(again.attempt, 2);
    fixture
        .bus
        .settle(again, Settled::Done)
        .await
        .expect("settles");
}

#[tokio::test]
async fn a_switch_ends_what_is_missing_and_begins_what_is_new() {
    let fixture = Fixture::new().await;
    fixture
        .subscribe(vec![("shop/a/s", all()), ("shop/b/s", all())])
        .await;
    fixture.publish("t", 1..=2).await;
    fixture
        .subscribe(vec![("shop/b/s", all()), ("shop/c/s", all())])
        .await;
    fixture.publish("t", 3..=3).await;
    let mut got: Vec<(String, String)> = Vec::new();
    for _ in 0..6 {
        let delivery = fixture.next().await;
        got.push((delivery.key.workload.to_string(), delivery.event.id.clone()));
        fixture
            .bus
            .settle(delivery, Settled::Done)
            .await
            .expect("settles");
    }
    got.sort();
    let expected = [
        ("a", "1"),
        ("a", "2"),
        ("b", "1"),
        ("b", "2"),
        ("b", "3"),
        ("c", "3"),
    ];
    let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(got, expected);
    assert!(fixture.next_or_none().await.is_none());
    let left: Vec<_> = fixture
        .bus
        .stats()
        .iter()
        .map(|s| s.subscription.workload.to_string())
        .collect();
    assert_eq!(left, ["b", "c"], "what ended and is drained is forgotten");

    fixture
        .subscribe(vec![
            ("shop/a/s", all()),
            ("shop/b/s", all()),
            ("shop/c/s", all()),
        ])
        .await;
    fixture.publish("t", 4..=4).await;
    let mut fourth = fixture.drain(3).await;
    fourth.dedup();
    assert_eq!(fourth, ["4"], "one that comes back begins anew");
}

#[tokio::test]
async fn what_waits_for_a_workload_that_is_gone_can_be_given_up() {
    let fixture = Fixture::new().await;
    fixture.subscribe(vec![("shop/a/s", all())]).await;
    fixture.publish("t", 1..=3).await;
    let failing = fixture.next().await;
    fixture.fail(failing).await;
    fixture.subscribe(vec![]).await;
    let reason = Fault::new(code::NO_SUCH_WORKLOAD, "gone");
    let given_up = fixture
        .bus
        .give_up_ended(&key_of("shop/a/s"), &reason)
        .await;
    assert_eq!(given_up, 3);
    let letters = fixture
        .bus
        .dead_letters(DeadLetterFilter::default(), 9)
        .await
        .expect("reads");
    assert!(letters.iter().all(|letter| letter.reason == reason));
    let gone = fixture.bus.redrive(letters[0].id, "a test").await;
    assert!(matches!(gone, Err(Error::SubscriptionGone(_))));
}

#[tokio::test]
async fn a_filter_that_is_none_changes_nothing() {
    let fixture = Fixture::new().await;
    fixture.subscribe(vec![("shop/a/s", all())]).await;
    let bad = model::Subscription {
        name: model::Name::literal("s"),
        filter: model::EventFilter(json!({"type": "no list"})),
        retry: RetryPolicy::default(),
        concurrency: None,
        rate: None,
        order: None,
        batch: None,
        input: None,
        projection: None,
        pulled: false,
        serial: false,
    };
    let app = model::Name::literal("shop");
    let wanted = vec![(key_of("shop/b/s"), bad)];
    let refused = fixture.bus.set_subscriptions(&space(), &app, wanted).await;
    assert!(matches!(refused, Err(Error::BadFilter { .. })));
    fixture.publish("t", 1..=1).await;
    assert_eq!(fixture.drain(1).await, ["1"]);
}
