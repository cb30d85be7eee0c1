//! The loop's side of taking: which subscription has something to deliver now, and the next delivery of it. A permit is
//! asked for between the two, so that what is refused was never taken.

use std::{sync::Arc, time::Duration};

use model::{Position, SubscriptionKey, Time, code};
use store::{Urgency, log::SubscriptionId};

use crate::{Bus, Delivery, Settled, attempts::Made, bus::Shared, fill::PAUSE, range::Next};

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

    /// The next delivery of `key`, in flight from now on. Called only with a permit in hand; `None`: there is nothing
    /// after all.
    pub async fn take(&self, key: &SubscriptionKey) -> Option<Delivery> {
        let shared = &self.0.shared;
        let delivery = shared.take(key, false).await;
        let now = shared.clock.now();
        let wake = shared.state.lock().taken_from(key, now);
        shared.wake(wake);
        if delivery.is_some() && now < shared.careful_until {
            // What it says of what is in flight is durable before the attempt, in case the attempt kills the server.
            // A store that cannot write now is no reason not to deliver.
            shared.store.flush().await.ok();
        }
        delivery
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
        while let Some(mut delivery) = shared.take(key, true).await {
            delivery.settled = true;
            let dead = Settled::Dead(reason.clone());
            if let Err(error) = shared.settle(&delivery.facts(), dead).await {
                tracing::warn!(%error, %key, "a delivery to nobody stays until the next start");
            }
            given_up += 1;
        }
        let now = shared.clock.now();
        let wake = shared.state.lock().touch(key, now);
        shared.wake(wake);
        given_up
    }
}

/// What was taken of which range.
struct Taken {
    range: SubscriptionId,
    position: Position,
}

impl Shared {
    async fn take(self: &Arc<Self>, key: &SubscriptionKey, ended_only: bool) -> Option<Delivery> {
        loop {
            let now = self.clock.now();
            match self.take_from_memory(key, now, ended_only)? {
                Ok(delivery) => return Some(delivery),
                Err(again) => match self.take_again(key, &again).await {
                    Some(delivery) => return Some(delivery),
                    None => continue,
                },
            }
        }
    }

    fn take_from_memory(
        self: &Arc<Self>,
        key: &SubscriptionKey,
        now: Time,
        ended_only: bool,
    ) -> Option<Result<Delivery, Taken>> {
        let mut state = self.state.lock();
        // What is given up need not be due.
        let until = if ended_only { Time(u64::MAX) } else { now };
        let ids = state.consumers.get(key)?.ranges.clone();
        for id in ids {
            let Some(range) = state.ranges.get_mut(&id) else {
                continue;
            };
            if ended_only && range.end.is_none() {
                continue;
            }
            match range.take(until) {
                None => {}
                Some(Next::Again(position)) => {
                    let range = range.id;
                    return Some(Err(Taken { range, position }));
                }
                Some(Next::First(logged)) => {
                    let delivery = Delivery::first(self, range, &logged, now);
                    state.note(&self.log, &self.shards, id, Urgency::Soon);
                    if state.look_after(id) {
                        self.chores.notify_one();
                    }
                    return Some(Ok(delivery));
                }
            }
        }
        None
    }

    /// A delivery that failed before: its row and its event are read. `None`: there is nothing to try, look further.
    async fn take_again(
        self: &Arc<Self>,
        key: &SubscriptionKey,
        taken: &Taken,
    ) -> Option<Delivery> {
        let Taken { range, position } = *taken;
        let item = self.log.retry_item(range, position).await;
        let item = match item {
            Ok(Some(item)) => item,
            Ok(None) => {
                self.forget(range, position);
                return None;
            }
            Err(error) => {
                tracing::error!(%error, %key, "a retry cannot be read; it waits");
                self.put_back(range, position, self.clock.now() + PAUSE);
                return None;
            }
        };
        let (namespace, policy, shard) = {
            let state = self.state.lock();
            let range = state.ranges.get(&range)?;
            (range.namespace.clone(), range.retry, range.shard)
        };
        let mut delivery = Delivery::again(self, namespace, key.clone(), item.row, &item.logged);
        let made = Made {
            attempts: delivery.attempt - 1,
            history: &delivery.history,
            born: delivery.born,
        };
        if made.used_up(policy) {
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
    pub(crate) fn put_back(&self, id: SubscriptionId, position: Position, due: Time) {
        let mut state = self.state.lock();
        let Some(range) = state.ranges.get_mut(&id) else {
            return;
        };
        range.waits(store::log::Waiting { due, position });
        let key = range.key.clone();
        let wake = state.touch(&key, self.clock.now());
        drop(state);
        self.wake(wake);
    }
}
