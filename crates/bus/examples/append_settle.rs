//! How many events per second are appended, settled, and both at once, with fsync on and the real schema: what
//! `cargo xtask bench publish` runs. `--json`: a line per figure; `--seconds N`: how long each is measured.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bus::{Bus, Settled};
use model::{
    Cause, Class, Clock, Event, EventFilter, Ids, Limits, Name, Namespace, RetryPolicy,
    Subscription, TraceContext, TraceId, event::EventData,
};
use serde_json::json;
use store::{Options, Store};
use tokio::{sync::Semaphore, task::JoinSet};

/// Publishers, and deliveries in flight.
const IN_FLIGHT: [u32; 4] = [1, 64, 256, 1024];

/// One bus, and how far it is.
#[derive(Clone)]
struct Bench {
    bus: Bus,
    clock: Clock,
    ids: Ids,
    appended: Arc<AtomicU64>,
    settled: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let seconds = arguments
        .iter()
        .position(|argument| argument == "--seconds");
    let seconds = seconds.and_then(|at| arguments.get(at + 1)?.parse().ok());
    let span = Duration::from_secs(seconds.unwrap_or(3));
    for in_flight in IN_FLIGHT {
        let (append, settle, both) = measure(in_flight, span).await;
        for (what, figure) in [
            ("appended", append),
            ("settled", settle),
            ("appended and settled at once", both),
        ] {
            let metric = format!("events {what} per second, {in_flight} in flight");
            show(json, &metric, figure);
        }
    }
}

fn show(json: bool, metric: &str, figure: f64) {
    let figure = figure.round();
    if json {
        let line = json!({"bench": "publish", "metric": metric, "peer": null, "tangelo": figure, "theirs": null, "ratio": null});
        println!("{line}");
    } else {
        println!("{metric:>64} {figure:>10}");
    }
}

/// Events per second: only appended; then what was appended settled; then both at once.
async fn measure(in_flight: u32, span: Duration) -> (f64, f64, f64) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let clock = Clock::system();
    let store = Store::open(Options::new(dir.path(), clock.clone())).expect("opens");
    let ids = Ids::system();
    let bus = Bus::open(store.clone(), clock.clone(), ids.clone(), Limits::default()).await;
    let bench = Bench {
        bus: bus.expect("opens"),
        clock,
        ids,
        appended: Arc::default(),
        settled: Arc::default(),
        stop: Arc::default(),
    };
    bench.subscribe().await;
    let append = bench.during(span, in_flight, 0).await.0;
    // At most half of the span's work, so that there is a backlog for all of it.
    let settle = bench.settle_the_backlog(in_flight, span).await;
    let both = bench.during(span, in_flight, in_flight).await.1;
    store.close().await.expect("closes");
    (append, settle, both)
}

impl Bench {
    async fn subscribe(&self) {
        let subscription = |name: &str, kind: &str| {
            let subscription = Subscription {
                name: Name::new(name).expect("is a name"),
                filter: EventFilter(json!({"type": [kind]})),
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
            let key = format!("shop/w/{name}").parse().expect("is a key");
            (key, subscription)
        };
        // One that gets all, and some that get nothing, as in an app.
        let mut all = vec![subscription("all", "order.created")];
        all.extend((0..8).map(|n| subscription(&format!("none-{n}"), "order.paid")));
        let (space, app) = (Namespace::default_namespace(), Name::literal("shop"));
        self.bus
            .set_subscriptions(&space, &app, all)
            .await
            .expect("sets");
    }

    /// Appends and settles for `span`; what of each per second.
    async fn during(&self, span: Duration, publishers: u32, consumers: u32) -> (f64, f64) {
        self.stop.store(false, Ordering::Relaxed);
        let mut tasks = JoinSet::new();
        for _ in 0..publishers {
            tasks.spawn(self.clone().publish());
        }
        if consumers > 0 {
            tasks.spawn(self.clone().consume(consumers));
        }
        let (before, started) = (self.counts(), self.clock.monotonic());
        self.clock.sleep(span).await;
        let (after, ended) = (self.counts(), self.clock.monotonic());
        self.stop.store(true, Ordering::Relaxed);
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        let seconds = (ended - started).as_secs_f64();
        let rate = |before: u64, after: u64| (after - before) as f64 / seconds;
        (rate(before.0, after.0), rate(before.1, after.1))
    }

    /// Settles what is there, at most for `span`.
    async fn settle_the_backlog(&self, in_flight: u32, span: Duration) -> f64 {
        self.stop.store(false, Ordering::Relaxed);
        let consumer = tokio::spawn(self.clone().consume(in_flight));
        let (before, started) = (self.counts().1, self.clock.monotonic());
        while self.counts().1 < self.counts().0 && self.clock.monotonic() - started < span {
            self.clock.sleep(Duration::from_millis(1)).await;
        }
        let (after, ended) = (self.counts().1, self.clock.monotonic());
        self.stop.store(true, Ordering::Relaxed);
        consumer.abort();
        (after - before) as f64 / (ended - started).as_secs_f64()
    }

    fn counts(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.appended), read(&self.settled))
    }

    async fn publish(self) {
        let space = Namespace::default_namespace();
        while !self.stop.load(Ordering::Relaxed) {
            let event = self.event();
            let receipts = self.bus.publish(&space, vec![(event, cause())]).await;
            match &receipts[0] {
                Ok(_) => self.appended.fetch_add(1, Ordering::Relaxed),
                Err(error) => panic!("{error}"),
            };
        }
    }

    fn event(&self) -> Event {
        Event {
            id: self.ids.uuid(&self.clock).to_string(),
            source: "/orders".to_owned(),
            kind: "order.created".to_owned(),
            subject: Some("o-17".to_owned()),
            time: Some(self.clock.now()),
            content_type: None,
            schema: None,
            extensions: BTreeMap::default(),
            data: EventData::Json(json!({
                "order": "o-17", "customer": "c-4", "total": 129.5, "currency": "EUR",
                "lines": [{"film": 17, "title": "The Third Man", "count": 2, "price": 9.5}, {"film": 4, "title": "Vertigo", "count": 1, "price": 11}],
            })),
        }
    }

    async fn consume(self, in_flight: u32) {
        let permits = Arc::new(Semaphore::new(in_flight as usize));
        loop {
            let permit = Arc::clone(&permits).acquire_owned().await.expect("is open");
            let key = self.bus.ready().await;
            let Some(delivery) = self.bus.take(&key).await.pop() else {
                continue;
            };
            let bench = self.clone();
            tokio::spawn(async move {
                bench
                    .bus
                    .settle(delivery, Settled::Done)
                    .await
                    .expect("settles");
                bench.settled.fetch_add(1, Ordering::Relaxed);
                drop(permit);
            });
        }
    }
}

fn cause() -> Cause {
    Cause {
        invocation: None,
        class: Class::Async,
        principals: Vec::new(),
        trace: TraceContext {
            trace: TraceId(7),
            parent: None,
            sampled: false,
        },
        depth: 1,
        idempotency_key: None,
    }
}
