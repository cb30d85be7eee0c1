//! Ways by what they ask of one field.

use std::collections::HashMap;

use super::{
    WayId, Ways,
    bucket::{Around, Bucket},
    intervals::Intervals,
    pieces::Pieces,
    texts::Texts,
};
use crate::{
    address::Address,
    flat::{Flat, Found},
    fold::fold,
    number::Num,
    syntax::Leaf,
    test::{Scalar, Test},
    wildcard::Wildcard,
};

/// Added to what it costs to stand under a beginning, an end or a piece of a text: shorter ones match, too.
const TEXT_COST: usize = 2;
/// Added for a range: others overlap it.
const RANGE_COST: usize = 8;
/// Added for what nearly every value passes.
const ANY_COST: usize = 1 << 20;

/// Ways by what they ask of one field.
#[derive(Debug, Default)]
pub(super) struct FieldIndex {
    texts: HashMap<Box<str>, Bucket>,
    exact: HashMap<Exact, Bucket>,
    /// Found whatever the value: it must be there.
    any: Bucket,
    rare: Option<Box<Rare>>,
}

/// A value that is no text, or a text that is an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Exact {
    Null,
    Bool(bool),
    Number(Num),
    Address(Address),
}

/// What most fields have none of.
#[derive(Debug, Default)]
struct Rare {
    folded: HashMap<Box<str>, Bucket>,
    beginnings: Texts,
    ends: Texts,
    folded_beginnings: Texts,
    folded_ends: Texts,
    pieces: Pieces,
    numbers: Intervals,
    addresses: Intervals,
}

