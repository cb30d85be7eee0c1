//! Which subscriptions an event goes to: each event is looked at once. Filters that ask for exact types are found by
//! the type; the others are tried one by one.

use std::{collections::HashMap, sync::Arc};

use model::{Event, EventFilter, Position};
use pattern::Pattern;
use serde_json::Value;
use store::log::{StoredSubscription, SubscriptionId};

use crate::error::Error;

/// The living subscriptions of a namespace, by what they ask for.
#[derive(Default)]
pub(crate) struct Index {
    by_type: HashMap<String, Vec<Arc<Entry>>>,
    others: Vec<Arc<Entry>>,
}

/// One subscription of an index.
pub(crate) struct Entry {
    id: SubscriptionId,
    pattern: Arc<Pattern>,
    begin: Position,
}

impl Entry {
    pub(crate) const fn new(id: SubscriptionId, pattern: Arc<Pattern>, begin: Position) -> Self {
        Self { id, pattern, begin }
    }
}

impl Index {
    /// Adds a subscription with this filter.
    pub(crate) fn add(&mut self, filter: &EventFilter, entry: Entry) {
        let entry = Arc::new(entry);
        match exact_types(&filter.0) {
            None => self.others.push(entry),
            Some(types) => {
                for kind in types {
                    let entries = self.by_type.entry(kind.to_owned()).or_default();
                    entries.push(Arc::clone(&entry));
                }
            }
        }
    }

    /// Removes subscriptions.
    pub(crate) fn remove(&mut self, ids: &[SubscriptionId]) {
        let stays = |entry: &Arc<Entry>| !ids.contains(&entry.id);
        self.others.retain(stays);
        self.by_type.retain(|_, entries| {
            entries.retain(stays);
            !entries.is_empty()
        });
    }

    /// The subscriptions that get the event at `position`.
    pub(crate) fn matches(&self, event: &Event, position: Position) -> Vec<SubscriptionId> {
        let by_type = self.by_type.get(&event.kind).map_or(&[][..], Vec::as_slice);
        let candidates = by_type.iter().chain(&self.others);
        let mut candidates = candidates.filter(|entry| position > entry.begin).peekable();
        if candidates.peek().is_none() {
            return Vec::new();
        }
        let view = pattern::event_view(event);
        candidates
            .filter(|entry| entry.pattern.matches(&view))
            .map(|entry| entry.id)
            .collect()
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

/// The types that a filter asks for, when it asks for exact ones only.
fn exact_types(filter: &Value) -> Option<Vec<&str>> {
    filter
        .get("type")?
        .as_array()?
        .iter()
        .map(Value::as_str)
        .collect()
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
            index.add(
                &filter,
                Entry::new(SubscriptionId(id), pattern, Position(3)),
            );
        }
        let found = |index: &Index, kind: &str, position| {
            let mut ids: Vec<_> = index
                .matches(&event(kind), Position(position))
                .into_iter()
                .map(|id| id.0)
                .collect();
            ids.sort_unstable();
            ids
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
