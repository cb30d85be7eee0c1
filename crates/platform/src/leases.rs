//! What was pulled and is not settled: who has it, and until when. In memory only: after a restart all of it comes again,
//! since nobody knows whether those who had it are still there. Pure: it is told the time.

use std::collections::{BTreeSet, HashMap};

use bus::Delivery;
use model::{SubscriptionKey, Time};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// All leases.
#[derive(Default)]
pub(crate) struct Leases {
    state: Mutex<State>,
    /// There is an earlier end than before.
    pub(crate) changed: Notify,
}

#[derive(Default)]
struct State {
    leased: HashMap<u128, Leased>,
    ends: BTreeSet<(Time, u128)>,
}

struct Leased {
    lent: Lent,
    until: Time,
}

/// What somebody has.
pub(crate) struct Lent {
    pub(crate) delivery: Delivery,
    /// Since when.
    pub(crate) since: Time,
    /// How many bytes it took to hand it out.
    pub(crate) bytes: u64,
}

impl Leases {
    /// Keeps a delivery under `id` until then.
    pub(crate) fn lend(&self, id: u128, lent: Lent, until: Time) {
        let mut state = self.state.lock();
        state.ends.insert((until, id));
        state.leased.insert(id, Leased { lent, until });
        drop(state);
        self.changed.notify_one();
    }

    /// The delivery under `id`, when it is of `key` and its time is not over; it is nobody's any more.
    pub(crate) fn take(&self, id: u128, key: &SubscriptionKey, now: Time) -> Option<Lent> {
        let mut state = self.state.lock();
        let leased = state.leased.get(&id);
        let until = leased
            .filter(|leased| leased.lent.delivery.key == *key)?
            .until;
        if until <= now {
            return None;
        }
        state.ends.remove(&(until, id));
        state.leased.remove(&id).map(|leased| leased.lent)
    }

    /// Whether the lease of `id` goes on until then.
    pub(crate) fn extend(&self, id: u128, key: &SubscriptionKey, now: Time, until: Time) -> bool {
        let mut state = self.state.lock();
        let State { leased, ends } = &mut *state;
        let leased = leased.get_mut(&id);
        let leased = leased.filter(|leased| leased.lent.delivery.key == *key && leased.until > now);
        let Some(leased) = leased else {
            return false;
        };
        ends.remove(&(leased.until, id));
        ends.insert((until, id));
        leased.until = until;
        drop(state);
        self.changed.notify_one();
        true
    }

    /// What nobody settled in time.
    pub(crate) fn expired(&self, now: Time) -> Vec<Lent> {
        let mut state = self.state.lock();
        let mut expired = Vec::new();
        while let Some((until, id)) = state
            .ends
            .first()
            .copied()
            .filter(|(until, _)| *until <= now)
        {
            state.ends.remove(&(until, id));
            expired.extend(state.leased.remove(&id).map(|leased| leased.lent));
        }
        expired
    }

    /// When the next one ends.
    pub(crate) fn next_end(&self) -> Option<Time> {
        self.state.lock().ends.first().map(|(until, _)| *until)
    }
}
