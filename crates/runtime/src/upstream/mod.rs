//! HTTP/1.1 to a workload: connections that the request's own task drives, kept for the next request.
//!
//! No task is spawned, no channel crossed and no other thread woken for a request: whoever polls the response polls
//! the connection with it. Idle connections stay with the thread that opened them. Knows nothing of instances: a
//! guard that the caller hands in is dropped when the exchange, its body or its upgraded connection has ended.

mod alarm;
mod bell;
mod connection;
mod head;
mod idle;
mod origin;
mod reply;
mod stream;
mod tls;

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};
use http::{Request, Response, StatusCode};
use model::{Clock, Error, code};

use crate::{body::Body, call::Meter};
use connection::Connection;
use idle::Idle;
pub(crate) use origin::Origin;

/// Where requests go, and the connections that are kept to it.
pub(crate) struct Upstream {
    origin: Origin,
    clock: Clock,
    idle: Idle,
}

/// What one exchange is held to.
#[derive(Clone)]
pub(crate) struct Terms {
    /// When the head must be here, on the monotonic clock.
    pub(crate) deadline: Instant,
    /// How long the body may be silent.
    pub(crate) body_idle: Duration,
    /// Where a failure in mid-body is noted.
    pub(crate) meter: Arc<Meter>,
    /// Whether the request may have been acted on before: then it is not sent a third time.
    pub(crate) repeated: bool,
}

/// What lives as long as an exchange.
pub(crate) trait Guard: Send + Unpin + 'static {
    /// The other side ended the connection before the exchange was over.
    fn broken(&self);
}

impl Guard for () {
    fn broken(&self) {}
}

/// An exchange without an answer.
pub(crate) struct Failed<G> {
    /// Why.
    pub(crate) error: Error,
    /// The request, when certainly nothing of its last try was acted on: it may be sent elsewhere.
    pub(crate) unsent: Option<Box<Request<Body>>>,
    /// Whether an earlier try may have been acted on.
    pub(crate) repeated: bool,
    /// The guard, back, unless the exchange is over.
    pub(crate) guard: Option<G>,
}

/// Why one try on one connection failed.
struct Broken {
    error: Error,
    unsent: Option<Box<Request<Body>>>,
    /// The connection ended before any answer, and not because the deadline passed.
    dead: bool,
    /// It did not end, but was thrown away by the other side's system.
    reset: bool,
    /// The other side had read the request by then.
    read: bool,
    /// An earlier try may have been acted on.
    repeated: bool,
}

impl Broken {
    fn failed<G: Guard>(self, guard: G) -> Failed<G> {
        if self.dead {
            guard.broken();
        }
        Failed {
            error: self.error,
            unsent: self.unsent,
            repeated: self.repeated,
            guard: Some(guard),
        }
    }
}

