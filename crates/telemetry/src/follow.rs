//! Lines as they come, for `logs -f`. A reader that is slow loses lines and is told how many; the writers of
//! lines never wait for it.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{log::LogRecord, query::LogQuery};

/// Lines that a slow reader may be behind before it loses some.
pub(crate) const BEHIND: usize = 1024;

/// What a follower gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// A line.
    Record(Arc<LogRecord>),
    /// So many lines were lost here, of any workload.
    Skipped(u64),
}

/// Lines as they come, those that are already there first.
pub struct Follow {
    query: LogQuery,
    history: std::vec::IntoIter<LogRecord>,
    /// Hashes of the lines of the history, which may come a second time.
    told: HashSet<u64>,
    hasher: RandomState,
    live: Receiver<Arc<LogRecord>>,
}

impl Follow {
    pub(crate) fn new(
        query: LogQuery,
        history: Vec<LogRecord>,
        live: Receiver<Arc<LogRecord>>,
    ) -> Self {
        let hasher = RandomState::new();
        Self {
            told: history
                .iter()
                .map(|record| hasher.hash_one(record))
                .collect(),
            history: history.into_iter(),
            query,
            hasher,
            live,
        }
    }

    /// The next line that matches, or how many were lost; `None` when telemetry was closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Followed> {
        if let Some(record) = self.history.next() {
            return Some(Followed::Record(Arc::new(record)));
        }
        loop {
            match self.live.recv().await {
                Ok(record) if self.is_new(&record) => return Some(Followed::Record(record)),
                Ok(_) => {}
                Err(RecvError::Lagged(lost)) => return Some(Followed::Skipped(lost)),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn is_new(&mut self, record: &LogRecord) -> bool {
        self.query.matches(record)
            && (self.told.is_empty() || !self.told.remove(&self.hasher.hash_one(record)))
    }
}
