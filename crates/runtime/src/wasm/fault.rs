//! Why a guest failed, as coded errors. The Wasm backtrace goes to the operator, never to a client.

use std::sync::atomic::Ordering::Relaxed;

use model::{Error, code};
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

use super::run::Run;

/// The guest may not go on: its deadline passed or its pool was stopped. Raised where an epoch ends its turn.
#[derive(Debug, thiserror::Error)]
#[error("the guest has no time left")]
pub(super) struct Overdue;

/// The guest holds more streams, futures and tasks of WASI 0.3 than it may.
#[derive(Debug, thiserror::Error)]
#[error("it holds more than {0} streams, futures, tasks and sets of them")]
pub(super) struct Hoards(pub(super) usize);

/// What it means that a guest did not return: nothing bad when it exited with success.
pub(super) fn ending(error: wasmtime::Error, run: &Run) -> Result<(), Error> {
    verdict(&error, run)
}

/// The same of an error that others want to see, too.
pub(super) fn verdict(error: &wasmtime::Error, run: &Run) -> Result<(), Error> {
    let exit = error.downcast_ref::<I32Exit>();
    if exit.is_some_and(|exit| exit.0 == 0) {
        return Ok(());
    }
    Err(of(error, run))
}

fn of(error: &wasmtime::Error, run: &Run) -> Error {
    if error.is::<Overdue>() {
        return out_of_time(run);
    }
    if let Some(failed) = run.request_failed.get() {
        return failed.clone().context(format!("{error:?}"));
    }
    let name = &run.invocation.target;
    if run.memory_denied.load(Relaxed) {
        let limit = run.pool.spec.workload.memory;
        let message = format!("`{name}` needed more than its {limit} of memory");
        return Error::new(code::GUEST_MEMORY, message).context(format!("{error:?}"));
    }
    if run.memory_short.load(Relaxed) {
        return run.pool.engine.full().context(format!("{error:?}"));
    }
    if error.is::<PoolConcurrencyLimitError>() {
        let message = format!("`{name}` could not be started: too many Wasm guests are alive");
        return Error::new(code::START_FAILED, message)
            .context(format!("{error:?}"))
            .retry_after(super::engine::PLACES_TAKEN);
    }
    let why = if let Some(exit) = error.downcast_ref::<I32Exit>() {
        format!("it exited with status {}", exit.0)
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        let text = trap.to_string();
        text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned()
    } else {
        error.root_cause().to_string()
    };
    Error::new(code::GUEST_TRAPPED, format!("`{name}` trapped: {why}"))
        .context(format!("{error:?}"))
}

/// The guest had no time left, by its deadline or because its pool was stopped.
pub(super) fn out_of_time(run: &Run) -> Error {
    let name = &run.invocation.target;
    if !run.left().is_zero() && run.pool.is_cut() {
        let message = format!("`{name}` was stopped while it worked");
        return Error::new(code::INSTANCE_DIED, message);
    }
    let message = format!("`{name}` did not finish before its deadline");
    let timeout = run.pool.spec.workload.timeout;
    Error::new(code::WORKLOAD_TIMEOUT, message)
        .context(format!("the timeout of the workload is {timeout:?}"))
}

/// The guest returned without an answer.
pub(super) fn no_response(run: &Run) -> Error {
    match run.request_failed.get() {
        Some(failed) => failed.clone(),
        None => Error::new(
            code::NO_RESPONSE,
            format!(
                "`{}` ended without setting a response",
                run.invocation.target
            ),
        ),
    }
}

/// The guest answered with an error of `wasi:http` instead of a response.
pub(super) fn refused(error: &dyn std::fmt::Debug, run: &Run) -> Error {
    let message = format!(
        "`{}` answered with an error instead of a response",
        run.invocation.target
    );
    Error::new(code::NO_RESPONSE, message).context(format!("{error:?}"))
}

/// The guest's response is none that can be sent.
pub(super) fn unsendable(run: &Run, why: &str) -> Error {
    Error::new(
        code::NO_RESPONSE,
        format!("`{}` {why}", run.invocation.target),
    )
}

/// The host itself panicked while it served the guest.
pub(super) fn panicked(run: &Run, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned());
    Error::internal(format!(
        "a panic while `{}` ran: {}",
        run.invocation.target,
        text.unwrap_or_default()
    ))
}
