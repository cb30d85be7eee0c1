//! What a feed hands out and takes back.

use model::{Event, Time, TraceContext};

/// One row: the event that it describes, or why it describes none.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its place in its table: what a feed knows it by.
    pub place: i64,
    /// What it is ordered by with others; `None`: with nothing.
    pub key: Option<String>,
    /// What it describes.
    pub event: Result<Relayed, String>,
}

/// An event on its way from a row to the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Relayed {
    /// The event.
    pub event: Event,
    /// The trace of whoever wrote the row.
    pub trace: Option<TraceContext>,
    /// How deep the chain of events and calls is that it comes from; 0: it begins one.
    pub depth: u8,
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Its place.
    pub place: i64,
    /// What became of it.
    pub fate: Fate,
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its event is in the log, fsynced.
    Sent,
    /// It can never be: set aside, with the reason.
    Refused(String),
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Rows that are neither sent nor refused, counted up to [`Backlog::MOST`].
    pub waiting: u64,
    /// When the first of them was written, by the database's clock.
    pub oldest: Option<Time>,
    /// Rows that were set aside, counted likewise.
    pub refused: u64,
    /// Bytes of its log that a server keeps for us.
    pub retained: Option<u64>,
}

impl Backlog {
    /// Rows are counted no further, so that counting stays cheap.
    pub const MOST: u64 = 100_000;
}
