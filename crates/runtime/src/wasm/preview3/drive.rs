//! What works on the store of an instance: one task, in which the guest's own tasks take turns.
//!
//! Each poll is a `catch_unwind` boundary, is counted as CPU, and keeps the epoch moving. A guest that works holds the
//! store, so that nothing inside can end it (wasmtime 11869): whether the instance goes on is decided outside, here.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use model::ColdStart;
use tokio::sync::{mpsc, oneshot};
use wasmtime::{AsContextMut, Store, StoreContextMut, UpdateDeadline, component::Accessor};
use wasmtime_wasi_http::{
    Error as WasiError, FieldMap, WasiHttpView,
    p3::{Request, bindings::Service},
};

use super::{
    Preview3, attribute, fate,
    instance::{Instance, Rest},
    request::Incoming,
    session::Head,
};
use crate::{
    host::BoxFuture,
    wasm::{
        code::Pre,
        fault::{Hoards, Overdue},
        guest::Guest,
        place::Place,
        run::Run,
    },
};

/// A request on its way to the guest.
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) run: Arc<Run>,
    pub(super) request: Incoming,
    pub(super) head: oneshot::Sender<Head>,
    /// Says that the body of the response was read; dropped when nobody reads it any more.
    pub(super) read: oneshot::Receiver<()>,
}

/// Why the work on an instance ended before the instance was spent.
pub(super) enum Failure {
    /// Its guest failed.
    Guest(wasmtime::Error),
    /// The host did.
    Panic(Box<dyn std::any::Any + Send>),
}

/// An empty store for an instance that begins with `run`.
pub(super) fn store(engine: &Preview3, instance: &Arc<Instance>, run: &Arc<Run>) -> Store<Guest> {
    let mut store = Store::new(&engine.wasm, Guest::new(run, Some(Arc::clone(instance))));
    store.limiter(|guest| guest);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(on_tick);
    store
}

/// Works until the instance is spent, has rested for long enough, fails, or is cut off.
pub(super) async fn drive(
    instance: Arc<Instance>,
    mut store: Store<Guest>,
    place: Place,
    calls: mpsc::UnboundedReceiver<Call>,
    cold: ColdStart,
) {
    let cast_off = CastOff(Arc::clone(&instance));
    let pool = Arc::clone(&instance.pool);
    let ended = Driven {
        instance: &instance,
        work: Box::pin(work(&mut store, &instance, calls, cold)),
        resting: None,
        cut: Box::pin(async move { pool.until_cut().await }),
    }
    .await;
    // The verdicts first: dropping the store ends bodies as if they were whole.
    match ended {
        Ok(()) => drop(cast_off),
        Err(failure) => fate::tell(&instance, &mut store, &failure),
    }
    // Suspended tasks of the guest are unwound, destructors of their host state included.
    if catch_unwind(AssertUnwindSafe(|| drop(store))).is_err() {
        tracing::error!("a panic while an instance of WASI 0.3 was dropped");
    }
    drop(place);
}

/// Whoever is still aboard when the driver is gone is told so, even if its thread ends.
struct CastOff(Arc<Instance>);

impl Drop for CastOff {
    fn drop(&mut self) {
        self.0.end(|run| Err(fate::cast_off(run)));
    }
}

