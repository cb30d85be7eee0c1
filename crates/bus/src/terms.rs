//! What a subscription says of how it is delivered, ready to be used. Pure.

use std::sync::Arc;

use model::{AfterDead, Batch, Event, Position, Rate, RetryPolicy};
use pattern::{Input, Path};
use serde_json::Value;
use store::log::StoredSubscription;

use crate::lanes::Lane;

/// What may change while a range goes on.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) retry: RetryPolicy,
    pub(crate) concurrency: Option<u32>,
    pub(crate) rate: Option<Rate>,
    pub(crate) batch: Option<Batch>,
    /// Somebody comes for what it has: no loop is told of it.
    pub(crate) pulled: bool,
}

/// How a range finds keys, and what its dead letters do.
#[derive(Clone)]
pub(crate) struct Ordered {
    /// `None`: it is none, and every event is a key of its own.
    path: Option<Arc<Path>>,
    pub(crate) dead: AfterDead,
}

impl Terms {
    /// What a subscription says.
    pub(crate) const fn of(spec: &model::Subscription) -> Self {
        Self {
            retry: spec.retry,
            concurrency: match spec.is_serial() {
                true => Some(1),
                false => spec.concurrency,
            },
            rate: spec.rate,
            batch: spec.batch,
            pulled: spec.pulled,
        }
    }

    /// Most events taken at once.
    pub(crate) fn batch_size(&self) -> usize {
        self.batch.map_or(1, |batch| batch.size.max(1) as usize)
    }
}

impl Ordered {
    pub(crate) fn of(stored: &StoredSubscription) -> Option<Self> {
        let order = stored.spec.order.as_ref()?;
        let path = match Path::parse(&order.key) {
            Ok(path) => Some(Arc::new(path)),
            Err(error) => {
                tracing::error!(key = %stored.key, %error, "a stored key of order is no path");
                None
            }
        };
        Some(Self {
            path,
            dead: order.dead,
        })
    }

    /// The lane of an event.
    pub(crate) fn lane(&self, event: &Event, position: Position) -> Lane {
        let found = self
            .path
            .as_ref()
            .and_then(|path| path.find_in_event(event));
        match found.as_deref() {
            None | Some(Value::Null) => Lane::of(None, position),
            Some(Value::String(text)) => Lane::of(Some(text), position),
            Some(other) => Lane::of(Some(&other.to_string()), position),
        }
    }
}

/// What a subscription hands over instead of its events. It compiled when it was stored; should it no longer (a newer
/// store, an older binary), the event is handed over as it is, and that is said.
pub(crate) fn input_of(stored: &StoredSubscription) -> Option<Arc<Input>> {
    match Input::compile(stored.spec.input.as_ref()?) {
        Ok(input) => Some(Arc::new(input)),
        Err(error) => {
            tracing::error!(key = %stored.key, %error, "a stored input cannot be read");
            None
        }
    }
}
