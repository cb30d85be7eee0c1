//! Clients that never stop: they note what was acknowledged, and go on with the next server when theirs was killed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{anyhow, ensure};
use serde_json::json;

use super::{PATIENCE, WORK};
use crate::http::{Client, Request};

const THREADS: usize = 4;

/// Between an answer and the next request: what is taken in may outrun what is delivered, but not by minutes of work.
const PAUSE: Duration = Duration::from_millis(4);

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
    threads: Vec<JoinHandle<Vec<String>>>,
}

/// What the threads of a load know of each other.
#[derive(Default)]
pub(super) struct Shared {
    stopping: AtomicBool,
    acknowledged: AtomicUsize,
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
}

/// Starts the clients.
pub(super) fn start(kind: Kind, gateway: SocketAddr) -> Load {
    Load::of(THREADS, move |shared, number| {
        run(shared, kind, gateway, number)
    })
}

impl Load {
    /// A load of so many threads; each answers with the ids of all that was acknowledged to it.
    pub(super) fn of(
        threads: usize,
        work: impl Fn(&Shared, usize) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let work = Arc::new(work);
        let client = |number| {
            let (shared, work) = (Arc::clone(&shared), Arc::clone(&work));
            thread::spawn(move || work(&shared, number))
        };
        Self {
            threads: (0..threads).map(client).collect(),
            shared: Arc::clone(&shared),
        }
    }

    /// How many were acknowledged so far.
    pub(super) fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Relaxed)
    }

    /// Waits until enough is acknowledged, so that no kill hits a server that has nothing to lose.
    pub(super) fn expect_work(&self) -> anyhow::Result<()> {
        let before = self.acknowledged();
        let start = Instant::now();
        while self.acknowledged() < before + WORK {
            ensure!(
                start.elapsed() < PATIENCE,
                "the server acknowledges too little"
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends the load; the ids of all that was acknowledged.
    pub(super) fn stop(self) -> anyhow::Result<Vec<String>> {
        self.shared.stopping.store(true, Relaxed);
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().map_err(|_| anyhow!("a client panicked"))?);
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
        match send(&mut client, kind, &id) {
            Ok(true) => {
                acknowledged.push(id);
                shared.acknowledge();
                thread::sleep(PAUSE);
            }
            // Refused or cut off: it may arrive or not, and the next one is tried a little later.
            Ok(false) | Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
    acknowledged
}

/// Whether it was acknowledged.
fn send(client: &mut Client, kind: Kind, id: &str) -> anyhow::Result<bool> {
    let body = json!({"id": id});
    let request = match kind {
        Kind::Invokes => Request::post("/later", &body),
        Kind::Events => Request::post("/events", &body)
            .header("ce-specversion", "1.0")
            .header("ce-id", id)
            .header("ce-source", "/soak")
            .header("ce-type", "soak.happened"),
    };
    Ok((200..300).contains(&client.send(&request)?.status))
}
