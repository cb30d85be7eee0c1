//! The server under edge and mesh: one thread per worker, each with a current-thread runtime, its own accept and its
//! own connections, so that a request is served where its connection lives.
//!
//! Knows HTTP/1.1 and HTTP/2, in clear text and over TLS, and their limits; what a request means is its [`Front`]'s business.

mod clients;
mod connection;
pub mod framing;
#[cfg(test)]
mod framing_law;
mod heads;
mod stream;
mod wire;
mod worker;

use std::{future::Future, net::SocketAddr, sync::Arc, thread, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use model::{Error, code};
use platform::telemetry::Refusals;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
pub(crate) use wire::Busy;

use crate::{
    answer::Answer,
    forwarded::{Network, Peer},
    listener::{Listener, Socket},
};

/// What answers requests.
pub(crate) trait Front: Send + Sync + 'static {
    /// Answers one request; dropped when the client goes away.
    fn answer(
        self: Arc<Self>,
        link: Link,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Answer>> + Send;
}

/// The connection that a request came by. Cheap to clone; held by whatever goes on with the connection after hyper has
/// let go of it, which then still counts as one.
#[derive(Clone)]
pub(crate) struct Link(Arc<Connected>);

/// What lasts as long as a connection.
struct Connected {
    peer: Peer,
    order: watch::Receiver<Order>,
    _alive: Alive,
    _permit: OwnedSemaphorePermit,
    _counted: Option<clients::Counted>,
}

impl Link {
    /// The other end.
    pub(crate) fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Waits until the server drains.
    pub(crate) async fn draining(&self) {
        let mut order = self.0.order.clone();
        let _ = order.wait_for(|order| *order != Order::Serve).await;
    }
}

/// Keeps a draining server waiting until it is dropped.
#[derive(Clone)]
struct Alive(
    #[expect(dead_code, reason = "held for its drop")] mpsc::Sender<std::convert::Infallible>,
);

/// Limits of connections; those of requests are the front's.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Longest time for a client to send a request's head, counted from its first byte.
    pub head: Duration,
    /// How long a connection may be open without a request.
    pub keep_alive: Duration,
    /// How long a client may take nothing of an answer that is ready.
    pub stall: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header lines of a request.
    pub headers: usize,
    /// Requests at the same time on one HTTP/2 connection.
    pub streams: u32,
    /// Streams that a client may reset before they are served, until its connection is closed (CVE-2023-44487).
    pub resets: usize,
    /// Connections at the same time; more wait in the kernel's queue.
    pub connections: usize,
    /// Connections of one client at the same time; more are told so and closed. 0: as many as there are.
    pub per_client: usize,
    /// Whether clients on this machine are counted, too: there, one may stand for many.
    pub count_local: bool,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            stall: Duration::from_secs(60),
            head_bytes: 64 << 10,
            headers: connection::HEADERS,
            streams: 256,
            resets: 64,
            connections: 50_000,
            per_client: 0,
            count_local: false,
        }
    }
}

/// What a server is made from.
pub(crate) struct Settings {
    /// Its threads are called this and a number.
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) listeners: Vec<Listener>,
    /// Limits of its connections.
    pub(crate) limits: ConnectionLimits,
    /// Proxies that are believed.
    pub(crate) trusted: Vec<Network>,
    /// Where it is counted who was refused a connection.
    pub(crate) refusals: Refusals,
    /// What each thread does before it serves.
    pub(crate) begins: fn(),
}

/// A running server. Dropping it cuts everything off.
pub(crate) struct Server {
    addresses: Vec<SocketAddr>,
    order: watch::Sender<Order>,
    ended: parking_lot::Mutex<Vec<oneshot::Receiver<()>>>,
}

/// What the workers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Serve,
    /// Take nothing new, finish what there is within this time.
    Drain(Duration),
}

impl Server {
    /// Starts the workers.
    ///
    /// # Errors
    /// `INTERNAL` when the system gives no more threads or no event queue.
    pub(crate) fn start<F: Front>(settings: Settings, front: &Arc<F>) -> Result<Self, Error> {
        let addresses = settings.listeners.iter().map(Listener::address).collect();
        let order = watch::Sender::new(Order::Serve);
        let shared = Arc::new(worker::Shared::new(&settings));
        let mut ended = Vec::new();
        for (number, sockets) in by_worker(settings.listeners).into_iter().enumerate() {
            let (sender, receiver) = oneshot::channel();
            let worker = worker::Worker::new(
                sockets,
                Arc::clone(&shared),
                Arc::clone(front),
                order.subscribe(),
            )?;
            let named = thread::Builder::new().name(format!("{}-{number}", settings.name));
            let begins = settings.begins;
            let spawned = named.spawn(move || {
                begins();
                worker.run();
                let _ = sender.send(());
            });
            spawned.map_err(|error| {
                Error::new(code::INTERNAL, "no thread for a worker").context(error)
            })?;
            ended.push(receiver);
        }
        Ok(Self {
            addresses,
            order,
            ended: parking_lot::Mutex::new(ended),
        })
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes nothing new, finishes what there is, and cuts off what is left after `grace`.
    pub(crate) async fn drain(&self, grace: Duration) {
        self.order.send_replace(Order::Drain(grace));
        let ended = std::mem::take(&mut *self.ended.lock());
        for worker in ended {
            let _ = worker.await;
        }
    }
}

/// The sockets of each worker: one of every address.
fn by_worker(listeners: Vec<Listener>) -> Vec<Vec<Socket>> {
    let most = listeners.iter().map(Listener::workers).max().unwrap_or(0);
    let mut workers: Vec<Vec<_>> = (0..most).map(|_| Vec::new()).collect();
    for listener in listeners {
        for (worker, socket) in workers.iter_mut().zip(listener.into_sockets()) {
            worker.push(socket);
        }
    }
    workers
}
