//! The body of an answer on its way to a client: passes frames through, less the trailers that do not leave, and keeps what must live until
//! the last byte. How long a workload may be silent is its pool's business.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use platform::{Body, BodyError};

use crate::{headers, server::Busy, trail::Trail};

/// The body of an answer.
pub(crate) struct Answer {
    inner: Body,
    trail: Option<Box<Trail>>,
    busy: Option<Busy>,
}

impl Answer {
    /// The answer `inner`.
    pub(crate) const fn new(inner: Body) -> Self {
        Self {
            inner,
            trail: None,
            busy: None,
        }
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

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            headers::leave_trailers(trailers);
        }
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
