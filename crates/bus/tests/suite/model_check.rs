//! Random orders of publishing, taking, settling, switching, pausing and dying, against a model that only knows which
//! events are owed to whom: also in order by key, in batches, at a rate.

use std::{collections::BTreeSet, time::Duration};

use bus::{Delivery, Settled};
use model::{AfterDead, Batch, EventFilter, Name, Order, RetryPolicy, Subscription};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{Fixture, fault, key_of, space};

/// In order by key: a third of the ids each.
const ORDERED: &str = "shop/o/s";
/// In batches.
const BATCHED: &str = "shop/n/s";
/// To all, and paused now and then.
const ALL: &str = "shop/all/s";

/// One step.
#[derive(Debug, Clone)]
enum Step {
    /// Events of type `a` or `b`.
    Publish(bool, u8),
    /// Takes what is ready, so many at most.
    Take(u8),
    /// Settles one of those in flight.
    Done(prop::sample::Index),
    Retry(prop::sample::Index),
    Dead(prop::sample::Index),
    /// The subscription to `b` ends, or begins anew.
    Switch(bool),
    /// The subscription to all is paused, or resumed.
    Pause(bool),
    Wait(u8),
    Restart,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (any::<bool>(), 1..20u8).prop_map(|(a, n)| Step::Publish(a, n)),
        6 => (1..10u8).prop_map(Step::Take),
        8 => index().prop_map(Step::Done),
        2 => index().prop_map(Step::Retry),
        1 => index().prop_map(Step::Dead),
        1 => any::<bool>().prop_map(Step::Switch),
        1 => any::<bool>().prop_map(Step::Pause),
        2 => (1..20u8).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        2 => Just(Step::Crash),
    ]
}

/// What is owed: (subscription, event).
#[derive(Default)]
struct Owed {
    all: BTreeSet<(String, u32)>,
    /// Keys of the ordered subscription that a dead letter holds.
    held: BTreeSet<u32>,
    next: u32,
    b_lives: bool,
}

impl Owed {
    fn published(&mut self, a: bool, count: u8) -> std::ops::RangeInclusive<u32> {
        let first = self.next;
        self.next += u32::from(count);
        for id in first..self.next {
            self.owe(ALL, id);
            self.owe(BATCHED, id);
            if !self.held.contains(&(id % 3)) {
                self.owe(ORDERED, id);
            }
            if a {
                self.owe("shop/a/s", id);
            } else if self.b_lives {
                self.owe("shop/b/s", id);
            }
        }
        first..=self.next - 1
    }

    fn owe(&mut self, key: &str, id: u32) {
        self.all.insert((key.to_owned(), id));
    }

    /// A dead letter of the ordered subscription: what comes after it is not delivered.
    fn hold(&mut self, dead: u32) {
        self.held.insert(dead % 3);
        let held = |(key, id): &(String, u32)| key == ORDERED && id % 3 == dead % 3;
        self.all.retain(|owed| !held(owed));
    }

    /// Whether it may come now.
    fn check(&self, owed: &(String, u32)) {
        assert!(self.all.contains(owed), "not owed: {owed:?}");
        let (key, id) = owed;
        if key == ORDERED {
            let mut earlier = self.all.iter();
            let earlier = earlier.find(|(k, i)| k == ORDERED && i % 3 == id % 3);
            assert_eq!(earlier, Some(owed), "out of order");
        }
    }
}

fn subscription(filter: Value) -> Subscription {
    Subscription {
        retry: RetryPolicy {
            attempts: 1000,
            ..RetryPolicy::default()
        },
        ..Subscription::new(Name::literal("s"), EventFilter(filter))
    }
}

async fn switch(fixture: &Fixture, b_lives: bool) {
    let all = || subscription(json!({"source": ["/tests"]}));
    let order = Order {
        key: "$.data.of".to_owned(),
        dead: AfterDead::Hold,
    };
    let batch = Batch {
        size: 4,
        window: Duration::from_secs(2),
    };
    let mut wanted = vec![
        (ALL, all()),
        (
            ORDERED,
            Subscription {
                order: Some(order),
                ..all()
            },
        ),
        (
            BATCHED,
            Subscription {
                batch: Some(batch),
                concurrency: Some(3),
                ..all()
            },
        ),
        (
            "shop/a/s",
            Subscription {
                rate: "5/s".parse().ok(),
                ..subscription(json!({"type": ["a"]}))
            },
        ),
    ];
    if b_lives {
        wanted.push(("shop/b/s", subscription(json!({"type": [{"prefix": "b"}]}))));
    }
    let wanted = wanted.into_iter().map(|(key, one)| (key_of(key), one));
    let app = Name::literal("shop");
    let set = fixture
        .bus
        .set_subscriptions(&space(), &app, wanted.collect())
        .await;
    set.expect("sets");
}

