//! Spans of a trace that have ended before its local root: nobody makes them until it is known that they are kept.

use parking_lot::Mutex;

use crate::{span::Span, telemetry::Telemetry};

/// A span that has ended and is made only where it is to be kept.
pub trait Ended: Send {
    /// Whether what it tells of failed.
    fn failed(&self) -> bool;

    /// Makes it, and records it.
    fn record(self: Box<Self>);
}

/// The spans of one trace that wait for its local root.
#[derive(Default)]
pub struct SpanBuffer(Mutex<State>);

enum State {
    /// The root has not ended. Most requests are one invocation.
    Open {
        first: Option<Box<dyn Ended>>,
        more: Vec<Box<dyn Ended>>,
    },
    Kept,
    Dropped,
}

impl Default for State {
    fn default() -> Self {
        Self::Open {
            first: None,
            more: Vec::new(),
        }
    }
}

impl SpanBuffer {
    /// Takes a span. One that comes after the root shares its fate, except that of a dropped trace what failed is recorded.
    pub fn take(&self, span: Box<dyn Ended>) {
        let mut state = self.0.lock();
        let dropped = match &mut *state {
            State::Open { first, .. } if first.is_none() => return *first = Some(span),
            State::Open { more, .. } => return more.push(span),
            State::Kept => false,
            State::Dropped => true,
        };
        drop(state);
        if !dropped || span.failed() {
            span.record();
        }
    }

    /// Takes a span that was made already.
    pub fn take_made(&self, telemetry: &Telemetry, span: Span) {
        let telemetry = telemetry.clone();
        self.take(Box::new(Made { telemetry, span }));
    }

    /// The root has ended. Asks `drops` where nothing that waits failed; where the root is kept, what waits is recorded.
    /// Says whether it is.
    pub(crate) fn end(&self, drops: impl FnOnce() -> bool) -> bool {
        let mut state = self.0.lock();
        let failed = match &*state {
            State::Open { first, more } => first.iter().chain(more).any(|span| span.failed()),
            State::Kept | State::Dropped => false,
        };
        let kept = failed || !drops();
        let fate = if kept { State::Kept } else { State::Dropped };
        let ended = std::mem::replace(&mut *state, fate);
        drop(state);
        if let (true, State::Open { first, more }) = (kept, ended) {
            first.into_iter().chain(more).for_each(|span| span.record());
        }
        kept
    }
}

struct Made {
    telemetry: Telemetry,
    span: Span,
}

impl Ended for Made {
    fn failed(&self) -> bool {
        self.span.error.is_some()
    }

    fn record(self: Box<Self>) {
        self.telemetry.span(self.span);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicU32, atomic::Ordering::Relaxed};

    use super::*;

    struct Fake {
        failed: bool,
        recorded: Arc<AtomicU32>,
    }

    impl Ended for Fake {
        fn failed(&self) -> bool {
            self.failed
        }

        fn record(self: Box<Self>) {
            self.recorded.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn what_waits_shares_the_fate_of_its_root() {
        let recorded = Arc::new(AtomicU32::new(0));
        let give = |buffer: &SpanBuffer, failed| {
            let recorded = Arc::clone(&recorded);
            buffer.take(Box::new(Fake { failed, recorded }));
        };
        let kept = SpanBuffer::default();
        (0..3).for_each(|_| give(&kept, false));
        assert_eq!(recorded.load(Relaxed), 0);
        assert!(kept.end(|| false));
        assert_eq!(recorded.load(Relaxed), 3);
        give(&kept, false);
        assert_eq!(recorded.load(Relaxed), 4, "late");
        let dropped = SpanBuffer::default();
        give(&dropped, false);
        assert!(!dropped.end(|| true));
        give(&dropped, false);
        assert_eq!(recorded.load(Relaxed), 4);
        give(&dropped, true);
        assert_eq!(recorded.load(Relaxed), 5, "late, but it failed");
        let failed = SpanBuffer::default();
        give(&failed, true);
        assert!(failed.end(|| panic!("nobody is asked")));
        assert_eq!(recorded.load(Relaxed), 6);
    }
}
