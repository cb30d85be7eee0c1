//! The events of a subscription without order: what is new goes in the order of the log, what failed goes first when it
//! is due. Pure: no clock, no I/O.

use std::collections::BTreeSet;

use model::{Position, Time};
use store::log::Waiting;

use crate::{
    range::{MAX_RETRYING, Next},
    ready::Ready,
};

/// What waits of a subscription without order.
#[derive(Default)]
pub(crate) struct Plain {
    /// What is new.
    pub(crate) ready: Ready,
    waiting: BTreeSet<Waiting>,
}

impl Plain {
    pub(crate) fn wait(&mut self, waiting: Waiting) {
        self.waiting.insert(waiting);
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
        self.ready.pop().map(Next::First)
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
        let first_new = self.ready.oldest().filter(|_| new > 0);
        let since = first_due.into_iter().chain(first_new).min();
        ((due + new).min(most), since)
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        self.waiting.first().map(|first| first.due)
    }

    /// The first that failed and waits; the lowest, not the one that is due first.
    pub(crate) fn first_row(&self) -> Option<Position> {
        self.waiting.iter().map(|waiting| waiting.position).min()
    }

    pub(crate) fn is_full_of_rows(&self, trying: usize) -> bool {
        self.waiting.len() + trying >= MAX_RETRYING
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
