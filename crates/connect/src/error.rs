//! What a database of an app fails with, as somebody who owns it can act on it.

use model::{Code, code};

/// What the verbs of this crate fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or does not answer.
    #[error("{place} cannot be reached: {why}")]
    Unreachable {
        /// Which, without credentials.
        place: String,
        /// Why.
        why: String,
    },
    /// It has no outbox, or one of another shape.
    #[error(
        "{place} has no outbox `{table}` that can be relayed: {why}; `tangelo outbox init {engine}` prints it"
    )]
    NoOutbox {
        /// Which.
        place: String,
        /// The table.
        table: String,
        /// What is missing.
        why: String,
        /// `sqlite` or `postgres`.
        engine: &'static str,
    },
    /// It does not let us in, or not do what must be done.
    #[error("{place} does not allow it: {why}")]
    Forbidden {
        /// Which.
        place: String,
        /// What it said.
        why: String,
    },
    /// It failed.
    #[error("{place} failed: {why}")]
    Failed {
        /// Which.
        place: String,
        /// What it said.
        why: String,
    },
    /// What captures its changes is not there.
    #[error(
        "changes of {place} are not captured: {why}; `tangelo capture init` makes what is needed"
    )]
    NoCapture {
        /// Which.
        place: String,
        /// What is missing.
        why: String,
    },
    /// Another relay has it.
    #[error("another server relays `{table}` of {place}: it stays with one at a time")]
    Held {
        /// Which.
        place: String,
        /// The table.
        table: String,
    },
}

impl Error {
    /// Its stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. } => code::DATABASE_UNREACHABLE,
            Self::NoOutbox { .. } => code::OUTBOX_MISSING,
            Self::NoCapture { .. } => code::CAPTURE_MISSING,
            Self::Forbidden { .. } => code::DATABASE_FORBIDDEN,
            Self::Failed { .. } => code::DATABASE_FAILED,
            Self::Held { .. } => code::RELAY_HELD,
        }
    }
}

impl Error {
    /// A table of changes that is missing is a capture that was not made.
    pub(crate) fn of_capture(self) -> Self {
        match self {
            Self::NoOutbox { place, why, .. } => Self::NoCapture { place, why },
            other => other,
        }
    }
}

impl From<Error> for model::Error {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
