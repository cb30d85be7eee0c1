//! The loop's side of taking: which subscription has something to deliver now, and the next delivery of it. A permit is
//! asked for between the two, so that what is refused was never taken.

use std::{sync::Arc, time::Duration};

use model::{Position, SubscriptionKey, Time, code};
use store::{
    Urgency,
    log::{Logged, SubscriptionId, Waiting},
};

use crate::{
    Bus, Delivery, Settled,
    attempts::Made,
    bus::Shared,
    delivery::Shape,
    fill::PAUSE,
    lanes::{Held, Lane},
    range::{Next, Range},
};

impl Bus {
    /// Waits until a subscription has something to deliver now, and names it. It is not named again until it was taken
    /// from or parked.
    pub async fn ready(&self) -> SubscriptionKey {
        let shared = &self.0.shared;
        loop {
            let work = shared.work.notified();
            tokio::pin!(work);
            work.as_mut().enable();
            let next = {
                let now = shared.clock.now();
                shared.state.lock().name_next(now)
            };
            match next {
                Ok(key) => return key,
                Err(None) => work.await,
                Err(Some(due)) => tokio::select! {
                    () = work => {}
                    () = shared.clock.sleep_until(due) => {}
                },
            }
        }
    }

    /// What is next of `key`, in flight from now on: one delivery, or a batch where its subscription asks for those.
    /// Called only with a permit in hand; empty: there is nothing after all.
    pub async fn take(&self, key: &SubscriptionKey) -> Vec<Delivery> {
        let shared = &self.0.shared;
        let deliveries = shared.take(key, false).await;
        let now = shared.clock.now();
        let wake = shared.state.lock().taken_from(key, now, deliveries.len());
        shared.wake(wake);
        if !deliveries.is_empty() && now < shared.careful_until {
            // What it says of what is in flight is durable before the attempt, in case the attempt kills the server.
            // A store that cannot write now is no reason not to deliver.
            shared.store.flush().await.ok();
        }
        deliveries
    }

    /// No permit now: the subscription is named again after `wait`. Costs no attempt; `why` is what `stats` shows.
    pub fn park(&self, key: &SubscriptionKey, wait: Duration, why: &str) {
        let shared = &self.0.shared;
        let now = shared.clock.now();
        let wake = shared.state.lock().park(key, now, now + wait, why);
        shared.wake(wake);
    }

    /// Gives up, for `reason`, everything that waits of subscriptions with this key that ended: their workload is gone
    /// for good. What lives under the same key is left alone. Returns how many became dead letters.
    pub async fn give_up_ended(&self, key: &SubscriptionKey, reason: &model::Error) -> u64 {
        let shared = &self.0.shared;
        let mut given_up = 0;
        loop {
            let deliveries = shared.take(key, true).await;
            if deliveries.is_empty() {
                break;
            }
            for mut delivery in deliveries {
                delivery.settled = true;
                let dead = Settled::Dead(reason.clone());
                if let Err(error) = shared.settle(&delivery.facts(), dead).await {
                    tracing::warn!(%error, %key, "a delivery to nobody stays until the next start");
                }
                given_up += 1;
            }
        }
        let now = shared.clock.now();
        let wake = shared.state.lock().touch(key, now);
        shared.wake(wake);
        given_up
    }
}

/// Most bytes of events in one batch, unless one alone is larger.
const BATCH_BYTES: u64 = 4 << 20;

/// What was taken of which range.
struct Taken {
    range: SubscriptionId,
    next: Next,
    /// An earlier event of its key is a dead letter.
    held: bool,
}

