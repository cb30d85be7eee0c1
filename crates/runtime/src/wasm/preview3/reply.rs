//! The response of a guest of WASI 0.3: its head, and a body that ends when the guest has.
//!
//! The body's last bytes wait for the verdict, where a length was announced; else its end does. So a failure is never
//! after the end, and what a guest does is billed. A guest that shares its instance has ended when its body has.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Response, StatusCode, header::CONTENT_LENGTH};
use http_body::{Frame, SizeHint};
use model::Error;
use wasmtime_wasi_http::WasiBody;

use super::session::{Head, Session};
use crate::{
    body::{Body, BodyError},
    wasm::fault,
};

/// Makes the response of what the guest returned.
pub(super) fn reply(head: Head, session: Session) -> Result<Response<Body>, Error> {
    let (parts, body) = head
        .map_err(|e| fault::refused(&e, &session.run))?
        .into_parts();
    if parts.status.is_informational() {
        return Err(fault::unsendable(
            &session.run,
            "answered with an informational status, which is no answer",
        ));
    }
    let announced = parts.headers.get(CONTENT_LENGTH);
    let announced: Option<u64> = announced.and_then(|v| v.to_str().ok()?.parse().ok());
    // What these announce is the length that another answer would have (RFC 9110 §8.6).
    let bodiless = session.run.is_head || parts.status == StatusCode::NOT_MODIFIED;
    let body = Body::stream(Reply {
        body: Some(body),
        left: announced.filter(|_| !bodiless),
        held: VecDeque::new(),
        session,
    });
    Ok(Response::from_parts(parts, body))
}

/// The body of a guest that still works. Dropping it leaves the guest.
struct Reply {
    /// `None` when it was read to its end.
    body: Option<WasiBody>,
    /// Bytes still to come of the announced length.
    left: Option<u64>,
    /// What goes out when the guest has ended: the last bytes of the announced length, and trailers.
    held: VecDeque<Frame<Bytes>>,
    session: Session,
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if let Poll::Ready(Err(error)) = this.session.poll(cx) {
                return Poll::Ready(Some(Err(BodyError::Workload(error))));
            }
            let Some(body) = &mut this.body else {
                if this.session.is_over() {
                    return Poll::Ready(this.held.pop_front().map(Ok));
                }
                return Poll::Pending;
            };
            if this.session.is_over() {
                return Poll::Ready(Some(Err(this.abandoned())));
            }
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                // Of a body that is too short, wasmtime may lose the error.
                Poll::Ready(None) if this.left.is_some_and(|left| left > 0) => {
                    let why = "announced a length that its body does not have";
                    return Poll::Ready(Some(Err(this.fails(why))));
                }
                Poll::Ready(None) => {
                    this.body = None;
                    this.session.has_read();
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(this.abandoned()))),
                Poll::Ready(Some(Ok(frame))) => {
                    if !this.completes(&frame) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    this.held.push_back(frame);
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.iter().filter_map(Frame::data_ref);
        let held: usize = held.map(Bytes::len).sum();
        self.left.map_or_else(SizeHint::default, |left| {
            SizeHint::with_exact(left + held as u64)
        })
    }
}

impl Reply {
    /// Counts `frame`, and says whether it is the last of the announced length, or comes after all bytes.
    fn completes(&mut self, frame: &Frame<Bytes>) -> bool {
        let Some(data) = frame.data_ref() else {
            return true;
        };
        let Some(left) = &mut self.left else {
            return false;
        };
        *left = left.saturating_sub(data.len() as u64);
        *left == 0
    }

    fn abandoned(&self) -> BodyError {
        self.fails("abandoned the body of its response")
    }

    fn fails(&self, why: &str) -> BodyError {
        let run = &self.session.run;
        let error = match run.request_failed.get() {
            Some(failed) => failed.clone(),
            None => fault::unsendable(run, why),
        };
        run.meter.fail(error.clone());
        BodyError::Workload(error)
    }
}
