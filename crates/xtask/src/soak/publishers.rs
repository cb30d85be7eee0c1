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

use super::{Name, PATIENCE, WORK};
use crate::http::{Client, Request};

const THREADS: usize = 4;

/// Between an answer and the next request: what is taken in may outrun what is delivered, but not by minutes of work.
const PAUSE: Duration = Duration::from_millis(4);

/// Load that is on.
pub(super) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

struct Shared {
    gateway: SocketAddr,
    stopping: AtomicBool,
    acknowledged: AtomicUsize,
}

/// Starts the clients.
pub(super) fn start(name: Name, gateway: SocketAddr) -> Load {
    let shared = Arc::new(Shared {
        gateway,
        stopping: AtomicBool::new(false),
        acknowledged: AtomicUsize::new(0),
    });
    let client = |number| {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.run(name, number))
    };
    Load {
        threads: (0..THREADS).map(client).collect(),
        shared: Arc::clone(&shared),
    }
}

impl Load {
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

impl Shared {
    fn run(&self, name: Name, number: usize) -> Vec<String> {
        let mut acknowledged = Vec::new();
        let mut client = Client::new(self.gateway);
        for count in 0.. {
            if self.stopping.load(Relaxed) {
                break;
            }
            let id = format!("{number}-{count}");
            match send(&mut client, name, &id) {
                Ok(true) => {
                    acknowledged.push(id);
                    self.acknowledged.fetch_add(1, Relaxed);
                    thread::sleep(PAUSE);
                }
                // Refused or cut off: it may arrive or not, and the next one is tried a little later.
                Ok(false) | Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
        acknowledged
    }
}

/// Whether it was acknowledged.
fn send(client: &mut Client, name: Name, id: &str) -> anyhow::Result<bool> {
    let body = json!({"id": id});
    let request = match name {
        Name::Invokes => Request::post("/later", &body),
        Name::Events => Request::post("/events", &body)
            .header("ce-specversion", "1.0")
            .header("ce-id", id)
            .header("ce-source", "/soak")
            .header("ce-type", "soak.happened"),
    };
    Ok((200..300).contains(&client.send(&request)?.status))
}
