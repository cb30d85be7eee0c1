//! How deliveries end: the cursor moves, a retry is parked, or a dead letter is written. A position leaves what runs
//! only when its own row is committed, so that a crash between repeats work and never loses it.

use std::{sync::Arc, time::Duration};

use model::{AfterDead, Error as Fault, RetryPolicy, Time};
use store::{
    Pending, Urgency,
    log::{Attempt, GivenUp, RetryRow, Waiting},
    shards::Owned,
};

use crate::{
    Bus, Delivery, Error, Settled,
    attempts::{LONGEST_WAIT, Made, longer},
    bus::Shared,
    delivery::Abandoned,
    lanes::Lane,
};

/// How long to wait when the store takes no more for now.
const BUSY: Duration = Duration::from_millis(20);
/// How long to wait when the disk refuses.
const REFUSED: Duration = Duration::from_secs(1);

impl Bus {
    /// Says how a delivery ended; durable when this returns.
    ///
    /// # Errors
    /// Those of the store, when it is closed or the subscription belongs to another node now: the delivery will be made
    /// again.
    pub async fn settle(&self, mut delivery: Delivery, settled: Settled) -> Result<(), Error> {
        delivery.settled = true;
        self.0.shared.settle(&delivery.facts(), settled).await
    }

    /// Says that a delivery was taken, where nobody is told so: of a subscription without order this does not wait for
    /// the disk. It is written with the next commit, at most 20 ms later; a server that is killed before makes the
    /// delivery again. What comes in an order is durable when this returns, as with [`Bus::settle`], since what is
    /// behind it may come only when it does not come again.
    ///
    /// # Errors
    /// As [`Bus::settle`].
    pub async fn done(&self, mut delivery: Delivery) -> Result<(), Error> {
        delivery.settled = true;
        let (shared, facts) = (&self.0.shared, delivery.facts());
        if !shared.note_done(&facts) {
            return shared.settle(&facts, Settled::Done).await;
        }
        shared.after(&facts);
        Ok(())
    }
}

impl Shared {
    pub(crate) async fn settle(
        self: &Arc<Self>,
        facts: &Abandoned,
        settled: Settled,
    ) -> Result<(), Error> {
        if !self.state.lock().ranges.contains_key(&facts.range) {
            // Dropped meanwhile with all that it had to do, or another node's.
            return Ok(());
        }
        let result = match settled {
            Settled::Done if facts.has_row => self.done_again(facts).await,
            Settled::Done => self.done_first(facts).await,
            Settled::Retry(error) => self.failed(facts, error).await,
            Settled::Later(error) => self.postponed(facts, error).await,
            Settled::Dead(error) => self.give_up(facts, error, facts.history.clone()).await,
        };
        if let Err(Error::Store(store::Error::NotOwner(_))) = result {
            // Another node has it now, with all that was known here.
            self.state.lock().remove(facts.range);
        }
        self.after(facts);
        result
    }

    /// The state after something ended: others may have their turn.
    fn after(&self, facts: &Abandoned) {
        let mut state = self.state.lock();
        let chores = state.look_after(facts.range);
        let wake = state.touch(&facts.key, self.clock.now());
        drop(state);
        if chores {
            self.chores.notify_one();
        }
        self.wake(wake);
    }

    /// Ends in memory what nothing behind it waits for, and has the store write that soon; whether it was such.
    fn note_done(&self, facts: &Abandoned) -> bool {
        let mut state = self.state.lock();
        let Some(range) = state.ranges.get_mut(&facts.range) else {
            return false;
        };
        if facts.has_row || !range.is_plain() {
            return false;
        }
        range.ended(facts.position);
        state.note(&self.log, &self.shards, facts.range, Urgency::Soon);
        true
    }

