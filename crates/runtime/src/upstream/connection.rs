//! One connection and what drives it, polled by whoever uses it.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Instant,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use model::{Clock, Error, code};

use super::{
    alarm::Alarm,
    bell::Bell,
    origin::chain,
    stream::{Shared, Stream, UNLIMITED},
};
use crate::body::Body;

/// The most that is buffered of a response before its reader takes it, in bytes.
const BUFFER: usize = 64 << 10;

/// The most bytes that are read until the head of an answer is whole: interim answers, the head, and what of its body comes
/// with it.
const BEFORE_THE_HEAD: usize = 4 * BUFFER;

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection, driven only while it is polled.
pub(super) struct Connection {
    /// `None` once it has ended; dropping it hands a request back that was not yet written.
    driver: Option<Driver>,
    sender: SendRequest<Body>,
    shared: Arc<Shared>,
    alarm: Alarm,
    bell: Arc<Bell>,
    /// The same, for the driver.
    waker: Waker,
}

impl Connection {
    /// Speaks HTTP/1.1 on a stream; sends nothing yet. An answer may have 100 headers: hyper has room for these, and would
    /// have to allocate for each answer where it is told another number.
    pub(super) async fn open(stream: Stream, clock: &Clock) -> Result<Self, Error> {
        let shared = stream.shared();
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| {
                Error::new(code::UPSTREAM_UNREACHABLE, "the connection failed").context(chain(&e))
            })?;
        let bell = Arc::new(Bell::default());
        Ok(Self {
            driver: Some(Box::pin(driver.with_upgrades())),
            sender,
            shared,
            alarm: Alarm::new(clock.clone()),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        })
    }

    /// Reads and writes what is possible now, and wakes the caller's task when more is.
    pub(super) fn drive(&mut self, cx: &Context<'_>) {
        self.bell.ring_for(cx.waker());
        if let Some(driver) = &mut self.driver
            && driver
                .as_mut()
                .poll(&mut Context::from_waker(&self.waker))
                .is_ready()
        {
            self.driver = None;
        }
    }

    /// Wakes nobody until it is driven again, which the caller does before it waits.
    pub(super) fn mute(&self) {
        self.bell.mute();
    }

    /// Forgets its user.
    pub(super) fn leave(&self) {
        self.bell.leave();
    }

    /// Whether the other side waits for an acknowledgement before it sends the rest.
    pub(super) fn hurry(&self, hurry: bool) {
        self.shared.hurry.store(hurry, Relaxed);
    }

    /// Whether the other side read the last request before it closed the connection.
    pub(super) fn was_read(&self) -> bool {
        self.shared.was_read.load(Relaxed)
    }

    /// Whether the last exchange is over on both sides and the next may begin.
    pub(super) fn is_reusable(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer, `None` when that has not come by `due`. Cancelling it closes
    /// the connection.
    pub(super) async fn exchange(
        &mut self,
        request: Box<Request<Body>>,
        due: Instant,
    ) -> Option<Result<Response<Incoming>, TrySendError<Request<Body>>>> {
        self.shared.patience.store(BEFORE_THE_HEAD, Relaxed);
        self.mute();
        let mut answer = pin!(self.sender.try_send_request(*request));
        let answered = poll_fn(|cx| {
            self.drive(cx);
            // Nobody but the driver brings it.
            match answer
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
            {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                Poll::Pending => self.alarm.poll(due, cx).map(|()| None),
            }
        })
        .await;
        self.shared.patience.store(UNLIMITED, Relaxed);
        answered
    }

    /// After a 101: lets go of the stream, which keeps `guard` until it is closed.
    pub(super) async fn release(mut self, guard: impl Send + 'static) {
        *self.shared.held.lock() = Some(Box::new(guard));
        poll_fn(|cx| {
            self.drive(cx);
            if self.driver.is_none() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
