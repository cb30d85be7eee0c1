//! An event on its way to one subscription, and how its attempt ended.

use std::sync::{Arc, Weak};

use model::{
    Cause, Error as Fault, Event, Namespace, Position, SubscriptionKey, Time,
    projection::GENERATION,
};
use pattern::Input;
use sha2::{Digest, Sha256};
use store::log::{Attempt, Logged, RetryItem, SubscriptionId};

use crate::bus::Shared;

/// The longest idempotency key that is left readable, in bytes.
const READABLE: usize = 200;

/// One attempt to make. It must be settled; one that is dropped instead counts as failed.
pub struct Delivery {
    /// Where its event was published.
    pub namespace: Namespace,
    /// Whose it is.
    pub key: SubscriptionKey,
    /// The event.
    pub event: Arc<Event>,
    /// Its place in the log.
    pub position: Position,
    /// What caused it; the trace to continue.
    pub cause: Arc<Cause>,
    /// 1 for the first try.
    pub attempt: u32,
    /// When the event was published.
    pub published_at: Time,
    /// When it was tried first: now, on the first attempt.
    pub first_attempt_at: Time,
    /// The same on every attempt, also after a redrive: `app/workload/name:source:id`, or its hash where that is long
    /// or no header would carry it.
    pub idempotency_key: Arc<str>,
    /// Whether its subscription takes batches: then it comes in a list, also alone.
    pub batched: bool,
    /// What is handed over instead of the event.
    pub input: Option<Arc<Input>>,
    /// The replay that it belongs to; its event says so in the extension `tangeloreplay`, and its key is of its own.
    pub replay: Option<u64>,
    /// Whether nothing behind it may be done before it: its subscription is a projection without a key of order.
    pub serial: bool,
    pub(crate) range: SubscriptionId,
    /// From when its age counts.
    pub(crate) born: Time,
    pub(crate) history: Vec<Attempt>,
    /// Whether it has a row among the retries.
    pub(crate) has_row: bool,
    pub(crate) shared: Weak<Shared>,
    pub(crate) settled: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum Settled {
    /// It is delivered.
    Done,
    /// It failed: to be tried again as the retry policy says, or a dead letter when that says no more.
    Retry(Fault),
    /// It was no attempt: whoever takes it asks for it later, after what the fault says. Costs none, and ends only with
    /// the policy's age.
    Later(Fault),
    /// It failed in a way that no further attempt can mend: a dead letter at once.
    Dead(Fault),
}

/// What is left of a delivery that was dropped; also what settling needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Abandoned {
    pub(crate) key: SubscriptionKey,
    pub(crate) range: SubscriptionId,
    pub(crate) position: Position,
    pub(crate) attempt: u32,
    pub(crate) born: Time,
    pub(crate) first_attempt_at: Time,
    pub(crate) history: Vec<Attempt>,
    pub(crate) has_row: bool,
}

/// How the deliveries of a range look.
pub(crate) struct Shape {
    batched: bool,
    input: Option<Arc<Input>>,
    generation: Option<u32>,
    serial: bool,
}

impl Shape {
    /// That of what comes of `range` now.
    pub(crate) fn of(range: &crate::range::Range) -> Self {
        Self {
            batched: range.terms.batch.is_some(),
            input: range.input.clone(),
            generation: range.generation,
            serial: range.is_serial(),
        }
    }
}

impl Delivery {
    /// The first attempt at an event.
    pub(crate) fn first(
        shared: &Arc<Shared>,
        range: &crate::range::Range,
        logged: &Logged,
        now: Time,
    ) -> Self {
        let shape = Shape::of(range);
        Self {
            namespace: range.namespace.clone(),
            key: range.key.clone(),
            event: marked(&logged.event, None, shape.generation),
            position: logged.position,
            cause: Arc::clone(&logged.cause),
            attempt: 1,
            published_at: logged.at,
            first_attempt_at: now,
            idempotency_key: idempotency_key(&range.key, &logged.event),
            batched: shape.batched,
            input: shape.input,
            replay: None,
            serial: shape.serial,
            range: range.id,
            born: logged.at,
            history: Vec::new(),
            has_row: false,
            shared: Arc::downgrade(shared),
            settled: false,
        }
    }

