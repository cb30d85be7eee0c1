//! Dead letters, as people see them: listed, read, redriven, discarded.

use model::{AppName, Error as Fault, Namespace, Position, SubscriptionKey, Time, TraceId};
use serde::Serialize;
use serde_json::Value;
use store::log::{Attempt, DeadLetterFilter as Stored, Redriven};

use crate::{Bus, Error, lanes::Lane};

/// Letters redriven by one look at the store.
const CHUNK: u32 = 100;

/// A delivery that was given up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetter {
    /// Its number.
    pub id: u64,
    /// Where its event was published.
    pub namespace: Namespace,
    /// Whose it was: `app/workload/name`.
    #[serde(serialize_with = "as_text")]
    pub subscription: SubscriptionKey,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The event's place in the log.
    pub position: Position,
    /// The event, in the JSON format of CloudEvents.
    pub event: Value,
    /// When it was published.
    pub published_at: Time,
    /// When it was tried first.
    pub first_attempt_at: Time,
    /// When it was given up.
    pub dead_at: Time,
    /// Attempts in all.
    pub attempts: u32,
    /// Why no more.
    pub reason: Fault,
    /// The last attempts, oldest first.
    pub history: Vec<Attempt>,
    /// The trace that it belongs to.
    pub trace: TraceId,
}

/// Which dead letters.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Of this app.
    pub app: Option<AppName>,
    /// Of this subscription.
    pub subscription: Option<SubscriptionKey>,
}

/// A key as people write it.
pub(crate) fn as_text<S: serde::Serializer>(
    key: &SubscriptionKey,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}

impl DeadLetterFilter {
    fn stored(self) -> Option<Stored> {
        let mut stored = Stored {
            app: self.app,
            ..Stored::default()
        };
        if let Some(key) = self.subscription {
            if stored.app.is_some_and(|app| app != key.app) {
                return None;
            }
            stored.app = Some(key.app);
            stored.workload = Some(key.workload);
            stored.name = Some(key.name);
        }
        Some(stored)
    }
}

impl Bus {
    /// Dead letters, oldest first, at most `limit`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn dead_letters(
        &self,
        filter: DeadLetterFilter,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, Error> {
        let Some(filter) = filter.stored() else {
            return Ok(Vec::new());
        };
        let found = self.0.shared.log.dead_letters(filter, 0, limit).await?;
        Ok(found.into_iter().map(shown).collect())
    }

    /// One dead letter.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn dead_letter(&self, id: u64) -> Result<Option<DeadLetter>, Error> {
        let found = self.0.shared.log.dead_letter(number(id)?).await?;
        Ok(found.map(shown))
    }

    /// Delivers a dead letter again: a new budget of attempts, the same idempotency key.
    ///
    /// # Errors
    /// [`Error::NoSuchDeadLetter`], [`Error::SubscriptionGone`], those of the store.
    pub async fn redrive(&self, id: u64) -> Result<(), Error> {
        let shared = &self.0.shared;
        let redriven = shared.log.redrive(number(id)?).await;
        let redriven = redriven.map_err(|error| match error {
            store::Error::NotFound("dead letter") => Error::NoSuchDeadLetter(id),
            store::Error::NotFound(_) => Error::SubscriptionGone(id),
            other => Error::Store(other),
        })?;
        {
            let mut state = shared.state.lock();
            let key = state
                .ranges
                .get(&redriven.subscription)
                .map(|range| range.key.clone());
            if let Some(key) = key {
                state.no_longer_dead(&key, redriven.left);
            }
        }
        let lane = match redriven.lane {
            Some(lane) => Some(Lane(lane)),
            None => self.lane_of(&redriven).await,
        };
        shared.put_back(redriven.subscription, redriven.position, redriven.due, lane);
        Ok(())
    }

    /// The key of a letter that held nothing, where its subscription has order.
    async fn lane_of(&self, redriven: &Redriven) -> Option<Lane> {
        let shared = &self.0.shared;
        let order = {
            let state = shared.state.lock();
            state.ranges.get(&redriven.subscription)?.order.clone()?
        };
        let item = shared
            .log
            .retry_item(redriven.subscription, redriven.position)
            .await;
        let item = item.ok().flatten()?;
        Some(order.lane(&item.logged.event, redriven.position))
    }

    /// Delivers all dead letters of a filter again that were there when it was called; those whose subscription is no
    /// more stay. Returns how many are delivered again.
    ///
    /// # Errors
    /// Those of the store; what was redriven before stays so.
    pub async fn redrive_all(&self, filter: DeadLetterFilter) -> Result<u64, Error> {
        let Some(filter) = filter.stored() else {
            return Ok(0);
        };
        let started = self.0.shared.clock.now();
        let (mut after, mut redriven) = (0, 0);
        loop {
            let log = &self.0.shared.log;
            let letters = log.dead_letters(filter.clone(), after, CHUNK).await?;
            let Some(last) = letters.last() else {
                return Ok(redriven);
            };
            after = last.id;
            for letter in letters.iter().filter(|letter| letter.at <= started) {
                match self.redrive(letter.id.unsigned_abs()).await {
                    Ok(()) => redriven += 1,
                    Err(Error::NoSuchDeadLetter(_) | Error::SubscriptionGone(_)) => {}
                    Err(Error::Store(store::Error::Conflict(_))) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Throws a dead letter away.
    ///
    /// # Errors
    /// [`Error::NoSuchDeadLetter`], those of the store.
    pub async fn discard(&self, id: u64) -> Result<(), Error> {
        let shared = &self.0.shared;
        let letter = shared.log.dead_letter(number(id)?).await?;
        let letter = letter.ok_or(Error::NoSuchDeadLetter(id))?;
        let left = match shared.log.discard(letter.id).await {
            Err(store::Error::NotFound(_)) => return Err(Error::NoSuchDeadLetter(id)),
            other => other?,
        };
        shared.state.lock().no_longer_dead(&letter.key, left);
        Ok(())
    }
}

fn number(id: u64) -> Result<i64, Error> {
    i64::try_from(id).map_err(|_| Error::NoSuchDeadLetter(id))
}

fn shown(letter: store::log::DeadLetter) -> DeadLetter {
    DeadLetter {
        id: letter.id.unsigned_abs(),
        namespace: letter.namespace,
        subscription: letter.key,
        kind: letter.logged.event.kind.clone(),
        position: letter.logged.position,
        event: letter.logged.event.to_json(),
        published_at: letter.logged.at,
        first_attempt_at: letter.first_at,
        dead_at: letter.at,
        attempts: letter.attempts,
        reason: letter.reason,
        history: letter.history,
        trace: letter.logged.cause.trace.trace,
    }
}
