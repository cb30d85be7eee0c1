//! Ranges of 128-bit keys, found by a key that they hold in a number of steps that does not depend on how many there are.
//!
//! Each range stands at the longest beginning, in bits, that its ends share. The middle below that beginning is in the
//! range, so that a key before the middle is in those ranges there that begin before the key, and a key after it in
//! those that end after it. A key meets one beginning of each length that any range has.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    WayId, Ways,
    bucket::{Around, Bucket},
};

/// First and last key.
type Ends = (u128, u128);

/// Ranges, both ends inside.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    /// By how many bits the ends share, and these bits.
    places: HashMap<(u32, u128), Place>,
    /// How many places there are by how many bits.
    lengths: BTreeMap<u32, usize>,
    count: usize,
}

/// The ranges whose ends share the same beginning.
#[derive(Debug, Default)]
struct Place {
    by_begin: BTreeMap<Ends, Bucket>,
    /// Last and first key.
    by_end: BTreeSet<Ends>,
}

fn shared((low, high): Ends) -> (u32, u128) {
    let bits = (low ^ high).leading_zeros();
    (bits, beginning(low, bits))
}

fn beginning(key: u128, bits: u32) -> u128 {
    key.checked_shr(128 - bits).unwrap_or(0)
}

impl Intervals {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many ways are here.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) fn add(&mut self, ends: Ends, id: WayId, around: Around<'_>) {
        let at = shared(ends);
        let place = self.places.entry(at).or_insert_with(|| {
            *self.lengths.entry(at.0).or_default() += 1;
            Place::default()
        });
        let bucket = place.by_begin.entry(ends).or_default();
        let before = bucket.len();
        bucket.add(id, around);
        self.count += bucket.len() - before;
        place.by_end.insert((ends.1, ends.0));
    }

    pub(super) fn remove(&mut self, ends: Ends, id: WayId, ways: &Ways) {
        let at = shared(ends);
        let Some(place) = self.places.get_mut(&at) else {
            return;
        };
        let Some(bucket) = place.by_begin.get_mut(&ends) else {
            return;
        };
        let before = bucket.len();
        bucket.remove(id, ways);
        self.count -= before - bucket.len();
        if bucket.is_empty() {
            place.by_begin.remove(&ends);
            place.by_end.remove(&(ends.1, ends.0));
        }
        if place.by_begin.is_empty() {
            self.places.remove(&at);
            if let Some(count) = self.lengths.get_mut(&at.0) {
                *count -= 1;
            }
            self.lengths.retain(|_, count| *count > 0);
        }
    }

    /// Adds what stands under the ranges that hold `key`.
    pub(super) fn find<'i>(&'i self, key: u128, buckets: &mut Vec<&'i Bucket>) {
        for bits in self.lengths.keys() {
            let Some(place) = self.places.get(&(*bits, beginning(key, *bits))) else {
                continue;
            };
            // The bit after what is shared is 0 where a range begins and 1 where it ends.
            let second_half = key.checked_shl(*bits).is_some_and(|rest| rest >> 127 == 1);
            if second_half {
                let ends = place.by_end.range((key, 0)..);
                buckets.extend(ends.filter_map(|(high, low)| place.by_begin.get(&(*low, *high))));
            } else {
                let begins = place.by_begin.range(..=(key, u128::MAX));
                buckets.extend(begins.map(|(_, bucket)| bucket));
            }
        }
    }
}