impl Upstream {
    /// No connection is made before the first request.
    pub(crate) fn new(origin: Origin, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            origin,
            clock,
            idle: Idle::default(),
        })
    }

    /// Sends a request in origin form and waits for the head of its answer. `guard` lives until the exchange is over.
    ///
    /// When a kept connection turns out to be dead, a request of which nothing was acted on is sent again, once, on a
    /// new one; so is one that can be repeated, unless the other side had read it before it closed the connection.
    pub(crate) async fn send<G: Guard>(
        self: &Arc<Self>,
        mut request: Box<Request<Body>>,
        terms: Terms,
        guard: G,
    ) -> Result<Response<Body>, Failed<G>> {
        head::prepare(&mut request, &self.origin);
        let kept = if terms.repeated {
            None
        } else {
            self.kept(&request)
        };
        // What is rare is boxed: a future is moved into the one that awaits it, with room for all that it may become.
        let exchanged = match kept {
            Some(connection) => self.send_on_kept(connection, request, &terms).await,
            None => Box::pin(self.send_on_new(request, &terms)).await,
        };
        match exchanged {
            Ok((connection, response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let upgraded = reply::upgrade(self, connection, response, terms.deadline, guard);
                Ok(Box::pin(upgraded).await)
            }
            Ok((connection, response)) => {
                let (head, mut reply) = reply::open(self, connection, response, terms, guard);
                let first = poll_fn(|cx| Poll::Ready(reply.step(cx))).await;
                match reply.into_body(first) {
                    Ok(body) => Ok(Response::from_parts(head, body)),
                    Err(error) => Err(Failed {
                        error,
                        unsent: None,
                        repeated: false,
                        guard: None,
                    }),
                }
            }
            Err(broken) => Err(broken.failed(guard)),
        }
    }

    /// Closes connections that nobody used for a while.
    pub(crate) fn prune(&self) {
        self.idle.prune(self.clock.monotonic());
    }

    fn kept(&self, request: &Request<Body>) -> Option<Connection> {
        let patience = idle::patience(head::can_repeat(request));
        self.idle.take(self.clock.monotonic(), patience)
    }

    fn keep(&self, connection: Connection) {
        connection.leave();
        self.idle.put(connection, self.clock.monotonic());
    }

    async fn send_on_kept(
        &self,
        connection: Connection,
        request: Box<Request<Body>>,
        terms: &Terms,
    ) -> Exchanged {
        let copy = head::copy(&request);
        let mut broken = match self.exchange(connection, request, terms).await {
            Err(broken) if broken.dead => broken,
            other => return other,
        };
        let repeated = broken.unsent.is_none();
        // What was read may be what ended it, and would end the next one, too.
        let copy = copy.filter(|_| !broken.read);
        let Some(again) = broken.unsent.take().or(copy) else {
            return Err(broken);
        };
        terms.meter.resend();
        let exchanged = Box::pin(self.send_on_new(again, terms)).await;
        exchanged.map_err(|broken| Broken { repeated, ..broken })
    }

    async fn send_on_new(&self, request: Box<Request<Body>>, terms: &Terms) -> Exchanged {
        let connecting = self.origin.connect(&self.clock);
        let connection = match self.within(terms.deadline, connecting).await {
            Some(Ok(stream)) => Connection::open(stream, &self.clock).await,
            Some(Err(error)) => Err(error),
            None => Err(self.late()),
        };
        match connection {
            Ok(connection) => {
                let copy = head::copy(&request);
                let mut exchanged = self.exchange(connection, request, terms).await;
                if let Err(broken) = &mut exchanged
                    && broken.reset
                {
                    // Nobody read it: an instance that ends resets what still waits to be accepted.
                    broken.unsent = broken.unsent.take().or(copy);
                }
                exchanged
            }
            Err(error) => Err(Broken {
                error,
                unsent: Some(request),
                dead: true,
                reset: true,
                read: false,
                repeated: false,
            }),
        }
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: Box<Request<Body>>,
        terms: &Terms,
    ) -> Exchanged {
        match connection.exchange(request, terms.deadline).await {
            Some(Ok(response)) => Ok((connection, response)),
            Some(Err(mut failed)) => {
                let unsent = failed.take_message().map(Box::new);
                let broken = self.no_answer(failed.error(), unsent);
                let read = connection.was_read();
                Err(Broken { read, ..broken })
            }
            None => Err(Broken {
                error: self.late(),
                unsent: None,
                dead: false,
                reset: false,
                read: false,
                repeated: false,
            }),
        }
    }

    async fn within<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
        let left = deadline.saturating_duration_since(self.clock.monotonic());
        let late = self.clock.sleep(left);
        match select(pin!(work), pin!(late)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    fn late(&self) -> Error {
        Error::new(
            code::WORKLOAD_TIMEOUT,
            format!("{} did not answer in time", self.origin),
        )
    }

    fn no_answer(&self, error: &hyper::Error, unsent: Option<Box<Request<Body>>>) -> Broken {
        if let Some(error) = head::failed_upload(error) {
            return Broken {
                error,
                unsent: None,
                dead: false,
                reset: false,
                read: false,
                repeated: false,
            };
        }
        let (dead, reset) = (!error.is_parse(), head::is_reset(error));
        let what = if error.is_parse_too_large() {
            "answered with a head that is too large"
        } else if error.is_parse() {
            "answered something that is not HTTP/1.1"
        } else {
            "closed the connection before it answered"
        };
        let message = format!("{} {what}", self.origin);
        let error = Error::new(code::UPSTREAM_UNREACHABLE, message).context(origin::chain(error));
        Broken {
            error,
            unsent,
            dead,
            reset,
            read: false,
            repeated: false,
        }
    }
}

type Exchanged = Result<(Connection, Response<hyper::body::Incoming>), Broken>;
