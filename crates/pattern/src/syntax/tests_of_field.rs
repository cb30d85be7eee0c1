//! The list at a leaf of a pattern: values, and objects that hold exactly one test each.

use serde_json::{Map, Number, Value};

use super::{Compiler, Error, Leaf};
use crate::{
    number,
    test::{Bounds, Test},
};

/// The words a test may be.
const WORDS: &str =
    "`prefix`, `suffix`, `equals-ignore-case`, `numeric`, `exists` or `anything-but`";

/// One entry of the list.
enum Entry {
    Test(Test),
    Absent,
}

impl Compiler {
    pub(super) fn leaf(&mut self, list: &[Value]) -> Result<Leaf, Error> {
        if list.is_empty() {
            return Err(self.error("expected at least one value in the list"));
        }
        let mut leaf = Leaf {
            tests: Vec::with_capacity(list.len()),
            absent: None,
        };
        for (index, value) in list.iter().enumerate() {
            match self.step(index, |compiler| compiler.entry(value))? {
                Entry::Test(test) => leaf.tests.push(test),
                Entry::Absent => leaf.absent = Some(self.path.clone()),
            }
        }
        Ok(leaf)
    }

    fn entry(&mut self, value: &Value) -> Result<Entry, Error> {
        match value {
            Value::Object(object) => self.test(object),
            Value::Array(_) => Err(self.error("expected a value or a test, not a list")),
            scalar => self.exact(scalar).map(Entry::Test),
        }
    }

    fn exact(&mut self, scalar: &Value) -> Result<Test, Error> {
        self.count(scalar.as_str().map_or(8, str::len))?;
        Ok(Test::Exact(scalar.clone()))
    }

    fn test(&mut self, object: &Map<String, Value>) -> Result<Entry, Error> {
        let (word, value) = self.only_entry(object)?;
        self.step(word, |compiler| {
            compiler.count(word.len())?;
            let test = match word {
                "exists" => return compiler.exists(value),
                "prefix" => compiler.affix(value, Test::Prefix, Test::PrefixIgnoreCase)?,
                "suffix" => compiler.affix(value, Test::Suffix, Test::SuffixIgnoreCase)?,
                "equals-ignore-case" => {
                    Test::EqualsIgnoreCase(compiler.text(value)?.to_lowercase())
                }
                "numeric" => Test::Numeric(compiler.bounds(value)?),
                "anything-but" => Test::AnythingBut(compiler.anything_but(value)?),
                _ => return Err(compiler.unknown(word)),
            };
            Ok(Entry::Test(test))
        })
    }

    fn unknown(&self, word: &str) -> Error {
        match word {
            "wildcard" | "cidr" => self.error(format!("`{word}` is not spoken by this version")),
            _ => self.error(format!("`{word}` is no test: expected {WORDS}")),
        }
    }

    fn only_entry<'v>(
        &self,
        object: &'v Map<String, Value>,
    ) -> Result<(&'v str, &'v Value), Error> {
        let mut entries = object.iter();
        match (entries.next(), entries.next()) {
            (Some((word, value)), None) => Ok((word, value)),
            _ => Err(self.error(format!("expected exactly one test: {WORDS}"))),
        }
    }

    fn exists(&self, value: &Value) -> Result<Entry, Error> {
        match value {
            Value::Bool(true) => Ok(Entry::Test(Test::Exists)),
            Value::Bool(false) => Ok(Entry::Absent),
            _ => Err(self.error("expected true or false")),
        }
    }

    fn affix(
        &mut self,
        value: &Value,
        exact: fn(String) -> Test,
        ignoring_case: fn(String) -> Test,
    ) -> Result<Test, Error> {
        let Value::Object(object) = value else {
            return self.text(value).map(exact);
        };
        match self.only_entry(object)? {
            ("equals-ignore-case", text) => Ok(ignoring_case(self.text(text)?.to_lowercase())),
            _ => Err(self.error("expected a text or `equals-ignore-case`")),
        }
    }

    fn text(&mut self, value: &Value) -> Result<String, Error> {
        let Value::String(text) = value else {
            return Err(self.error("expected a text"));
        };
        self.count(text.len())?;
        Ok(text.clone())
    }

    fn bounds(&mut self, value: &Value) -> Result<Bounds, Error> {
        let wrong = "expected `[\"=\", 5]`, `[\">\", 0]`, `[\"<=\", 9]` or `[\">\", 0, \"<=\", 9]`";
        let list = value.as_array().ok_or_else(|| self.error(wrong))?;
        self.count(8)?;
        let term = |at: usize| -> Option<(&str, &Number)> {
            match (list.get(at)?, list.get(at + 1)?) {
                (Value::String(op), Value::Number(number)) => Some((op, number)),
                _ => None,
            }
        };
        let bounds = match (list.len(), term(0), term(2)) {
            (2, Some((op, number)), _) => one_bound(op, number),
            (4, Some((">" | ">=", low)), Some(("<" | "<=", high)))
                if number::compare(low, high).is_some_and(std::cmp::Ordering::is_lt) =>
            {
                Some(Bounds {
                    low: Some((low.clone(), list[0] == ">=")),
                    high: Some((high.clone(), list[2] == "<=")),
                })
            }
            _ => None,
        };
        bounds.ok_or_else(|| self.error(wrong))
    }

    fn anything_but(&mut self, value: &Value) -> Result<Vec<Test>, Error> {
        match value {
            Value::Object(object) => {
                let (word, value) = self.only_entry(object)?;
                self.step(word, |compiler| compiler.any_affix(word, value))
            }
            Value::Array(list) if list.is_empty() => {
                Err(self.error("expected at least one value in the list"))
            }
            Value::Array(list) if all_of_one_kind(list) => {
                list.iter().map(|value| self.exact(value)).collect()
            }
            Value::String(_) | Value::Number(_) => Ok(vec![self.exact(value)?]),
            _ => Err(self
                .error("expected a text, a number, a list of texts, a list of numbers, or a test")),
        }
    }

    fn any_affix(&mut self, word: &str, value: &Value) -> Result<Vec<Test>, Error> {
        let make: fn(String) -> Test = match word {
            "prefix" => Test::Prefix,
            "suffix" => Test::Suffix,
            "equals-ignore-case" => |text| Test::EqualsIgnoreCase(text.to_lowercase()),
            "wildcard" => return Err(self.unknown(word)),
            _ => {
                let expected = "expected `prefix`, `suffix` or `equals-ignore-case`";
                return Err(self.error(expected));
            }
        };
        let texts = match value {
            Value::Array(list) if !list.is_empty() => list.as_slice(),
            single => std::slice::from_ref(single),
        };
        let mut tests = Vec::with_capacity(texts.len());
        for text in texts {
            let text = self.text(text)?;
            if text.is_empty() && word != "equals-ignore-case" {
                return Err(self.error("expected a text that is not empty"));
            }
            tests.push(make(text));
        }
        Ok(tests)
    }
}

fn one_bound(op: &str, number: &Number) -> Option<Bounds> {
    let limit = |inclusive| Some((number.clone(), inclusive));
    let (low, high) = match op {
        "=" => (limit(true), limit(true)),
        ">" => (limit(false), None),
        ">=" => (limit(true), None),
        "<" => (None, limit(false)),
        "<=" => (None, limit(true)),
        _ => return None,
    };
    Some(Bounds { low, high })
}

fn all_of_one_kind(list: &[Value]) -> bool {
    list.iter().all(Value::is_string) || list.iter().all(Value::is_number)
}
