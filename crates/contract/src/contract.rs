//! One version of a contract: a schema, ready to check data with.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::{
    compat::Mode,
    conjunction::{Conjunction, resolve},
    keywords::{OF_THE_SAME, several},
    version::Version,
};

/// Most violations that are named of one event.
pub const MAX_VIOLATIONS: usize = 50;
/// Largest compiled regular expression, in bytes.
const MAX_REGEX: usize = 1 << 20;

/// A version of a contract.
#[derive(Debug)]
pub struct Contract {
    /// Its version.
    pub version: Version,
    /// Its file, relative to the folder of contracts.
    pub path: String,
    /// The schema as it was written.
    pub schema: Value,
    /// What it promises beside earlier versions: `x-compatibility` at the top of its schema.
    pub mode: Mode,
    /// The schema with all that it refers to.
    pub(crate) bundle: Value,
    validator: Validator,
}

/// Where data breaks a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where in the data: a JSON Pointer (RFC 6901); empty: the data itself.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

impl Contract {
    pub(crate) fn new(
        version: Version,
        path: String,
        schema: Value,
        bundle: Value,
    ) -> Result<Self, String> {
        let validator = validator(&bundle)?;
        let mode = mode_of(&schema)?;
        Ok(Self {
            version,
            path,
            schema,
            mode,
            bundle,
            validator,
        })
    }

    /// Whether data keeps to it.
    #[must_use]
    pub fn allows(&self, data: &Value) -> bool {
        self.validator.is_valid(data)
    }

    /// Whether another one says the same, also in the files that they refer to.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.bundle == other.bundle && self.mode == other.mode
    }

    /// The schema with all that it refers to, as it would stand at `place` (a fragment such as `#/components/x`) of another
    /// document.
    #[must_use]
    pub fn bundled_at(&self, place: &str) -> Value {
        let mut bundle = self.bundle.clone();
        let mut looking = vec![&mut bundle];
        while let Some(value) = looking.pop() {
            match value {
                Value::Object(fields) => {
                    for (name, value) in fields.iter_mut() {
                        match value {
                            Value::String(to) if name == "$ref" => {
                                *to = format!("{place}{}", to.trim_start_matches('#'));
                            }
                            other => looking.push(other),
                        }
                    }
                }
                Value::Array(items) => looking.extend(items),
                _ => {}
            }
        }
        bundle
    }

    /// Whether some part of the schema names this field, through lists and in any of its cases.
    #[must_use]
    pub fn declares(&self, field: &[String]) -> bool {
        let mut here = vec![&self.bundle];
        let mut steps = field.iter();
        loop {
            here = self.cases_of(here);
            let Some(step) = steps.next() else {
                return !here.is_empty();
            };
            let named = |schema: &&Value| {
                schema
                    .get("properties")
                    .and_then(|schemas| schemas.get(step))
                    .is_some()
            };
            let any = |schema: &&Value| {
                let others = schema
                    .get("additionalProperties")
                    .is_some_and(Value::is_object);
                others || schema.get("patternProperties").is_some()
            };
            if here.iter().any(any) && !here.iter().any(named) {
                return true;
            }
            here = here
                .iter()
                .filter_map(|schema| schema.get("properties")?.get(step))
                .collect();
        }
    }

    /// All schemas that may hold where these do: what they refer to, their cases, and the elements of lists.
    fn cases_of<'s>(&'s self, schemas: Vec<&'s Value>) -> Vec<&'s Value> {
        let (mut all, mut looking): (Vec<&Value>, Vec<&Value>) = (Vec::new(), schemas);
        while let Some(schema) = looking.pop() {
            if all.iter().any(|known| std::ptr::eq(*known, schema)) {
                continue;
            }
            all.push(schema);
            // What must not hold declares nothing.
            let cases = OF_THE_SAME.iter().filter(|word| **word != "not");
            let cases = cases.chain(&["prefixItems", "items"]);
            let cases = cases.filter_map(|word| schema.get(word));
            looking.extend(cases.flat_map(several));
            let target = schema
                .as_object()
                .and_then(|fields| resolve(&self.bundle, fields));
            looking.extend(target);
        }
        all
    }

    /// Everything in `data` that breaks it, at most 50, in the order in which they stand in the data.
    #[must_use]
    pub fn violations(&self, data: &Value) -> Vec<Violation> {
        let violation = |error: jsonschema::ValidationError<'_>| Violation {
            pointer: error.instance_path().to_string(),
            message: error.masked().to_string(),
        };
        let errors = self.validator.iter_errors(data).take(MAX_VIOLATIONS);
        let mut violations: Vec<_> = errors.map(violation).collect();
        violations.sort_by(|one, other| one.pointer.cmp(&other.pointer));
        violations.dedup();
        violations
    }
}

/// The keyword at the top of a schema that says what a version promises.
const MODE: &str = "x-compatibility";

fn mode_of(schema: &Value) -> Result<Mode, String> {
    let Some(mode) = schema.get(MODE) else {
        return Ok(Mode::default());
    };
    let read = mode.as_str().unwrap_or_default().parse();
    read.map_err(|reason: String| format!("`{MODE}`: {reason}"))
}

/// Formats are annotations, as 2020-12 has them unless told otherwise; regular expressions take linear time.
pub(crate) fn validator(bundle: &Value) -> Result<Validator, String> {
    let patterns = PatternOptions::regex().size_limit(MAX_REGEX);
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .with_pattern_options(patterns)
        .should_validate_formats(false)
        .offline()
        .build(bundle)
        .map_err(|error| {
            let place = error.instance_path().to_string();
            // Behind `/$defs/FILE`.
            let place: Vec<&str> = place.splitn(4, '/').collect();
            format!(
                "{error} (at `/{}`)",
                place.get(3).copied().unwrap_or_default()
            )
        })
}

/// A validator of schemas that lie inside a document, when it can be made.
pub(crate) fn validator_of_part(from: &Conjunction<'_>) -> Option<Validator> {
    let parts = from.parts.iter().map(|part| {
        // What `$ref` and `allOf` lead to stands beside already.
        let mut part = (*part).clone();
        part.shift_remove("$defs");
        Value::Object(part)
    });
    let all: Vec<Value> = parts.collect();
    if all.is_empty() {
        return None;
    }
    validator(&serde_json::json!({"allOf": all, "$defs": from.definitions()})).ok()
}
