//! The one door. Every invocation, whatever triggered it, goes through `admit` and then `invoke`.
//!
//! `admit` decides: limits, bulkhead, whether the workload still takes work. Refused means that nothing ran and that
//! no attempt is counted. `invoke` runs, and one guard ([`tally::Tally`]) records span and usage and frees the permit
//! when the body has ended, was dropped, or the upgraded connection was closed.
//! This module imports no other module of `platform`.

mod backend;
mod buffers;
mod callee;
mod instances;
mod metered;
mod queue;
mod spans;
mod tally;
mod total;

use std::{sync::Arc, time::Duration};

pub use backend::Backend;
pub use buffers::Buffers;
pub(crate) use buffers::Charge;
use buffers::Price;
pub use callee::{Callee, Permit};
use model::{Class, Clock, Error, Ids, Invocation, Limits, Run, Target, Workload, code};
use runtime::{Body, Input, Upgrade};
pub use tally::Held;
use tally::{Spans, Tally};
use telemetry::{Full, SpanBuffer, Telemetry};
use total::{Rank, Total};

/// Why an invocation was not admitted: nothing ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub Error);

impl Refused {
    /// When to ask again.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.0.retry_after.unwrap_or(Duration::from_secs(1))
    }
}

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Dispatch(Arc<Door>);

struct Door {
    clock: Clock,
    ids: Ids,
    telemetry: Telemetry,
    buffers: Buffers,
    total: Arc<Total>,
    depth: u8,
}

impl Dispatch {
    /// A door that records to `telemetry`, whose workloads' whole bodies share `buffers`, and that lets as many
    /// invocations in at the same time, and chains of them be as deep, as `limits` say.
    #[must_use]
    pub fn new(
        clock: Clock,
        ids: Ids,
        telemetry: Telemetry,
        buffers: Buffers,
        limits: &Limits,
    ) -> Self {
        Self(Arc::new(Door {
            clock,
            ids,
            telemetry,
            buffers,
            total: Arc::new(Total::new(limits.requests)),
            depth: limits.chain_depth,
        }))
    }

    /// What holds bodies that must be whole.
    #[must_use]
    pub fn buffers(&self) -> &Buffers {
        &self.0.buffers
    }

    /// Asks for one invocation of `callee`.
    ///
    /// # Errors
    /// [`Refused`] says why not now, and when to ask again.
    pub fn admit(&self, callee: &Arc<Callee>, class: Class) -> Result<Permit, Refused> {
        self.admit_as(callee, class, Rank::of(class))
    }

    /// The same for what an admitted invocation asks for: refusing that would waste what it has done already, so some
    /// places are kept for it.
    ///
    /// # Errors
    /// As [`Dispatch::admit`].
    pub fn admit_within(&self, callee: &Arc<Callee>, class: Class) -> Result<Permit, Refused> {
        self.admit_as(callee, class, Rank::Within)
    }

    fn admit_as(&self, callee: &Arc<Callee>, class: Class, rank: Rank) -> Result<Permit, Refused> {
        let admitted = match Total::take(&self.0.total, rank) {
            Ok(place) => Callee::admit(callee, class, place),
            Err(full) => Err(full),
        };
        admitted.map_err(|error| {
            // Whoever takes work from a queue asks again: what it asks for is not lost.
            if class == Class::Interactive {
                self.count_refused(callee, &error, Full::Workload);
            }
            Refused(error)
        })
    }

    /// Counts `error`, when it is one of something being full; `own` is what of the workload may be.
    fn count_refused(&self, callee: &Callee, error: &Error, own: Full) {
        let full = match error.code {
            code::CONCURRENCY_LIMIT => own,
            code::SERVER_FULL => Full::Server,
            code::BUFFERS_FULL => Full::Buffers,
            _ => return,
        };
        let target = &callee.target;
        let refusals = self.0.telemetry.refusals();
        refusals.request(Some((&target.app, &target.workload)), full);
    }

    /// Runs an admitted invocation, to the head of the workload's answer: its body may still be made. Its span is a child
    /// of `invocation.trace`. An upgraded response (101) carries [`runtime::Upgrade`] and [`Held`] in its extensions: keep
    /// both until the connection closes.
    ///
    /// Not an async function: the future of one has room for its arguments, twice, for as long as it lives.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn invoke(
        &self,
        permit: Permit,
        invocation: Invocation,
        input: Input,
    ) -> impl Future<Output = Result<http::Response<Body>, Error>> {
        self.begin(permit, invocation, input, None)
    }

    /// The same for what serves a request whose own span is the local root of the trace: this one's waits in `buffer` for
    /// what becomes of that.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn invoke_for(
        &self,
        buffer: &Arc<SpanBuffer>,
        permit: Permit,
        invocation: Invocation,
        input: Input,
    ) -> impl Future<Output = Result<http::Response<Body>, Error>> {
        self.begin(permit, invocation, input, Some(Arc::clone(buffer)))
    }

    fn begin(
        &self,
        permit: Permit,
        mut invocation: Invocation,
        input: Input,
        buffer: Option<Arc<SpanBuffer>>,
    ) -> impl Future<Output = Result<http::Response<Body>, Error>> {
        let span = self.0.ids.span();
        let parent = invocation.trace;
        invocation.trace = parent.below(span);
        let invocation = Arc::new(invocation);
        let spans = Spans {
            parent,
            own: span,
            buffer,
        };
        let tally = Tally::begin(self, permit, Arc::clone(&invocation), spans);
        self.run(tally, invocation, input)
    }

    async fn run(
        &self,
        mut tally: Tally,
        invocation: Arc<Invocation>,
        mut input: Input,
    ) -> Result<http::Response<Body>, Error> {
        if let Some(error) = refuse_late(&invocation, &self.0.clock, self.0.depth) {
            tally.fail(&error);
            return Err(error);
        }
        let callee = Arc::clone(tally.callee());
        tally.count_in(&mut input);
        let _held = match self.charge(&callee, &mut input) {
            Ok(charged) => charged,
            Err(error) => {
                self.count_refused(&callee, &error, Full::Buffers);
                tally.fail(&error);
                return Err(error);
            }
        };
        let ran = callee.pool().invoke(invocation, input).await;
        tally.measure_with(ran.meter);
        match ran.response {
            Err(error) => {
                self.count_refused(&callee, &error, Full::Queue);
                tally.fail(&error);
                Err(told(error, &callee.target, &callee.workload))
            }
            Ok(response) => Ok(tally.attach(response)),
        }
    }
}

