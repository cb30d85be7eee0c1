//! Reads a pattern: an object of fields, whose leaves are lists of values and tests.
//!
//! Whatever it does not know is an error that names the place; a compiled pattern never fails.

use serde_json::{Map, Value};

use crate::test::Test;

mod tests_of_field;

/// Deepest nesting of a pattern's objects.
pub const MAX_DEPTH: usize = 64;
/// Most fields, values and tests in one pattern.
pub const MAX_TERMS: usize = 4096;
/// Most bytes of field names and values in one pattern.
pub const MAX_TEXT: usize = 64 << 10;

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    pub(crate) fields: Fields,
}

/// What an object of the event must have.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Fields {
    /// All of these.
    pub(crate) all: Vec<(String, Node)>,
    /// And of each `$or`, one way at least.
    pub(crate) any: Vec<Vec<Fields>>,
}

/// What a field must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Fields(Fields),
    Leaf(Leaf),
}

/// A scalar that passes one of the tests, or, with a path in `absent`, the lack of any scalar there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leaf {
    pub(crate) tests: Vec<Test>,
    pub(crate) absent: Option<Vec<String>>,
}

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
    /// [`Error`] names the place and what was expected there; also beyond [`MAX_DEPTH`], [`MAX_TERMS`] or [`MAX_TEXT`].
    pub fn compile(pattern: &Value) -> Result<Self, Error> {
        let mut compiler = Compiler {
            place: Vec::new(),
            path: Vec::new(),
            terms: 0,
            text: 0,
        };
        let Value::Object(object) = pattern else {
            return Err(compiler.error("a pattern is an object of fields"));
        };
        let fields = compiler.fields(object)?;
        Ok(Self { fields })
    }
}

/// Where the compiler is, and what it has used of its limits.
struct Compiler {
    /// Steps in the pattern, for errors.
    place: Vec<String>,
    /// Steps in the event, for absence.
    path: Vec<String>,
    terms: usize,
    text: usize,
}

impl Compiler {
    fn error(&self, reason: impl Into<String>) -> Error {
        let escape = |step: &String| format!("/{}", step.replace('~', "~0").replace('/', "~1"));
        Error {
            pointer: self.place.iter().map(escape).collect(),
            reason: reason.into(),
        }
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

    fn fields(&mut self, object: &Map<String, Value>) -> Result<Fields, Error> {
        if object.is_empty() {
            return Err(self.error(
                "expected at least one field (every event has one: `id: [{exists: true}]`)",
            ));
        }
        let mut fields = Fields::default();
        for (name, value) in object {
            self.step(name, |compiler| compiler.field(name, value, &mut fields))?;
        }
        Ok(fields)
    }

    fn field(&mut self, name: &str, value: &Value, fields: &mut Fields) -> Result<(), Error> {
        self.count(name.len())?;
        if name == "$or" {
            fields.any.push(self.ways(value)?);
            return Ok(());
        }
        self.path.push(name.to_owned());
        let node = match value {
            Value::Object(object) => Node::Fields(self.fields(object)?),
            Value::Array(list) => Node::Leaf(self.leaf(list)?),
            _ => return Err(self.error("expected a list of values, or an object of fields")),
        };
        self.path.pop();
        fields.all.push((name.to_owned(), node));
        Ok(())
    }

    fn ways(&mut self, value: &Value) -> Result<Vec<Fields>, Error> {
        let ways = value.as_array().filter(|ways| ways.len() >= 2);
        let Some(ways) = ways else {
            return Err(self.error("expected a list of at least two objects of fields"));
        };
        let mut read = Vec::with_capacity(ways.len());
        for (index, way) in ways.iter().enumerate() {
            read.push(self.step(index, |compiler| match way {
                Value::Object(object) => compiler.fields(object),
                _ => Err(compiler.error("expected an object of fields")),
            })?);
        }
        Ok(read)
    }
}
