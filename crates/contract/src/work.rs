//! How much a schema asks of a validator: schemas of the same value add up, those that lead to each other multiply, and
//! with recursion they do so at every level of the data. Whoever publishes chooses the data, so this is bounded when a
//! contract is read: a few bytes must not be worth minutes.
//!
//! Counted is what one value and all that lie on one way down from it are held against, in the worst case. Values beside
//! each other only add up, and events are of limited size.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use crate::{
    conjunction::resolve,
    keywords::{OF_THE_SAME, several},
};

/// Most schemas that the values on one way are held against.
const MOST: u64 = 1_000;
/// Levels of the data that are looked at: deeper events are refused (`model::Limits::depth`).
const DEPTH: u32 = 64;

/// Schemas that hold for the same value, and how often each is tried.
type Same<'b> = Vec<(&'b Value, u64)>;

/// Says why a contract asks too much.
///
/// # Errors
/// A text for whoever wrote it.
pub(crate) fn bounded(bundle: &Value) -> Result<(), String> {
    let mut count = Count {
        bundle,
        same: HashMap::new(),
        under_way: BTreeSet::new(),
        tried: HashMap::new(),
    };
    count.of(bundle, DEPTH).map(|_| ())
}

struct Count<'b> {
    bundle: &'b Value,
    same: HashMap<*const Value, Same<'b>>,
    /// Schemas whose [`Count::same_as`] is being found.
    under_way: BTreeSet<*const Value>,
    /// What was counted, by schema and levels below it.
    tried: HashMap<(*const Value, u32), u64>,
}

impl<'b> Count<'b> {
    fn of(&mut self, schema: &'b Value, depth: u32) -> Result<u64, String> {
        let key = (std::ptr::from_ref(schema), depth);
        if let Some(known) = self.tried.get(&key) {
            return Ok(*known);
        }
        let same = self.same_as(schema)?;
        let here = same
            .iter()
            .fold(0, |sum: u64, (_, times)| sum.saturating_add(*times));
        let mut deepest = 0;
        if depth > 0 {
            for place in places(&same) {
                let mut below: u64 = 0;
                for (one, times) in &same {
                    for part in place.of(one) {
                        let part = self.of(part, depth - 1)?;
                        below = below.saturating_add(times.saturating_mul(part));
                    }
                }
                deepest = deepest.max(below);
            }
        }
        let all = bound(here.saturating_add(deepest))?;
        self.tried.insert(key, all);
        Ok(all)
    }

    /// The schema itself, and all that it leads to without a step into the data.
    fn same_as(&mut self, schema: &'b Value) -> Result<Same<'b>, String> {
        let key = std::ptr::from_ref(schema);
        if let Some(known) = self.same.get(&key) {
            return Ok(known.clone());
        }
        if !self.under_way.insert(key) {
            return Err("it refers to itself without a step into the data".to_owned());
        }
        let mut all: BTreeMap<*const Value, (&'b Value, u64)> = BTreeMap::new();
        all.insert(key, (schema, 1));
        let cases = OF_THE_SAME.iter().filter_map(|word| schema.get(word));
        let depend = schema.get("dependentSchemas").and_then(Value::as_object);
        let depend = depend.into_iter().flat_map(|schemas| schemas.values());
        let target = schema.as_object();
        let target = target.and_then(|fields| resolve(self.bundle, fields));
        let leads: Vec<&Value> = cases
            .flat_map(several)
            .chain(depend)
            .chain(target)
            .collect();
        for lead in leads {
            for (one, times) in self.same_as(lead)? {
                let counted = all.entry(std::ptr::from_ref(one)).or_insert((one, 0));
                counted.1 = bound(counted.1.saturating_add(times))?;
            }
        }
        self.under_way.remove(&key);
        let all: Same<'b> = all.into_values().collect();
        self.same.insert(key, all.clone());
        Ok(all)
    }
}

fn bound(tried: u64) -> Result<u64, String> {
    if tried <= MOST {
        return Ok(tried);
    }
    Err(format!(
        "an event may make a validator try more than {MOST} schemas on one value and what is in it: schemas below `anyOf`, \
         `allOf`, `$ref` and the like lead to the same ones again and again; name those once"
    ))
}

/// A place below a value.
enum Place<'b> {
    Field(&'b str),
    /// A field that no schema names.
    OtherField,
    Item(usize),
}

/// The places below a value that schemas tell apart.
fn places<'b>(same: &Same<'b>) -> Vec<Place<'b>> {
    let fields = same
        .iter()
        .filter_map(|(one, _)| one.get("properties")?.as_object());
    let names: BTreeSet<&str> = fields
        .flat_map(|fields| fields.keys().map(String::as_str))
        .collect();
    let firsts = same
        .iter()
        .filter_map(|(one, _)| one.get("prefixItems")?.as_array());
    let items = firsts.map(Vec::len).max().unwrap_or(0);
    let names = names.into_iter().map(Place::Field);
    let items = (0..=items).map(Place::Item);
    names.chain([Place::OtherField]).chain(items).collect()
}

