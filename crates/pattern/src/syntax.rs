//! Reads a pattern: an object of fields, whose leaves are lists of values and tests.
//!
//! Whatever it does not know is an error that names the place; a compiled pattern never fails. `$or` is multiplied out into
//! ways, each of which is a set of fields that all must be met; a field that stands twice on one way (before a `$or` and in
//! it) is the later one, as EventBridge has it.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    number,
    paths::{PathId, Paths},
    test::Test,
};

mod tests_of_field;

/// Deepest nesting of a pattern's objects.
pub const MAX_DEPTH: usize = 64;
/// Most fields, values and tests in one pattern.
pub const MAX_TERMS: usize = 4096;
/// Most bytes of field names and values in one pattern.
pub const MAX_TEXT: usize = 64 << 10;
/// Most fields that one way of a pattern can have.
pub const MAX_FIELDS_OF_WAY: usize = 1000;
/// Most ways in which one pattern can match: what its `$or`s multiply to.
pub const MAX_WAYS: usize = 1000;
/// Most fields on all ways of one pattern together.
pub const MAX_FIELDS: usize = 20_000;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    pub(crate) paths: Paths,
    /// One of these at least must be met.
    pub(crate) ways: Vec<Way>,
}

/// Fields that all must be met by the same elements of arrays, in the order of their paths.
pub(crate) type Way = Vec<Field>;

/// One field of a way.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) path: PathId,
    pub(crate) leaf: Arc<Leaf>,
}

/// A scalar that passes one of the tests, or, when `absent`, the lack of any scalar there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leaf {
    /// Steps in the event, joined by dots.
    pub(crate) name: String,
    /// Where in the pattern, as a JSON Pointer.
    pub(crate) pointer: String,
    pub(crate) tests: Vec<Test>,
    pub(crate) absent: bool,
}

/// Fields of a way by their names, while a pattern is read.
type Draft = BTreeMap<String, Arc<Leaf>>;

/// Words of tests, which no field inside `$or` may be named: a test there was meant as one.
const RESERVED: &[&str] = &[
    "exactly",
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "numeric",
    "cidr",
    "exists",
    "anything-but",
];

/// Why something is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (at `{pointer}`)")]
pub struct Error {
    /// Where, as a JSON Pointer (RFC 6901); empty: the pattern itself.
    pub pointer: String,
    /// What is wrong and what was expected.
    pub reason: String,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`Error`] names the place and what was expected there; also beyond [`MAX_DEPTH`], [`MAX_TERMS`], [`MAX_TEXT`],
    /// [`MAX_WAYS`] or [`MAX_FIELDS`].
    pub fn compile(pattern: &Value) -> Result<Self, Error> {
        let mut compiler = Compiler::default();
        let Value::Object(object) = pattern else {
            return Err(compiler.error("a pattern is an object of fields"));
        };
        let mut drafts = vec![Draft::new()];
        compiler.fields(object, &mut drafts)?;
        let mut paths = Paths::default();
        let mut way = |draft: Draft| -> Way {
            let field = |(name, leaf): (String, Arc<Leaf>)| Field {
                path: paths.add(&name),
                leaf,
            };
            draft.into_iter().map(field).collect()
        };
        let ways = drafts.into_iter().map(&mut way).collect();
        Ok(Self { paths, ways })
    }

    /// Reads and compiles a pattern in JSON. As on AWS, of two equal names in one object the later one stands.
    ///
    /// # Errors
    /// As [`Pattern::compile`]; also when the text is no JSON, or holds a number that is too small or too large.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |reason| Error {
            pointer: String::new(),
            reason,
        };
        let pattern = serde_json::from_str(text)
            .map_err(|error| wrong(format!("a pattern is written in JSON: {error}")))?;
        if let Some(number) = number::underflowing(text) {
            return Err(wrong(format!("`{number}` is too small to be compared")));
        }
        Self::compile(&pattern)
    }
}

/// Where the compiler is, and what it has used of its limits.
#[derive(Default)]
struct Compiler {
    /// Steps in the pattern, for errors.
    place: Vec<String>,
    /// Steps in the event.
    path: Vec<String>,
    /// How many `$or` are around.
    ors: usize,
    terms: usize,
    text: usize,
}

