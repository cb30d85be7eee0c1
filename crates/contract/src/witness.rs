//! Values that one schema allows and another may refuse: made from what both schemas say, at the edges of each. Whether a
//! value is such a witness is decided by a validator, never here.

use std::cell::Cell;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::{
    conjunction::{Conjunction, TYPES},
    contract::validator_of_part,
    keywords::several,
};

/// How deep values are made.
const MAX_DEPTH: usize = 6;
/// Most values that are made for one schema.
const MOST: usize = 300;
/// Longest text or list that is made.
const LONGEST: usize = 2_000;

/// What making values may cost, over all places: schemas may be made to be slow.
struct Budget {
    places: Cell<u32>,
    validators: Cell<u32>,
}

impl Budget {
    fn take(left: &Cell<u32>) -> bool {
        let now = left.get();
        left.set(now.saturating_sub(1));
        now > 0
    }
}

/// Values that `own` may allow, near to where it and `other` differ.
pub(crate) fn candidates(own: &Value, other: &Value) -> Vec<Value> {
    let budget = Budget {
        places: Cell::new(2_000),
        validators: Cell::new(150),
    };
    let pair = Pair {
        own: Conjunction::new(own, [own]),
        other: Conjunction::new(other, [other]),
        budget: &budget,
    };
    let mut values = pair.values(0);
    values.truncate(4 * MOST);
    values
}

/// The same place in both schemas.
struct Pair<'p> {
    own: Conjunction<'p>,
    other: Conjunction<'p>,
    budget: &'p Budget,
}