fn owed_of(delivery: &Delivery) -> (String, u32) {
    let id = delivery.event.id.parse().expect("is a number");
    (delivery.key.to_string(), id)
}

/// What comes within a moment: one, or a batch.
async fn next(fixture: &Fixture, patience: Duration) -> Vec<Delivery> {
    let next = async {
        loop {
            let key = fixture.bus.ready().await;
            let taken = fixture.bus.take(&key).await;
            if !taken.is_empty() {
                return taken;
            }
        }
    };
    let taken = tokio::time::timeout(patience, next).await;
    taken.unwrap_or_default()
}

/// A run in the middle: what is alive, what is owed, what a consumer has in hand.
struct Run {
    fixture: Option<Fixture>,
    owed: Owed,
    in_flight: Vec<Delivery>,
    paused: bool,
}

impl Run {
    fn fixture(&self) -> &Fixture {
        self.fixture.as_ref().expect("is alive between steps")
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Publish(a, count) => {
                let ids = self.owed.published(a, count);
                self.fixture().publish(if a { "a" } else { "b" }, ids).await;
            }
            Step::Take(count) => self.take(count).await,
            Step::Done(at) => self.settle(at, Settled::Done).await,
            Step::Retry(at) => self.settle(at, Settled::Retry(fault())).await,
            Step::Dead(at) => self.settle(at, Settled::Dead(fault())).await,
            Step::Switch(b_lives) => {
                self.owed.b_lives = b_lives;
                switch(self.fixture(), b_lives).await;
            }
            Step::Pause(paused) => self.pause(paused).await,
            Step::Wait(seconds) => {
                let span = Duration::from_secs(seconds.into());
                self.fixture().clock.advance(span);
            }
            Step::Restart => self.die(false).await,
            Step::Crash => self.die(true).await,
        }
    }

    async fn pause(&mut self, paused: bool) {
        let (bus, key) = (&self.fixture().bus, key_of(ALL));
        match paused {
            true => drop(bus.pause(&key, "a test", None).await.expect("pauses")),
            false => drop(bus.resume(&key, "a test").await.expect("resumes")),
        }
        self.paused = paused;
    }

    async fn take(&mut self, count: u8) {
        for _ in 0..count {
            let taken = next(self.fixture(), Duration::from_millis(5)).await;
            if taken.is_empty() {
                break;
            }
            for delivery in taken {
                self.owed.check(&owed_of(&delivery));
                assert!(!self.paused || delivery.key != key_of(ALL), "it is paused");
                let twice = self
                    .in_flight
                    .iter()
                    .any(|d| owed_of(d) == owed_of(&delivery));
                assert!(!twice, "twice: {:?}", owed_of(&delivery));
                self.in_flight.push(delivery);
            }
        }
    }

    async fn settle(&mut self, at: prop::sample::Index, how: Settled) {
        if self.in_flight.is_empty() {
            return;
        }
        let delivery = self.in_flight.swap_remove(at.index(self.in_flight.len()));
        let owed = owed_of(&delivery);
        if !matches!(how, Settled::Retry(_)) {
            self.owed.all.remove(&owed);
        }
        if matches!(how, Settled::Dead(_)) && owed.0 == ORDERED {
            self.owed.hold(owed.1);
        }
        let settled = self.fixture().bus.settle(delivery, how).await;
        settled.expect("settles");
    }

    async fn die(&mut self, crash: bool) {
        self.in_flight.drain(..).for_each(std::mem::forget);
        let fixture = self.fixture.take().expect("is alive between steps");
        let again = if crash {
            fixture.crash().await
        } else {
            fixture.restart().await
        };
        self.fixture = Some(again);
    }

    /// Everything that is owed comes, once, in order, and nothing else.
    async fn drain(&mut self) {
        self.pause(false).await;
        let mut idle = 0;
        while idle < 3 || !self.owed.all.is_empty() {
            // Rates and windows pass.
            self.fixture().clock.advance(Duration::from_secs(400));
            let taken = next(self.fixture(), Duration::from_millis(50)).await;
            idle = if taken.is_empty() { idle + 1 } else { 0 };
            assert!(idle < 400, "never delivered: {:?}", self.owed.all);
            for delivery in taken {
                let owed = owed_of(&delivery);
                self.owed.check(&owed);
                self.owed.all.remove(&owed);
                let settled = self.fixture().bus.settle(delivery, Settled::Done).await;
                settled.expect("settles");
            }
        }
    }
}

async fn run(steps: Vec<Step>) {
    let mut run = Run {
        fixture: Some(Fixture::new().await),
        owed: Owed::default(),
        in_flight: Vec::new(),
        paused: false,
    };
    switch(run.fixture(), false).await;
    for step in steps {
        run.step(step).await;
    }
    run.die(true).await;
    run.drain().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_exactly_what_is_owed_is_delivered(
        steps in prop::collection::vec(step(), 1..50),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(run(steps));
    }
}
