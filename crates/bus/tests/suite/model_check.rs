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

/// A run in the middle: what is alive, what is owed, what a consumer has in hand.
struct Run {
    fixture: Option<Fixture>,
    owed: Owed,
    in_flight: Vec<Delivery>,
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
            Step::Wait(seconds) => {
                let span = Duration::from_secs(seconds.into());
                self.fixture().clock.advance(span);
            }
            Step::Restart => self.die(false).await,
            Step::Crash => self.die(true).await,
        }
    }

    async fn take(&mut self, count: u8) {
        for _ in 0..count {
            let next = tokio::time::timeout(Duration::from_millis(5), self.fixture().next());
            let Ok(delivery) = next.await else { break };
            let owed = owed_of(&delivery);
            assert!(self.owed.all.contains(&owed), "not owed: {owed:?}");
            self.in_flight.push(delivery);
        }
    }

    async fn settle(&mut self, at: prop::sample::Index, how: Settled) {
        if self.in_flight.is_empty() {
            return;
        }
        let delivery = self.in_flight.swap_remove(at.index(self.in_flight.len()));
        if !matches!(how, Settled::Retry(_)) {
            self.owed.all.remove(&owed_of(&delivery));
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

    /// Everything that is owed comes, once, and nothing else.
    async fn drain(&mut self) {
        self.fixture().clock.advance(Duration::from_secs(3600));
        let mut delivered = BTreeSet::new();
        while delivered.len() < self.owed.all.len() {
            let next = tokio::time::timeout(Duration::from_secs(20), self.fixture().next()).await;
            let missing: Vec<_> = self.owed.all.difference(&delivered).collect();
            let delivery = next.unwrap_or_else(|_| panic!("never delivered: {missing:?}"));
            let owed = owed_of(&delivery);
            assert!(delivered.insert(owed.clone()), "twice: {owed:?}");
            let settled = self.fixture().bus.settle(delivery, Settled::Done).await;
            settled.expect("settles");
        }
        assert_eq!(delivered, self.owed.all);
        let more = self.fixture().next_or_none().await;
        assert!(more.is_none(), "more than is owed");
    }
}

async fn run(steps: Vec<Step>) {
    let mut run = Run {
        fixture: Some(Fixture::new().await),
        owed: Owed::default(),
        in_flight: Vec::new(),
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
