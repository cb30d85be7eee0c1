//! The body of an answer on its way to a client: passes frames through as they are, gives up on a workload that falls
//! silent, and keeps what must live until the last byte.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use platform::{Body, BodyError};
use tokio::time::{Instant, Sleep, sleep};

use crate::{server::Busy, trail::Trail};

/// The body of an answer.
pub(crate) struct Answer {
    inner: Body,
    silence: Option<Silence>,
    trail: Option<Box<Trail>>,
    busy: Option<Busy>,
}

/// How long nothing may come; the timer exists only once nothing came.
pub(crate) struct Silence {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    /// At most `limit` without a frame.
    pub(crate) const fn at_most(limit: Duration) -> Self {
        Self { limit, timer: None }
    }

    /// Passes `polled` on, or says that the silence is over its limit.
    pub(crate) fn watch<T>(&mut self, polled: Poll<T>, cx: &mut Context<'_>) -> Poll<Result<T, BodyError>> {
        if let Poll::Ready(value) = polled {
            if let Some(timer) = &mut self.timer {
                timer.as_mut().reset(Instant::now() + self.limit);
            }
            return Poll::Ready(Ok(value));
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(quiet(self.limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(BodyError::Idle))
    }
}

#[allow(clippy::disallowed_methods, reason = "a timeout around real I/O, which no virtual clock should skip")]
fn quiet(limit: Duration) -> Sleep {
    sleep(limit)
}

impl Answer {
    /// The answer `inner`.
    pub(crate) const fn new(inner: Body) -> Self {
        Self { inner, silence: None, trail: None, busy: None }
    }

    /// The same, given up when the workload is silent for `limit`.
    pub(crate) fn silent_at_most(mut self, limit: Duration) -> Self {
        self.silence = Some(Silence::at_most(limit));
        self
    }

    /// The same, recorded by `trail` at its end.
    pub(crate) fn recorded(mut self, trail: Box<Trail>) -> Self {
        self.trail = Some(trail);
        self
    }

    /// The same, keeping its connection busy until its end.
    pub(crate) fn on_wire(mut self, busy: Busy) -> Self {
        self.busy = Some(busy);
        if http_body::Body::is_end_stream(&self.inner) {
            self.finish(None);
        }
        self
    }

    fn finish(&mut self, error: Option<&BodyError>) {
        if let Some(trail) = self.trail.take() {
            match error {
                None => trail.end(),
                Some(error) => trail.broken(error),
            }
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        let frame = match &mut this.silence {
            None => ready!(polled),
            Some(silence) => ready!(silence.watch(polled, cx)).unwrap_or_else(|error| Some(Err(error))),
        };
        match &frame {
            None => this.finish(None),
            Some(Err(error)) => this.finish(Some(error)),
            // A server that saw the end of the stream polls no further.
            Some(Ok(_)) if this.inner.is_end_stream() => this.finish(None),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
