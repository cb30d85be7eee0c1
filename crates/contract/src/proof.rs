//! Whether every value that one schema allows is allowed by another, shown keyword by keyword. A proof holds for all values;
//! where there is none, nothing is said: a `witness` may still be found.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value, json};

use crate::{
    conjunction::{Conjunction, TYPES, lets_through, resolve},
    keywords::{ANNOTATIONS, several},
};

/// How deep schemas are followed.
const MAX_DEPTH: usize = 60;
/// How many pairs of schemas are compared inside each other.
const MAX_INSIDE: usize = 150;
/// How many pairs of schemas are compared.
const MAX_STEPS: u32 = 20_000;

/// Keywords that are looked at with another one.
const BESIDE: &[&str] = &["then", "else", "minContains", "maxContains"];

/// A schema for each type.
static OF_TYPE: LazyLock<BTreeMap<&str, Value>> = LazyLock::new(|| {
    TYPES
        .iter()
        .map(|name| (*name, json!({ "type": name })))
        .collect()
});

/// Why there is no proof: where in the schema, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub(crate) place: String,
    pub(crate) keyword: String,
}

/// Shows that what `from` allows is allowed by `to`.
pub(crate) fn prove(from: &Value, to: &Value) -> Result<(), Doubt> {
    let mut prover = Prover {
        to,
        place: Vec::new(),
        assumed: Vec::new(),
        steps: 0,
    };
    prover.below(&Conjunction::new(from, [from]), to)
}

struct Prover<'t> {
    /// The document of the schemas that must allow.
    to: &'t Value,
    place: Vec<String>,
    /// Pairs that are being compared: a pair inside itself holds when it holds.
    assumed: Vec<(Vec<*const Map<String, Value>>, *const Value)>,
    steps: u32,
}

impl<'t> Prover<'t> {
    fn doubt(&self, keyword: &str) -> Doubt {
        Doubt {
            place: self.place.iter().map(|step| format!("/{step}")).collect(),
            keyword: keyword.to_owned(),
        }
    }

    fn inside(&mut self, step: &str, from: &Conjunction<'_>, to: &'t Value) -> Result<(), Doubt> {
        self.place.push(step.to_owned());
        self.below(from, to)?;
        self.place.pop();
        Ok(())
    }

    fn below(&mut self, from: &Conjunction<'_>, to: &'t Value) -> Result<(), Doubt> {
        self.steps += 1;
        if self.steps > MAX_STEPS
            || self.place.len() > MAX_DEPTH
            || self.assumed.len() > MAX_INSIDE
            || from.cut
        {
            return Err(self.doubt("size"));
        }
        if from.never || from.types().is_empty() {
            return Ok(());
        }
        let fields = match to {
            Value::Bool(true) => return Ok(()),
            Value::Object(fields) => fields,
            _ => return Err(self.doubt("false")),
        };
        let parts: Vec<*const Map<String, Value>> = from
            .parts
            .iter()
            .map(|part| std::ptr::from_ref(*part))
            .collect();
        let pair = (parts, std::ptr::from_ref(to));
        if self.assumed.contains(&pair) {
            return Ok(());
        }
        self.assumed.push(pair);
        let depth = self.place.len();
        let plain = self.keywords(from, fields);
        // What no keyword shows alone may hold in each of the cases that the schema has.
        let shown = plain.or_else(|doubt| {
            self.place.truncate(depth);
            self.by_cases(from, to).map_err(|_| doubt)
        });
        self.assumed.pop();
        shown
    }

    fn by_cases(&mut self, from: &Conjunction<'_>, to: &'t Value) -> Result<(), Doubt> {
        let depth = self.place.len();
        for keyword in ["anyOf", "oneOf"] {
            for cases in from.all(keyword).filter_map(Value::as_array) {
                let holds = cases.iter().all(|case| {
                    let one = from.and(case);
                    // The cases of a case are looked at, but not these again.
                    let shown = one.parts.len() > from.parts.len() && self.below(&one, to).is_ok();
                    self.place.truncate(depth);
                    shown || one.never
                });
                if holds {
                    return Ok(());
                }
            }
        }
        self.by_types(from, to)
    }

    /// A case for each type that a value may have.
    fn by_types(&mut self, from: &Conjunction<'_>, to: &'t Value) -> Result<(), Doubt> {
        let mut types = from.types();
        if types.contains("number") {
            types.remove("integer");
        }
        let depth = self.place.len();
        let holds = types.len() > 1
            && types.iter().all(|name| {
                let one = OF_TYPE.get(name).map(|schema| from.and(schema));
                let shown = one.is_some_and(|one| self.below(&one, to).is_ok());
                self.place.truncate(depth);
                shown
            });
        if holds {
            Ok(())
        } else {
            Err(self.doubt("anyOf"))
        }
    }