impl Shared {
    pub(crate) async fn take(
        self: &Arc<Self>,
        key: &SubscriptionKey,
        ended_only: bool,
    ) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        loop {
            let taken = self.take_from_memory(key, ended_only);
            if taken.is_empty() {
                return deliveries;
            }
            for one in taken {
                deliveries.extend(self.prepare(key, one, ended_only).await);
            }
            if !deliveries.is_empty() {
                return deliveries;
            }
        }
    }

    fn take_from_memory(&self, key: &SubscriptionKey, ended_only: bool) -> Vec<Taken> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let state = &mut *state;
        if !ended_only && state.consumers.get(key).is_none_or(|c| c.paused.is_some()) {
            return Vec::new();
        }
        // What is given up need not be due.
        let until = if ended_only { Time(u64::MAX) } else { now };
        for id in state.takeable(key) {
            let (Some(range), Some(consumer)) =
                (state.ranges.get_mut(&id), state.consumers.get(key))
            else {
                continue;
            };
            let wanted = if ended_only {
                range.end.is_some()
            } else {
                range.has_work(now)
            };
            if !wanted {
                continue;
            }
            let taken = take_some(range, until, &consumer.held);
            if taken.is_empty() {
                continue;
            }
            if taken.iter().any(|one| !matches!(one.next, Next::Again(_))) {
                state.note(&self.log, &self.shards, id, Urgency::Soon);
                if state.look_after(id) {
                    self.chores.notify_one();
                }
            }
            return taken;
        }
        Vec::new()
    }

    /// Makes a delivery of what was taken; `None`: there is nothing to try after all.
    async fn prepare(
        self: &Arc<Self>,
        key: &SubscriptionKey,
        taken: Taken,
        ended_only: bool,
    ) -> Option<Delivery> {
        let Taken { range, next, held } = taken;
        let mut delivery = match next {
            Next::First(logged) => self.first(range, &logged)?,
            Next::Unread(position) => self.read(key, range, position).await?,
            Next::Again(position) => self.take_again(key, range, position, held).await?,
        };
        if !held || ended_only {
            return Some(delivery);
        }
        let reason = model::Error::new(
            code::EARLIER_IS_DEAD,
            "an earlier event of the same key is a dead letter",
        );
        delivery.settled = true;
        delivery.attempt -= 1;
        if let Err(error) = self.settle(&delivery.facts(), Settled::Dead(reason)).await {
            tracing::warn!(%error, %key, "a held delivery stays until the next start");
        }
        None
    }

    fn first(self: &Arc<Self>, id: SubscriptionId, logged: &Logged) -> Option<Delivery> {
        let now = self.clock.now();
        let state = self.state.lock();
        let range = state.ranges.get(&id)?;
        Some(Delivery::first(self, range, logged, now))
    }

    /// A first attempt at an event that is not in memory.
    async fn read(
        self: &Arc<Self>,
        key: &SubscriptionKey,
        id: SubscriptionId,
        position: Position,
    ) -> Option<Delivery> {
        let namespace = self.state.lock().ranges.get(&id)?.namespace.clone();
        match self.log.event(&namespace, position).await {
            Ok(Some(logged)) => self.first(id, &logged),
            Ok(None) => {
                tracing::error!(%key, position = position.0, "an event that waits is not in the log");
                self.forget(id, position);
                None
            }
            Err(error) => {
                tracing::error!(%error, %key, "an event that waits cannot be read; trying again");
                self.clock.sleep(PAUSE).await;
                if let Some(range) = self.state.lock().ranges.get_mut(&id) {
                    range.untaken(position);
                }
                None
            }
        }
    }

    /// A delivery that failed before: its row and its event are read. `None`: there is nothing to try, look further.
    async fn take_again(
        self: &Arc<Self>,
        key: &SubscriptionKey,
        range: SubscriptionId,
        position: Position,
        held: bool,
    ) -> Option<Delivery> {
        let item = self.log.retry_item(range, position).await;
        let item = match item {
            Ok(Some(item)) => item,
            Ok(None) => {
                self.forget(range, position);
                return None;
            }
            Err(error) => {
                tracing::error!(%error, %key, "a retry cannot be read; it waits");
                self.put_back(range, position, self.clock.now() + PAUSE, None);
                return None;
            }
        };
        let (namespace, terms, shape, shard) = {
            let state = self.state.lock();
            let range = state.ranges.get(&range)?;
            (
                range.namespace.clone(),
                range.terms,
                Shape::of(range),
                range.shard,
            )
        };
        let mut delivery = Delivery::again(self, namespace, key.clone(), shape, item);
        let made = Made {
            attempts: delivery.attempt - 1,
            history: &delivery.history,
            born: delivery.born,
        };
        if held {
            return Some(delivery);
        }
        if made.used_up(terms.retry) {
            // The attempt that the server did not survive was its last.
            let reason = model::Error::new(
                code::SHUTTING_DOWN,
                "the server stopped during the last attempt",
            );
            delivery.settled = true;
            delivery.attempt -= 1;
            self.settle(&delivery.facts(), Settled::Dead(reason))
                .await
                .ok();
            return None;
        }
        if let Ok(owned) = self.shards.owner(shard) {
            // Fails only when the store is closed.
            self.log
                .note_running(owned, range, position, delivery.attempt)
                .ok();
        }
        Some(delivery)
    }

    /// A retry without a row: it was settled already.
    fn forget(&self, range: SubscriptionId, position: Position) {
        let mut state = self.state.lock();
        if let Some(range) = state.ranges.get_mut(&range) {
            range.ended(position);
        }
        state.look_after(range);
    }

    /// A delivery waits until `due`, as far as memory goes.
    pub(crate) fn put_back(
        &self,
        id: SubscriptionId,
        position: Position,
        due: Time,
        lane: Option<Lane>,
    ) {
        let wake =
            self.state
                .lock()
                .put_back(id, Waiting { due, position }, lane, self.clock.now());
        self.wake(wake);
    }
}

/// Takes one, or a batch.
fn take_some(range: &mut Range, until: Time, held: &Held) -> Vec<Taken> {
    let (most, mut bytes) = (range.terms.batch_size(), 0);
    let mut taken = Vec::with_capacity(1);
    while taken.len() < most && bytes < BATCH_BYTES {
        let Some((next, is_held)) = range.take(until, held) else {
            break;
        };
        if let Next::First(logged) = &next {
            bytes += logged.size;
        }
        let alone = range.is_serial() && matches!(next, Next::Again(_));
        taken.push(Taken {
            range: range.id,
            next,
            held: is_held,
        });
        if alone {
            break;
        }
    }
    if range.terms.batch.is_some() {
        let positions: Vec<Position> = taken.iter().map(|one| one.next.position()).collect();
        range.taken_together(&positions);
    }
    taken
}
