//! The events of a projection without a key of order: strictly in the order of the log. What failed comes again before
//! anything behind it, and alone, so that what cannot be taken costs nothing else an attempt. Pure: no clock, no I/O.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use model::{Position, Time};
use store::log::{Logged, Waiting};

use crate::range::{Next, WINDOW, WINDOW_BYTES};

/// What waits of a projection.
#[derive(Default)]
pub(crate) struct Serial {
    ready: VecDeque<Arc<Logged>>,
    ready_bytes: u64,
    /// What failed, was redriven or is replayed, and when it is due.
    rows: BTreeMap<Position, Time>,
}

impl Serial {
    pub(crate) fn push(&mut self, logged: Arc<Logged>) {
        self.ready_bytes += logged.size;
        self.ready.push_back(logged);
    }

    pub(crate) fn wait(&mut self, waiting: Waiting) {
        self.rows.insert(waiting.position, waiting.due);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.ready.len() >= WINDOW || self.ready_bytes >= WINDOW_BYTES
    }

    pub(crate) fn has_room(&self) -> bool {
        self.ready.len() < WINDOW / 2 && self.ready_bytes < WINDOW_BYTES / 2
    }

    pub(crate) fn end_at(&mut self, end: Position) {
        while self.ready.back().is_some_and(|last| last.position > end) {
            self.ready
                .pop_back()
                .inspect(|last| self.ready_bytes -= last.size);
        }
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
        let logged = self.ready.pop_front()?;
        self.ready_bytes -= logged.size;
        Some(Next::First(logged))
    }

    /// How much could be taken at `now`, at most `most`, and since when the first of it waits. What failed comes alone, and
    /// waits for no others.
    pub(crate) fn available(&self, now: Time, most: usize) -> (usize, Option<Time>) {
        match self.rows.first_key_value() {
            Some((_, due)) if *due <= now => (most, Some(*due)),
            Some(_) => (0, None),
            None => {
                let since = self.ready.front().map(|first| first.at);
                (self.ready.len().min(most), since)
            }
        }
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        self.rows.first_key_value().map(|(_, due)| *due)
    }

    /// The position before the first that was not tried.
    pub(crate) fn through(&self) -> Option<Position> {
        self.ready
            .front()
            .map(|first| Position(first.position.0 - 1))
    }

    /// The first that failed and waits.
    pub(crate) fn first_row(&self) -> Option<Position> {
        self.rows.first_key_value().map(|(position, _)| *position)
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn oldest(&self) -> Option<Time> {
        self.ready.front().map(|logged| logged.at)
    }
}
