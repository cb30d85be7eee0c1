//! Which subscriptions an event goes to: each event is looked at once, in one index of all living subscriptions, which is
//! changed in place when one comes or goes.

use std::{collections::HashMap, sync::Arc};

use model::{Event, EventFilter, Position};
use pattern::Pattern;
use store::log::{StoredSubscription, SubscriptionId};

use crate::error::Error;

/// The living subscriptions of a namespace, by what they ask for.
#[derive(Default)]
pub(crate) struct Index {
    patterns: pattern::Index<SubscriptionId>,
    begins: HashMap<SubscriptionId, Position>,
}

impl Index {
    /// Adds a subscription, which gets what comes after `begin`; one with this id goes.
    pub(crate) fn add(&mut self, id: SubscriptionId, pattern: &Pattern, begin: Position) {
        self.patterns.insert(id, pattern);
        self.begins.insert(id, begin);
    }

    /// Removes subscriptions.
    pub(crate) fn remove(&mut self, ids: &[SubscriptionId]) {
        for id in ids {
            self.patterns.remove(id);
            self.begins.remove(id);
        }
    }

    /// The subscriptions that get the event at `position`.
    pub(crate) fn matches(&self, event: &Event, position: Position) -> Vec<SubscriptionId> {
        let mut ids = self.patterns.matches(event);
        ids.retain(|id| self.begins.get(id).is_some_and(|begin| position > *begin));
        ids
    }
}

/// Compiles the filter of a subscription.
///
/// # Errors
/// [`Error::BadFilter`] says what is wrong and where.
pub(crate) fn compile(
    key: &model::SubscriptionKey,
    filter: &EventFilter,
) -> Result<Arc<Pattern>, Error> {
    Pattern::compile(&filter.0)
        .map(Arc::new)
        .map_err(|error| Error::BadFilter {
            key: key.clone(),
            reason: error.to_string(),
        })
}

/// Compiles the filter of a stored subscription. It compiled when it was stored; should it no longer (a newer store, an
/// older binary), it matches nothing and says so.
pub(crate) fn compile_stored(stored: &StoredSubscription) -> Option<Arc<Pattern>> {
    match compile(&stored.key, &stored.spec.filter) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            tracing::error!(%error, "a stored subscription gets no events");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use model::event::EventData;
    use serde_json::json;

    use super::*;

    fn event(kind: &str) -> Event {
        Event {
            id: "1".to_owned(),
            source: "/s".to_owned(),
            kind: kind.to_owned(),
            subject: None,
            time: None,
            content_type: None,
            schema: None,
            extensions: std::collections::BTreeMap::default(),
            data: EventData::Json(json!({"total": 5})),
        }
    }

    #[test]
    fn the_index_finds_what_trying_all_would_find() {
        let filters = [
            json!({"type": ["a", "b"]}),
            json!({"type": [{"prefix": "a"}]}),
            json!({"data": {"total": [{"numeric": [">", 4]}]}}),
            json!({"type": ["a"], "data": {"total": [6]}}),
        ];
        let mut index = Index::default();
        for (id, filter) in (0..).zip(&filters) {
            let filter = EventFilter(filter.clone());
            let key = "a/w/s".parse().expect("is a key");
            let pattern = compile(&key, &filter).expect("is a pattern");
            index.add(SubscriptionId(id), &pattern, Position(3));
        }
        let found = |index: &Index, kind: &str, position| {
            let ids = index.matches(&event(kind), Position(position));
            ids.into_iter().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(found(&index, "a", 5), [0, 1, 2]);
        assert_eq!(found(&index, "b", 5), [0, 2]);
        assert_eq!(found(&index, "abc", 8), [1, 2]);
        assert_eq!(found(&index, "a", 3), [0; 0]);
        index.remove(&[SubscriptionId(0), SubscriptionId(1)]);
        assert_eq!(found(&index, "a", 5), [2]);
    }

    #[test]
    fn a_filter_that_is_none_is_refused_with_its_place() {
        let key = "shop/w/s".parse().expect("is a key");
        let error = compile(&key, &EventFilter(json!({"type": "a"}))).expect_err("no list");
        assert!(error.to_string().contains("shop/w/s"), "{error}");
    }
}
