//! A request of an instance of WASI 0.3, from its own side: it waits for its head and its verdict, and for no longer
//! than it has time. Dropping it leaves the instance.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use http::Response;
use model::Error;
use tokio::sync::oneshot;
use wasmtime_wasi_http::{WasiBody, p3::bindings::http::types::ErrorCode};

use super::{drive::Call, fate, instance::Instance, request::Incoming};
use crate::{
    host::BoxFuture,
    wasm::{fault, run::Run},
};

/// A response as the guest returned it.
pub(super) type Head = Result<Response<WasiBody>, ErrorCode>;

/// A request aboard.
pub(super) struct Session {
    pub(super) run: Arc<Run>,
    instance: Arc<Instance>,
    number: u32,
    head: Option<oneshot::Receiver<Head>>,
    verdict: oneshot::Receiver<Result<(), Error>>,
    /// Says that the body of the response has been read to its end.
    read: Option<oneshot::Sender<()>>,
    timeout: Option<BoxFuture<()>>,
    over: bool,
}

impl Session {
    pub(super) fn new(
        instance: Arc<Instance>,
        run: &Arc<Run>,
        number: u32,
        verdict: oneshot::Receiver<Result<(), Error>>,
    ) -> Self {
        run.pool.in_flight.fetch_add(1, Relaxed);
        Self {
            run: Arc::clone(run),
            instance,
            number,
            head: None,
            verdict,
            read: None,
            timeout: None,
            over: false,
        }
    }

    /// Hands the request to the instance.
    pub(super) fn send(&mut self, request: Incoming) {
        let (head, answered) = oneshot::channel();
        let (read, was_read) = oneshot::channel();
        self.head = Some(answered);
        self.read = Some(read);
        let call = Call {
            number: self.number,
            run: Arc::clone(&self.run),
            request,
            head,
            read: was_read,
        };
        // Without a driver there is a verdict, or nobody who could give one.
        let _ = self.instance.calls.send(call);
    }

    /// Waits until the guest has answered.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Error>> {
        if let Some(head) = &mut self.head
            && let Poll::Ready(Ok(head)) = Pin::new(head).poll(cx)
        {
            self.head = None;
            return Poll::Ready(Ok(head));
        }
        ready!(self.poll(cx))?;
        Poll::Ready(Err(fault::no_response(&self.run)))
    }

    /// Waits for the verdict.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.over {
            return Poll::Ready(Ok(()));
        }
        let verdict = match Pin::new(&mut self.verdict).poll(cx) {
            Poll::Ready(Ok(verdict)) => verdict,
            // The thread that worked on the instance has ended: the server is stopping.
            Poll::Ready(Err(_)) => Err(fate::cast_off(&self.run)),
            Poll::Pending => {
                ready!(self.poll_timeout(cx));
                Err(fault::out_of_time(&self.run))
            }
        };
        self.end();
        if let Err(error) = &verdict {
            self.run.pool.failures.fetch_add(1, Relaxed);
            self.run.meter.fail(error.clone());
        }
        Poll::Ready(verdict)
    }

    /// The body of the response has been read.
    pub(super) fn has_read(&mut self) {
        if let Some(read) = self.read.take() {
            let _ = read.send(());
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    /// Timers of a store may not fire while a guest works, so that each request has its own outside.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let run = &self.run;
        self.timeout
            .get_or_insert_with(|| run.time_is_up())
            .as_mut()
            .poll(cx)
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.timeout = None;
        self.run.flush_output();
        self.instance.leave(self.number);
        self.run.pool.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}
