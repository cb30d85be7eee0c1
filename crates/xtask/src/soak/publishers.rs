//! Clients that never stop: they note what was acknowledged, and go on with the next server when theirs was killed.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use serde_json::{Value, json};

use super::{
    PATIENCE,
    work::{UnderWay, Work},
};
use crate::http::{Client, Request};

const THREADS: usize = 4;
/// What is said of a load that ends by itself; why is on stderr.
const GAVE_UP: &str = "a client gave up";

/// Between an answer and the next request: what is taken in may outrun what is delivered, but not by minutes of work.
const PAUSE: Duration = Duration::from_millis(4);
/// Before what was refused or cut off is sent again.
const LATER: Duration = Duration::from_millis(10);
/// Keys that one client publishes events of.
const KEYS: usize = 4;
/// Most events by key that are published and not settled.
const AHEAD: usize = 400;
/// Of so many accepted invocations one's status is asked for: all of them would be more work than the invocations.
const ASKED: usize = 4;

/// What clients send.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Events.
    Events,
    /// Requests that are accepted with 202.
    Invokes,
}

/// Load that is on.
pub(super) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<anyhow::Result<Vec<String>>>>,
}

/// What the threads of a load know of each other.
#[derive(Default)]
pub(super) struct Shared {
    stopping: AtomicBool,
    acknowledged: AtomicUsize,
    /// Where in the log the events are whose place was answered, by id.
    positions: Mutex<HashMap<String, u64>>,
    /// What is under way.
    under_way: AtomicUsize,
    /// Accepted invocations whose status is to be asked for, as their idempotency keys have it.
    accepted: Mutex<Vec<String>>,
}

impl Shared {
    /// Whether the load is to end.
    pub(super) fn stops(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// One more was acknowledged.
    pub(super) fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Relaxed);
    }

    /// Where events are in the log.
    pub(super) fn positions(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.positions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begun(&self) {
        self.under_way.fetch_add(1, Relaxed);
    }

    pub(super) fn ended(&self) {
        self.under_way.fetch_sub(1, Relaxed);
    }

    /// How much is begun and not over: without an answer, or, where that is acknowledged, not settled.
    pub(super) fn in_flight(&self) -> usize {
        let published = self.positions().len();
        let unsettled = published.saturating_sub(self.acknowledged.load(Relaxed));
        self.under_way.load(Relaxed) + unsettled
    }

    /// What a kill would hit, when so many were acknowledged at the last one.
    pub(super) fn work_since(&self, before: usize) -> Work {
        Work {
            acknowledged: self.acknowledged.load(Relaxed) - before,
            in_flight: self.in_flight(),
        }
    }

    /// Accepted invocations whose status nobody has taken over to ask for yet.
    pub(super) fn accepted(&self) -> MutexGuard<'_, Vec<String>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so much more is published than settled that publishers had better wait.
    fn is_ahead(&self) -> bool {
        self.positions().len() > self.acknowledged.load(Relaxed) + AHEAD
    }
}

/// Starts the clients.
pub(super) fn start(kind: Kind, gateway: SocketAddr) -> Load {
    Load::of(THREADS, move |shared, number| {
        Ok(run(shared, kind, gateway, number))
    })
}

/// Starts clients that publish the events of keys of their own, numbered, each again until it is acknowledged; what is
/// acknowledged to the soak is their settling, which an observer sees.
pub(super) fn start_by_key(gateway: SocketAddr) -> Load {
    Load::of(THREADS, move |shared, client| {
        let mut publisher = Publisher::new(gateway);
        let (mut acknowledged, mut last) = (Vec::new(), 0);
        while !shared.stops() {
            last += 1;
            let ids = (0..KEYS).map(|key| format!("k{client}{key}-{last}"));
            let ids: Vec<String> = ids.collect();
            publisher.publish(shared, "soak.happened", &ids)?;
            acknowledged.extend(ids);
            while shared.is_ahead() && !shared.stops() {
                thread::sleep(PAUSE);
            }
        }
        Ok(acknowledged)
    })
}

impl Load {
    /// A load of so many threads; each answers with the ids of all that was acknowledged to it.
    pub(super) fn of(
        threads: usize,
        work: impl Fn(&Shared, usize) -> anyhow::Result<Vec<String>> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let work = Arc::new(work);
        let client = |number| {
            let (shared, work) = (Arc::clone(&shared), Arc::clone(&work));
            thread::spawn(move || {
                work(&shared, number).inspect_err(|error| eprintln!("a client gives up: {error:#}"))
            })
        };
        Self {
            threads: (0..threads).map(client).collect(),
            shared: Arc::clone(&shared),
        }
    }

