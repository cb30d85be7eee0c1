//! The guard of one invocation: holds its permit, counts what it uses, and records span and usage exactly once,
//! at the end of the body, when the body breaks, or when everything that holds it was dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use model::{Error, Invocation, Outcome, SpanId, Time, TraceContext, Usage, code};
use parking_lot::Mutex;
use runtime::{Body, BodyError, Input, Meter};
use telemetry::{Ended, SpanBuffer};

use super::{
    Dispatch,
    callee::{Callee, Permit},
    is_upgrade,
    metered::{CountedIn, CountedOut},
    spans,
};

/// Keeps the invocation of an upgraded connection open: drop it when the connection has closed.
#[derive(Clone)]
pub struct Held(#[expect(dead_code, reason = "held for its drop")] Arc<Mutex<Tally>>);

/// The guard.
pub(super) struct Tally(Option<Box<Open>>);

/// Where an invocation stands in its trace.
pub(super) struct Spans {
    /// What its own span is below.
    pub(super) parent: TraceContext,
    pub(super) own: SpanId,
    /// Where its span waits for what becomes of the trace; `None`: it is recorded at once.
    pub(super) buffer: Option<Arc<SpanBuffer>>,
}

/// What is known of an invocation.
pub(super) struct Open {
    pub(super) door: Dispatch,
    pub(super) permit: Permit,
    pub(super) invocation: Arc<Invocation>,
    pub(super) spans: Spans,
    pub(super) began: Time,
    began_monotonic: Instant,
    /// What the workload used; `None` as long as nothing ran.
    meter: Option<Arc<Meter>>,
    bytes_in: u64,
    /// What came of a body that comes in pieces.
    streamed_in: Option<Arc<AtomicU64>>,
    bytes_out: u64,
    status: u16,
    upgraded: bool,
}

impl Tally {
    pub(super) fn begin(
        door: &Dispatch,
        permit: Permit,
        invocation: Arc<Invocation>,
        spans: Spans,
    ) -> Self {
        Self(Some(Box::new(Open {
            door: door.clone(),
            permit,
            invocation,
            spans,
            began: door.0.clock.now(),
            began_monotonic: door.0.clock.monotonic(),
            meter: None,
            bytes_in: 0,
            streamed_in: None,
            bytes_out: 0,
            status: 0,
            upgraded: false,
        })))
    }

    pub(super) fn callee(&self) -> &Arc<Callee> {
        self.0
            .as_ref()
            .expect("asked before the end only")
            .permit
            .callee()
    }

    /// Counts what goes in.
    pub(super) fn count_in(&mut self, input: &mut Input) {
        let Some(open) = &mut self.0 else { return };
        match input {
            Input::Http(request) => open.count_body_in(request.body_mut()),
            Input::Payload(bytes) | Input::Stream(bytes) => open.bytes_in += bytes.len() as u64,
            Input::Event(_) | Input::Events(_) => {}
        }
    }

    pub(super) fn measure_with(&mut self, meter: Arc<Meter>) {
        if let Some(open) = &mut self.0 {
            open.meter = Some(meter);
        }
    }

    pub(super) fn count_out(&mut self, bytes: u64) {
        if let Some(open) = &mut self.0 {
            open.bytes_out += bytes;
        }
    }

    /// Ties the rest of the invocation to the response: to its body, or to the upgraded connection.
    pub(super) fn attach(mut self, mut response: http::Response<Body>) -> http::Response<Body> {
        let Some(open) = &mut self.0 else {
            return response;
        };
        open.status = response.status().as_u16();
        if is_upgrade(&response) {
            open.upgraded = true;
            open.permit.upgraded();
            response
                .extensions_mut()
                .insert(Held(Arc::new(Mutex::new(self))));
            return response;
        }
        if http_body::Body::is_end_stream(response.body()) {
            self.complete();
            return response;
        }
        response.map(|inner| Body::stream(CountedOut { inner, tally: self }))
    }

    /// The body has ended as it should.
    pub(super) fn complete(&mut self) {
        if let Some(open) = self.0.take() {
            let outcome = match open.failure() {
                Some(error) => Outcome::Failed(error.clone()),
                None => Outcome::Done {
                    status: open.status,
                },
            };
            open.record(outcome);
        }
    }

    /// The body has ended too early.
    pub(super) fn broken(&mut self, error: &BodyError) {
        let error = match error {
            BodyError::Workload(error) => error.clone(),
            other => {
                Error::new(code::INSTANCE_DIED, "the workload's answer broke off").context(other)
            }
        };
        self.fail(&error);
    }

    /// There is no answer.
    pub(super) fn fail(&mut self, error: &Error) {
        if let Some(open) = self.0.take() {
            open.record(Outcome::Failed(error.clone()));
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            let outcome = match open.failure() {
                Some(error) => Outcome::Failed(error.clone()),
                None if open.upgraded => Outcome::Done {
                    status: open.status,
                },
                None => Outcome::CutOff,
            };
            open.record(outcome);
        }
    }
}

impl Open {
    /// How often the request was sent again, because a connection had died before anyone acted on it.
    pub(super) fn resent(&self) -> u32 {
        self.meter.as_ref().map_or(0, |meter| meter.resent())
    }

    fn failure(&self) -> Option<&Error> {
        self.meter.as_ref()?.failure()
    }

    fn count_body_in(&mut self, body: &mut Body) {
        match body {
            Body::Empty | Body::Full(None) => {}
            Body::Full(Some(bytes)) => self.bytes_in += bytes.len() as u64,
            Body::Incoming(_) | Body::Stream(_) => {
                let bytes = Arc::clone(self.streamed_in.get_or_insert_default());
                let inner = std::mem::take(body);
                *body = Body::stream(CountedIn { inner, bytes });
            }
        }
    }

    /// It has ended: its usage counts, its place is free, and its span is recorded or waits for its root.
    fn record(mut self: Box<Self>, outcome: Outcome) {
        let usage = self.usage();
        // Whoever went away is no failure of the workload.
        let ok = matches!(outcome, Outcome::CutOff) || !spans::is_error(&outcome);
        let telemetry = &self.door.0.telemetry;
        let callee = self.permit.callee();
        telemetry.usage(callee.usage_key(&self.invocation.trigger), &usage, ok);
        match self.spans.buffer.take() {
            None => spans::record(&self, &usage, &outcome),
            Some(buffer) => {
                self.permit.release();
                let open = self;
                buffer.take(Box::new(Closed {
                    open,
                    usage,
                    outcome,
                }));
            }
        }
    }

    fn usage(&self) -> Usage {
        let meter = self.meter.as_deref();
        let streamed_in = self.streamed_in.as_ref();
        let streamed_in = streamed_in.map_or(0, |bytes| bytes.load(Ordering::Relaxed));
        Usage {
            wall: self
                .door
                .0
                .clock
                .monotonic()
                .saturating_duration_since(self.began_monotonic),
            cpu: meter.map_or(Duration::ZERO, Meter::cpu),
            memory: meter.map_or(0, Meter::memory),
            bytes_in: self.bytes_in + streamed_in,
            bytes_out: self.bytes_out,
            cold_start: meter.and_then(Meter::cold),
        }
    }
}

/// An invocation that has ended and waits for what becomes of its trace.
struct Closed {
    open: Box<Open>,
    usage: Usage,
    outcome: Outcome,
}

impl Ended for Closed {
    fn failed(&self) -> bool {
        spans::is_error(&self.outcome)
    }

    fn record(self: Box<Self>) {
        spans::record(&self.open, &self.usage, &self.outcome);
    }
}
