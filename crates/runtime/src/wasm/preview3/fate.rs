//! What each request of an instance that ended is told: whether it was its own doing, or that of another aboard.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use model::{Error, code};
use wasmtime::{AsContextMut, Store};

use super::{drive::Failure, instance::Instance};
use crate::wasm::{
    fault::{self, Hoards, Overdue},
    guest::Guest,
    run::Run,
};

/// Tells everybody aboard why the instance has ended.
pub(super) fn tell(instance: &Instance, store: &mut Store<Guest>, failure: &Failure) {
    let error = match failure {
        Failure::Panic(panic) => {
            return instance.end(|run| Err(fault::panicked(run, &**panic)));
        }
        Failure::Guest(error) => error,
    };
    let aboard = instance.runs();
    let culprit = culprit(instance, store, error, &aboard);
    if let Some(culprit) = &culprit {
        share_memory_marks(culprit, store.data().run(), &aboard);
    }
    instance.end(|run| match &culprit {
        Some(culprit) if std::ptr::eq(Arc::as_ptr(culprit), run) => fault::verdict(error, run),
        Some(_) => Err(others(run, error)),
        None => Err(somebodys(run, error)),
    });
}

/// The request whose task failed, which may have left meanwhile; `None`: that is not known.
fn culprit(
    instance: &Instance,
    store: &mut Store<Guest>,
    error: &wasmtime::Error,
    aboard: &[Arc<Run>],
) -> Option<Arc<Run>> {
    if !instance.is_shared() {
        return aboard.first().cloned();
    }
    // These are raised right after the store was turned to whoever's task it was.
    if error.is::<Overdue>() || error.is::<Hoards>() {
        return Some(Arc::clone(store.data().run()));
    }
    let mut context = store.as_context_mut();
    let root = context.async_call_stack().ok()?.last();
    let found = root.and_then(|task| instance.run_of(task));
    match aboard {
        [only] => found.or_else(|| Some(Arc::clone(only))),
        _ => found,
    }
}

/// Memory that was refused is noted with whoever was current then; it is the instance's, and so its failure's reason.
fn share_memory_marks(culprit: &Run, current: &Run, aboard: &[Arc<Run>]) {
    let all = || aboard.iter().map(|run| &**run).chain([current]);
    if all().any(|run| run.memory_denied.load(Relaxed)) {
        culprit.memory_denied.store(true, Relaxed);
    }
    if all().any(|run| run.memory_short.load(Relaxed)) {
        culprit.memory_short.store(true, Relaxed);
    }
}

fn others(run: &Run, error: &wasmtime::Error) -> Error {
    let why = if error.is::<Overdue>() {
        "had no time left and did not let go"
    } else {
        "failed"
    };
    let message = format!(
        "the instance of `{}` ended, because another request that it served at the same time {why}",
        run.invocation.target
    );
    Error::new(code::INSTANCE_DIED, message).context(format!("{error:?}"))
}

fn somebodys(run: &Run, error: &wasmtime::Error) -> Error {
    let message = format!(
        "the instance of `{}` trapped while it served several requests at the same time: {}",
        run.invocation.target,
        error.root_cause()
    );
    Error::new(code::GUEST_TRAPPED, message).context(format!("{error:?}"))
}

/// The instance ended, and not because of its guest.
pub(super) fn cast_off(run: &Run) -> Error {
    if run.left().is_zero() || run.pool.is_cut() {
        return fault::out_of_time(run);
    }
    let message = format!("`{}` was stopped while it worked", run.invocation.target);
    Error::new(code::INSTANCE_DIED, message)
}
