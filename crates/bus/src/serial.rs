//! The events of a projection without a key of order: strictly in the order of the log. What failed comes again before
//! anything behind it, and alone, so that what cannot be taken costs nothing else an attempt. Pure: no clock, no I/O.

use std::collections::BTreeMap;

use model::{Position, Time};
use store::log::Waiting;

use crate::{range::Next, ready::Ready};

/// What waits of a projection.
#[derive(Default)]
pub(crate) struct Serial {
    /// What is new.
    pub(crate) ready: Ready,
    /// What failed, was redriven or is replayed, and when it is due.
    rows: BTreeMap<Position, Time>,
}

impl Serial {
    pub(crate) fn wait(&mut self, waiting: Waiting) {
        self.rows.insert(waiting.position, waiting.due);
    }

    /// What is next; what failed is waited for.
    pub(crate) fn take(&mut self, now: Time) -> Option<Next> {
        if let Some((position, due)) = self.rows.first_key_value() {
            let position = *position;
            if *due > now {
                return None;
            }
            self.rows.remove(&position);
            return Some(Next::Again(position));
        }
        self.ready.pop().map(Next::First)
    }

    /// How much could be taken at `now`, at most `most`, and since when the first of it waits. What failed comes alone, and
    /// waits for no others.
    pub(crate) fn available(&self, now: Time, most: usize) -> (usize, Option<Time>) {
        match self.rows.first_key_value() {
            Some((_, due)) if *due <= now => (most, Some(*due)),
            Some(_) => (0, None),
            None => (self.ready.len().min(most), self.ready.oldest()),
        }
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        self.rows.first_key_value().map(|(_, due)| *due)
    }

    /// The first that failed and waits.
    pub(crate) fn first_row(&self) -> Option<Position> {
        self.rows.first_key_value().map(|(position, _)| *position)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.rows.len()
    }
}
