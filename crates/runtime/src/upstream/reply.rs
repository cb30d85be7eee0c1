//! The body of an answer: polling it polls its connection, and its end hands the connection back.
//!
//! The guard of the exchange lives exactly as long as the exchange: to the end of the body, to its drop, or to the
//! end of the upgraded connection.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, response::Parts};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use model::{Error, code};
use parking_lot::Mutex;

use super::{Guard, Terms, Upstream, connection::Connection, head};
use crate::{
    body::{Body, BodyError},
    call::Upgrade,
};

/// A body that is still on its way.
pub(super) struct Reply<G> {
    incoming: Incoming,
    /// What came with the head.
    first: Option<Frame<Bytes>>,
    exchange: Option<Exchange<G>>,
    upstream: Arc<Upstream>,
    terms: Terms,
    /// How long nothing may come. `None`: an event stream, which like a WebSocket says something when there is
    /// something to say, for as long as both sides keep the connection.
    patience: Option<Duration>,
    silence: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Whether anything came since the timer of `silence` was set. Setting it anew for every frame would cost more
    /// than the frame: so a silence is noticed after once to twice its limit.
    heard: bool,
}

/// What ends with the body.
struct Exchange<G> {
    connection: Connection,
    guard: G,
}

const BROKE_OFF: &str = "broke its answer off, or sent one that is not HTTP/1.1";

pub(super) type Polled = Option<Result<Frame<Bytes>, BodyError>>;

/// The head of an answer as the platform has it, and its body, of which what came with the head may be taken at once.
pub(super) fn open<G: Guard>(
    upstream: &Arc<Upstream>,
    connection: Connection,
    mut response: Response<Incoming>,
    terms: Terms,
    guard: G,
) -> (Parts, Reply<G>) {
    head::strip(&mut response);
    connection.hurry(true);
    let patience = (!head::is_event_stream(response.headers())).then_some(terms.body_idle);
    let (head, incoming) = response.into_parts();
    let reply = Reply {
        incoming,
        first: None,
        exchange: Some(Exchange { connection, guard }),
        upstream: Arc::clone(upstream),
        terms,
        patience,
        silence: None,
        heard: false,
    };
    (head, reply)
}

/// The response to a request that switches protocols.
pub(super) async fn upgrade(
    upstream: &Upstream,
    connection: Connection,
    mut response: Response<Incoming>,
    deadline: std::time::Instant,
    guard: impl Send + 'static,
) -> Response<Body> {
    head::strip(&mut response);
    let upgraded = hyper::upgrade::on(&mut response);
    // Where the client is still sending a body, this waits for it; if for too long, `upgraded` fails.
    let released = connection.release(guard);
    upstream.within(deadline, released).await;
    let mut response = response.map(|_| Body::Empty);
    let upgraded = Upgrade(Arc::new(Mutex::new(Some(upgraded))));
    response.extensions_mut().insert(upgraded);
    response
}

impl<G: Guard> Reply<G> {
    /// The rest of the body after `first`.
    ///
    /// # Errors
    /// It broke off before it began: the caller can still be told so.
    pub(super) fn into_body(mut self, first: Poll<Polled>) -> Result<Body, Error> {
        Ok(match first {
            Poll::Ready(None) => Body::Empty,
            Poll::Ready(Some(Err(_))) => return Err(self.error(BROKE_OFF)),
            Poll::Ready(Some(Ok(frame))) if self.exchange.is_none() && frame.is_data() => {
                frame.into_data().map_or(Body::Empty, Body::full)
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.first = Some(frame);
                Body::stream(self)
            }
            Poll::Pending => Body::stream(self),
        })
    }

    /// What there is now. Once it has ended or failed, the exchange is over.
    pub(super) fn step(&mut self, cx: &Context<'_>) -> Poll<Polled> {
        if let Some(exchange) = &self.exchange {
            exchange.connection.mute();
        }
        let mut polled = self.next();
        if polled.is_pending()
            && let Some(exchange) = &mut self.exchange
        {
            exchange.connection.drive(cx);
            polled = self.next();
        }
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Err(error))) => {
                if let Some(exchange) = self.exchange.take() {
                    exchange.guard.broken();
                }
                self.terms.meter.fail(self.error(BROKE_OFF));
                Poll::Ready(Some(Err(BodyError::Connection(error))))
            }
            Poll::Ready(None) => {
                self.finish(cx);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.heard = true;
                // Who knows the length stops asking after the last byte: then this is the end.
                if self.incoming.is_end_stream() {
                    self.finish(cx);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    /// What the connection has read. Only driving it brings more, so that is all there is to wait for.
    fn next(&mut self) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.incoming).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    /// Keeps the connection when both sides are done with it.
    fn finish(&mut self, cx: &Context<'_>) {
        let Some(exchange) = self.exchange.take() else {
            return;
        };
        // The guard goes last: whoever it makes room for finds the connection kept.
        let (mut connection, _guard) = (exchange.connection, exchange.guard);
        connection.hurry(false);
        connection.drive(cx);
        if connection.is_reusable() {
            self.upstream.keep(connection);
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.patience else {
            return Poll::Pending;
        };
        loop {
            let clock = &self.upstream.clock;
            let silence = self.silence.get_or_insert_with(|| {
                self.heard = false;
                let clock = clock.clone();
                Box::pin(async move { clock.sleep(limit).await })
            });
            std::task::ready!(silence.as_mut().poll(cx));
            self.silence = None;
            if !self.heard {
                return Poll::Ready(());
            }
        }
    }

    fn error(&self, what: &str) -> Error {
        let message = format!("{} {what}", self.upstream.origin);
        Error::new(code::UPSTREAM_UNREACHABLE, message)
    }
}

impl<G: Guard> http_body::Body for Reply<G> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if let Poll::Ready(polled) = this.step(cx) {
            return Poll::Ready(polled);
        }
        if this.poll_silence(cx).is_pending() {
            return Poll::Pending;
        }
        this.exchange = None;
        let message = format!(
            "{} was silent for too long in mid-body",
            this.upstream.origin
        );
        let error = Error::new(code::WORKLOAD_TIMEOUT, message);
        this.terms.meter.fail(error);
        Poll::Ready(Some(Err(BodyError::Idle)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.first {
            None => self.incoming.size_hint(),
            Some(frame) => {
                let taken = frame.data_ref().map_or(0, |data| data.len() as u64);
                let rest = self.incoming.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower() + taken);
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper + taken);
                }
                hint
            }
        }
    }
}
