//! Random orders of publishing, taking, settling, switching and dying, against a model that only knows which events are
//! owed to whom.

use std::{collections::BTreeSet, time::Duration};

use bus::{Delivery, Settled};
use model::RetryPolicy;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{Fixture, fault};

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
        2 => (1..20u8).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        2 => Just(Step::Crash),
    ]
}

/// What is owed: (subscription, event).
#[derive(Default)]
struct Owed {
    all: BTreeSet<(String, String)>,
    next: u32,
    b_lives: bool,
}

impl Owed {
    fn published(&mut self, a: bool, count: u8) -> std::ops::RangeInclusive<u32> {
        let first = self.next;
        self.next += u32::from(count);
        for id in first..self.next {
            self.owe("shop/all/s", id);
            if a {
                self.owe("shop/a/s", id);
            } else if self.b_lives {
                self.owe("shop/b/s", id);
            }
        }
        first..=self.next - 1
    }

    fn owe(&mut self, key: &str, id: u32) {
        self.all.insert((key.to_owned(), id.to_string()));
    }
}

async fn switch(fixture: &Fixture, b_lives: bool) {
    let policy = RetryPolicy {
        attempts: 1000,
        ..RetryPolicy::default()
    };
    let named = |key: &str, filter: Value| (key.to_owned(), filter, policy);
    let mut wanted = vec![
        named("shop/all/s", json!({"source": ["/tests"]})),
        named("shop/a/s", json!({"type": ["a"]})),
    ];
    if b_lives {
        wanted.push(named("shop/b/s", json!({"type": [{"prefix": "b"}]})));
    }
    fixture.subscribe_with(wanted).await;
}

fn owed_of(delivery: &Delivery) -> (String, String) {
    (delivery.key.to_string(), delivery.event.id.clone())
}

async fn run(steps: Vec<Step>) {
    let mut fixture = Fixture::new().await;
    let mut owed = Owed::default();
    let mut in_flight: Vec<Delivery> = Vec::new();
    switch(&fixture, false).await;
    for step in steps {
        match step {
            Step::Publish(a, count) => {
                let ids = owed.published(a, count);
                fixture.publish(if a { "a" } else { "b" }, ids).await;
            }
            Step::Take(count) => {
                for _ in 0..count {
                    let next = tokio::time::timeout(Duration::from_millis(5), fixture.next()).await;
                    let Ok(delivery) = next else { break };
                    assert!(
                        owed.all.contains(&owed_of(&delivery)),
                        "not owed: {:?}",
                        owed_of(&delivery)
                    );
                    in_flight.push(delivery);
                }
            }
            Step::Done(at) if !in_flight.is_empty() => {
                let delivery = in_flight.swap_remove(at.index(in_flight.len()));
                owed.all.remove(&owed_of(&delivery));
                fixture
                    .bus
                    .settle(delivery, Settled::Done)
                    .await
                    .expect("settles");
            }
            Step::Retry(at) if !in_flight.is_empty() => {
                let delivery = in_flight.swap_remove(at.index(in_flight.len()));
                fixture.fail(delivery).await;
            }
            Step::Dead(at) if !in_flight.is_empty() => {
                let delivery = in_flight.swap_remove(at.index(in_flight.len()));
                owed.all.remove(&owed_of(&delivery));
                fixture
                    .bus
                    .settle(delivery, Settled::Dead(fault()))
                    .await
                    .expect("settles");
            }
            Step::Switch(b_lives) => {
                owed.b_lives = b_lives;
                switch(&fixture, b_lives).await;
            }
            Step::Wait(seconds) => fixture.clock.advance(Duration::from_secs(seconds.into())),
            Step::Restart | Step::Crash => {
                in_flight.drain(..).for_each(std::mem::forget);
                let crash = matches!(step, Step::Crash);
                fixture = if crash {
                    fixture.crash().await
                } else {
                    fixture.restart().await
                };
            }
            Step::Done(_) | Step::Retry(_) | Step::Dead(_) => {}
        }
    }
    in_flight.drain(..).for_each(std::mem::forget);
    fixture = fixture.crash().await;
    fixture.clock.advance(Duration::from_secs(3600));
    let mut delivered = BTreeSet::new();
    while delivered.len() < owed.all.len() {
        let next = tokio::time::timeout(Duration::from_secs(20), fixture.next()).await;
        let missing: Vec<_> = owed.all.difference(&delivered).collect();
        let delivery = next.unwrap_or_else(|_| panic!("never delivered: {missing:?}"));
        assert!(
            delivered.insert(owed_of(&delivery)),
            "twice: {:?}",
            owed_of(&delivery)
        );
        fixture
            .bus
            .settle(delivery, Settled::Done)
            .await
            .expect("settles");
    }
    assert_eq!(delivered, owed.all);
    assert!(fixture.next_or_none().await.is_none(), "more than is owed");
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
