//! The way of a guest's response: its head, and a body that keeps the guest working while it is read.
//!
//! A response is complete when its guest has returned: the end of the body, or its last byte where a length was
//! announced, waits for that. So nothing that a guest does is lost or unbilled, and a trap is never after the end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode, header::CONTENT_LENGTH};
use http_body::{Frame, SizeHint};
use model::Error;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::{
    fault,
    run::{Head, Run, Running},
};
use crate::body::{Body, BodyError};

/// Makes the response of what the guest set.
pub(super) fn response(head: Head, running: Running) -> Result<Response<Body>, Error> {
    let run = Arc::clone(&running.run);
    let response = head.map_err(|e| fault::refused(&e, &run))?;
    let (parts, body) = response.into_parts();
    if parts.status.is_informational() {
        return Err(fault::unsendable(
            &run,
            "answered with an informational status, which is no answer",
        ));
    }
    let announced = parts.headers.get(CONTENT_LENGTH);
    let announced: Option<u64> = announced.and_then(|v| v.to_str().ok()?.parse().ok());
    // What these announce is the length that another answer would have (RFC 9110 §8.6).
    let bodiless = run.is_head || parts.status == StatusCode::NOT_MODIFIED;
    let body = if running.is_over() {
        let body = settled(body, &run)?;
        let sent = http_body::Body::size_hint(&body).exact();
        if !bodiless && announced.zip(sent).is_some_and(|(a, b)| a != b) {
            return Err(fault::unsendable(
                &run,
                "announced a length that its body does not have",
            ));
        }
        body
    } else {
        Body::stream(GuestBody {
            body,
            left: announced,
            held: None,
            running,
        })
    };
    Ok(Response::from_parts(parts, body))
}

/// The body of a guest that has ended: all of it is there, at most a few chunks.
fn settled(mut body: HyperOutgoingBody, run: &Arc<Run>) -> Result<Body, Error> {
    let mut all = Chunks::default();
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match next_frame(&mut body, &mut cx) {
            Poll::Ready(None) => return Ok(Body::full(all.joined())),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => all.push(data),
                Err(trailers) => return Ok(rest(all, Some(trailers), body, run)),
            },
            Poll::Ready(Some(Err(_))) => return Err(abandoned(run)),
            // The task has used up its turn with Tokio; the rest comes when it is asked again.
            Poll::Pending => return Ok(rest(all, None, body, run)),
        }
    }
}

fn rest(all: Chunks, frame: Option<Frame<Bytes>>, body: HyperOutgoingBody, run: &Arc<Run>) -> Body {
    let first = all.joined();
    let first = (!first.is_empty()).then(|| Frame::data(first));
    let run = Arc::clone(run);
    let ready = first.into_iter().chain(frame).collect();
    Body::stream(Rest { ready, body, run })
}

fn abandoned(run: &Run) -> Error {
    fault::unsendable(run, "abandoned the body of its response")
}

fn next_frame(
    body: &mut HyperOutgoingBody,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, wasmtime_wasi_http::Error>>> {
    http_body::Body::poll_frame(Pin::new(body), cx)
}

/// Chunks that are copied together only when there are several.
#[derive(Default)]
struct Chunks {
    first: Bytes,
    more: BytesMut,
}

impl Chunks {
    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() {
            self.first = data;
        } else {
            self.more.extend_from_slice(&data);
        }
    }

    fn joined(self) -> Bytes {
        if self.more.is_empty() {
            return self.first;
        }
        let mut all = BytesMut::with_capacity(self.first.len() + self.more.len());
        all.extend_from_slice(&self.first);
        all.extend_from_slice(&self.more);
        all.freeze()
    }
}

/// What is left of a body whose guest has ended.
struct Rest {
    ready: std::collections::VecDeque<Frame<Bytes>>,
    body: HyperOutgoingBody,
    run: Arc<Run>,
}

impl http_body::Body for Rest {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(frame) = this.ready.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        next_frame(&mut this.body, cx).map_err(|_| fail(&this.run))
    }
}

/// The body of a guest that still works. Dropping it cuts the guest off.
struct GuestBody {
    body: HyperOutgoingBody,
    /// Bytes still to come of the announced length.
    left: Option<u64>,
    /// The last bytes of the announced length, kept until the guest has ended.
    held: Option<Frame<Bytes>>,
    running: Running,
}

impl http_body::Body for GuestBody {
    type Data = Bytes;
    type Error = BodyError;

    /// The guest first: so it stays one chunk ahead, and has usually ended when its last chunk is taken.
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if let Poll::Ready(Err(error)) = this.running.poll(cx) {
                return Poll::Ready(Some(Err(BodyError::Workload(error))));
            }
            if this.held.is_some() {
                return this.when_over(|this| this.held.take().map(Ok));
            }
            return match next_frame(&mut this.body, cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(None) => this.when_over(|_| None),
                Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(fail(&this.running.run)))),
                Poll::Ready(Some(Ok(frame))) => {
                    if this.completes(&frame) && !this.running.is_over() {
                        this.held = Some(frame);
                        // There is room for the guest again: it may be able to end now.
                        continue;
                    }
                    Poll::Ready(Some(Ok(frame)))
                }
            };
        }
    }

    fn size_hint(&self) -> SizeHint {
        let held = self
            .held
            .as_ref()
            .and_then(Frame::data_ref)
            .map_or(0, Bytes::len);
        self.left.map_or_else(SizeHint::default, |left| {
            SizeHint::with_exact(left + held as u64)
        })
    }
}

impl GuestBody {
    fn when_over<T>(&mut self, then: impl FnOnce(&mut Self) -> T) -> Poll<T> {
        if self.running.is_over() {
            Poll::Ready(then(self))
        } else {
            Poll::Pending
        }
    }

    /// Counts `frame`, and says whether it is the last of the announced length.
    fn completes(&mut self, frame: &Frame<Bytes>) -> bool {
        let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) else {
            return false;
        };
        *left = left.saturating_sub(data.len() as u64);
        *left == 0
    }
}

fn fail(run: &Run) -> BodyError {
    let error = abandoned(run);
    run.meter.fail(error.clone());
    BodyError::Workload(error)
}
