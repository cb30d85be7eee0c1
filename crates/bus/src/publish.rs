//! Publishing: checked, encoded once, appended; nothing else happens at publish time.

use std::sync::Arc;

use model::{AppName, Cause, Error as Fault, Event, Namespace, Position, code};
use serde::Serialize;
use store::log::{Appended, Intake, IntakeKey, NewEvent};

use crate::Bus;

/// Bytes of events in one command of the store; a larger publish is several.
const CHUNK: u64 = 4 << 20;

/// The receipt of an event: it is fsynced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The event's own id.
    pub id: String,
    /// Its place in the log; the first one's when it is a duplicate.
    pub position: Position,
    /// Whether an event with its source and id was published within the last ten minutes: this one was not stored.
    pub duplicate: bool,
}

impl Bus {
    /// Appends events to the log of a namespace, in this order; one result for each. A bad one is refused and costs
    /// the others nothing.
    pub async fn publish(
        &self,
        namespace: &Namespace,
        events: Vec<(Event, Cause)>,
    ) -> Vec<Result<Published, Fault>> {
        self.publish_for(None, namespace, events).await
    }

    /// The same on the side of an app, which says how long they are kept.
    pub async fn publish_for(
        &self,
        app: Option<&AppName>,
        namespace: &Namespace,
        events: Vec<(Event, Cause)>,
    ) -> Vec<Result<Published, Fault>> {
        let limit = self.0.shared.limits.publish_batch;
        if events.len() > limit {
            let message = format!("{} events at once; {limit} are the most", events.len());
            let refused = Fault::new(code::BAD_EVENT, message);
            return vec![Err(refused); events.len()];
        }
        let mut chunk = Chunk::default();
        let mut receipts = Vec::with_capacity(events.len());
        for (event, cause) in events {
            let checked = self.check(event, cause).map(|new| new.of(app.cloned()));
            let size = checked.as_ref().map_or(0, NewEvent::size);
            if chunk.size + size > CHUNK {
                self.append(namespace, std::mem::take(&mut chunk), &mut receipts)
                    .await;
            }
            chunk.push(checked);
        }
        self.append(namespace, chunk, &mut receipts).await;
        receipts
    }

    /// Appends events that were read from a log elsewhere, and in the same transaction how far that was read, so that none is
    /// lost and none is taken twice: all in one command, so that the caller bounds how many and how large they are.
    /// `adds` gets what is said of each, in order, and gives what is added to the place; one result for each event.
    ///
    /// # Errors
    /// Why nothing was written: neither events nor place.
    pub async fn take_in(
        &self,
        app: &AppName,
        namespace: &Namespace,
        events: Vec<(Event, Cause)>,
        key: IntakeKey,
        adds: impl FnOnce(&[Result<(), Fault>]) -> Intake,
    ) -> Result<Vec<Result<(), Fault>>, Fault> {
        let mut good = Vec::with_capacity(events.len());
        let checked = events.into_iter().map(|(event, cause)| {
            let new = self.check(event, cause)?;
            good.push(new.of(Some(app.clone())));
            Ok(())
        });
        let checked: Vec<_> = checked.collect();
        let adds = adds(&checked);
        let log = &self.0.shared.log;
        log.take_in(namespace, good, key, adds).await?;
        Ok(checked)
    }

    fn check(&self, event: Event, cause: Cause) -> Result<NewEvent, Fault> {
        event
            .check()
            .map_err(|invalid| Fault::new(code::BAD_EVENT, invalid.to_string()))?;
        let new = NewEvent::new(Arc::new(event), Arc::new(cause));
        let limit = self.0.shared.limits.event;
        if new.size() > limit.0 {
            let message = format!("the event has {} bytes; {limit} is the most", new.size());
            return Err(Fault::new(code::PAYLOAD_TOO_LARGE, message));
        }
        Ok(new)
    }

    async fn append(
        &self,
        namespace: &Namespace,
        chunk: Chunk,
        receipts: &mut Vec<Result<Published, Fault>>,
    ) {
        if chunk.good.is_empty() {
            receipts.extend(
                chunk
                    .slots
                    .into_iter()
                    .map(|slot| slot.and_then(unanswered)),
            );
            return;
        }
        let appended = self.0.shared.log.append(namespace, chunk.good).await;
        let mut appended = match appended {
            Ok(appended) => Ok(appended.into_iter()),
            Err(error) => Err(Fault::from(error)),
        };
        for slot in chunk.slots {
            receipts.push(slot.and_then(|id| match &mut appended {
                Ok(places) => receipt(id, places.next()),
                Err(error) => Err(error.clone()),
            }));
        }
    }
}

/// Events on their way: the ids of good ones in their places, and the good ones.
#[derive(Default)]
struct Chunk {
    slots: Vec<Result<String, Fault>>,
    good: Vec<NewEvent>,
    size: u64,
}

impl Chunk {
    fn push(&mut self, checked: Result<NewEvent, Fault>) {
        self.slots.push(checked.map(|new| {
            let id = new.event.id.clone();
            self.size += new.size();
            self.good.push(new);
            id
        }));
    }
}

fn receipt(id: String, place: Option<Appended>) -> Result<Published, Fault> {
    match place {
        None => unanswered(id),
        Some(place) => Ok(Published {
            id,
            position: place.position,
            duplicate: place.duplicate,
        }),
    }
}

fn unanswered(id: String) -> Result<Published, Fault> {
    Err(Fault::internal(format!(
        "the store answered nothing for event {id}"
    )))
}
