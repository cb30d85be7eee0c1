//! Beginnings of texts in a sorted map, walked like a trie: each step finds a beginning, or learns how long the next may be.

use std::{
    collections::BTreeMap,
    ops::Bound::{Included, Unbounded},
};

use super::{
    WayId, Ways,
    bucket::{Around, Bucket},
};

/// Ways by how a text begins (or, given reversed ones, how it ends).
#[derive(Debug, Default)]
pub(super) struct Texts(BTreeMap<Box<[u8]>, Bucket>);

impl Texts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len_at(&self, beginning: impl Iterator<Item = u8>) -> usize {
        let beginning: Vec<u8> = beginning.collect();
        self.0.get(beginning.as_slice()).map_or(0, Bucket::len)
    }

    pub(super) fn add(
        &mut self,
        beginning: impl Iterator<Item = u8>,
        id: WayId,
        around: Around<'_>,
    ) {
        let bucket = self.0.entry(beginning.collect()).or_default();
        bucket.add(id, around);
    }

    pub(super) fn remove(&mut self, beginning: impl Iterator<Item = u8>, id: WayId, ways: &Ways) {
        let beginning: Vec<u8> = beginning.collect();
        if let Some(bucket) = self.0.get_mut(beginning.as_slice()) {
            bucket.remove(id, ways);
            if bucket.is_empty() {
                self.0.remove(beginning.as_slice());
            }
        }
    }

    /// Adds what stands under the beginnings of `text`.
    pub(super) fn find<'i>(&'i self, text: &[u8], buckets: &mut Vec<&'i Bucket>) {
        let mut rest = Some(text);
        while let Some(at_most) = rest {
            let bounds = (Unbounded, Included(at_most));
            let Some((key, bucket)) = self.0.range::<[u8], _>(bounds).next_back() else {
                return;
            };
            let common = key
                .iter()
                .zip(at_most)
                .take_while(|(one, other)| one == other);
            let common = common.count();
            if common == key.len() {
                buckets.push(bucket);
                // The next is shorter.
                rest = common.checked_sub(1).map(|shorter| &text[..shorter]);
            } else {
                // Any beginning of `text` longer than what is common would stand between the key and `at_most`.
                rest = Some(&text[..common]);
            }
        }
    }
}
