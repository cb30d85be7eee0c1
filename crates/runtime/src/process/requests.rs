//! One request from its arrival to the head of its answer: a place, an exchange, and what to say when either fails.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};
use http::Response;
use model::{Error, Invocation, code};
use tokio::sync::oneshot;

use super::{
    Pool,
    instance::Instance,
    place::{Place, Ticket, Waiter},
};
use crate::{
    body::Body,
    call::{Input, Meter},
    http_input::{self, Traces},
    pool::{Spec, out_of_memory},
    upstream::{Failed, Terms},
};

/// Instances that one request is offered to, when they turn out to be unreachable.
const OFFERS: usize = 4;

/// How long the end of an instance may take to be noticed, after it broke a connection.
const NEWS: Duration = Duration::from_millis(100);

/// The same where its share of the CPU is limited: in the middle of its end, too, it waits for its next share.
const SLOW_NEWS: Duration = Duration::from_secs(2);

/// How long to wait for the end of an instance that may be why a connection broke.
pub(super) const fn news(spec: &Spec) -> Duration {
    match spec.workload.limits.cpu {
        Some(_) => SLOW_NEWS,
        None => NEWS,
    }
}

impl Pool {
    pub(super) async fn respond(
        self: &Arc<Self>,
        invocation: &Arc<Invocation>,
        input: Input,
        meter: &Arc<Meter>,
    ) -> Result<Response<Body>, Error> {
        let mut place = self.place(invocation, meter).await?;
        let now = self.ctx.clock.monotonic();
        let mut request = http_input::request(input, invocation, Traces::Both, now);
        let mut terms = Terms {
            deadline: invocation.deadline,
            body_idle: self.ctx.limits.body_idle,
            meter: Arc::clone(meter),
            repeated: false,
        };
        for offer in 1.. {
            let instance = Arc::clone(&place.instance);
            let upstream = instance.upstream();
            let upstream = upstream.ok_or_else(|| Error::internal("a place before its port"))?;
            match upstream.send(request, terms.clone(), place).await {
                Ok(response) => return Ok(response),
                Err(Failed {
                    unsent: Some(again),
                    repeated,
                    error,
                    guard,
                }) if offer < OFFERS && error.code == code::UPSTREAM_UNREACHABLE => {
                    drop(guard);
                    terms.repeated |= repeated;
                    meter.resend();
                    request = again;
                }
                Err(Failed { error, guard, .. }) => {
                    drop(guard);
                    return Err(Box::pin(self.explain(&instance, error)).await);
                }
            }
            place = self.place(invocation, meter).await?;
        }
        unreachable!("the last offer returns")
    }

    /// A place with an instance, at once or as soon as there is one.
    async fn place(
        self: &Arc<Self>,
        invocation: &Arc<Invocation>,
        meter: &Meter,
    ) -> Result<Place, Error> {
        let arrived = self.ctx.clock.monotonic();
        let (answer, answered) = oneshot::channel();
        let ticket = {
            let mut book = self.book.lock();
            if let Some(instance) = book.take(arrived) {
                drop(book);
                return Ok(Place::new(self, instance, Arc::clone(invocation)));
            }
            if let Some(error) = book.refusal(arrived) {
                return Err(error);
            }
            let invocation = Arc::clone(invocation);
            book.wait(Waiter { invocation, answer })
        };
        let ticket = Ticket {
            pool: self,
            number: ticket,
        };
        self.wake.notify_one();
        let place = self.wait(answered, invocation, arrived).await;
        drop(ticket);
        let place = place?;
        let now = self.ctx.clock.monotonic();
        if let Some(phases) = place.instance.cold_start(arrived, now) {
            meter.cold_start(phases);
        }
        Ok(place)
    }

    async fn wait(
        &self,
        answered: oneshot::Receiver<Result<Place, Error>>,
        invocation: &Invocation,
        arrived: Instant,
    ) -> Result<Place, Error> {
        let left = invocation.deadline.saturating_duration_since(arrived);
        let timer = std::pin::pin!(self.ctx.clock.sleep(left));
        match select(answered, timer).await {
            Either::Left((Ok(place), _)) => place,
            Either::Left((Err(_), _)) => Err(Error::new(
                code::WORKLOAD_GONE,
                "this version of the workload was removed before it had room",
            )),
            Either::Right(_) => Err(self.no_place()),
        }
    }

    /// Why somebody waited in vain.
    fn no_place(&self) -> Error {
        let name = &self.spec.workload.name;
        let book = self.book.lock();
        if let Some(error) = book.trouble() {
            return error.clone();
        }
        if book.ready_count() == 0 {
            if book.unready_since().is_some() {
                return self.unready_error(&book);
            }
            let message = format!("no instance of `{name}` became ready in time");
            return Error::new(code::START_FAILED, message);
        }
        let message = format!("all instances of `{name}` were busy until the deadline");
        Error::new(code::WORKLOAD_TIMEOUT, message)
    }

    /// What broke the connection, if it was the end of the instance.
    async fn explain(&self, instance: &Instance, error: Error) -> Error {
        if error.code != code::UPSTREAM_UNREACHABLE {
            return error;
        }
        let patience = news(&self.spec);
        let mut exit = instance.exit.subscribe();
        let exited = std::pin::pin!(exit.wait_for(Option::is_some));
        let timer = std::pin::pin!(self.ctx.clock.sleep(patience));
        let exit = match select(exited, timer).await {
            Either::Left((Ok(exit), _)) => *exit,
            Either::Left((Err(_), _)) | Either::Right(_) => None,
        };
        let Some(exit) = exit else {
            return error;
        };
        let workload = &self.spec.workload;
        let error = if exit.out_of_memory {
            out_of_memory(workload)
        } else {
            let name = &workload.name;
            let message = format!("the instance of `{name}` ended with {exit} while it worked");
            Error::new(code::INSTANCE_DIED, message)
        };
        error.context(instance.last_lines())
    }

    pub(super) fn release(self: &Arc<Self>, instance: &Instance) {
        let now = self.ctx.clock.monotonic();
        let freed = self.book.lock().release(instance.number, now);
        if let Some((waiter, instance)) = freed.next {
            self.seat(waiter, instance);
        } else if freed.quiet {
            instance.quiet.notify_one();
            self.tell();
        }
    }

    /// Gives one who waited a place that the books already count. When nobody takes it, dropping it frees it again.
    pub(super) fn seat(self: &Arc<Self>, waiter: Waiter, instance: Arc<Instance>) {
        let place = Place::new(self, instance, waiter.invocation);
        let _ = waiter.answer.send(Ok(place));
    }

    pub(super) fn forget(&self, ticket: u64) {
        let waiter = self.book.lock().forget(ticket);
        drop(waiter);
    }

    pub(super) fn suspect(&self, instance: &Instance) {
        if self.book.lock().suspect(instance.number) {
            instance.suspected.notify_one();
            self.tell();
        }
    }
}
