//! What someone else runs: requests to an URL.
//!
//! Nothing is started, measured or stopped here; there are no instances to list.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Request, Response};
use model::{Clock, Error, Invocation, Run, code};

use crate::{
    body::Body,
    call::{Input, Meter, Ran},
    flights::Flights,
    http_input::{self, Traces},
    pool::{Context, PoolStats, Spec},
    upstream::{Guard, Origin, Terms, Upstream},
};

/// The connections to one `external` workload.
pub struct Pool {
    ctx: Arc<Context>,
    /// Or why the URL is none.
    upstream: Result<Arc<Upstream>, Error>,
    flights: Arc<Flights>,
    failures: AtomicU64,
}

/// An exchange that belongs to no workload: nobody counts it.
struct Unwatched;

impl Guard for Unwatched {
    fn broken(&self) {}
}

impl Pool {
    /// Connects to nobody yet.
    #[must_use]
    pub fn new(ctx: &Arc<Context>, spec: Spec) -> Arc<Self> {
        let origin = match &spec.workload.run {
            Run::External { url } => Origin::parse(url).map_err(|problem| {
                let name = &spec.workload.name;
                Error::new(code::START_FAILED, format!("`{name}`: {problem}"))
            }),
            _ => Err(Error::internal("an external pool for another runtime")),
        };
        Arc::new(Self {
            upstream: origin.map(|origin| Upstream::new(origin, ctx.clock.clone())),
            ctx: Arc::clone(ctx),
            flights: Arc::default(),
            failures: AtomicU64::new(0),
        })
    }

    /// Runs one invocation that was admitted.
    pub async fn invoke(self: &Arc<Self>, invocation: Arc<Invocation>, input: Input) -> Ran {
        let meter = Arc::new(Meter::default());
        let upstream = match &self.upstream {
            Ok(upstream) => upstream,
            Err(error) => return self.failed(error.clone(), meter),
        };
        let now = self.ctx.clock.monotonic();
        let request = http_input::request(input, &invocation, Traces::Both, now);
        let terms = Terms {
            deadline: invocation.deadline,
            body_idle: self.ctx.limits.body_idle,
            meter: Arc::clone(&meter),
            repeated: false,
        };
        match upstream.send(request, terms, self.flights.begin()).await {
            Ok(response) => Ran {
                response: Ok(response),
                meter,
            },
            Err(failed) => self.failed(failed.error, meter),
        }
    }

    /// Says whether the URL is one; whether somebody answers there is for the first request to find out.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub async fn warm(self: &Arc<Self>) -> Result<(), Error> {
        self.upstream.as_ref().map(drop).map_err(Clone::clone)
    }

    /// What it says about itself: no instance is ours.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            failures: self.failures.load(Relaxed),
            ..PoolStats::default()
        }
    }

    /// Waits for the requests under way, up to `grace`.
    pub async fn drain(&self, grace: Duration) {
        self.flights.drain(&self.ctx.clock, grace).await;
    }

    fn failed(&self, error: Error, meter: Arc<Meter>) -> Ran {
        self.failures.fetch_add(1, Relaxed);
        meter.fail(error.clone());
        Ran::failed(error, meter)
    }
}

/// Sends one request to an URL of a manifest, outside of any workload: a callback. `request` has the path and query.
///
/// # Errors
/// What is wrong with the origin, or why there is no answer within `patience`.
pub async fn send(
    clock: &Clock,
    origin: &str,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<Body>, Error> {
    let origin = Origin::parse(origin)
        .map_err(|problem| Error::new(code::UPSTREAM_UNREACHABLE, problem.to_string()))?;
    let terms = Terms {
        deadline: clock.monotonic() + patience,
        body_idle: patience,
        meter: Arc::default(),
        repeated: false,
    };
    let sent = Upstream::new(origin, clock.clone())
        .send(Box::new(request), terms, Unwatched)
        .await;
    sent.map_err(|failed| failed.error)
}