impl Compiler {
    fn error(&self, reason: impl Into<String>) -> Error {
        Error {
            pointer: self.pointer(),
            reason: reason.into(),
        }
    }

    fn pointer(&self) -> String {
        let escape = |step: &String| format!("/{}", step.replace('~', "~0").replace('/', "~1"));
        self.place.iter().map(escape).collect()
    }

    fn count(&mut self, text: usize) -> Result<(), Error> {
        self.terms += 1;
        self.text += text;
        if self.terms > MAX_TERMS {
            return Err(self.error(format!("a pattern has at most {MAX_TERMS} terms")));
        }
        if self.text > MAX_TEXT {
            return Err(self.error(format!("a pattern has at most {MAX_TEXT} bytes")));
        }
        Ok(())
    }

    fn step<T>(
        &mut self,
        step: impl ToString,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.place.push(step.to_string());
        if self.place.len() > MAX_DEPTH {
            return Err(self.error(format!("a pattern is at most {MAX_DEPTH} levels deep")));
        }
        let read = read(self)?;
        self.place.pop();
        Ok(read)
    }

    fn fields(
        &mut self,
        object: &Map<String, Value>,
        drafts: &mut Vec<Draft>,
    ) -> Result<(), Error> {
        if object.is_empty() {
            return Err(self.error(
                "expected at least one field (every event has one: `id: [{exists: true}]`)",
            ));
        }
        object.iter().try_for_each(|(name, value)| {
            self.step(name, |compiler| compiler.field(name, value, drafts))
        })
    }

    fn field(&mut self, name: &str, value: &Value, drafts: &mut Vec<Draft>) -> Result<(), Error> {
        self.count(name.len())?;
        if name == "$or" {
            return self.either(value, drafts);
        }
        if self.ors > 0 && RESERVED.contains(&name) {
            return Err(self.error(format!("no field inside `$or` may be named `{name}`")));
        }
        self.path.push(name.to_owned());
        match value {
            Value::Object(object) => self.fields(object, drafts)?,
            Value::Array(list) => {
                let leaf = Arc::new(self.leaf(list)?);
                for draft in drafts.iter_mut() {
                    draft.insert(leaf.name.clone(), Arc::clone(&leaf));
                }
                self.bound(drafts)?;
            }
            _ => return Err(self.error("expected a list of values, or an object of fields")),
        }
        self.path.pop();
        Ok(())
    }

    fn either(&mut self, value: &Value, drafts: &mut Vec<Draft>) -> Result<(), Error> {
        let ways = value.as_array().filter(|ways| ways.len() >= 2);
        let Some(ways) = ways else {
            return Err(self.error("expected a list of at least two objects of fields"));
        };
        let before = std::mem::take(drafts);
        self.ors += 1;
        for (index, way) in ways.iter().enumerate() {
            let mut these = before.clone();
            self.step(index, |compiler| match way {
                Value::Object(object) => compiler.fields(object, &mut these),
                _ => Err(compiler.error("expected an object of fields")),
            })?;
            drafts.append(&mut these);
            self.bound(drafts)?;
        }
        self.ors -= 1;
        Ok(())
    }

    fn bound(&self, drafts: &[Draft]) -> Result<(), Error> {
        if drafts.len() > MAX_WAYS {
            return Err(self.error(format!(
                "the `$or`s multiply to more than {MAX_WAYS} ways; split this into several patterns"
            )));
        }
        if drafts.iter().any(|draft| draft.len() > MAX_FIELDS_OF_WAY) {
            let most = MAX_FIELDS_OF_WAY;
            return Err(self.error(format!("a pattern has at most {most} fields")));
        }
        if drafts.iter().map(BTreeMap::len).sum::<usize>() > MAX_FIELDS {
            return Err(self.error(format!(
                "the `$or`s multiply to more than {MAX_FIELDS} fields; split this into several patterns"
            )));
        }
        Ok(())
    }
}