impl<'b> Place<'b> {
    /// The schemas of `schema` for what is at this place, one too many rather than one too few.
    fn of(&self, schema: &'b Value) -> Vec<&'b Value> {
        let words = |words: &[&str]| {
            words
                .iter()
                .filter_map(|word| schema.get(word))
                .collect::<Vec<_>>()
        };
        match self {
            Self::Item(number) => {
                let first = schema
                    .get("prefixItems")
                    .and_then(|first| first.get(number));
                let rest = match first {
                    Some(_) => None,
                    None => schema.get("items"),
                };
                let more = words(&["contains", "unevaluatedItems"]);
                first.into_iter().chain(rest).chain(more).collect()
            }
            Self::Field(_) | Self::OtherField => {
                let named = match self {
                    Self::Field(name) => {
                        schema.get("properties").and_then(|fields| fields.get(name))
                    }
                    _ => None,
                };
                let others = match named {
                    Some(_) => None,
                    None => schema.get("additionalProperties"),
                };
                let patterns = schema.get("patternProperties").and_then(Value::as_object);
                let patterns = patterns.into_iter().flat_map(|schemas| schemas.values());
                let more = words(&["propertyNames", "unevaluatedProperties"]);
                named
                    .into_iter()
                    .chain(others)
                    .chain(patterns)
                    .chain(more)
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is_bounded(schema: &Value) -> bool {
        bounded(schema).is_ok()
    }

    #[test]
    fn what_multiplies_is_refused_and_what_adds_up_is_not() {
        let doubled = |levels: usize, wrap: fn(Value) -> Value| {
            let mut defs = serde_json::Map::new();
            for level in 0..levels {
                let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
                defs.insert(format!("d{level}"), wrap(json!({"anyOf": [next, next]})));
            }
            defs.insert(format!("d{levels}"), json!({"type": "integer"}));
            json!({"$defs": defs, "properties": {"a": {"$ref": "#/$defs/d0"}}})
        };
        assert!(is_bounded(&doubled(5, |schema| schema)));
        assert!(!is_bounded(&doubled(24, |schema| schema)));
        assert!(!is_bounded(&doubled(24, |schema| json!({"items": schema}))));
    }

    #[test]
    fn recursion_is_bounded_where_each_level_has_one_way_on() {
        let tree = json!({"$defs": {"node": {"properties": {
            "left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/$defs/node"}, "value": {"type": "integer"}
        }}}, "$ref": "#/$defs/node"});
        assert!(is_bounded(&tree));
        let formula = |one: &str, other: &str| {
            let of = |name: &str| json!({"properties": {name: {"items": {"$ref": "#/$defs/formula"}}}, "required": [name]});
            json!({"$defs": {"formula": {"anyOf": [of(one), of(other)]}}, "$ref": "#/$defs/formula"})
        };
        assert!(is_bounded(&formula("and", "or")));
        assert!(
            !is_bounded(&formula("of", "of")),
            "both are tried at each level"
        );
        assert!(!is_bounded(
            &json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})
        ));
    }

    #[test]
    fn usual_contracts_are_far_from_the_bound() {
        let line = json!({"type": "object", "properties": {"sku": {"type": "string"}, "count": {"type": "integer", "minimum": 1}}});
        let order = json!({"type": "object", "required": ["id"], "properties": {
            "id": {"type": "string"}, "lines": {"type": "array", "items": line},
            "payment": {"oneOf": [{"properties": {"card": {"type": "string"}}}, {"properties": {"iban": {"type": "string"}}}]}
        }, "allOf": [{"if": {"required": ["paid"]}, "then": {"required": ["payment"]}}]});
        assert!(is_bounded(&order));
    }
}