    fn keywords(
        &mut self,
        from: &Conjunction<'_>,
        to: &'t Map<String, Value>,
    ) -> Result<(), Doubt> {
        if let Some(target) = resolve(self.to, to) {
            self.below(from, target)?;
        }
        for (keyword, value) in to {
            let known =
                ANNOTATIONS.contains(&keyword.as_str()) || BESIDE.contains(&keyword.as_str());
            if known || keyword == "$ref" || keyword.starts_with("x-") {
                continue;
            }
            if !self.keyword(from, to, keyword, value)? {
                return Err(self.doubt(keyword));
            }
        }
        Ok(())
    }

    fn keyword(
        &mut self,
        from: &Conjunction<'_>,
        to: &'t Map<String, Value>,
        keyword: &str,
        value: &'t Value,
    ) -> Result<bool, Doubt> {
        if let Some(shown) = bounded(from, keyword, value) {
            return Ok(shown);
        }
        let types = from.types();
        let only = |kinds: &[&str]| !types.iter().any(|name| kinds.contains(name));
        Ok(match keyword {
            "type" => types.iter().all(|name| lets_through(value, name)),
            "enum" | "const" => {
                let list = match keyword {
                    "enum" => several(value),
                    _ => std::slice::from_ref(value),
                };
                let listed = |own: &&Value| list.iter().any(|other| same(own, other));
                from.values().is_some_and(|own| own.iter().all(listed))
            }
            "uniqueItems" => {
                only(&["array"]) || value == false || from.all(keyword).any(|own| own == value)
            }
            "required" => {
                let own = from.required();
                let all = value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str);
                only(&["object"]) || all.into_iter().all(|name| own.contains(name))
            }
            "properties" => only(&["object"]) || self.properties(from, value)?,
            "additionalProperties" => only(&["object"]) || self.additional(from, to, value)?,
            "items" => {
                only(&["array"])
                    || !to.contains_key("prefixItems") && {
                        let open = !from
                            .parts
                            .iter()
                            .any(|part| part.contains_key("prefixItems"));
                        let empty = from.numbers("maxItems").any(|most| most == 0.0);
                        if !empty && open {
                            self.inside("items", &from.items(), value)?;
                        }
                        open || empty
                    }
            }
            "allOf" => {
                for part in value.as_array().into_iter().flatten() {
                    self.below(from, part)?;
                }
                true
            }
            "anyOf" => self.one_of_them(from, value),
            _ => self.same_keyword(from, to, keyword, value),
        })
    }

    fn properties(&mut self, from: &Conjunction<'_>, schemas: &'t Value) -> Result<bool, Doubt> {
        for (name, schema) in schemas.as_object().into_iter().flatten() {
            self.inside(name, &from.property(name), schema)?;
        }
        Ok(true)
    }

    /// What one document has as its own property may be an additional one in the other.
    fn additional(
        &mut self,
        from: &Conjunction<'_>,
        to: &'t Map<String, Value>,
        schema: &'t Value,
    ) -> Result<bool, Doubt> {
        if to.contains_key("patternProperties") {
            return Ok(false);
        }
        let own = to.get("properties").and_then(Value::as_object);
        let is_own = |name: &&str| own.is_some_and(|own| own.contains_key(*name));
        for name in from.names().into_iter().filter(|name| !is_own(name)) {
            self.inside(name, &from.property(name), schema)?;
        }
        self.inside("*", &from.additional(), schema)?;
        Ok(true)
    }

    fn one_of_them(&mut self, from: &Conjunction<'_>, cases: &'t Value) -> bool {
        let depth = self.place.len();
        let mut cases = cases.as_array().into_iter().flatten();
        cases.any(|case| {
            let shown = self.below(from, case).is_ok();
            self.place.truncate(depth);
            shown
        })
    }

    /// Keywords that are not taken apart: they hold where they stand, word for word, on the other side, too.
    fn same_keyword(
        &self,
        from: &Conjunction<'_>,
        to: &Map<String, Value>,
        keyword: &str,
        value: &Value,
    ) -> bool {
        let beside = |part: &&Map<String, Value>| {
            part.get(keyword) == Some(value)
                && BESIDE.iter().all(|word| part.get(*word) == to.get(*word))
        };
        // What is unevaluated depends on everything around; what is referred to may differ.
        let alone = !keyword.starts_with("unevaluated")
            && !refers(value)
            && BESIDE
                .iter()
                .all(|word| to.get(*word).is_none_or(|v| !refers(v)));
        let known = [
            "oneOf",
            "not",
            "if",
            "contains",
            "propertyNames",
            "dependentRequired",
            "dependentSchemas",
            "prefixItems",
            "patternProperties",
        ];
        // A keyword that nobody knows refuses nothing.
        let unknown = !known.contains(&keyword)
            && !keyword.starts_with("unevaluated")
            && !keyword.starts_with('$');
        unknown || alone && from.parts.iter().any(beside)
    }
}

