//! Dead letters, as people see them: listed, read, redriven, discarded.

use model::{
    AppName, Code, Error as Fault, Event, Namespace, Position, Rate, SubscriptionKey, Time,
    TraceId, event::EventData,
};
use serde::Serialize;
use serde_json::Value;
use store::log::{Attempt, DeadLetterFilter as Stored, LeftDead};

use crate::{Bus, Error, bus::Shared, lanes::Lane, state::State};

/// How many letters are thrown away at once.
const PAGE: u32 = 100;
/// How often what still holds a key is read again when it changes meanwhile.
const TRIES: u32 = 20;

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
        let before = shared.holds_changed();
        let redriven = shared.log.redrive(letter.id, by.to_owned()).await;
        let redriven = redriven.map_err(|error| match error {
            store::Error::NotFound("dead letter") => Error::NoSuchDeadLetter(id),
            store::Error::NotFound(_) => Error::SubscriptionGone(id),
            other => Error::Store(other),
        })?;
        shared.redriven(before, vec![redriven]).await;
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
        match shared.discard(vec![letter], by).await? {
            0 => Err(Error::NoSuchDeadLetter(id)),
            _ => Ok(()),
        }
    }

    /// Throws all dead letters of a filter away that were there when it was called. Returns how many, when they are gone.
    ///
    /// # Errors
    /// Those of the store; what was thrown away before stays so.
    pub async fn discard_all(&self, filter: DeadLetterFilter, by: &str) -> Result<u64, Error> {
        let Some(filter) = filter.stored() else {
            return Ok(0);
        };
        let shared = &self.0.shared;
        let newest = shared.log.newest_dead_letter().await?;
        let (mut after, mut count) = (0, 0);
        while after < newest {
            let letters = shared.log.dead_letters(filter.clone(), after, PAGE);
            let mut letters = letters.await?;
            after = letters.last().map_or(newest, |letter| letter.id);
            letters.retain(|letter| letter.id <= newest);
            count += shared.discard(letters, by).await?;
        }
        Ok(count)
    }
}

/// A dead letter that is none any more.
pub(crate) struct Gone {
    pub(crate) namespace: Namespace,
    pub(crate) key: SubscriptionKey,
    /// What still held its key, as the commit found it.
    pub(crate) left: Option<LeftDead>,
}

impl Shared {
    /// Throws letters away, those that are still there; how many.
    async fn discard(
        &self,
        letters: Vec<store::log::DeadLetter>,
        by: &str,
    ) -> Result<u64, store::Error> {
        let before = self.holds_changed();
        // At the same time, so that they share a commit.
        let discards = letters
            .iter()
            .map(|letter| self.log.discard(letter.id, by.to_owned()));
        let lefts = futures_util::future::join_all(discards).await;
        let (mut gone, mut failed) = (Vec::new(), Ok(()));
        for (letter, left) in letters.into_iter().zip(lefts) {
            match left {
                Ok(left) => gone.push(Gone {
                    namespace: letter.namespace,
                    key: letter.key,
                    left,
                }),
                // Someone else was first.
                Err(store::Error::NotFound(_)) => {}
                Err(error) => failed = Err(error),
            }
        }
        let count = gone.len() as u64;
        self.no_longer_dead(before, gone, |_| ()).await;
        failed.map(|()| count)
    }

    /// To be asked before dead letters go, for [`Shared::no_longer_dead`].
    pub(crate) fn holds_changed(&self) -> u64 {
        self.state.lock().holds_changed
    }

    /// Dead letters are none any more, as far as memory goes; `then` happens at the same time. Where others changed what is held
    /// since `before`, it is not known who came first, and the store says how it is now.
    pub(crate) async fn no_longer_dead<T>(
        &self,
        mut before: u64,
        mut gone: Vec<Gone>,
        then: impl FnOnce(&mut State) -> T,
    ) -> T {
        let mut tries = TRIES;
        loop {
            {
                let mut state = self.state.lock();
                if state.holds_changed == before || tries == 0 {
                    for Gone { key, left, .. } in gone {
                        state.no_longer_dead(&key);
                        if let Some(left) = left {
                            state.holds(&key, Lane(left.lane), left.first);
                        }
                    }
                    return then(&mut state);
                }
                before = state.holds_changed;
            }
            tries -= 1;
            for Gone {
                namespace,
                key,
                left,
            } in &mut gone
            {
                if let Some(left) = left
                    && let Ok(first) = self.log.first_dead(namespace, key, left.lane).await
                {
                    left.first = first;
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use model::{
        AfterDead, Cause, Clock, EventFilter, Ids, Limits, Name, Order, Subscription, TraceContext,
    };
    use serde_json::json;
    use store::{Options, Store};

    use super::*;
    use crate::Settled;

    fn event(id: u32) -> (Event, Cause) {
        let event =
            json!({"specversion": "1.0", "id": id.to_string(), "source": "/t", "type": "t"});
        let cause = Cause::first(Vec::new(), TraceContext::root(7));
        (Event::from_json(event).expect("is one"), cause)
    }

    /// A letter goes; before memory knows, the next event of its key is given up, since it was held still. Then that holds it.
    #[tokio::test]
    async fn what_is_given_up_while_a_letter_goes_holds_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::system();
        let store = Store::open(Options::new(folder.path(), clock.clone()));
        let store = store.expect("opens");
        let bus = Bus::open(store, clock, Ids::seeded(1), Limits::default()).await;
        let bus = bus.expect("opens");
        let (space, name) = (Namespace::default_namespace(), Name::literal("s"));
        let mut subscription = Subscription::new(name, EventFilter(json!({"type": ["t"]})));
        subscription.order = Some(Order {
            key: "$.source".to_owned(),
            dead: AfterDead::Hold,
        });
        let key: SubscriptionKey = "shop/w/s".parse().expect("is one");
        let wanted = vec![(key.clone(), subscription)];
        let set = bus.set_subscriptions(&space, &key.app, wanted).await;
        set.expect("sets");
        let shared = &bus.0.shared;
        let publish = async |id| {
            let receipts = bus.publish(&space, vec![event(id)]).await;
            receipts
                .into_iter()
                .for_each(|receipt| assert!(receipt.is_ok()));
        };
        publish(1).await;
        let first = {
            let key = bus.ready().await;
            bus.take(&key).await.remove(0)
        };
        let fault = Fault::new(model::code::TOO_DEEP, "no");
        bus.settle(first, Settled::Dead(fault))
            .await
            .expect("settles");
        let letters = async || {
            let found = shared.log.dead_letters(Stored::default(), 0, 10).await;
            found.expect("reads")
        };
        let letter = letters().await.remove(0);
        let before = shared.holds_changed();
        let left = shared.log.discard(letter.id, "anna".to_owned()).await;
        publish(2).await;
        // It is given up when it is asked for what comes next.
        let ready = bus.ready().await;
        assert!(bus.take(&ready).await.is_empty());
        let gone = Gone {
            namespace: letter.namespace,
            key: letter.key,
            left: left.expect("discards"),
        };
        shared.no_longer_dead(before, vec![gone], |_| ()).await;
        let held = shared.state.lock().consumers[&key].held.clone();
        let second = letters().await.remove(0).logged.position;
        assert_eq!(held.into_values().collect::<Vec<_>>(), [second]);
    }
}