    /// A load of one thread.
    pub(super) fn once(
        work: impl FnOnce(&Shared) -> anyhow::Result<Vec<String>> + Send + 'static,
    ) -> Self {
        let work = Mutex::new(Some(work));
        Self::of(1, move |shared, _| {
            let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
            work.context("it is done once")?(shared)
        })
    }

    /// What the threads share, for others that look.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// How many were acknowledged so far.
    pub(super) fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Relaxed)
    }

    /// Waits until a kill counts; `before` is what was acknowledged at the last one.
    pub(super) fn expect_work(&self, before: usize) -> anyhow::Result<()> {
        let start = Instant::now();
        while !self.shared.work_since(before).is_worth_a_kill() {
            ensure!(!self.gave_up(), GAVE_UP);
            ensure!(
                start.elapsed() < PATIENCE,
                "the server acknowledges too little"
            );
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn gave_up(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Ends the load; the ids of all that was acknowledged.
    ///
    /// # Errors
    /// Why a client gave up.
    pub(super) fn stop(self) -> anyhow::Result<Vec<String>> {
        self.shared.stopping.store(true, Relaxed);
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok(all)
    }
}

fn run(shared: &Shared, kind: Kind, gateway: SocketAddr, number: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut client = Client::new(gateway);
    for count in 0.. {
        if shared.stops() {
            break;
        }
        let id = format!("{number}-{count}");
        let under_way = UnderWay::of(shared);
        let sent = send(&mut client, kind, &id);
        drop(under_way);
        match sent {
            Ok(Some(accepted)) => {
                let places = places(&accepted, 1).into_iter().flatten();
                let places = places.map(|at| (id.clone(), at));
                shared.positions().extend(places);
                let invocation = accepted["id"].as_str().filter(|_| count % ASKED == 0);
                shared.accepted().extend(invocation.map(str::to_owned));
                acknowledged.push(id);
                shared.acknowledge();
                thread::sleep(PAUSE);
            }
            // Refused or cut off: it may arrive or not, and the next one is tried a little later.
            Ok(None) | Err(_) => thread::sleep(LATER),
        }
    }
    acknowledged
}

/// Sends one; what was answered, or `None`: it was not acknowledged.
fn send(client: &mut Client, kind: Kind, id: &str) -> anyhow::Result<Option<Value>> {
    let body = json!({"id": id});
    let request = match kind {
        Kind::Invokes => Request::post("/later", &body),
        Kind::Events => Request::post("/events", &body)
            .header("ce-specversion", "1.0")
            .header("ce-id", id)
            .header("ce-source", "/soak")
            .header("ce-type", "soak.happened"),
    };
    let answer = client.send(&request)?;
    let is_acknowledged = (200..300).contains(&answer.status);
    Ok(is_acknowledged.then(|| answer.json()))
}

/// Publishes events of keys, `KEY-NUMBER` each, as often as it takes.
pub(super) struct Publisher {
    client: Client,
}

impl Publisher {
    pub(super) fn new(gateway: SocketAddr) -> Self {
        Self {
            client: Client::new(gateway),
        }
    }

    /// Publishes all at once, again and again until all are acknowledged, and notes where they are; the first's position.
    pub(super) fn publish(
        &mut self,
        shared: &Shared,
        kind: &str,
        ids: &[String],
    ) -> anyhow::Result<u64> {
        let event = |id: &String| {
            let key = id.rsplit_once('-').map_or("", |(key, _)| key);
            json!({"specversion": "1.0", "id": id, "source": "/soak", "type": kind, "subject": key, "data": {"id": id}})
        };
        let batch = Value::Array(ids.iter().map(event).collect());
        let mut request = Request::post("/events", &batch);
        request.headers = vec![(
            "content-type",
            "application/cloudevents-batch+json".to_owned(),
        )];
        let start = Instant::now();
        let _under_way = UnderWay::of(shared);
        loop {
            let answer = self.client.send(&request).map(|answer| answer.json());
            let places = answer.ok().and_then(|answer| places(&answer, ids.len()));
            if let Some(places) = places {
                let named = ids.iter().cloned().zip(places.iter().copied());
                shared.positions().extend(named);
                return places.into_iter().min().context("there are events");
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "what is published is not acknowledged"
            );
            thread::sleep(LATER);
        }
    }
}

/// The positions in an answer, when all were accepted.
fn places(answer: &Value, count: usize) -> Option<Vec<u64>> {
    let rows = answer["events"].as_array()?.iter();
    let places: Option<Vec<u64>> = rows.map(|row| row["position"].as_u64()).collect();
    places.filter(|places| places.len() == count)
}
