//! How many invocations the whole server has under way, whoever they are for: bounded, because each takes memory.
//!
//! Not all may take the last places. What an admitted invocation calls goes before what comes from outside, which would
//! otherwise fill the server with callers that wait for each other's callees; what can wait leaves room to both.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use model::{Class, Error, code};

/// The places.
pub(super) struct Total {
    limit: u32,
    taken: AtomicU32,
}

/// Who asks for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    /// Work that nobody waits for: up to three quarters of the places.
    Deferred,
    /// Somebody outside: up to seven eighths.
    Outside,
    /// An invocation that was admitted already.
    Within,
}

/// One place, until it is dropped.
pub(super) struct Place(Arc<Total>);

impl Rank {
    /// Of work that no invocation asks for.
    pub(super) const fn of(class: Class) -> Self {
        match class {
            Class::Interactive => Self::Outside,
            Class::Async | Class::Background => Self::Deferred,
        }
    }
}

impl Total {
    /// So many places.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit: limit.max(1),
            taken: AtomicU32::new(0),
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// `SERVER_FULL` when none is left for this rank.
    pub(super) fn take(total: &Arc<Self>, rank: Rank) -> Result<Place, Error> {
        let kept_for_others = match rank {
            Rank::Deferred => total.limit / 4,
            Rank::Outside => total.limit / 8,
            Rank::Within => 0,
        };
        if total.taken.fetch_add(1, SeqCst) < total.limit - kept_for_others {
            return Ok(Place(Arc::clone(total)));
        }
        total.taken.fetch_sub(1, SeqCst);
        let message = format!(
            "the server has all the requests that it may hold ({}); try again",
            total.limit
        );
        Err(Error::new(code::SERVER_FULL, message).retry_after(Duration::from_secs(1)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_places_are_for_what_was_begun() {
        let total = Arc::new(Total::new(8));
        let take = |rank| Total::take(&total, rank).ok();
        let mut taken: Vec<_> = (0..8).map_while(|_| take(Rank::Deferred)).collect();
        assert_eq!(taken.len(), 6);
        taken.extend((0..8).map_while(|_| take(Rank::Outside)));
        assert_eq!(taken.len(), 7);
        taken.extend((0..8).map_while(|_| take(Rank::Within)));
        assert_eq!(taken.len(), 8);
        let error = Total::take(&total, Rank::Within).err().expect("is full");
        assert_eq!(error.code, code::SERVER_FULL);
        assert!(error.retry_after.is_some());
        taken.clear();
        assert!(
            take(Rank::Deferred).is_some(),
            "what was refused holds nothing"
        );
        let one = Arc::new(Total::new(1));
        assert!(Total::take(&one, Rank::Deferred).is_ok());
    }
}
