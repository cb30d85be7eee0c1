//! Lambda handlers: processes that poll for work through the AWS Lambda Runtime API, so that any language's runtime
//! client works unmodified.
//!
//! One instance is one process with a Runtime API listener of its own, and works on one invocation at a time, or on as
//! many as its manifest says. The warm path takes no task of its own: the caller writes the invocation onto the
//! connection on which the client waits, and is woken by the task that reads the client's answer.

mod api;
mod berths;
mod bootstraps;
mod companions;
mod conn;
mod ends;
mod environment;
mod extended;
mod extension_api;
mod extensions;
mod gauge;
mod instance;
mod interpreter;
mod invoke;
mod logs;
mod marks;
pub mod payload;
mod places;
mod pool;
mod prepared;
mod protocol;
mod reply;
mod run;
mod scratch;
mod seat;
mod start;
mod stream;
mod templates;
mod wire;
#[cfg(test)]
mod wire_law;
mod work;

pub use berths::Berths;
pub use pool::Pool;
pub use templates::{TemplateStats, Templates};

/// Removes the temporary folders of instances that an earlier server left in `cache`; call it before any pool exists.
///
/// # Errors
/// When a folder cannot be removed.
pub(crate) fn sweep(cache: &std::path::Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(start::scratch_folder(cache)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
