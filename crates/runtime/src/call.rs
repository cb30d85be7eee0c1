//! What goes into a workload and what comes out of it.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use model::{ColdStart, Error, Event};

use crate::body::Body;

/// What an invocation hands to a workload. Each runtime turns it into what its workloads understand.
pub enum Input {
    /// An HTTP request, its URI in origin form, hop-by-hop headers already gone. In a box, because every future that it
    /// passes through has room for it twice, and is moved with that room into the one that awaits it.
    Http(Box<http::Request<Body>>),
    /// One event: a CloudEvent in binary mode for HTTP workloads, EventBridge's envelope for Lambda handlers.
    Event(Arc<Event>),
    /// Several events at once: a CloudEvents batch for HTTP workloads, a list of EventBridge's envelopes for Lambda handlers.
    Events(Vec<Arc<Event>>),
    /// Plain JSON: a POST for HTTP workloads, the payload itself for Lambda handlers.
    Payload(Bytes),
    /// The same for somebody who takes the reply piece by piece, as it is made. Its last frame may be trailers with
    /// [`LOG_TAIL`].
    Stream(Bytes),
}

impl Input {
    /// An HTTP request.
    #[must_use]
    pub fn http(request: http::Request<Body>) -> Self {
        Self::Http(Box::new(request))
    }
}

/// The trailer of a streamed reply with the end of the log, in base64.
pub const LOG_TAIL: http::HeaderName = http::HeaderName::from_static("x-amz-log-result");

/// An invocation under way: the head is there, the body may still be made.
///
/// The body keeps what serves it alive: dropping the body cuts the work off. `meter` is final when the body
/// has ended or was dropped.
pub struct Ran {
    /// The workload's answer, or why there is none. The extensions of the head may hold [`FunctionError`],
    /// [`LogTail`] and [`Upgrade`].
    pub response: Result<http::Response<Body>, Error>,
    /// What is used, while it is being used.
    pub meter: Arc<Meter>,
}

impl Ran {
    /// An invocation that failed before there was a head.
    #[must_use]
    pub fn failed(error: Error, meter: Arc<Meter>) -> Self {
        Self {
            response: Err(error),
            meter,
        }
    }
}

/// In a response's extensions: the handler raised an error; the body is AWS's error object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError(pub &'static str);

/// In the extensions of a response: the handler returned no HTTP reply, and 200 was made of what it returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inferred;

/// In a response's extensions: the last 4 KiB of what the handler logged during this invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTail(pub Bytes);

/// In a 101 response's extensions: the workload's side of the upgraded connection, to be joined with the client's.
#[derive(Clone)]
pub struct Upgrade(pub Arc<parking_lot::Mutex<Option<hyper::upgrade::OnUpgrade>>>);

/// What one invocation uses, counted while it runs. Cheap to read at any time.
#[derive(Debug, Default)]
pub struct Meter {
    cpu_nanos: AtomicU64,
    memory: AtomicU64,
    resent: AtomicU32,
    cold_start: OnceLock<ColdStart>,
    failure: OnceLock<Error>,
}

impl Meter {
    /// Adds CPU time.
    pub fn add_cpu(&self, cpu: Duration) {
        self.cpu_nanos
            .fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Raises the peak of memory, in bytes.
    pub fn peak_memory(&self, bytes: u64) {
        self.memory.fetch_max(bytes, Relaxed);
    }

    /// Says that this invocation waited for an instance; only the first call counts.
    pub fn cold_start(&self, phases: ColdStart) {
        let _ = self.cold_start.set(phases);
    }

    /// Says that the request was sent again, because a connection died before anyone had acted on it.
    pub fn resend(&self) {
        self.resent.fetch_add(1, Relaxed);
    }

    /// How often the request was sent again.
    #[must_use]
    pub fn resent(&self) -> u32 {
        self.resent.load(Relaxed)
    }

    /// Says that the workload failed, possibly after its head was sent; only the first call counts.
    pub fn fail(&self, error: Error) {
        let _ = self.failure.set(error);
    }

    /// CPU time so far.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanos.load(Relaxed))
    }

    /// Peak memory so far, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory.load(Relaxed)
    }

    /// The cold start, if there was one.
    #[must_use]
    pub fn cold(&self) -> Option<ColdStart> {
        self.cold_start.get().copied()
    }

    /// The failure, if there was one.
    #[must_use]
    pub fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }
}