/// Where a test's ways stand.
enum Place<'t> {
    Text(&'t str),
    Exact(Exact),
    Folded(&'t str),
    Beginning(&'t str),
    End(&'t str),
    FoldedBeginning(&'t str),
    FoldedEnd(&'t str),
    Pieces(&'t Wildcard),
    Numbers(Num, Num),
    Addresses(Address, Address),
    Any,
}

fn place(test: &Test) -> Place<'_> {
    match test {
        Test::Null => Place::Exact(Exact::Null),
        Test::Bool(value) => Place::Exact(Exact::Bool(*value)),
        Test::Number(number) => Place::Exact(Exact::Number(Num::of(number))),
        Test::Text(_, Some(address)) => Place::Exact(Exact::Address(*address)),
        Test::Text(text, None) => Place::Text(text),
        Test::EqualsIgnoreCase(folded) => Place::Folded(&folded.key),
        Test::Prefix(text) => Place::Beginning(text),
        Test::Suffix(text) => Place::End(text),
        Test::PrefixIgnoreCase(folded) => Place::FoldedBeginning(&folded.key),
        Test::SuffixIgnoreCase(folded) => Place::FoldedEnd(&folded.key),
        Test::Wildcard(wildcard) => place_of_wildcard(wildcard),
        Test::Numeric(bounds) if bounds.low == bounds.high => {
            Place::Exact(Exact::Number(bounds.low))
        }
        Test::Numeric(bounds) => Place::Numbers(bounds.low, bounds.high),
        Test::Cidr(cidr) => Place::Addresses(cidr.low, cidr.high),
        Test::Exists | Test::AnythingBut(_) => Place::Any,
    }
}

/// Under its longest certain part.
fn place_of_wildcard(wildcard: &Wildcard) -> Place<'_> {
    if let Some(text) = wildcard.literal() {
        return Place::Text(text);
    }
    let longest = wildcard.pieces().iter().map(String::len).max();
    match longest {
        None | Some(0) => Place::Any,
        Some(length) if wildcard.head().len() == length => Place::Beginning(wildcard.head()),
        Some(length) if wildcard.tail().len() == length => Place::End(wildcard.tail()),
        Some(_) => Place::Pieces(wildcard),
    }
}

impl FieldIndex {
    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
            && self.exact.is_empty()
            && self.any.is_empty()
            && self.rare.as_ref().is_none_or(|rare| rare.is_empty())
    }

    /// With how many a leaf would share its most shared value, weighted by how much that tells.
    pub(super) fn cost(&self, leaf: &Leaf) -> usize {
        let cost = |test| match place(test) {
            Place::Text(text) => self.texts.get(text).map_or(0, Bucket::len),
            Place::Exact(exact) => self.exact.get(&exact).map_or(0, Bucket::len),
            Place::Any => ANY_COST + self.any.len(),
            other => match &self.rare {
                Some(rare) => rare.cost(&other),
                None => Rare::default().cost(&other),
            },
        };
        leaf.tests.iter().map(cost).max().unwrap_or(0)
    }

    pub(super) fn add(&mut self, id: WayId, leaf: &Leaf, around: Around<'_>) {
        for test in &leaf.tests {
            match place(test) {
                Place::Text(text) => match self.texts.get_mut(text) {
                    Some(bucket) => bucket.add(id, around),
                    None => self.texts.entry(text.into()).or_default().add(id, around),
                },
                Place::Exact(exact) => self.exact.entry(exact).or_default().add(id, around),
                Place::Any => self.any.add(id, around),
                other => self.rare.get_or_insert_default().add(id, &other, around),
            }
        }
    }

    pub(super) fn remove(&mut self, id: WayId, leaf: &Leaf, ways: &Ways) {
        for test in &leaf.tests {
            match place(test) {
                Place::Text(text) => {
                    if let Some(bucket) = self.texts.get_mut(text) {
                        bucket.remove(id, ways);
                        if bucket.is_empty() {
                            self.texts.remove(text);
                        }
                    }
                }
                Place::Exact(exact) => {
                    if let Some(bucket) = self.exact.get_mut(&exact) {
                        bucket.remove(id, ways);
                        if bucket.is_empty() {
                            self.exact.remove(&exact);
                        }
                    }
                }
                Place::Any => self.any.remove(id, ways),
                other => {
                    if let Some(rare) = &mut self.rare {
                        rare.remove(id, &other, ways);
                    }
                }
            }
        }
        self.rare = self.rare.take().filter(|rare| !rare.is_empty());
    }

    /// Adds the ways that one of the values may lead to.
    pub(super) fn find(&self, scalars: &[Found<'_>], flat: &Flat<'_>, found: &mut Vec<WayId>) {
        if scalars.is_empty() {
            return;
        }
        let mut buckets = vec![&self.any];
        for one in scalars {
            self.look_up(&one.scalar, &mut buckets);
        }
        // Equal values in a long list lead to the same places.
        if buckets.len() > 2 {
            buckets.sort_unstable_by_key(|bucket| std::ptr::from_ref::<Bucket>(bucket).addr());
            buckets.dedup_by(|one, other| std::ptr::eq(*one, *other));
        }
        for bucket in buckets {
            bucket.find(flat, found);
        }
    }

    fn look_up<'i>(&'i self, scalar: &Scalar<'_>, buckets: &mut Vec<&'i Bucket>) {
        let exact = match scalar {
            Scalar::Null => Some(Exact::Null),
            Scalar::Bool(value) => Some(Exact::Bool(*value)),
            Scalar::Number(number, _) => Some(Exact::Number(*number)),
            Scalar::Text(text) => {
                buckets.extend(self.texts.get(text.as_ref()));
                Address::parse(text).map(Exact::Address)
            }
        };
        buckets.extend(exact.and_then(|exact| self.exact.get(&exact)));
        if let Some(rare) = &self.rare {
            match (scalar, exact) {
                (_, Some(Exact::Number(number))) => rare.numbers.find(number.0, buckets),
                (Scalar::Text(text), Some(Exact::Address(address))) => {
                    rare.addresses.find(address.0, buckets);
                    rare.find_text(text, buckets);
                }
                (Scalar::Text(text), _) => rare.find_text(text, buckets),
                _ => {}
            }
        }
    }
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.folded.is_empty()
            && self.beginnings.is_empty()
            && self.ends.is_empty()
            && self.folded_beginnings.is_empty()
            && self.folded_ends.is_empty()
            && self.pieces.is_empty()
            && self.numbers.is_empty()
            && self.addresses.is_empty()
    }

    fn cost(&self, place: &Place<'_>) -> usize {
        match place {
            Place::Folded(text) => self.folded.get(*text).map_or(0, Bucket::len),
            Place::Beginning(text) => TEXT_COST + self.beginnings.len_at(text.bytes()),
            Place::End(text) => TEXT_COST + self.ends.len_at(text.bytes().rev()),
            Place::FoldedBeginning(text) => TEXT_COST + self.folded_beginnings.len_at(text.bytes()),
            Place::FoldedEnd(text) => TEXT_COST + self.folded_ends.len_at(text.bytes().rev()),
            Place::Pieces(wildcard) => TEXT_COST + self.pieces.len_at(wildcard),
            Place::Numbers(..) => RANGE_COST + self.numbers.len() / 2,
            Place::Addresses(..) => RANGE_COST + self.addresses.len() / 16,
            Place::Text(_) | Place::Exact(_) | Place::Any => 0,
        }
    }

    fn add(&mut self, id: WayId, place: &Place<'_>, around: Around<'_>) {
        match place {
            Place::Folded(text) => {
                let bucket = self.folded.entry((*text).into()).or_default();
                bucket.add(id, around);
            }
            Place::Beginning(text) => self.beginnings.add(text.bytes(), id, around),
            Place::End(text) => self.ends.add(text.bytes().rev(), id, around),
            Place::FoldedBeginning(text) => self.folded_beginnings.add(text.bytes(), id, around),
            Place::FoldedEnd(text) => self.folded_ends.add(text.bytes().rev(), id, around),
            Place::Pieces(wildcard) => self.pieces.add(wildcard, id, around),
            Place::Numbers(low, high) => self.numbers.add((low.0, high.0), id, around),
            Place::Addresses(low, high) => self.addresses.add((low.0, high.0), id, around),
            Place::Text(_) | Place::Exact(_) | Place::Any => {}
        }
    }

    fn remove(&mut self, id: WayId, place: &Place<'_>, ways: &Ways) {
        match place {
            Place::Folded(text) => {
                if let Some(bucket) = self.folded.get_mut(*text) {
                    bucket.remove(id, ways);
                    if bucket.is_empty() {
                        self.folded.remove(*text);
                    }
                }
            }
            Place::Beginning(text) => self.beginnings.remove(text.bytes(), id, ways),
            Place::End(text) => self.ends.remove(text.bytes().rev(), id, ways),
            Place::FoldedBeginning(text) => self.folded_beginnings.remove(text.bytes(), id, ways),
            Place::FoldedEnd(text) => self.folded_ends.remove(text.bytes().rev(), id, ways),
            Place::Pieces(wildcard) => self.pieces.remove(wildcard, id, ways),
            Place::Numbers(low, high) => self.numbers.remove((low.0, high.0), id, ways),
            Place::Addresses(low, high) => self.addresses.remove((low.0, high.0), id, ways),
            Place::Text(_) | Place::Exact(_) | Place::Any => {}
        }
    }

    fn find_text<'i>(&'i self, text: &str, buckets: &mut Vec<&'i Bucket>) {
        let reversed = |text: &str| text.bytes().rev().collect::<Vec<_>>();
        self.beginnings.find(text.as_bytes(), buckets);
        if !self.ends.is_empty() {
            self.ends.find(&reversed(text), buckets);
        }
        self.pieces.find(text.as_bytes(), buckets);
        let no_case = self.folded.is_empty() && self.folded_beginnings.is_empty();
        if no_case && self.folded_ends.is_empty() {
            return;
        }
        let folded = fold(text);
        buckets.extend(self.folded.get(folded.as_str()));
        self.folded_beginnings.find(folded.as_bytes(), buckets);
        if !self.folded_ends.is_empty() {
            self.folded_ends.find(&reversed(&folded), buckets);
        }
    }
}
