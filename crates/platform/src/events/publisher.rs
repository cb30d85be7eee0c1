//! Publishing over a connection that stays open: each message is one event, and is answered by itself once it is durable.

use model::{Cause, Error, Event, TraceContext};

use super::{Events, Origin, Receipt, Row, http_binding};
use crate::dispatch::Charge;

/// Says who publishes now: by the time of a message, a key may have been taken away, or a route.
pub type Who = Box<dyn Fn() -> Result<Origin, Error> + Send + Sync>;

/// One who publishes so.
pub struct Publisher {
    events: Events,
    who: Who,
}

/// A message, read. Until it is dropped, it holds its part of the memory that there is for bodies.
pub struct Message {
    event: Result<(Event, TraceContext), Error>,
    _held: Option<Charge>,
}

impl Publisher {
    /// One who publishes as `who` says.
    #[must_use]
    pub fn new(events: Events, who: Who) -> Self {
        Self { events, who }
    }

    /// Whether anything may still be published.
    ///
    /// # Errors
    /// Why nobody may any more.
    pub fn allowed(&self) -> Result<(), Error> {
        (self.who)().map(drop)
    }

    /// Reads `message`: an event in CloudEvents' JSON format. It goes on the trace that its `traceparent` names
    /// (CloudEvents Distributed Tracing), or on a new one.
    #[must_use]
    pub fn read(&self, message: &[u8]) -> Message {
        let (events, limits) = (&self.events, &self.events.limits);
        let held = match events.buffers.hold(message.len()) {
            Ok(held) => held,
            Err(error) => {
                return Message {
                    event: Err(error),
                    _held: None,
                };
            }
        };
        let event = http_binding::structured(message, limits, events);
        Message {
            event: event.map(|event| {
                let trace = self.trace(&event);
                (event, trace)
            }),
            _held: Some(held),
        }
    }

    /// Publishes what was read, in this order; one receipt for each. Publishes that are awaited in the order in which
    /// they began are stored in that order, too.
    ///
    /// # Errors
    /// Nobody may publish here any more; nothing was.
    pub async fn publish(&self, messages: Vec<Message>) -> Result<Vec<Receipt>, Error> {
        let origin = (self.who)()?;
        let cause = self.events.cause(&origin)?;
        let (events, held): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .map(|Message { event, _held: held }| (event, held))
            .unzip();
        let events = events.into_iter().map(|event| {
            let (event, trace) = event?;
            let event = self.events.check(&origin, event)?;
            let cause = cause.clone();
            Ok((event, Cause { trace, ..cause }))
        });
        let receipts = self.events.append(&origin, events.collect()).await;
        drop(held);
        Ok(receipts)
    }

    fn trace(&self, event: &Event) -> TraceContext {
        let said = event.extensions.get("traceparent");
        let said = said.and_then(|value| TraceContext::from_traceparent(value.as_str()?));
        said.unwrap_or_else(|| TraceContext::root(self.events.ids.random()))
    }
}

/// What became of one event, as its publisher is told: the same as for each event of a batch.
///
/// # Errors
/// `INTERNAL`, if it cannot be written.
pub fn told(receipt: &Receipt) -> Result<String, Error> {
    serde_json::to_string(&Row::of(receipt)).map_err(Error::internal)
}
