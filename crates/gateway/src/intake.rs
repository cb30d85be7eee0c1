//! The body of a request on its way in: limited in size and silence, and remembering what went wrong with it, so that
//! the client hears about its own mistake and not about the workload's reaction to it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use model::{ByteSize, Error, code};
use platform::{Body, BodyError};
use tokio::time::{Instant, Sleep, sleep};

/// What went wrong with a request's body, if anything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fault(Option<Arc<AtomicU8>>);

const TOO_LARGE: u8 = 1;
const IDLE: u8 = 2;
const BROKEN: u8 = 3;

impl Fault {
    /// What to tell the client about its body, if that is why there is no answer.
    pub(crate) fn error(&self, limit: ByteSize) -> Option<Error> {
        match self.0.as_ref()?.load(Relaxed) {
            TOO_LARGE => Some(too_large(limit)),
            IDLE => Some(too_slow()),
            BROKEN => Some(broken()),
            _ => None,
        }
    }
}

/// The body as workloads get it.
///
/// # Errors
/// `BODY_TOO_LARGE` when its announced length is over `limit`: then nothing of it is read.
pub(crate) fn take(
    body: Incoming,
    limit: ByteSize,
    idle: Duration,
) -> Result<(Body, Fault), Error> {
    if body.is_end_stream() {
        return Ok((Body::Empty, Fault::default()));
    }
    if body.size_hint().lower() > limit.0 {
        return Err(too_large(limit));
    }
    let fault = Arc::new(AtomicU8::new(0));
    let silence = Silence::at_most(idle);
    let intake = Intake {
        inner: body,
        left: limit.0,
        limit,
        silence,
        fault: Arc::clone(&fault),
    };
    Ok((Body::stream(intake), Fault(Some(fault))))
}

/// The client did not send its body in time.
pub(crate) fn too_slow() -> Error {
    Error::new(
        code::REQUEST_TIMEOUT,
        "the request's body did not come in time",
    )
}

/// It ended before its end, or two servers could disagree about where that is.
fn broken() -> Error {
    Error::new(
        code::BAD_REQUEST,
        "the request's body ended early, or where it ends could be read in two ways",
    )
}

fn too_large(limit: ByteSize) -> Error {
    Error::new(
        code::BODY_TOO_LARGE,
        format!("the request's body is larger than {limit}, which is the limit here"),
    )
}

/// How long nothing may come; the timer exists only once nothing came.
struct Silence {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    /// At most `limit` without a frame.
    const fn at_most(limit: Duration) -> Self {
        Self { limit, timer: None }
    }

    /// Passes `polled` on, or says that the silence is over its limit.
    fn watch<T>(&mut self, polled: Poll<T>, cx: &mut Context<'_>) -> Poll<Result<T, BodyError>> {
        if let Poll::Ready(value) = polled {
            if let Some(timer) = &mut self.timer {
                timer.as_mut().reset(Instant::now() + self.limit);
            }
            return Poll::Ready(Ok(value));
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(quiet(self.limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(BodyError::Idle))
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a timeout around real I/O, which no virtual clock should skip"
)]
fn quiet(limit: Duration) -> Sleep {
    sleep(limit)
}

struct Intake {
    inner: Incoming,
    left: u64,
    limit: ByteSize,
    silence: Silence,
    fault: Arc<AtomicU8>,
}

impl Intake {
    fn fail(&self, fault: u8, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.fault.store(fault, Relaxed);
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for Intake {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        let frame = match ready!(this.silence.watch(polled, cx)) {
            Ok(frame) => frame,
            Err(error) => return this.fail(IDLE, error),
        };
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(Err(error)) => return this.fail(BROKEN, BodyError::Connection(error)),
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        match this.left.checked_sub(bytes) {
            Some(left) => this.left = left,
            None => return this.fail(TOO_LARGE, BodyError::TooLarge(this.limit)),
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