impl Pair<'_> {
    fn values(&self, depth: usize) -> Vec<Value> {
        let mut values: Vec<Value> = Vec::new();
        for keyword in ["const", "enum", "examples", "default"] {
            let listed = self
                .own
                .all(keyword)
                .chain(self.other.all(keyword))
                .take(20);
            for value in listed {
                match value {
                    Value::Array(list) if keyword != "const" && keyword != "default" => {
                        values.extend(list.iter().take(50).cloned());
                    }
                    one => values.push(one.clone()),
                }
            }
        }
        if depth >= MAX_DEPTH || !Budget::take(&self.budget.places) {
            values.push(Value::Null);
            return values;
        }
        for cases in self.cases() {
            values.extend(cases.values(depth + 1));
        }
        let types = self.own.types();
        for kind in TYPES.iter().filter(|kind| types.contains(*kind)) {
            match *kind {
                "null" => values.push(Value::Null),
                "boolean" => values.extend([json!(true), json!(false)]),
                "string" => values.extend(self.texts()),
                "array" => values.extend(self.lists(depth)),
                "object" => values.extend(self.objects(depth)),
                kind => values.extend(self.numbers(kind == "integer")),
            }
        }
        let mut kept: Vec<Value> = Vec::new();
        for value in values {
            if kept.len() < MOST && !kept.contains(&value) {
                kept.push(value);
            }
        }
        kept
    }

    /// Each case that either schema has.
    fn cases(&self) -> Vec<Pair<'_>> {
        let mut cases = Vec::new();
        for keyword in ["anyOf", "oneOf", "then", "else", "if"] {
            for case in self.own.all(keyword).flat_map(several).take(10) {
                cases.push(Pair {
                    own: self.without_cases().and(case),
                    other: self.other.clone(),
                    budget: self.budget,
                });
            }
            for case in self.other.all(keyword).flat_map(several).take(10) {
                let other = self.other.of([]).and(case);
                let own = self.without_cases();
                cases.push(Pair {
                    own,
                    other,
                    budget: self.budget,
                });
            }
        }
        cases
    }

    /// What holds in every case.
    fn without_cases(&self) -> Conjunction<'_> {
        let mut own = self.own.clone();
        own.parts.retain(|part| {
            !["anyOf", "oneOf", "if"]
                .iter()
                .any(|keyword| part.contains_key(*keyword))
                || part.contains_key("properties")
                || part.contains_key("type")
        });
        own.parts.truncate(50);
        own
    }

    fn bounds(&self, keywords: &[&str]) -> Vec<f64> {
        let of = |keyword: &&str| {
            self.own
                .numbers(keyword)
                .chain(self.other.numbers(keyword))
                .collect::<Vec<_>>()
        };
        keywords.iter().flat_map(of).collect()
    }

    fn numbers(&self, whole: bool) -> Vec<Value> {
        let mut numbers = vec![0.0, 1.0, -1.0, 1e6];
        for bound in self.bounds(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]) {
            numbers.extend([bound, bound - 1.0, bound + 1.0, bound - 0.5, bound + 0.5]);
        }
        for step in self.bounds(&["multipleOf"]) {
            numbers.extend([step, step * 2.0, step * 3.0, -step]);
        }
        numbers.push(0.5);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "whole and small enough, as asked"
        )]
        let value = |number: f64| match number.fract() == 0.0 && number.abs() < 9e15 {
            true => Some(json!(number as i64)),
            false => (!whole).then(|| json!(number)),
        };
        numbers.into_iter().filter_map(value).collect()
    }

    fn lengths(&self, keywords: &[&str]) -> Vec<usize> {
        let mut lengths = vec![0, 1];
        for bound in self.bounds(keywords) {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "bounded just below"
            )]
            let bound = bound.clamp(0.0, 1e6) as usize;
            lengths.extend([bound, bound + 1, bound.saturating_sub(1)]);
        }
        lengths.retain(|length| *length <= LONGEST);
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }

    fn texts(&self) -> Vec<Value> {
        let lengths = self.lengths(&["minLength", "maxLength"]);
        let plain = lengths.iter().map(|length| json!("a".repeat(*length)));
        let others = [
            "A",
            "1",
            "a b",
            "2026-01-02T03:04:05Z",
            "a@b.example",
            "7f0c1e3a-0b7e-4c55-9d5e-1f2a3b4c5d6e",
            "https://a.example/b",
            "EUR",
        ];
        plain.chain(others.iter().map(|text| json!(text))).collect()
    }

    fn lists(&self, depth: usize) -> Vec<Value> {
        let items = Pair {
            own: self.own.items(),
            other: self.other.items(),
            budget: self.budget,
        };
        let values = items.values(depth + 1);
        let mut lists: Vec<Value> = values.iter().map(|value| json!([value])).collect();
        for length in self.lengths(&["minItems", "maxItems"]) {
            let filled: Vec<Value> = values.iter().cycle().take(length).cloned().collect();
            lists.push(Value::Array(filled));
            let same: Vec<Value> = values
                .first()
                .into_iter()
                .cycle()
                .take(length)
                .cloned()
                .collect();
            lists.push(Value::Array(same));
        }
        lists.push(json!([]));
        lists
    }

    /// To leave out what is not allowed anyway; `None`: everything stays.
    fn validator_of(&self, part: &Conjunction<'_>) -> Option<Validator> {
        Budget::take(&self.budget.validators)
            .then(|| validator_of_part(part))
            .flatten()
    }

    /// Smallest, fullest, and each with one property changed, left out or added.
    fn objects(&self, depth: usize) -> Vec<Value> {
        let required = self.own.required();
        let mut names: Vec<&str> = self
            .own
            .names()
            .into_iter()
            .chain(required.iter().copied())
            .collect();
        let theirs: Vec<&str> = self
            .other
            .names()
            .into_iter()
            .chain(self.other.required())
            .collect();
        names.extend(theirs);
        names.sort_unstable();
        names.dedup();
        names.truncate(60);
        let own_validator = self.validator_of(&self.own);
        let pick = |name: &str| -> Vec<Value> {
            let pair = Pair {
                own: self.own.property(name),
                other: self.other.property(name),
                budget: self.budget,
            };
            let mut values = pair.values(depth + 1);
            if pair.own.parts.is_empty() {
                values.extend([
                    json!(null),
                    json!("x"),
                    json!(7),
                    json!({"x": 1}),
                    json!([1]),
                ]);
            }
            let allowed = self.validator_of(&pair.own);
            values.retain(|value| {
                allowed
                    .as_ref()
                    .is_none_or(|allowed| allowed.is_valid(value))
            });
            values.truncate(40);
            values
        };
        let choices: Vec<(&str, Vec<Value>)> =
            names.iter().map(|name| (*name, pick(name))).collect();
        let first = |needed: bool| -> Map<String, Value> {
            let kept = choices
                .iter()
                .filter(|(name, _)| !needed || required.contains(name));
            kept.filter_map(|(name, values)| Some(((*name).to_owned(), values.first()?.clone())))
                .collect()
        };
        let (smallest, fullest) = (first(true), first(false));
        let mut objects = vec![smallest.clone(), fullest.clone()];
        for (name, values) in &choices {
            for value in values {
                for base in [&smallest, &fullest] {
                    let mut changed = base.clone();
                    changed.insert((*name).to_owned(), value.clone());
                    objects.push(changed);
                }
            }
            let mut without = fullest.clone();
            without.shift_remove(*name);
            objects.push(without);
        }
        for extra in [json!(null), json!("x"), json!(7)] {
            for base in [&smallest, &fullest] {
                let mut more = base.clone();
                more.insert("anotherOne".to_owned(), extra.clone());
                objects.push(more);
            }
        }
        let objects = objects.into_iter().map(Value::Object);
        objects
            .filter(|object| {
                own_validator
                    .as_ref()
                    .is_none_or(|own| own.is_valid(object))
            })
            .collect()
    }
}