/// The epoch moved while the guest worked. The same rules as for WASI 0.2, for the request whose task it is.
fn on_tick(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<UpdateDeadline> {
    attribute(&mut store);
    let held = store.concurrent_state_table_size();
    let guest = store.data();
    let run = guest.run();
    let instance = guest.aboard().ok_or(Overdue)?;
    instance.charge_to(run);
    if run.left().is_zero() || run.pool.is_cut() {
        return Err(Overdue.into());
    }
    let most = instance.most_waitables();
    if held > most {
        return Err(Hoards(most).into());
    }
    if !instance.turn_is_over() {
        return Ok(UpdateDeadline::Continue(1));
    }
    let pause = Box::pin(Arc::clone(instance).next_turn());
    Ok(UpdateDeadline::YieldCustom(1, pause))
}

async fn work(
    store: &mut Store<Guest>,
    instance: &Instance,
    mut calls: mpsc::UnboundedReceiver<Call>,
    mut cold: ColdStart,
) -> wasmtime::Result<()> {
    let run = Arc::clone(store.data().run());
    let Pre::Three(pre) = &run.code.pre else {
        wasmtime::bail!("code of WASI 0.2 in an instance of 0.3");
    };
    let clock = &run.pool.ctx.clock;
    let begun = clock.monotonic();
    let service = pre.instantiate_async(&mut *store).await?;
    instance.begin();
    if cold != ColdStart::default() {
        cold.spawn = clock.monotonic().saturating_duration_since(begun);
        run.meter.cold_start(cold);
    }
    store
        .run_concurrent(async |accessor| host(accessor, instance, &service, &mut calls).await)
        .await?
}

/// Serves what comes, for as long as there is anything to do or to wait for.
async fn host(
    accessor: &Accessor<Guest>,
    instance: &Instance,
    service: &Service,
    calls: &mut mpsc::UnboundedReceiver<Call>,
) -> wasmtime::Result<()> {
    let mut serving = FuturesUnordered::new();
    // Requests whose bodies were read and whose guests have still to end: at most one, in an instance of its own.
    let mut read = Vec::new();
    poll_fn(|cx| {
        loop {
            while let Poll::Ready(Some(call)) = calls.poll_recv(cx) {
                serving.push(serve(accessor, instance, service, call));
            }
            match serving.poll_next_unpin(cx) {
                Poll::Ready(Some(served)) => read.push(served?),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        let quiet = accessor.poll_no_interesting_tasks(cx).is_ready() && serving.is_empty();
        instance.set_quiet(quiet);
        if quiet || instance.is_shared() {
            read.drain(..).for_each(|number| instance.arrive(number));
        }
        Poll::Pending
    })
    .await
}

/// One request, until the body of its response was read; its number.
async fn serve(
    accessor: &Accessor<Guest>,
    instance: &Instance,
    service: &Service,
    call: Call,
) -> wasmtime::Result<u32> {
    let Call {
        number,
        run,
        request,
        head,
        read,
    } = call;
    let handler = service.wasi_http_handler().func_handle();
    let called = accessor.with(|mut access| {
        let mut store = access.as_context_mut();
        let guest = store.data_mut();
        guest.turn_to(&run);
        let request = incoming(guest, request)?;
        let call = handler.start_call_concurrent(&mut store, (request,))?;
        instance.serves(call.task(), &run);
        wasmtime::error::Ok(call)
    })?;
    let (answer,) = handler.finish_call_concurrent(accessor, called).await?;
    let (sent, was_sent) = oneshot::channel();
    let answer = match answer {
        Ok(response) => accessor.with(|mut access| {
            let response = access.data_mut().table.delete(response)?;
            let was_sent = async { was_sent.await.map_err(|_| WasiError::ConnectionTerminated) };
            response.into_http(access, was_sent).map(Ok)
        })?,
        Err(error) => Err(error),
    };
    // Who has left takes neither head nor body; the instance knows.
    let _ = head.send(answer);
    if read.await.is_ok() {
        let _ = sent.send(());
    }
    Ok(number)
}

fn incoming(
    guest: &mut Guest,
    request: Incoming,
) -> wasmtime::Result<wasmtime::component::Resource<Request>> {
    let view = guest.http();
    let headers = FieldMap::new_immutable(view.hooks, request.headers);
    // How the guest fared with the request's body is its own affair.
    let (request, _) = Request::new(
        request.method,
        Some(request.scheme),
        request.authority,
        request.path,
        headers,
        None,
        request.body,
    );
    Ok(view.table.push(request)?)
}

/// The work, with what ends it from outside.
struct Driven<'a, W> {
    instance: &'a Instance,
    work: Pin<Box<W>>,
    /// The rest that it takes, and when that is over.
    resting: Option<(u32, BoxFuture<()>)>,
    cut: BoxFuture<()>,
}

impl<W: Future<Output = wasmtime::Result<()>>> Future for Driven<'_, W> {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let instance = this.instance;
        instance.driver.register(cx.waker());
        let polled = {
            let _working = instance.begin_turn();
            catch_unwind(AssertUnwindSafe(|| this.work.as_mut().poll(cx)))
        };
        match polled {
            Ok(Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            Ok(Poll::Ready(Err(error))) => Poll::Ready(Err(Failure::Guest(error))),
            Err(panic) => Poll::Ready(Err(Failure::Panic(panic))),
            Ok(Poll::Pending) if this.cut.as_mut().poll(cx).is_ready() => Poll::Ready(Ok(())),
            Ok(Poll::Pending) => this.poll_rest(cx).map(Ok),
        }
    }
}

impl<W> Driven<'_, W> {
    /// Whether it has rested for long enough.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (time, boarded) = match self.instance.rest() {
            Rest::Busy => {
                self.resting = None;
                return Poll::Pending;
            }
            Rest::End => return Poll::Ready(()),
            Rest::Wait { time, boarded } => (time, boarded),
        };
        if self.resting.as_ref().is_none_or(|(of, _)| *of != boarded) {
            let clock = self.instance.pool.ctx.clock.clone();
            let timer = Box::pin(async move { clock.sleep(time).await });
            self.resting = Some((boarded, timer));
        }
        let Some((_, timer)) = &mut self.resting else {
            return Poll::Pending;
        };
        if timer.as_mut().poll(cx).is_ready() && self.instance.close() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
