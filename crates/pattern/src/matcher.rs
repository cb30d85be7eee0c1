//! Whether an event meets all fields of a way. A list in the event meets a field when any of its elements does; fields that
//! lie in the same array must be met by one and the same element of it.
//!
//! Fields are gone through in the order of their paths, and `{"exists": false}` asks for a scalar that is in the elements
//! which the fields before it chose: that is how event-ruler does it, so that its verdicts are reproduced, also where
//! another order would give another one.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use model::Event;
use serde_json::Value;

use crate::{
    flat::{Element, Flat, Found, MemberId, NOWHERE},
    paths::Paths,
    syntax::{Field, Leaf, Pattern},
    test::Scalar,
};

/// Most choices of elements that are tried for one way. Each choice is made once unless names with dots make several arrays
/// of one path, so that only an event made to be slow gets there; it does not match then.
const MAX_CHOICES: u32 = 200_000;

impl Pattern {
    /// Whether `event`, in the JSON format of CloudEvents, of EventBridge or any other object, matches. Its depth is
    /// bounded by whoever parsed it.
    #[must_use]
    pub fn matches(&self, event: &Value) -> bool {
        event.is_object() && self.matches_flat(&Flat::of_json(&self.paths, event))
    }

    /// Whether a CloudEvent matches: as its JSON format would (v1.0.2, JSON Event Format), with attributes and extensions
    /// beside each other, and `data`. Binary data is visible only as the text `data_base64`.
    #[must_use]
    pub fn matches_event(&self, event: &Event) -> bool {
        self.matches_flat(&Flat::of_event(&self.paths, event))
    }

    fn matches_flat(&self, flat: &Flat<'_>) -> bool {
        let mut known = Known::default();
        let mut ways = self.ways.iter();
        ways.any(|way| meets(&self.paths, way, flat, &mut known))
    }
}

/// What is known of one event: the ways of a pattern share their fields, and a pattern with alternatives in many places has many
/// ways, so that a long text is looked through once for each field and not once for each way.
#[derive(Default)]
pub(crate) struct Known(HashMap<*const Leaf, Passed>);

/// Where an event has scalars that pass a test of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passed {
    Nowhere,
    /// All in elements of arrays.
    InElements,
    /// One at least in no array.
    Alone,
}

impl Known {
    /// Bytes of a text from which on to note what came of it is faster than to look again.
    const LONG: usize = 4096;

    fn passed(&mut self, leaf: &Arc<Leaf>, found: &[Found<'_>]) -> Passed {
        let is_long =
            |one: &Found<'_>| matches!(&one.scalar, Scalar::Text(text) if text.len() >= Self::LONG);
        if !found.iter().any(is_long) {
            return Passed::of(leaf, found);
        }
        let known = self.0.entry(Arc::as_ptr(leaf));
        *known.or_insert_with(|| Passed::of(leaf, found))
    }
}

impl Passed {
    fn of(leaf: &Leaf, found: &[Found<'_>]) -> Self {
        let mut passing = passing(leaf, found).map(|one| one.member == NOWHERE);
        match passing.next() {
            None => Self::Nowhere,
            Some(first) if first || passing.any(|alone| alone) => Self::Alone,
            Some(_) => Self::InElements,
        }
    }
}

/// Whether an event meets all fields of a way.
pub(crate) fn meets(paths: &Paths, way: &[Field], flat: &Flat<'_>, known: &mut Known) -> bool {
    let mut certain = true;
    for field in way {
        let found = flat.at(field.path);
        certain &= match known.passed(&field.leaf, found) {
            Passed::Nowhere if !field.leaf.absent => return false,
            Passed::Nowhere => found.is_empty(),
            passed => passed == Passed::Alone,
        };
    }
    certain || Search::new(paths, way, flat).from(0)
}

/// The scalars that pass a test of a field.
pub(crate) fn passing<'f, 'e>(
    leaf: &'f Leaf,
    found: &'f [Found<'e>],
) -> impl Iterator<Item = &'f Found<'e>> {
    let passes = |found: &&Found<'e>| leaf.tests.iter().any(|test| test.passes(&found.scalar));
    found.iter().filter(passes)
}

/// A search for elements of arrays that meet all fields of a way together.
struct Search<'s, 'e> {
    paths: &'s Paths,
    way: &'s [Field],
    flat: &'s Flat<'e>,
    /// Where each field is met.
    met: Vec<Places>,
    /// Where each field that may be absent is.
    present: Vec<Option<Places>>,
    /// The elements chosen by now: at most one of each array.
    chosen: Vec<Element>,
    /// The last field that lies in an array, for each array of which an element was chosen.
    last: HashMap<u32, usize>,
    /// Choices that led nowhere, by the next field and those elements that matter from there on.
    vain: HashSet<(usize, Vec<Element>)>,
    choices: u32,
}

/// Places of scalars as a tree from the outermost element inwards.
#[derive(Default)]
struct Places {
    here: HashSet<MemberId>,
    inner: HashMap<MemberId, Vec<MemberId>>,
}

impl Places {
    fn new<'f, 'e: 'f>(flat: &Flat<'_>, found: impl Iterator<Item = &'f Found<'e>>) -> Self {
        let mut places = Self::default();
        let mut known = HashSet::new();
        for one in found {
            places.here.insert(one.member);
            let mut member = one.member;
            while let Some((outer, _)) = flat.members.of(member) {
                if !known.insert(member) {
                    break;
                }
                places.inner.entry(outer).or_default().push(member);
                member = outer;
            }
        }
        places
    }
}

