//! Dead letters, as people see them: listed, read, redriven, discarded.

use model::{
    AppName, Code, Error as Fault, Event, Namespace, Position, Rate, SubscriptionKey, Time,
    TraceId, event::EventData,
};
use serde::Serialize;
use serde_json::Value;
use store::log::{Attempt, DeadLetterFilter as Stored};

use crate::{Bus, Error};

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
    /// The replay that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<u64>,
}

/// Which dead letters.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Of this app.
    pub app: Option<AppName>,
    /// Of this subscription.
    pub subscription: Option<SubscriptionKey>,
    /// With events of this type.
    pub kind: Option<String>,
    /// Given up with this code.
    pub code: Option<Code>,
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
            kind: self.kind,
            code: self.code,
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
    /// [`Error::NoSuchDeadLetter`], [`Error::SubscriptionGone`], [`Error::EarlierFirst`], those of the store.
    pub async fn redrive(&self, id: u64, by: &str) -> Result<(), Error> {
        let shared = &self.0.shared;
        let letter = shared.log.dead_letter(number(id)?).await?;
        let letter = letter.ok_or(Error::NoSuchDeadLetter(id))?;
        if let Some(first) = self.held_by(&letter) {
            return Err(Error::EarlierFirst(id, first.0));
        }
        let redriven = shared.log.redrive(letter.id, by.to_owned()).await;
        let redriven = redriven.map_err(|error| match error {
            store::Error::NotFound("dead letter") => Error::NoSuchDeadLetter(id),
            store::Error::NotFound(_) => Error::SubscriptionGone(id),
            other => Error::Store(other),
        })?;
        shared.redriven(redriven).await;
        Ok(())
    }

    /// The first dead letter of the key of a letter, if that comes before it.
    fn held_by(&self, letter: &store::log::DeadLetter) -> Option<Position> {
        let state = self.0.shared.state.lock();
        let consumer = state.consumers.get(&letter.key)?;
        let newest = consumer.ranges.last().and_then(|id| state.ranges.get(id))?;
        let order = newest.order.as_ref()?;
        let lane = order.lane(&letter.logged.event, letter.logged.position);
        let first = consumer.held.get(&lane).copied()?;
        (first < letter.logged.position).then_some(first)
    }

    /// Delivers all dead letters of a filter again that were there when it was called; those whose subscription is no
    /// more stay. Returns how many are delivered again, when all are.
    ///
    /// # Errors
    /// Those of the store; what was redriven before stays so.
    pub async fn redrive_all(&self, filter: DeadLetterFilter, by: &str) -> Result<u64, Error> {
        let Some(filter) = filter.stored() else {
            return Ok(0);
        };
        let job = self.start_redrive(filter, None, by).await?;
        Ok(self.job_ended(job).await?.done)
    }

    /// The same at a rate; returns the number of the redrive at once.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn redrive_slowly(
        &self,
        filter: DeadLetterFilter,
        rate: Rate,
        by: &str,
    ) -> Result<Option<u64>, Error> {
        match filter.stored() {
            None => Ok(None),
            Some(filter) => self.start_redrive(filter, Some(rate), by).await.map(Some),
        }
    }

    /// Gives the event of a dead letter other data, before it is redriven.
    ///
    /// # Errors
    /// [`Error::NoSuchDeadLetter`], those of the store.
    pub async fn edit_dead_letter(&self, id: u64, data: EventData, by: &str) -> Result<(), Error> {
        let log = &self.0.shared.log;
        let letter = log.dead_letter(number(id)?).await?;
        let letter = letter.ok_or(Error::NoSuchDeadLetter(id))?;
        let mut event = Event::clone(&letter.logged.event);
        event.data = data;
        let edited = log.edit_dead_letter(letter.id, &event, by.to_owned()).await;
        edited.map_err(|error| match error {
            store::Error::NotFound(_) => Error::NoSuchDeadLetter(id),
            other => Error::Store(other),
        })
    }

    /// Throws a dead letter away.
    ///
    /// # Errors
    /// [`Error::NoSuchDeadLetter`], those of the store.
    pub async fn discard(&self, id: u64, by: &str) -> Result<(), Error> {
        let shared = &self.0.shared;
        let letter = shared.log.dead_letter(number(id)?).await?;
        let letter = letter.ok_or(Error::NoSuchDeadLetter(id))?;
        let left = match shared.log.discard(letter.id, by.to_owned()).await {
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
        replay: letter.replay,
    }
}
