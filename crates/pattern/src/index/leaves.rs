//! What patterns ask of a field, once for all that ask the same: what many look at lies close together in memory, and what came of
//! it for an event holds for all of them.

use std::{collections::HashMap, hash::BuildHasher as _, sync::Arc};

use crate::syntax::Leaf;

/// Leaves by the hash of what they ask, with the number of ways that have them.
#[derive(Debug, Default)]
pub(super) struct Leaves(HashMap<u64, (Arc<Leaf>, usize)>);

impl Leaves {
    /// A leaf that asks the same, whatever its place in its pattern.
    pub(super) fn shared(&mut self, leaf: &Arc<Leaf>) -> Arc<Leaf> {
        let shared = self.0.entry(self.hash(leaf));
        let (shared, uses) = shared.or_insert_with(|| (Arc::clone(leaf), 0));
        if !asks_the_same(shared, leaf) {
            // Another one has the same hash.
            return Arc::clone(leaf);
        }
        *uses += 1;
        Arc::clone(shared)
    }

    /// A way that had this one is gone.
    pub(super) fn release(&mut self, leaf: &Arc<Leaf>) {
        let hash = self.hash(leaf);
        let shared = self.0.get_mut(&hash);
        if let Some((_, uses)) = shared.filter(|(one, _)| Arc::ptr_eq(one, leaf)) {
            *uses -= 1;
            if *uses == 0 {
                self.0.remove(&hash);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn hash(&self, leaf: &Leaf) -> u64 {
        let Leaf {
            name,
            tests,
            absent,
            pointer: _,
        } = leaf;
        self.0
            .hasher()
            .hash_one((name, absent, format!("{tests:?}")))
    }
}

fn asks_the_same(one: &Leaf, other: &Leaf) -> bool {
    one.name == other.name && one.absent == other.absent && one.tests == other.tests
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Index, Pattern};

    #[test]
    fn patterns_that_ask_the_same_share_it_until_the_last_goes() {
        let mut index = Index::default();
        for key in 0..3 {
            let pattern = json!({"type": ["order.created"], "data": {"n": [key]}});
            index.insert(key, &Pattern::compile(&pattern).expect("is one"));
        }
        assert_eq!(index.leaves.0.len(), 4);
        for (key, left) in [(1, 3), (0, 2), (2, 0)] {
            index.remove(&key);
            assert_eq!(index.leaves.0.len(), left);
        }
    }
}
