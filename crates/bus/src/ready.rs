//! Events of a range in the order of the log that were not tried yet, held in memory up to a window. Pure.

use std::{collections::VecDeque, sync::Arc};

use model::{Position, Time};
use store::log::Logged;

use crate::range::{WINDOW, WINDOW_BYTES};

/// Events to be tried for the first time.
#[derive(Default)]
pub(crate) struct Ready {
    events: VecDeque<Arc<Logged>>,
    bytes: u64,
}

impl Ready {
    /// One more, behind all others.
    pub(crate) fn push(&mut self, logged: Arc<Logged>) {
        self.bytes += logged.size;
        self.events.push_back(logged);
    }

    /// The first, for good.
    pub(crate) fn pop(&mut self) -> Option<Arc<Logged>> {
        let first = self.events.pop_front()?;
        self.bytes -= first.size;
        Some(first)
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.events.len() >= WINDOW || self.bytes >= WINDOW_BYTES
    }

    pub(crate) fn has_room(&self) -> bool {
        self.events.len() < WINDOW / 2 && self.bytes < WINDOW_BYTES / 2
    }

    /// Leaves what is beyond `end` to others.
    pub(crate) fn end_at(&mut self, end: Position) {
        while let Some(beyond) = self.events.pop_back_if(|last| last.position > end) {
            self.bytes -= beyond.size;
        }
    }

    /// The position before the first.
    pub(crate) fn through(&self) -> Option<Position> {
        let first = self.events.front();
        first.map(|first| Position(first.position.0 - 1))
    }

    /// Since when the first waits.
    pub(crate) fn oldest(&self) -> Option<Time> {
        self.events.front().map(|first| first.at)
    }
}