impl Dispatch {
    /// Charges the body of `input` to the budget where the workload's runtime reads it whole; what is held is to be kept
    /// until the runtime is done with it.
    fn charge(&self, callee: &Callee, input: &mut Input) -> Result<Option<Arc<Charge>>, Error> {
        let (Input::Http(request), Run::Lambda { .. }) = (input, &callee.workload.run) else {
            return Ok(None);
        };
        let body = request.body_mut();
        if !matches!(body, Body::Incoming(_) | Body::Stream(_)) {
            return Ok(None);
        }
        let price = Price::MADE_INTO_AN_EVENT;
        let share = Some(callee.bodies());
        let (watched, held) = (self.0.buffers).watch(std::mem::take(body), price, share)?;
        *body = watched;
        Ok(Some(held))
    }
}

/// An error as callers read it: where its reason is to be found, and which word of the manifest ended the work.
fn told(mut error: Error, target: &Target, workload: &Workload) -> Error {
    let external = matches!(
        workload.run,
        Run::External { .. } | Run::Webhook(_) | Run::Pull(_) | Run::Kafka(_)
    );
    let more = match error.code {
        code::START_FAILED | code::NEVER_STARTED | code::UPSTREAM_UNREACHABLE if !external => {
            format!("; see `tangelo logs {target}`")
        }
        code::WORKLOAD_TIMEOUT => {
            let timeout = workload.timeout.as_millis();
            let timeout = match (timeout / 1000, timeout % 1000) {
                (seconds, 0) => format!("{seconds}s"),
                _ => format!("{timeout}ms"),
            };
            format!(" (`{target}` has `timeout: {timeout}`)")
        }
        _ => return error,
    };
    error.message.push_str(&more);
    error
}

/// What only the invocation itself can tell: it came too late, or from too deep.
fn refuse_late(invocation: &Invocation, clock: &Clock, most: u8) -> Option<Error> {
    if invocation.depth > most {
        let message = format!(
            "the chain of calls is deeper than {most}: does `{}` call itself?",
            invocation.target
        );
        return Some(Error::new(code::TOO_DEEP, message));
    }
    (clock.monotonic() >= invocation.deadline).then(|| {
        Error::new(
            code::DEADLINE_PASSED,
            "the deadline had passed before the work began",
        )
    })
}

/// Whether a response is an upgraded connection rather than a body.
fn is_upgrade<B>(response: &http::Response<B>) -> bool {
    response.status() == http::StatusCode::SWITCHING_PROTOCOLS
        && response.extensions().get::<Upgrade>().is_some()
}

#[cfg(test)]
mod tests {
    use model::{Limits, Name, invocation::Select};

    use super::*;

    #[test]
    fn callers_are_told_where_the_reason_is_and_which_timeout_it_was() {
        let text = "app: a\nworkloads:\n  own: {as: service, run: {process: {command: [x]}}, timeout: 3s}\n  other: {as: service, run: {external: {url: 'http://x'}}, timeout: 1500ms}\n";
        let app = manifest::parse(text, "tangelo.yaml", &Limits::default()).app;
        let app = app.expect("is good");
        let told = |workload: &'static str, code| {
            let target = Target {
                namespace: Name::default_namespace(),
                app: Name::literal("a"),
                workload: Name::literal(workload),
                select: Select::Live,
            };
            let error = Error::new(code, "it failed").context("secret");
            told(error, &target, &app.workloads[workload]).message
        };
        assert_eq!(
            told("own", code::START_FAILED),
            "it failed; see `tangelo logs a/own`"
        );
        assert_eq!(
            told("own", code::UPSTREAM_UNREACHABLE),
            "it failed; see `tangelo logs a/own`"
        );
        assert_eq!(told("other", code::UPSTREAM_UNREACHABLE), "it failed");
        assert_eq!(
            told("own", code::WORKLOAD_TIMEOUT),
            "it failed (`a/own` has `timeout: 3s`)"
        );
        assert_eq!(
            told("other", code::WORKLOAD_TIMEOUT),
            "it failed (`a/other` has `timeout: 1500ms`)"
        );
        assert_eq!(told("own", code::GUEST_TRAPPED), "it failed");
    }
}
