//! Moving the WAL into the database, on a thread and connection of its own, so that no commit pays for it. Passive
//! checkpoints run beside the writer; only when the WAL grows all the same is the writer held back for one that resets it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::Connection;

/// The WAL is moved when it has more pages than this: 4 MiB.
const PASSIVE_PAGES: u64 = 1024;
/// The writer is held back when it has more than this: 64 MiB.
const RESET_PAGES: u64 = 16_384;
/// Commits between two checkpoints at least, while the WAL stays below its upper bound.
const COMMITS_BETWEEN: u64 = 16;

/// What the writer and the checkpointer share.
pub(crate) struct Checkpoints {
    gate: Mutex<()>,
    pages: AtomicU64,
    commits: AtomicU64,
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    wanted: bool,
    closed: bool,
}

impl Checkpoints {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            gate: Mutex::default(),
            pages: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            state: Mutex::default(),
            wanted: Condvar::new(),
        })
    }

    /// Held by the writer during a transaction.
    pub(crate) fn gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock()
    }

    /// The writer committed and the WAL has so many pages now: now and then this asks for a checkpoint.
    pub(crate) fn committed(&self, pages: u64) {
        self.pages.store(pages, Ordering::Relaxed);
        let commits = self.commits.fetch_add(1, Ordering::Relaxed);
        let due = pages > PASSIVE_PAGES && commits.is_multiple_of(COMMITS_BETWEEN);
        if due || pages > RESET_PAGES {
            self.state.lock().wanted = true;
            self.wanted.notify_one();
        }
    }

    /// Ends the checkpointer after its current work.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.wanted.notify_all();
    }

    /// Pages in the WAL after the last commit.
    pub(crate) fn wal_pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// The checkpointer's thread.
    pub(crate) fn run(&self, connection: &Connection) {
        while self.wait() {
            if let Err(error) = self.checkpoint(connection) {
                tracing::warn!(%error, "a checkpoint failed");
            }
        }
    }

    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.wanted && !state.closed {
            self.wanted.wait(&mut state);
        }
        state.wanted = false;
        !state.closed
    }

    fn checkpoint(&self, connection: &Connection) -> rusqlite::Result<()> {
        run(connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
        if self.wal_pages() > RESET_PAGES {
            let _gate = self.gate();
            run(connection, "PRAGMA wal_checkpoint(TRUNCATE)")?;
            self.pages.store(0, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn run(connection: &Connection, pragma: &str) -> rusqlite::Result<()> {
    connection.query_row(pragma, [], |_| Ok(()))
}
