//! What the tests share: a bus on a temporary folder with a virtual clock, small events and subscriptions.

use std::{collections::BTreeMap, time::Duration};

use bus::{Bus, Delivery, Replay, Settled};
use model::{
    Cause, Clock, Error as Fault, Event, EventFilter, Ids, Limits, Name, Namespace, Position,
    RetryPolicy, Subscription, SubscriptionKey, Time, TraceContext, code, event::EventData,
};
use serde_json::{Value, json};
use store::{Options, Store};

pub(crate) const START: Time = Time::from_millis(1_790_000_000_000);

/// A bus that can be stopped and started.
pub(crate) struct Fixture {
    pub(crate) bus: Bus,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self::on(dir, Clock::virtual_at(START)).await
    }

    pub(crate) async fn on(dir: tempfile::TempDir, clock: Clock) -> Self {
        let options = Options::new(dir.path(), clock.clone());
        Self::with(options, dir, clock).await
    }

    pub(crate) async fn with(options: Options, dir: tempfile::TempDir, clock: Clock) -> Self {
        let store = loop {
            // After a crash the old writer may be about to end.
            match Store::open(options.clone()) {
                Err(store::Error::Locked(_)) => tokio::task::yield_now().await,
                other => break other.expect("opens"),
            }
        };
        let limits = Limits::default();
        let bus = Bus::open(store.clone(), clock.clone(), Ids::seeded(1), limits).await;
        Self {
            bus: bus.expect("opens"),
            store,
            clock,
            dir,
        }
    }

    /// Stops in order and starts again.
    pub(crate) async fn restart(self) -> Self {
        self.store.close().await.expect("closes");
        let Self { dir, clock, .. } = self;
        Self::on(dir, clock).await
    }

    /// Ends without a word, with what is queued lost, and starts again.
    pub(crate) async fn crash(self) -> Self {
        let Self {
            bus,
            store,
            dir,
            clock,
        } = self;
        store.crash();
        drop((bus, store));
        Self::on(dir, clock).await
    }

    pub(crate) async fn subscribe(&self, subscriptions: Vec<(&str, Value)>) {
        let with_policy =
            |(key, filter): (&str, Value)| (key.to_owned(), filter, RetryPolicy::default());
        let all = subscriptions.into_iter().map(with_policy).collect();
        self.subscribe_with(all).await;
    }

    pub(crate) async fn subscribe_with(&self, subscriptions: Vec<(String, Value, RetryPolicy)>) {
        let subscriptions = subscriptions
            .into_iter()
            .map(|(key, filter, retry)| {
                let key = key_of(&key);
                let subscription = Subscription {
                    name: key.name.clone(),
                    filter: EventFilter(filter),
                    retry,
                    concurrency: None,
                    rate: None,
                    order: None,
                    batch: None,
                    input: None,
                    projection: None,
                    pulled: false,
                    serial: false,
                };
                (key, subscription)
            })
            .collect();
        let app = Name::literal("shop");
        let set = self
            .bus
            .set_subscriptions(&space(), &app, subscriptions)
            .await;
        set.expect("sets");
    }

    /// The app's one subscription, under its key.
    pub(crate) async fn set(&self, key: &str, subscription: Subscription) {
        let wanted = vec![(key_of(key), subscription)];
        let app = Name::literal("shop");
        let set = self.bus.set_subscriptions(&space(), &app, wanted).await;
        set.expect("sets");
    }

    pub(crate) async fn settle(&self, delivery: Delivery, how: Settled) {
        self.bus.settle(delivery, how).await.expect("settles");
    }

    pub(crate) async fn publish(&self, kind: &str, ids: std::ops::RangeInclusive<u32>) {
        let events = ids.map(|id| (event(kind, id), cause())).collect();
        for receipt in self.bus.publish(&space(), events).await {
            receipt.expect("is published");
        }
    }

    /// The next delivery, whoever's it is.
    pub(crate) async fn next(&self) -> Delivery {
        loop {
            let key = self.bus.ready().await;
            if let Some(delivery) = self.bus.take(&key).await.pop() {
                return delivery;
            }
        }
    }

    /// The next delivery when there is one within a moment of real time; for showing that there is none.
    pub(crate) async fn next_or_none(&self) -> Option<Delivery> {
        tokio::time::timeout(Duration::from_millis(100), self.next())
            .await
            .ok()
    }

    /// Takes and settles `count` deliveries as done; their ids in order of delivery.
    pub(crate) async fn drain(&self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let delivery = self.next().await;
            ids.push(delivery.event.id.clone());
            self.bus
                .settle(delivery, Settled::Done)
                .await
                .expect("settles");
        }
        ids
    }

    pub(crate) async fn fail(&self, delivery: Delivery) {
        self.bus
            .settle(delivery, Settled::Retry(fault()))
            .await
            .expect("settles");
    }
}

pub(crate) fn space() -> Namespace {
    Namespace::default_namespace()
}

pub(crate) fn key_of(text: &str) -> SubscriptionKey {
    text.parse().expect("is a key")
}

pub(crate) fn fault() -> Fault {
    Fault::new(code::FUNCTION_ERROR, "no")
}

pub(crate) fn all() -> Value {
    json!({"source": ["/tests"]})
}

pub(crate) fn event(kind: &str, id: u32) -> Event {
    Event {
        id: id.to_string(),
        source: "/tests".to_owned(),
        kind: kind.to_owned(),
        subject: None,
        time: None,
        content_type: None,
        schema: None,
        extensions: BTreeMap::default(),
        data: EventData::Json(json!({"id": id, "of": id % 3})),
    }
}

/// Of all that there is, to one subscription.
pub(crate) fn replay(key: &str) -> Replay {
    Replay {
        key: key_of(key),
        after: Position(0),
        since: None,
        until: None,
        filter: None,
        rate: None,
    }
}

pub(crate) fn cause() -> Cause {
    Cause::first(Vec::new(), TraceContext::root(7))
}

pub(crate) fn ids(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|id| id.to_string()).collect()
}
