//! One invocation of a guest: a future without a task of its own, polled by whoever waits for the response, first for
//! its head and then for its body.
//!
//! Each poll is a `catch_unwind` boundary, is counted as CPU, and keeps the epoch moving. Dropping it cuts the guest off.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::select;
use model::{ColdStart, Error, Invocation};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::{
    bindings::http::types::ErrorCode,
    body::HyperOutgoingBody,
    types::{HostIncomingRequest, HostResponseOutparam},
};

use super::{
    Pool,
    code::{Code, Pre},
    fault::{self, Overdue},
    output::Output,
    place::Place,
    reuse::Instance,
    turns::Turn,
};
use crate::{
    call::{Input, Meter},
    host::BoxFuture,
};

/// A response as the guest set it.
pub(super) type Head = Result<http::Response<HyperOutgoingBody>, ErrorCode>;

/// What a guest and whoever polls it share.
pub(super) struct Run {
    pub(super) pool: Arc<Pool>,
    pub(super) code: Arc<Code>,
    pub(super) invocation: Arc<Invocation>,
    pub(super) meter: Arc<Meter>,
    pub(super) output: Mutex<Output>,
    /// The request was a HEAD: its answer has no body.
    pub(super) is_head: bool,
    /// Growing was refused: what fails afterwards most likely fails because of that.
    pub(super) memory_denied: AtomicBool,
    /// The same, because all guests together have all that there is.
    pub(super) memory_short: AtomicBool,
    /// The body of the request failed: what the guest makes of that is not its own failure.
    pub(super) request_failed: OnceLock<Error>,
    head: Mutex<Option<Head>>,
    /// The epoch moved in this turn.
    ticked: AtomicBool,
    /// It used up a turn.
    long: AtomicBool,
    turn: Turn,
}

impl Run {
    pub(super) fn new(
        pool: &Arc<Pool>,
        code: Arc<Code>,
        invocation: Arc<Invocation>,
        meter: &Arc<Meter>,
        input: &Input,
    ) -> Arc<Self> {
        Arc::new(Self {
            pool: Arc::clone(pool),
            code,
            invocation,
            meter: Arc::clone(meter),
            output: Mutex::new(Output::new(pool.ctx.clock.monotonic())),
            is_head: matches!(input, Input::Http(r) if r.method() == http::Method::HEAD),
            memory_denied: AtomicBool::new(false),
            memory_short: AtomicBool::new(false),
            request_failed: OnceLock::new(),
            head: Mutex::new(None),
            ticked: AtomicBool::new(false),
            long: AtomicBool::new(false),
            turn: Turn::default(),
        })
    }

    /// The guest set its response.
    pub(super) fn answer(&self, head: Head) {
        *self.head.lock() = Some(head);
    }

    /// The epoch moved while the guest worked: says whether its turn is over. An error ends it for good.
    ///
    /// The first tick may come right after the guest began, so that a turn has two: one to two milliseconds.
    pub(super) fn on_tick(&self) -> Result<bool, Overdue> {
        if self.left().is_zero() || self.pool.is_cut() {
            return Err(Overdue);
        }
        let over = self.ticked.swap(true, Relaxed);
        if over {
            self.long.store(true, Relaxed);
        }
        Ok(over)
    }

    /// Waits until it is its turn again.
    pub(super) async fn next_turn(self: Arc<Self>) {
        self.turn.next(&self.pool.turns).await;
    }

    /// Time until the deadline.
    pub(super) fn left(&self) -> Duration {
        let now = self.pool.ctx.clock.monotonic();
        self.invocation.deadline.saturating_duration_since(now)
    }

    /// Ends at the deadline, or when all guests are cut off.
    pub(super) fn time_is_up(&self) -> BoxFuture<()> {
        let (pool, left) = (Arc::clone(&self.pool), self.left());
        Box::pin(async move {
            let overdue = Box::pin(pool.ctx.clock.sleep(left));
            select(overdue, Box::pin(pool.until_cut())).await;
        })
    }

    /// Wall time is the cheaper clock and as good within one turn; a guest that used up a turn is measured exactly.
    fn cpu_clock(&self, exact: bool) -> Duration {
        if exact {
            return thread_cpu();
        }
        let now = self.pool.ctx.clock.monotonic();
        now.saturating_duration_since(self.pool.born)
    }
}

/// CPU time that this thread has used.
pub(super) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// A guest at work.
pub(super) struct Running {
    pub(super) run: Arc<Run>,
    guest: Option<BoxFuture<wasmtime::Result<Instance>>>,
    /// The instance of a guest that returned in order.
    returned: Option<Instance>,
    timeout: Option<BoxFuture<()>>,
    place: Option<Place>,
}

