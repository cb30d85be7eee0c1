//! What is noted of an instance with extensions while it starts and ends: when it got how far, which process its runtime is, and how
//! that ended.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::launcher::Exit;

/// Set as it gets there, each once.
#[derive(Default)]
pub(crate) struct Marks {
    /// The last of its external extensions had registered.
    registered: OnceLock<Instant>,
    /// Its runtime asked for work, and had to wait for extensions.
    asked: OnceLock<Instant>,
    /// Its runtime's process, where that is not the first one; 0: not known.
    runtime: AtomicU32,
    /// Its runtime ended by itself.
    ended: OnceLock<Exit>,
}

impl Marks {
    pub(crate) fn registered(&self, now: Instant) {
        let _ = self.registered.set(now);
    }

    pub(crate) fn asked(&self, now: Instant) {
        let _ = self.asked.set(now);
    }

    pub(crate) fn runtime_is(&self, pid: u32) {
        self.runtime.store(pid, Relaxed);
    }

    pub(crate) fn runtime(&self) -> Option<u32> {
        Some(self.runtime.load(Relaxed)).filter(|pid| *pid != 0)
    }

    pub(crate) fn runtime_ended(&self, exit: Exit) {
        let _ = self.ended.set(exit);
    }

    /// How its runtime ended, if it did so by itself.
    pub(crate) fn end(&self) -> Option<Exit> {
        self.ended.get().copied()
    }

    /// Of the time from its process until it was `ready`, how long extensions took, and how long the runtime.
    pub(crate) fn parts(&self, spawned: Instant, ready: Instant) -> (Duration, Duration) {
        let registered = *self.registered.get().unwrap_or(&spawned);
        let asked = *self.asked.get().unwrap_or(&ready);
        let first = registered.saturating_duration_since(spawned);
        let init = asked.saturating_duration_since(registered.max(spawned));
        let last = ready.saturating_duration_since(asked);
        (first + last, init)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_start_are_all_of_it() {
        let spawned = model::Clock::system().monotonic();
        let at = |millis| spawned + Duration::from_millis(millis);
        let millis = |marks: &Marks| {
            let (extensions, init) = marks.parts(spawned, at(100));
            (extensions.as_millis(), init.as_millis())
        };
        let marks = Marks::default();
        assert_eq!(millis(&marks), (0, 100));
        marks.registered(at(30));
        assert_eq!(millis(&marks), (30, 70));
        marks.asked(at(80));
        marks.asked(at(900));
        assert_eq!(millis(&marks), (50, 50));
    }
}
