//! Connections that wait for their next request, kept with the thread that used them last.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::connection::Connection;

/// Threads beyond this number share a shelf; still correct, only slower.
const SHELVES: usize = 16;

/// Idle connections that one thread keeps.
const PER_SHELF: usize = 64;

/// After how long an idle connection is closed.
const KEEP: Duration = Duration::from_secs(30);

/// How old an idle connection may be for a request that can be repeated, and for one that cannot. Servers close idle
/// connections after as little as two seconds, and a request that meets that moment is lost.
pub(super) const fn patience(repeatable: bool) -> Duration {
    if repeatable {
        KEEP
    } else {
        Duration::from_secs(1)
    }
}

/// The idle connections of one upstream.
#[derive(Default)]
pub(super) struct Idle {
    shelves: [Mutex<Vec<Kept>>; SHELVES],
}

struct Kept {
    connection: Connection,
    since: Instant,
}

impl Idle {
    /// The connection that was used last by this thread, unless it has idled for longer than `patience`.
    pub(super) fn take(&self, now: Instant, patience: Duration) -> Option<Connection> {
        let mut shelf = self.shelves[shelf()].lock();
        let youngest = shelf.last()?;
        if now.saturating_duration_since(youngest.since) > patience {
            return None;
        }
        shelf.pop().map(|kept| kept.connection)
    }

    pub(super) fn put(&self, connection: Connection, now: Instant) {
        let mut shelf = self.shelves[shelf()].lock();
        if shelf.len() < PER_SHELF {
            shelf.push(Kept {
                connection,
                since: now,
            });
        }
    }

    pub(super) fn prune(&self, now: Instant) {
        for shelf in &self.shelves {
            shelf
                .lock()
                .retain(|kept| now.saturating_duration_since(kept.since) <= KEEP);
        }
    }
}

fn shelf() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Relaxed));
    }
    MINE.get() % SHELVES
}