/// What a guest is started with, inside its store.
pub(super) struct Start {
    pub(super) instance: Instance,
    pub(super) request: Resource<HostIncomingRequest>,
    pub(super) response: Resource<HostResponseOutparam>,
    /// The phases of a cold start so far.
    pub(super) cold: ColdStart,
}

impl Running {
    pub(super) fn new(run: &Arc<Run>, start: Start, place: Place) -> Self {
        run.pool.in_flight.fetch_add(1, Relaxed);
        if start.instance.proxy.is_none() {
            run.pool.starts.fetch_add(1, Relaxed);
        }
        Self {
            run: Arc::clone(run),
            guest: Some(Box::pin(drive(start))),
            returned: None,
            timeout: None,
            place: Some(place),
        }
    }

    /// Whether the guest has ended.
    pub(super) fn is_over(&self) -> bool {
        self.guest.is_none()
    }

    /// Lets the guest work until it has answered.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Error>> {
        let ended = self.poll(cx)?.is_ready();
        let head = self.run.head.lock().take();
        match head {
            Some(head) => Poll::Ready(Ok(head)),
            None if ended => Poll::Ready(Err(fault::no_response(&self.run))),
            None => Poll::Pending,
        }
    }

    /// Lets the guest work until it waits for something, its turn ends, or it ends.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(guest) = &mut self.guest else {
            return Poll::Ready(Ok(()));
        };
        let polled = {
            let run = &*self.run;
            let _working = run.pool.engine.ticker.enter();
            run.ticked.store(false, Relaxed);
            let exact = run.long.load(Relaxed);
            let before = run.cpu_clock(exact);
            let polled = catch_unwind(AssertUnwindSafe(|| guest.as_mut().poll(cx)));
            run.meter
                .add_cpu(run.cpu_clock(exact).saturating_sub(before));
            run.turn.end();
            polled
        };
        let ended = match polled {
            Ok(Poll::Pending) => {
                ready!(self.poll_timeout(cx));
                Err(fault::out_of_time(&self.run))
            }
            Ok(Poll::Ready(Ok(instance))) => {
                self.returned = Some(instance);
                Ok(())
            }
            Ok(Poll::Ready(Err(error))) => fault::ending(error, &self.run),
            Err(panic) => Err(fault::panicked(&self.run, &*panic)),
        };
        self.end();
        if let Err(error) = &ended {
            self.run.pool.failures.fetch_add(1, Relaxed);
            self.run.meter.fail(error.clone());
        }
        Poll::Ready(ended)
    }

    /// A guest that waits is not asked at ticks, so that its end needs a waker; one that never waits needs none.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let run = &self.run;
        self.timeout
            .get_or_insert_with(|| run.time_is_up())
            .as_mut()
            .poll(cx)
    }

    fn end(&mut self) {
        let Some(guest) = self.guest.take() else {
            return;
        };
        // Dropping a suspended guest unwinds its stack, destructors of its host state included.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(guest))) {
            tracing::error!(error = %fault::panicked(&self.run, &*panic), "cutting a guest off");
        }
        self.timeout = None;
        self.run.flush_output();
        let place = self.place.take();
        match self.returned.take() {
            Some(instance) => self.run.pool.keep(instance, place),
            None => drop(place),
        }
        self.run.pool.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// One request of a guest, from being instantiated where it is not yet.
async fn drive(start: Start) -> wasmtime::Result<Instance> {
    let Start {
        mut instance,
        request,
        response,
        mut cold,
    } = start;
    let store = &mut instance.store;
    let run = Arc::clone(store.data().run());
    let clock = &run.pool.ctx.clock;
    let proxy = match instance.proxy.take() {
        Some(proxy) => proxy,
        None => {
            let begun = clock.monotonic();
            let Pre::Two(pre) = &run.code.pre else {
                wasmtime::bail!("code of WASI 0.3 in an instance of 0.2");
            };
            let proxy = pre.instantiate_async(&mut *store).await?;
            if cold != ColdStart::default() {
                cold.spawn = clock.monotonic().saturating_duration_since(begun);
                run.meter.cold_start(cold);
            }
            proxy
        }
    };
    let handler = proxy.wasi_http_incoming_handler();
    handler.call_handle(store, request, response).await?;
    instance.proxy = Some(proxy);
    Ok(instance)
}

/// `future`, or nothing when the deadline passes first.
pub(super) async fn before_deadline<T>(
    pool: &Pool,
    invocation: &Invocation,
    future: impl Future<Output = T>,
) -> Option<T> {
    let clock = &pool.ctx.clock;
    let left = invocation
        .deadline
        .saturating_duration_since(clock.monotonic());
    let mut future = Box::pin(future);
    let mut timeout: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(clock.sleep(left));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        timeout.as_mut().poll(cx).map(|()| None)
    })
    .await
}
