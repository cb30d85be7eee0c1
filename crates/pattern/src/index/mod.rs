//! Many patterns as one index, which is changed in place: what an event costs grows with what it matches, not with how many
//! patterns there are.
//!
//! Each way of a pattern stands in the index under one of its fields: the one that shares its value with the fewest others when it
//! comes. Fields of an event look up the ways that stand there: exact values by hash, beginnings and ends of texts in sorted maps
//! that are walked like a trie, ranges in a tree of intervals, pieces of wildcards by their first characters. Where many
//! ways come to stand under the same value, they are indexed again by another of their fields, and so on. What is found is
//! a candidate; whether all its fields are met is then decided as for a pattern alone.

mod bucket;
mod field;
mod intervals;
mod leaves;
mod pieces;
mod texts;

use std::{collections::HashMap, hash::Hash};

use model::Event;
use serde_json::Value;

use crate::{
    flat::Flat,
    matcher::{Known, meets},
    paths::Paths,
    syntax::{Field, Pattern, Way},
};
use bucket::Node;
use leaves::Leaves;

/// Patterns by keys.
#[derive(Debug)]
pub struct Index<K> {
    paths: Paths,
    leaves: Leaves,
    ways: Ways,
    /// Whose each way is.
    owners: Vec<Option<K>>,
    keys: HashMap<K, Vec<WayId>>,
    root: Node,
}

/// All ways; a place that was left is taken again.
#[derive(Debug, Default)]
struct Ways {
    places: Vec<Way>,
    free: Vec<WayId>,
}

/// A way's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct WayId(u32);

impl Ways {
    fn of(&self, id: WayId) -> &[Field] {
        self.places.get(id.0 as usize).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, way: Way) -> WayId {
        if let Some(id) = self.free.pop() {
            self.places[id.0 as usize] = way;
            return id;
        }
        let count = u32::try_from(self.places.len()).expect("memory ends before");
        self.places.push(way);
        WayId(count)
    }

    fn remove(&mut self, id: WayId) -> Way {
        self.free.push(id);
        std::mem::take(&mut self.places[id.0 as usize])
    }
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self {
            paths: Paths::default(),
            leaves: Leaves::default(),
            ways: Ways::default(),
            owners: Vec::new(),
            keys: HashMap::new(),
            root: Node::default(),
        }
    }
}

impl<K: Clone + Ord + Hash> Index<K> {
    /// Adds a pattern; one that was there under this key goes.
    pub fn insert(&mut self, key: K, pattern: &Pattern) {
        self.remove(&key);
        let ids = pattern.ways.iter().map(|way| self.add(&key, way)).collect();
        self.keys.insert(key, ids);
    }

    fn add(&mut self, key: &K, way: &Way) -> WayId {
        let mut mine = Way::with_capacity(way.len());
        for field in way {
            mine.push(Field {
                path: self.paths.add(&field.leaf.name),
                leaf: self.leaves.shared(&field.leaf),
            });
        }
        let id = self.ways.add(mine);
        if self.owners.len() <= id.0 as usize {
            self.owners.resize(id.0 as usize + 1, None);
        }
        self.owners[id.0 as usize] = Some(key.clone());
        self.root.add(id, &self.ways);
        id
    }

    /// Removes a pattern; says whether there was one.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(ids) = self.keys.remove(key) else {
            return false;
        };
        for id in ids {
            self.root.remove(id, &self.ways);
            self.owners[id.0 as usize] = None;
            for field in self.ways.remove(id) {
                self.paths.remove(field.path);
                self.leaves.release(&field.leaf);
            }
        }
        true
    }

    /// The keys of the patterns that an event matches, in their order, each once.
    #[must_use]
    pub fn matches(&self, event: &Event) -> Vec<K> {
        self.matching(&Flat::of_event(&self.paths, event))
    }

    /// As [`Index::matches`], for an event in any JSON format; what is no object matches nothing.
    #[must_use]
    pub fn matches_json(&self, event: &Value) -> Vec<K> {
        if !event.is_object() {
            return Vec::new();
        }
        self.matching(&Flat::of_json(&self.paths, event))
    }

    fn matching(&self, flat: &Flat<'_>) -> Vec<K> {
        let mut candidates = Vec::new();
        self.root.find(flat, &mut candidates);
        candidates.sort_unstable();
        candidates.dedup();
        let mut known = Known::default();
        candidates.retain(|id| meets(&self.paths, self.ways.of(*id), flat, &mut known));
        let owner = |id: &WayId| self.owners.get(id.0 as usize)?.clone();
        let mut keys: Vec<K> = candidates.iter().filter_map(owner).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// How many patterns there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether nothing is left of patterns that went.
    pub(crate) fn has_nothing(&self) -> bool {
        self.paths.is_empty() && self.leaves.is_empty() && self.root.is_empty()
    }

    /// How many candidates an event has, of which [`Index::matches`] keeps those that match: what finding them costs.
    #[must_use]
    pub fn candidates(&self, event: &Event) -> usize {
        let mut candidates = Vec::new();
        self.root
            .find(&Flat::of_event(&self.paths, event), &mut candidates);
        candidates.len()
    }
}
