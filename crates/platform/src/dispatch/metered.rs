//! Bodies that count what passes: in to a workload, and out of it until the invocation's end.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use runtime::{Body, BodyError};

use super::tally::Tally;

/// A request body that counts its bytes.
pub(super) struct CountedIn {
    pub(super) inner: Body,
    pub(super) bytes: Arc<AtomicU64>,
}

impl http_body::Body for CountedIn {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            this.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response body that ends its invocation when it ends or is dropped.
pub(super) struct CountedOut {
    pub(super) inner: Body,
    pub(super) tally: Tally,
}

impl http_body::Body for CountedOut {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => this.tally.complete(),
            Poll::Ready(Some(Err(error))) => this.tally.broken(error),
            Poll::Ready(Some(Ok(frame))) => {
                this.tally
                    .count_out(frame.data_ref().map_or(0, Bytes::len) as u64);
                // A server that saw the end of the stream polls no further.
                if this.inner.is_end_stream() {
                    this.tally.complete();
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
