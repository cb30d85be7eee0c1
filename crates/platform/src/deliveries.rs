//! What operators ask of events and their deliveries: subscriptions, dead letters, redrives, replays, the log.

use bus::DeadLetter;
pub use bus::{DeadLetterFilter, Replay};
use model::{Error, Event, Position, Rate, SubscriptionKey, code, event::EventData};
use serde_json::{Value, json};

use crate::{Platform, events};

/// What is shown of what was done to a subscription.
const SHOWN_AUDIT: u32 = 20;

impl Platform {
    /// Every subscription, how far behind it is, and what it waits for.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<bus::SubscriptionStats> {
        self.bus().stats()
    }

    /// The event at a position of the log.
    ///
    /// # Errors
    /// `NO_SUCH_EVENT`, or what the store fails with.
    pub async fn event_at(&self, at: Position) -> Result<Value, Error> {
        let namespace = model::Name::default_namespace();
        let found = self.bus().event_at(&namespace, at).await?;
        let missing = || format!("the log has no event at position {}", at.0);
        found.map(shown).ok_or_else(|| no_event(missing()))
    }

    /// The newest event with an id, of `source` when that is given, among the newest 100,000.
    ///
    /// # Errors
    /// `NO_SUCH_EVENT`, or what the store fails with.
    pub async fn find_event(&self, id: &str, source: Option<&str>) -> Result<Value, Error> {
        let namespace = model::Name::default_namespace();
        let found = self.bus().find_event(&namespace, id, source).await?;
        let missing = || format!("none of the newest 100,000 events has the id `{id}`");
        found.map(shown).ok_or_else(|| no_event(missing()))
    }

    /// The pattern of a subscription that lives: `app/workload/name`.
    ///
    /// # Errors
    /// `NO_SUCH_SUBSCRIPTION`, or what the store fails with.
    pub async fn filter_of(&self, subscription: &str) -> Result<Value, Error> {
        let key = key(subscription)?;
        let namespace = model::Name::default_namespace();
        let found = self.bus().filter_of(&namespace, &key).await?;
        let missing = || {
            let message = format!("there is no subscription {key}: see `tangelo subscriptions`");
            Error::new(code::NO_SUCH_SUBSCRIPTION, message)
        };
        found.map(|filter| filter.0).ok_or_else(missing)
    }

    /// One subscription: what it asks for, how far it is, what operators did to it.
    ///
    /// # Errors
    /// `NO_SUCH_SUBSCRIPTION`, or what the store fails with.
    pub async fn subscription(&self, subscription: &str) -> Result<Value, Error> {
        let key = key(subscription)?;
        let stats = self.bus().stats();
        let stats = stats.into_iter().find(|stats| stats.subscription == key);
        let stats = stats.ok_or_else(|| bus::Error::NoSuchSubscription(key.clone()))?;
        let log = self.store().log();
        let mut ranges = Vec::new();
        for (stored, _) in log.subscriptions().await? {
            if stored.key == key {
                let settled = log.settled(stored.id).await?;
                ranges.push(json!({"after": stored.begin, "through": stored.end, "settled": settled, "asks": stored.spec}));
            }
        }
        let audit = log.audit(Some(key.to_string()), SHOWN_AUDIT).await?;
        Ok(
            json!({"subscription": key.to_string(), "stands": stats, "ranges": ranges, "audit": audit}),
        )
    }

    /// Takes nothing more of a subscription until it is resumed.
    ///
    /// # Errors
    /// `NO_SUCH_SUBSCRIPTION`, or what the store fails with.
    pub async fn pause(
        &self,
        subscription: &str,
        by: &str,
        reason: Option<&str>,
    ) -> Result<bus::Paused, Error> {
        let reason = reason.map(|reason| reason.chars().take(1000).collect::<String>());
        let key = key(subscription)?;
        Ok(self.bus().pause(&key, by, reason.as_deref()).await?)
    }

    /// Lets a paused subscription go on; whether it was paused.
    ///
    /// # Errors
    /// `NO_SUCH_SUBSCRIPTION`, or what the store fails with.
    pub async fn resume(&self, subscription: &str, by: &str) -> Result<bool, Error> {
        Ok(self.bus().resume(&key(subscription)?, by).await?)
    }

    /// Dead letters, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn dead_letters(
        &self,
        filter: DeadLetterFilter,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, Error> {
        Ok(self.bus().dead_letters(filter, limit).await?)
    }

    /// One dead letter.
    ///
    /// # Errors
    /// `NO_SUCH_DEAD_LETTER`.
    pub async fn dead_letter(&self, id: u64) -> Result<DeadLetter, Error> {
        let found = self.bus().dead_letter(id).await?;
        Ok(found.ok_or(bus::Error::NoSuchDeadLetter(id))?)
    }

    /// Gives the event of a dead letter other data, which must keep to what the event itself was to keep to when it was published.
    ///
    /// # Errors
    /// `NO_SUCH_DEAD_LETTER`, `CONTRACT_BROKEN` with the JSON Pointer of every violation, `PAYLOAD_TOO_LARGE`, `BAD_EVENT`.
    pub async fn edit_dead_letter(&self, id: u64, data: Value, by: &str) -> Result<(), Error> {
        let letter = self.dead_letter(id).await?;
        let mut event = Event::from_json(letter.event).map_err(Error::internal)?;
        event.data = EventData::Json(data);
        events::edited(&self.0.apps.live(), &event, self.limits())?;
        Ok(self.bus().edit_dead_letter(id, event.data, by).await?)
    }

    /// Delivers a dead letter again, with attempts anew and the same idempotency key.
    ///
    /// # Errors
    /// `NO_SUCH_DEAD_LETTER`, `EARLIER_LETTER_FIRST`.
    pub async fn redrive(&self, id: u64, by: &str) -> Result<(), Error> {
        Ok(self.bus().redrive(id, by).await?)
    }

    /// Delivers all dead letters of a filter again. Without a rate: how many they were, when all wait; with one: the number
    /// of the redrive, which goes on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn redrive_all(
        &self,
        filter: DeadLetterFilter,
        rate: Option<Rate>,
        by: &str,
    ) -> Result<Value, Error> {
        let Some(rate) = rate else {
            let redriven = self.bus().redrive_all(filter, by).await?;
            return Ok(json!({ "redriven": redriven }));
        };
        let job = self.bus().redrive_slowly(filter, rate, by).await?;
        Ok(json!({ "job": job }))
    }

    /// Throws a dead letter away.
    ///
    /// # Errors
    /// `NO_SUCH_DEAD_LETTER`.
    pub async fn discard_dead_letter(&self, id: u64, by: &str) -> Result<(), Error> {
        Ok(self.bus().discard(id, by).await?)
    }

    /// Throws all dead letters of a filter away; says how many.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn discard_dead_letters(
        &self,
        filter: DeadLetterFilter,
        by: &str,
    ) -> Result<u64, Error> {
        Ok(self.bus().discard_all(filter, by).await?)
    }

    /// Delivers events of the log again, to one subscription; or, dry, counts them.
    ///
    /// # Errors
    /// `NO_SUCH_SUBSCRIPTION`, `BAD_FILTER`, or what the store fails with.
    pub async fn replay(&self, replay: Replay, dry: bool, by: &str) -> Result<Value, Error> {
        // Said of what was asked for, whether some of it is gone.
        let gone = self.bus().gone_of_replay(&replay).await?;
        if dry {
            let count = self.bus().count_replay(&replay).await?;
            return Ok(json!({ "would_deliver": count, "gone_through": gone }));
        }
        let job = self.bus().start_replay(replay, by).await?;
        Ok(json!({ "job": job, "gone_through": gone }))
    }

    /// What there is of the log, whose it is, and who still needs some of it.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn logs(&self) -> Result<Vec<bus::LogState>, Error> {
        Ok(self.bus().logs().await?)
    }

    /// Redrives and replays, newest first.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn jobs(&self, limit: u32) -> Result<Vec<bus::Job>, Error> {
        Ok(self.bus().jobs(limit).await?)
    }

    /// One redrive or replay.
    ///
    /// # Errors
    /// `NO_SUCH_JOB`.
    pub async fn job(&self, id: u64) -> Result<bus::Job, Error> {
        let found = self.bus().job(id).await?;
        Ok(found.ok_or(bus::Error::NoSuchJob(id))?)
    }

    /// Ends a redrive or a replay where it is; whether it ran.
    ///
    /// # Errors
    /// `NO_SUCH_JOB`.
    pub async fn cancel_job(&self, id: u64, by: &str) -> Result<bool, Error> {
        self.job(id).await?;
        Ok(self.bus().cancel_job(id, by).await?)
    }

    /// Events of the log after a position and up to another one, at most `limit`; those of `kind` alone when it is given. The position up
    /// to which the log was looked at comes with them, and that of its newest event. Without a first position: those of the newest
    /// `limit`.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn logged(
        &self,
        (after, through): (Option<Position>, Option<Position>),
        kind: Option<&str>,
        limit: u32,
    ) -> Result<Value, Error> {
        let namespace = model::Name::default_namespace();
        let log = self.store().log();
        let Some(extent) = log.extent(&namespace).await? else {
            return Ok(json!({"events": [], "through": 0, "head": 0}));
        };
        let newest = || Position(extent.head.0.saturating_sub(u64::from(limit)));
        let after = after.unwrap_or_else(newest);
        if after >= extent.head {
            return Ok(json!({"events": [], "through": after, "head": extent.head}));
        }
        let through = through.map_or(extent.head, |through| through.min(extent.head));
        let events = log.range(&namespace, after, through, limit).await?;
        let through = events
            .last()
            .map_or_else(|| through.max(after), |last| last.position);
        let wanted = events
            .iter()
            .filter(|one| kind.is_none_or(|kind| kind == one.event.kind));
        let shown = |one: &store::log::Logged| {
            json!({"position": one.position, "published_at": one.at, "event": one.event.to_json(),
                   "trace": one.cause.trace.trace})
        };
        let shown: Vec<Value> = wanted.map(shown).collect();
        Ok(json!({"events": shown, "through": through, "head": extent.head}))
    }
}

fn shown(logged: bus::Logged) -> Value {
    json!({"position": logged.position, "event": logged.event.to_json()})
}

fn no_event(message: String) -> Error {
    Error::new(code::NO_SUCH_EVENT, message)
}

fn key(text: &str) -> Result<SubscriptionKey, Error> {
    text.parse()
        .map_err(|e: String| Error::new(code::NO_SUCH_SUBSCRIPTION, e))
}