    async fn done_first(&self, facts: &Abandoned) -> Result<(), Error> {
        let owned = self.owner(facts)?;
        if let Some(range) = self.state.lock().ranges.get_mut(&facts.range) {
            range.ended(facts.position);
        }
        loop {
            match self.log.settle(owned, facts.range) {
                Ok(pending) => return Ok(pending.done().await.map(|_| ())?),
                Err(store::Error::Busy) => self.clock.sleep(BUSY).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn done_again(&self, facts: &Abandoned) -> Result<(), Error> {
        let owned = self.owner(facts)?;
        let id = facts.range;
        self.insist(|| self.log.retry_done(owned, id, facts.position))
            .await?;
        if let Some(range) = self.state.lock().ranges.get_mut(&id) {
            range.ended(facts.position);
        }
        Ok(())
    }

    fn policy(&self, facts: &Abandoned) -> Result<RetryPolicy, Error> {
        let state = self.state.lock();
        let range = state.ranges.get(&facts.range);
        let policy = range.map(|range| range.terms.retry);
        Ok(policy.ok_or(store::Error::NotFound("subscription"))?)
    }

    async fn postponed(&self, facts: &Abandoned, error: Fault) -> Result<(), Error> {
        let (policy, now) = (self.policy(facts)?, self.clock.now());
        let due = now + error.retry_after.unwrap_or_default().min(LONGEST_WAIT);
        if due.since(facts.born) > policy.max_age {
            let history = longer(&facts.history, now, &error);
            return self.give_up(facts, error, history).await;
        }
        let untried = Abandoned {
            attempt: facts.attempt.saturating_sub(1),
            ..facts.clone()
        };
        self.retry(&untried, due, facts.history.clone()).await
    }

    async fn failed(&self, facts: &Abandoned, error: Fault) -> Result<(), Error> {
        let policy = self.policy(facts)?;
        let now = self.clock.now();
        let history = longer(&facts.history, now, &error);
        let random = u16::try_from(self.ids.random() & 0xffff).expect("16 bits");
        let made = Made {
            attempts: facts.attempt,
            history: &history,
            born: facts.born,
        };
        match made.next_due(policy, now, random, &error) {
            None => self.give_up(facts, error, history).await,
            Some(due) => self.retry(facts, due, history).await,
        }
    }

    async fn retry(
        &self,
        facts: &Abandoned,
        due: Time,
        history: Vec<Attempt>,
    ) -> Result<(), Error> {
        let owned = self.owner(facts)?;
        let row = RetryRow {
            subscription: facts.range,
            position: facts.position,
            due,
            attempts: facts.attempt,
            born: facts.born,
            first_at: facts.first_attempt_at,
            history,
            lane: self.lane(facts).map(|lane| lane.0),
            replay: None,
        };
        self.insist(|| self.log.retry(owned, row.clone())).await?;
        let mut state = self.state.lock();
        if let Some(range) = state.ranges.get_mut(&facts.range) {
            let position = facts.position;
            range.waits(Waiting { due, position }, None);
        }
        self.note_unless_it_had_a_row(&mut state, facts);
        Ok(())
    }

    async fn give_up(
        &self,
        facts: &Abandoned,
        reason: Fault,
        history: Vec<Attempt>,
    ) -> Result<(), Error> {
        let owned = self.owner(facts)?;
        let holds = self.lane(facts).filter(|_| self.dead_hold(facts));
        let letter = GivenUp {
            lane: holds.map(|lane| lane.0),
            subscription: facts.range,
            position: facts.position,
            first_at: facts.first_attempt_at,
            attempts: facts.attempt,
            reason,
            history,
        };
        self.insist(|| self.log.give_up(owned, letter.clone()))
            .await?;
        let mut state = self.state.lock();
        // Before its lane goes on.
        if let Some(consumer) = state.consumers.get_mut(&facts.key) {
            consumer.dead += 1;
            if let Some(lane) = holds {
                let first = consumer.held.entry(lane).or_insert(facts.position);
                *first = facts.position.min(*first);
                state.holds_changed += 1;
            }
        }
        if let Some(range) = state.ranges.get_mut(&facts.range) {
            range.ended(facts.position);
        }
        self.note_unless_it_had_a_row(&mut state, facts);
        Ok(())
    }

    fn note_unless_it_had_a_row(&self, state: &mut crate::state::State, facts: &Abandoned) {
        if !facts.has_row {
            state.note(&self.log, &self.shards, facts.range, Urgency::Ride);
        }
    }

    fn lane(&self, facts: &Abandoned) -> Option<Lane> {
        let state = self.state.lock();
        state.ranges.get(&facts.range)?.lane_of(facts.position)
    }

    /// Whether a dead letter of this subscription holds what comes after it.
    fn dead_hold(&self, facts: &Abandoned) -> bool {
        let state = self.state.lock();
        let order = state
            .ranges
            .get(&facts.range)
            .and_then(|range| range.order.as_ref());
        order.is_some_and(|order| order.dead == AfterDead::Hold)
    }

    fn owner(&self, facts: &Abandoned) -> Result<Owned, store::Error> {
        let shard = self
            .state
            .lock()
            .ranges
            .get(&facts.range)
            .map(|range| range.shard);
        self.shards
            .owner(shard.ok_or(store::Error::NotFound("subscription"))?)
    }

    /// Writes what must be written before memory may move on: a full queue or a refusing disk is waited out.
    async fn insist(
        &self,
        submit: impl Fn() -> Result<Pending, store::Error>,
    ) -> Result<(), Error> {
        loop {
            let written = match submit() {
                Ok(pending) => pending.done().await,
                Err(error) => Err(error),
            };
            match written {
                Ok(_) => return Ok(()),
                Err(store::Error::Busy) => self.clock.sleep(BUSY).await,
                Err(error @ (store::Error::Sql(_) | store::Error::Io { .. })) => {
                    tracing::error!(%error, "the end of a delivery cannot be written; trying again");
                    self.clock.sleep(REFUSED).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