fn refers(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name == "$ref" || refers(value)),
        Value::Array(items) => items.iter().any(refers),
        _ => false,
    }
}

fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn multiple(from: &Conjunction<'_>, number: Option<f64>) -> bool {
    let Some(number) = number else { return false };
    let whole = |own: f64| {
        let times = own / number;
        own.fract() == 0.0 && number.fract() == 0.0 && times.fract() == 0.0
    };
    let integers = number == 1.0 && !from.types().contains("number");
    integers
        || from
            .numbers("multipleOf")
            .any(|own| own == number || whole(own))
}

fn lengths_pass(from: &Conjunction<'_>, passes: impl Fn(Option<f64>) -> bool) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "lengths of texts in a file")]
    let length = |value: &&Value| {
        value
            .as_str()
            .is_none_or(|text| passes(Some(text.chars().count() as f64)))
    };
    from.values()
        .is_some_and(|values| values.iter().all(length))
}

fn enough(from: &Conjunction<'_>, number: Option<f64>) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "a number of names in a file")]
    let required = from.required().len() as f64;
    number.is_some_and(|number| required >= number)
}

/// Bounds of numbers, lengths and counts; `None`: the keyword is no bound.
fn bounded(from: &Conjunction<'_>, keyword: &str, value: &Value) -> Option<bool> {
    let types = from.types();
    let only = |kinds: &[&str]| !types.iter().any(|name| kinds.contains(name));
    let number = value.as_f64();
    let at_least = |bound: &str| {
        from.numbers(bound)
            .any(|own| number.is_some_and(|n| own >= n))
    };
    let at_most = |bound: &str| {
        from.numbers(bound)
            .any(|own| number.is_some_and(|n| own <= n))
    };
    let above = |bound: &str| {
        from.numbers(bound)
            .any(|own| number.is_some_and(|n| own > n))
    };
    let under = |bound: &str| {
        from.numbers(bound)
            .any(|own| number.is_some_and(|n| own < n))
    };
    let no_numbers = only(&["number", "integer"]);
    Some(match keyword {
        "minimum" => {
            no_numbers
                || at_least("minimum")
                || at_least("exclusiveMinimum")
                || values_pass(from, |n| n >= number)
        }
        "exclusiveMinimum" => {
            no_numbers
                || above("minimum")
                || at_least("exclusiveMinimum")
                || values_pass(from, |n| n > number)
        }
        "maximum" => {
            no_numbers
                || at_most("maximum")
                || at_most("exclusiveMaximum")
                || values_pass(from, |n| n <= number)
        }
        "exclusiveMaximum" => {
            no_numbers
                || under("maximum")
                || at_most("exclusiveMaximum")
                || values_pass(from, |n| n < number)
        }
        "multipleOf" => no_numbers || multiple(from, number),
        "minLength" => {
            only(&["string"])
                || number == Some(0.0)
                || at_least(keyword)
                || lengths_pass(from, |n| n >= number)
        }
        "maxLength" => only(&["string"]) || at_most(keyword) || lengths_pass(from, |n| n <= number),
        "pattern" => only(&["string"]) || from.all(keyword).any(|own| own == value),
        "minItems" => only(&["array"]) || number == Some(0.0) || at_least(keyword),
        "maxItems" => only(&["array"]) || at_most(keyword),
        "minProperties" => {
            only(&["object"]) || number == Some(0.0) || at_least(keyword) || enough(from, number)
        }
        "maxProperties" => only(&["object"]) || at_most(keyword),
        _ => return None,
    })
}

fn values_pass(from: &Conjunction<'_>, passes: impl Fn(Option<f64>) -> bool) -> bool {
    let number = |value: &&Value| value.as_f64().is_none_or(|n| passes(Some(n)));
    from.values()
        .is_some_and(|values| values.iter().all(number))
}
