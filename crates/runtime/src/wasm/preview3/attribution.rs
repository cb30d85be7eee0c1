//! Whose work it is that a shared instance does: the request whose task called the host, or that the epoch interrupted.
//!
//! Wasmtime knows the chain of tasks that led to a call (`async_call_stack`); its root is the call of the handler, which
//! belongs to one request. An instance of one request at a time need not ask.

use wasmtime::{AsContextMut, StoreContextMut};

use crate::wasm::guest::Guest;

/// Makes the request on whose behalf the guest is working the current one of its store, where that is known.
pub(in crate::wasm) fn attribute(store: &mut StoreContextMut<'_, Guest>) {
    let Some(instance) = store.data().aboard() else {
        return;
    };
    if !instance.is_shared() {
        return;
    }
    let instance = instance.clone();
    let mut context = store.as_context_mut();
    let root = context
        .async_call_stack()
        .ok()
        .and_then(|stack| stack.last());
    if let Some(run) = root.and_then(|task| instance.run_of(task)) {
        store.data_mut().turn_to(&run);
    }
}
