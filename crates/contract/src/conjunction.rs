//! Several schemas that must all hold at once, seen keyword by keyword: what `allOf` and `$ref` bring is laid beside what
//! stands there.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::keywords::several;

/// The types of JSON Schema; an integer is a number.
pub(crate) const TYPES: &[&str] = &[
    "null", "boolean", "object", "array", "number", "integer", "string",
];
/// Most schemas that are laid beside each other.
const MOST: usize = 200;

/// Schemas of one document that must all hold.
#[derive(Clone)]
pub(crate) struct Conjunction<'d> {
    document: &'d Value,
    pub(crate) parts: Vec<&'d Map<String, Value>>,
    /// No value can be.
    pub(crate) never: bool,
    /// There was more than fits.
    pub(crate) cut: bool,
}

impl<'d> Conjunction<'d> {
    pub(crate) fn new(document: &'d Value, schemas: impl IntoIterator<Item = &'d Value>) -> Self {
        let mut all = Self {
            document,
            parts: Vec::new(),
            never: false,
            cut: false,
        };
        schemas.into_iter().for_each(|schema| all.add(schema));
        all
    }

    fn add(&mut self, schema: &'d Value) {
        match schema {
            Value::Bool(false) => self.never = true,
            Value::Object(fields) => {
                if self.parts.len() >= MOST {
                    self.cut = true;
                    return;
                }
                if self.parts.iter().any(|part| std::ptr::eq(*part, fields)) {
                    return;
                }
                self.parts.push(fields);
                let all = fields.get("allOf").and_then(Value::as_array);
                all.into_iter().flatten().for_each(|part| self.add(part));
                if let Some(target) = resolve(self.document, fields) {
                    self.add(target);
                }
            }
            _ => {}
        }
    }

    /// What the document's `$ref`s lead to.
    pub(crate) fn definitions(&self) -> Value {
        self.document.get("$defs").cloned().unwrap_or_default()
    }

    /// The same document's schemas under other ones.
    pub(crate) fn of(&self, schemas: impl IntoIterator<Item = &'d Value>) -> Self {
        Self::new(self.document, schemas)
    }

    /// These and one more.
    pub(crate) fn and(&self, schema: &'d Value) -> Self {
        let mut more = self.clone();
        more.add(schema);
        more
    }

    /// All values of a keyword.
    pub(crate) fn all(&self, keyword: &str) -> impl Iterator<Item = &'d Value> {
        self.parts.iter().filter_map(move |part| part.get(keyword))
    }

    /// All values of a keyword that are numbers.
    pub(crate) fn numbers(&self, keyword: &str) -> impl Iterator<Item = f64> {
        self.all(keyword).filter_map(Value::as_f64)
    }

    /// The types that a value may have.
    pub(crate) fn types(&self) -> BTreeSet<&'static str> {
        let mut types: BTreeSet<&'static str> = TYPES.iter().copied().collect();
        for allowed in self.all("type") {
            types.retain(|name| lets_through(allowed, name));
        }
        if let Some(values) = self.values() {
            let of_values: BTreeSet<&str> = values.iter().map(|value| type_of(value)).collect();
            types.retain(|name| of_values.contains(name));
        }
        types
    }

    /// The values that are allowed, when these are listed.
    pub(crate) fn values(&self) -> Option<Vec<&'d Value>> {
        let constant = self.all("const").next().map(|value| vec![value]);
        let listed = || {
            self.all("enum")
                .next()?
                .as_array()
                .map(|list| list.iter().collect())
        };
        constant.or_else(listed)
    }

    /// The properties that must be there.
    pub(crate) fn required(&self) -> BTreeSet<&'d str> {
        let lists = self.all("required").filter_map(Value::as_array).flatten();
        lists.filter_map(Value::as_str).collect()
    }

    /// The names of properties that have schemas of their own.
    pub(crate) fn names(&self) -> BTreeSet<&'d str> {
        let schemas = self.all("properties").filter_map(Value::as_object);
        schemas.flat_map(Map::keys).map(String::as_str).collect()
    }

    /// What the values of a property must keep to.
    pub(crate) fn property(&self, name: &str) -> Self {
        let of = |part: &&'d Map<String, Value>| {
            let own = part.get("properties").and_then(|schemas| schemas.get(name));
            // With patterns, a name may or may not be an additional one: less is known then.
            let others = own.is_none() && !part.contains_key("patternProperties");
            let additional = part.get("additionalProperties").filter(|_| others);
            own.into_iter().chain(additional).collect::<Vec<_>>()
        };
        self.of(self.parts.iter().flat_map(of))
    }

    /// What the values of properties without a schema of their own must keep to.
    pub(crate) fn additional(&self) -> Self {
        // One part's additional property is another's own.
        let of = |part: &&'d Map<String, Value>| {
            let patterns = part.contains_key("patternProperties");
            part.get("additionalProperties").filter(|_| !patterns)
        };
        self.of(self.parts.iter().filter_map(of))
    }

    /// What every element of a list must keep to.
    pub(crate) fn items(&self) -> Self {
        let of = |part: &&'d Map<String, Value>| {
            let first = part.contains_key("prefixItems");
            part.get("items").filter(|_| !first)
        };
        self.of(self.parts.iter().filter_map(of))
    }
}

/// Whether `type`, as a schema has it, lets values of the type `name` through.
pub(crate) fn lets_through(allowed: &Value, name: &str) -> bool {
    let is = |word: &Value| {
        let word = word.as_str();
        word == Some(name) || name == "integer" && word == Some("number")
    };
    several(allowed).iter().any(is)
}

/// What a schema's `$ref` leads to.
pub(crate) fn resolve<'d>(document: &'d Value, schema: &Map<String, Value>) -> Option<&'d Value> {
    let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
    document.pointer(pointer)
}

pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(number) => {
            let whole = number.as_f64().is_some_and(|double| double.fract() == 0.0);
            if whole { "integer" } else { "number" }
        }
    }
}
