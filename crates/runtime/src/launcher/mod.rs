//! The launcher: one small single-threaded process that starts, watches and kills instances.

/// A handle on the launcher process. Cheap to clone.
#[derive(Clone)]
pub struct Launcher {}
