//! Ways that stand under the same value, and how they are told apart when they become many.

use std::collections::HashMap;

use super::{WayId, Ways, field::FieldIndex};
use crate::{
    flat::Flat,
    paths::PathId,
    syntax::{Field, Leaf},
};

/// More ways than this under one value are indexed again by another field.
const MANY: usize = 8;
/// How often ways are indexed again.
const MAX_LEVEL: usize = 4;
/// A field with more tests than this is not used to index again: its way would stand in as many places, at each level.
const MAX_TESTS: usize = 16;
/// What it costs to stand under a field that may be absent: more than any other.
const ABSENT_COST: usize = 1 << 30;

/// Ways under one value.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// In order.
    ways: Vec<WayId>,
    /// Where those went that have another field to be indexed by.
    node: Option<Box<Node>>,
    count: usize,
}

/// Ways by one of their fields each.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Under which of its fields each way stands.
    placed: HashMap<WayId, u16>,
    /// By values.
    fields: HashMap<PathId, FieldIndex>,
    /// By the lack of any value.
    absent: HashMap<PathId, Bucket>,
    /// The fields by which what is here was found already.
    used: Vec<PathId>,
}

/// What a bucket has to know of where it is.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// The fields by which its node was found.
    used: &'a [PathId],
    /// And its own.
    path: PathId,
    ways: &'a Ways,
}

impl Bucket {
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add(&mut self, id: WayId, around: Around<'_>) {
        if self.ways.binary_search(&id).is_ok() {
            return;
        }
        if let Some(node) = &mut self.node {
            let before = node.placed.len();
            if node.add(id, around.ways) {
                self.count += node.placed.len() - before;
                return;
            }
        }
        self.count += 1;
        let at = self.ways.partition_point(|other| *other < id);
        self.ways.insert(at, id);
        if self.node.is_none() && self.ways.len() > MANY && around.used.len() < MAX_LEVEL {
            self.split(around);
        }
    }

    fn split(&mut self, around: Around<'_>) {
        let mut used = around.used.to_vec();
        used.push(around.path);
        let mut node = Node {
            used,
            ..Node::default()
        };
        self.ways.retain(|id| !node.add(*id, around.ways));
        self.node = Some(Box::new(node)).filter(|node| !node.placed.is_empty());
    }

    pub(super) fn remove(&mut self, id: WayId, ways: &Ways) {
        let removed = match self.ways.binary_search(&id) {
            Ok(at) => {
                self.ways.remove(at);
                true
            }
            Err(_) => self.node.as_mut().is_some_and(|node| node.remove(id, ways)),
        };
        self.node = self.node.take().filter(|node| !node.placed.is_empty());
        self.count -= usize::from(removed);
    }

    pub(super) fn find(&self, flat: &Flat<'_>, found: &mut Vec<WayId>) {
        found.extend_from_slice(&self.ways);
        if let Some(node) = &self.node {
            node.find(flat, found);
        }
    }
}

impl Node {
    /// Adds a way under one of its fields; says whether it has one to stand under.
    pub(super) fn add(&mut self, id: WayId, ways: &Ways) -> bool {
        if self.placed.contains_key(&id) {
            return true;
        }
        let way = ways.of(id);
        let Some((at, field)) = self.choose(way) else {
            return false;
        };
        self.placed.insert(id, at);
        let around = Around {
            used: &self.used,
            path: field.path,
            ways,
        };
        let fields = self.fields.entry(field.path).or_default();
        fields.add(id, &field.leaf, around);
        if field.leaf.absent {
            let bucket = self.absent.entry(field.path).or_default();
            bucket.add(id, around);
        }
        true
    }

    /// The field that shares its values with the fewest others.
    fn choose<'w>(&self, way: &'w [Field]) -> Option<(u16, &'w Field)> {
        let usable = |(at, field): &(u16, &Field)| {
            let few = self.used.is_empty() || field.leaf.tests.len() <= MAX_TESTS;
            few && can_be_found(*at, &field.leaf) && !self.used.contains(&field.path)
        };
        (0..)
            .zip(way)
            .filter(usable)
            .min_by_key(|(_, field)| self.cost(field))
    }

    fn cost(&self, field: &Field) -> usize {
        if field.leaf.absent {
            return ABSENT_COST;
        }
        match self.fields.get(&field.path) {
            Some(there) => there.cost(&field.leaf),
            None => FieldIndex::default().cost(&field.leaf),
        }
    }

    /// Removes a way; says whether it was here.
    pub(super) fn remove(&mut self, id: WayId, ways: &Ways) -> bool {
        let Some(at) = self.placed.remove(&id) else {
            return false;
        };
        let Some(field) = ways.of(id).get(usize::from(at)) else {
            return false;
        };
        if let Some(fields) = self.fields.get_mut(&field.path) {
            fields.remove(id, &field.leaf, ways);
            if fields.is_empty() {
                self.fields.remove(&field.path);
            }
        }
        if let Some(bucket) = self.absent.get_mut(&field.path) {
            bucket.remove(id, ways);
            if bucket.is_empty() {
                self.absent.remove(&field.path);
            }
        }
        true
    }

    /// Whether there is nothing, also no empty rest of anything.
    pub(super) fn is_empty(&self) -> bool {
        self.placed.is_empty() && self.fields.is_empty() && self.absent.is_empty()
    }

    /// Adds the ways that may match; some twice.
    pub(super) fn find(&self, flat: &Flat<'_>, found: &mut Vec<WayId>) {
        if self.fields.len() < flat.len() {
            for (path, fields) in &self.fields {
                fields.find(flat.at(*path), flat, found);
            }
        } else {
            for scalars in flat.by_path() {
                let fields = scalars.first().and_then(|one| self.fields.get(&one.path));
                if let Some(fields) = fields {
                    fields.find(scalars, flat, found);
                }
            }
        }
        for (path, bucket) in &self.absent {
            if flat.at(*path).is_empty() {
                bucket.find(flat, found);
            }
        }
    }
}

/// Only the first field's absence is that of the whole event; a later one's is that of the elements chosen before it, which
/// nothing can be looked up by.
const fn can_be_found(at: u16, leaf: &Leaf) -> bool {
    at == 0 || !leaf.absent
}
