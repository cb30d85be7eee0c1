//! Pieces that a text contains, by their first characters: for wildcards with no more certain beginning or end.

use std::collections::HashMap;

use super::{
    WayId, Ways,
    bucket::{Around, Bucket},
};
use crate::wildcard::Wildcard;

/// The most bytes of a piece that are looked up by.
const LONGEST: usize = 4;

/// Ways by a few bytes in a row that the text must contain.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    buckets: HashMap<Gram, Bucket>,
    /// How many buckets there are by how long their bytes are.
    lengths: [usize; LONGEST + 1],
}

/// Up to [`LONGEST`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Gram {
    length: u8,
    bytes: [u8; LONGEST],
}

impl Gram {
    fn of(bytes: &[u8]) -> Self {
        let mut gram = Self {
            length: 0,
            bytes: [0; LONGEST],
        };
        for (into, byte) in gram.bytes.iter_mut().zip(bytes) {
            *into = *byte;
            gram.length += 1;
        }
        gram
    }

    const fn len(self) -> usize {
        self.length as usize
    }
}

/// All that a wildcard may stand under, longest ones only.
fn grams(wildcard: &Wildcard) -> impl Iterator<Item = Gram> {
    let pieces = wildcard.pieces();
    let longest = pieces.iter().map(String::len).max().unwrap_or(0);
    let length = longest.clamp(1, LONGEST);
    let windows = pieces
        .iter()
        .flat_map(move |piece| piece.as_bytes().windows(length));
    windows.map(Gram::of)
}

impl Pieces {
    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// With how many a wildcard would stand.
    pub(super) fn len_at(&self, wildcard: &Wildcard) -> usize {
        let len = |gram| self.buckets.get(&gram).map_or(0, Bucket::len);
        grams(wildcard).map(len).min().unwrap_or(0)
    }

    pub(super) fn add(&mut self, wildcard: &Wildcard, id: WayId, around: Around<'_>) {
        let len = |gram: &Gram| self.buckets.get(gram).map_or(0, Bucket::len);
        let Some(gram) = grams(wildcard).min_by_key(len) else {
            return;
        };
        let bucket = self.buckets.entry(gram).or_default();
        self.lengths[gram.len()] += usize::from(bucket.is_empty());
        bucket.add(id, around);
    }

    /// Looks everywhere: where it stands was decided by what was there then.
    pub(super) fn remove(&mut self, wildcard: &Wildcard, id: WayId, ways: &Ways) {
        for gram in grams(wildcard) {
            let Some(bucket) = self.buckets.get_mut(&gram) else {
                continue;
            };
            bucket.remove(id, ways);
            if bucket.is_empty() {
                self.buckets.remove(&gram);
                self.lengths[gram.len()] -= 1;
            }
        }
    }

    /// Adds what stands under any bytes of `text`.
    pub(super) fn find<'i>(&'i self, text: &[u8], buckets: &mut Vec<&'i Bucket>) {
        for length in (1..=LONGEST).filter(|length| self.lengths[*length] > 0) {
            let grams = text.windows(length).map(Gram::of);
            buckets.extend(grams.filter_map(|gram| self.buckets.get(&gram)));
        }
    }
}