    /// A further attempt.
    pub(crate) fn again(
        shared: &Arc<Shared>,
        namespace: Namespace,
        key: SubscriptionKey,
        shape: Shape,
        item: RetryItem,
    ) -> Self {
        let RetryItem { row, logged } = item;
        let idempotency_key = match row.replay {
            None => idempotency_key(&key, &logged.event),
            // What a replay causes is new work: once for each replay.
            Some(replay) => {
                let own = idempotency_key(&key, &logged.event);
                format!("{own}:replay:{replay}").into()
            }
        };
        Self {
            namespace,
            batched: shape.batched,
            input: shape.input,
            replay: row.replay,
            serial: shape.serial,
            event: marked(&logged.event, row.replay, shape.generation),
            position: row.position,
            cause: Arc::clone(&logged.cause),
            attempt: row.attempts + 1,
            published_at: logged.at,
            first_attempt_at: row.first_at,
            idempotency_key,
            key,
            range: row.subscription,
            born: row.born,
            history: row.history,
            has_row: true,
            shared: Arc::downgrade(shared),
            settled: false,
        }
    }

    /// What settling needs to know.
    pub(crate) fn facts(&self) -> Abandoned {
        Abandoned {
            key: self.key.clone(),
            range: self.range,
            position: self.position,
            attempt: self.attempt,
            born: self.born,
            first_attempt_at: self.first_attempt_at,
            history: self.history.clone(),
            has_row: self.has_row,
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if let Some(shared) = self.shared.upgrade() {
            shared.state.lock().abandoned.push(self.facts());
            shared.chores.notify_one();
        }
    }
}

/// An event of a replay says so, and so does one for a generation of a projection.
fn marked(event: &Arc<Event>, replay: Option<u64>, generation: Option<u32>) -> Arc<Event> {
    if replay.is_none() && generation.is_none() {
        return Arc::clone(event);
    }
    let mut marked = Event::clone(event);
    let mut mark = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            marked.extensions.insert(name.to_owned(), value.into());
        }
    };
    mark("tangeloreplay", replay.map(|replay| replay.to_string()));
    mark(GENERATION, generation.map(|number| number.to_string()));
    Arc::new(marked)
}

/// The key under which repeated deliveries of an event are recognised.
fn idempotency_key(key: &SubscriptionKey, event: &Event) -> Arc<str> {
    let text = format!("{key}:{}:{}", event.source, event.id);
    let readable = text.len() <= READABLE && text.bytes().all(|byte| byte.is_ascii_graphic());
    if readable {
        return text.into();
    }
    format!(
        "{key}:sha256:{}",
        hex::encode(Sha256::digest(text.as_bytes()))
    )
    .into()
}

#[cfg(test)]
mod tests {
    use model::event::EventData;

    use super::*;

    #[test]
    fn keys_are_readable_where_a_header_carries_them() {
        let key: SubscriptionKey = "shop/confirm/paid".parse().expect("is a key");
        let event = |source: &str, id: &str| Event {
            id: id.to_owned(),
            source: source.to_owned(),
            kind: "t".to_owned(),
            subject: None,
            time: None,
            content_type: None,
            schema: None,
            extensions: std::collections::BTreeMap::default(),
            data: EventData::None,
        };
        let plain = idempotency_key(&key, &event("/orders", "o-1"));
        assert_eq!(&*plain, "shop/confirm/paid:/orders:o-1");
        let spaced = idempotency_key(&key, &event("/ordérs", "o 1"));
        assert!(spaced.starts_with("shop/confirm/paid:sha256:"), "{spaced}");
        let long = idempotency_key(&key, &event("/orders", &"1".repeat(300)));
        assert!(long.len() < READABLE && long != spaced, "{long}");
    }
}