impl<'s, 'e> Search<'s, 'e> {
    fn new(paths: &'s Paths, way: &'s [Field], flat: &'s Flat<'e>) -> Self {
        let met = |field: &Field| Places::new(flat, passing(&field.leaf, flat.at(field.path)));
        let present = |field: &Field| {
            let absent = field.leaf.absent;
            absent.then(|| Places::new(flat, flat.at(field.path).iter()))
        };
        Self {
            paths,
            way,
            flat,
            met: way.iter().map(met).collect(),
            present: way.iter().map(present).collect(),
            chosen: Vec::new(),
            last: HashMap::new(),
            vain: HashSet::new(),
            choices: 0,
        }
    }

    /// Whether the fields from `at` on can be met beside what is chosen.
    fn from(&mut self, at: usize) -> bool {
        if at == self.way.len() {
            return true;
        }
        let state = (at, self.that_matter(at));
        self.choices += 1;
        if self.choices > MAX_CHOICES || self.vain.contains(&state) {
            return false;
        }
        if let Some(present) = &self.present[at]
            && self.open_to(present).is_empty()
            && self.from(at + 1)
        {
            return true;
        }
        for place in self.open_to(&self.met[at]) {
            let before = self.chosen.len();
            self.choose(place);
            if self.from(at + 1) {
                return true;
            }
            self.chosen.truncate(before);
        }
        self.vain.insert(state);
        false
    }

    /// Adds the elements that `place` is in.
    fn choose(&mut self, mut place: MemberId) {
        while let Some((outer, element)) = self.flat.members.of(place) {
            if !self.chosen.contains(&element) {
                self.chosen.push(element);
                let array = self.flat.members.path(element.array);
                let inside = |field: &Field| self.paths.leads_to(array, field.path);
                let last = self.last.entry(element.array);
                last.or_insert_with(|| self.way.iter().rposition(inside).unwrap_or(0));
            }
            place = outer;
        }
    }

    /// The places that are in no other element of an array than the one chosen of it.
    fn open_to(&self, places: &Places) -> Vec<MemberId> {
        let (mut open, mut looking) = (Vec::new(), vec![NOWHERE]);
        while let Some(place) = looking.pop() {
            if places.here.contains(&place) {
                open.push(place);
            }
            let inner = places.inner.get(&place).into_iter().flatten();
            looking.extend(inner.filter(|inner| self.fits(**inner)));
        }
        open
    }

    fn fits(&self, place: MemberId) -> bool {
        let Some((_, element)) = self.flat.members.of(place) else {
            return true;
        };
        let same_array = |chosen: &&Element| chosen.array == element.array;
        self.chosen
            .iter()
            .find(same_array)
            .is_none_or(|chosen| chosen.index == element.index)
    }

    /// The chosen elements of arrays in which later fields may lie.
    fn that_matter(&self, at: usize) -> Vec<Element> {
        let matters = |element: &&Element| {
            let last = self.last.get(&element.array);
            last.is_some_and(|last| *last >= at)
        };
        let mut elements: Vec<_> = self.chosen.iter().filter(matters).copied().collect();
        elements.sort_unstable();
        elements
    }
}
