//! The events of a subscription without order: what is new goes in the order of the log, what failed goes first when it
//! is due. Pure: no clock, no I/O.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use model::{Position, Time};
use store::log::{Logged, Waiting};

use crate::range::{MAX_RETRYING, Next, WINDOW, WINDOW_BYTES};

/// What waits of a subscription without order.
#[derive(Default)]
pub(crate) struct Plain {
    ready: VecDeque<Arc<Logged>>,
    ready_bytes: u64,
    waiting: BTreeSet<Waiting>,
}

impl Plain {
    pub(crate) fn push(&mut self, logged: Arc<Logged>) {
        self.ready_bytes += logged.size;
        self.ready.push_back(logged);
    }

    pub(crate) fn wait(&mut self, waiting: Waiting) {
        self.waiting.insert(waiting);
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

    /// What is next; with `rows_only`, what was never tried stays.
    pub(crate) fn take(&mut self, now: Time, rows_only: bool) -> Option<Next> {
        let due = self.waiting.first().copied();
        if let Some(waiting) = due.filter(|first| first.due <= now) {
            self.waiting.remove(&waiting);
            return Some(Next::Again(waiting.position));
        }
        if rows_only {
            return None;
        }
        let logged = self.ready.pop_front()?;
        self.ready_bytes -= logged.size;
        Some(Next::First(logged))
    }

    /// How much could be taken at `now`, at most `most`, and since when the first of it waits.
    pub(crate) fn available(
        &self,
        now: Time,
        most: usize,
        rows_only: bool,
    ) -> (usize, Option<Time>) {
        let due = self.waiting.iter().take_while(|one| one.due <= now);
        let due = due.take(most).count();
        let first_due = self.waiting.first().filter(|_| due > 0).map(|one| one.due);
        let new = if rows_only { 0 } else { self.ready.len() };
        let first_new = self.ready.front().filter(|_| new > 0).map(|one| one.at);
        let since = first_due.into_iter().chain(first_new).min();
        ((due + new).min(most), since)
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        self.waiting.first().map(|first| first.due)
    }

    /// The position before the first that waits to be tried.
    pub(crate) fn through(&self) -> Option<Position> {
        self.ready
            .front()
            .map(|first| Position(first.position.0 - 1))
    }

    /// The first that failed and waits; the lowest, not the one that is due first.
    pub(crate) fn first_row(&self) -> Option<Position> {
        self.waiting.iter().map(|waiting| waiting.position).min()
    }

    pub(crate) fn is_full_of_rows(&self, trying: usize) -> bool {
        self.waiting.len() + trying >= MAX_RETRYING
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn oldest(&self) -> Option<Time> {
        self.ready.front().map(|logged| logged.at)
    }
}
