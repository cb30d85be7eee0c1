//! The list at a leaf of a pattern: values, and objects that hold exactly one test each.

use serde_json::{Map, Number, Value};

use super::{Compiler, Error, Leaf};
use crate::{
    address::Cidr,
    fold::Folded,
    number::Num,
    test::{Bounds, Test},
    wildcard::Wildcard,
};

/// The words a test may be.
const WORDS: &str = "`prefix`, `suffix`, `equals-ignore-case`, `wildcard`, `numeric`, `cidr`, `exists` or `anything-but`";
/// The words that may stand in `anything-but`.
const BUT_WORDS: &str = "`prefix`, `suffix`, `equals-ignore-case` or `wildcard`";

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
            name: self.path.join("."),
            pointer: self.pointer(),
            tests: Vec::with_capacity(list.len()),
            absent: false,
        };
        for (index, value) in list.iter().enumerate() {
            match self.step(index, |compiler| compiler.entry(value))? {
                Entry::Test(test) => leaf.tests.push(test),
                Entry::Absent => leaf.absent = true,
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
        match scalar {
            Value::Null => Ok(Test::Null),
            Value::Bool(value) => Ok(Test::Bool(*value)),
            Value::Number(number) => Ok(Test::Number(number.clone())),
            Value::String(text) => Ok(Test::text(text)),
            _ => Err(self.error("expected a text, a number, true, false or null")),
        }
    }

    fn test(&mut self, object: &Map<String, Value>) -> Result<Entry, Error> {
        let (word, value) = self.only_entry(object)?;
        self.step(word, |compiler| {
            compiler.count(word.len())?;
            let test = match word {
                "exists" => return compiler.exists(value),
                "exactly" => Test::text(compiler.text(value)?),
                "prefix" => compiler.affix(value, Test::Prefix, Test::PrefixIgnoreCase)?,
                "suffix" => compiler.affix(value, Test::Suffix, Test::SuffixIgnoreCase)?,
                "equals-ignore-case" => Test::EqualsIgnoreCase(Folded::new(compiler.text(value)?)),
                "wildcard" => compiler.wildcard(value)?,
                "numeric" => Test::Numeric(compiler.bounds(value)?),
                "cidr" => {
                    let read = Cidr::parse(compiler.text(value)?);
                    Test::Cidr(read.map_err(|reason| compiler.error(reason))?)
                }
                "anything-but" => Test::AnythingBut(compiler.anything_but(value)?),
                _ => return Err(compiler.error(format!("`{word}` is no test: expected {WORDS}"))),
            };
            Ok(Entry::Test(test))
        })
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
        ignoring_case: fn(Folded) -> Test,
    ) -> Result<Test, Error> {
        let Value::Object(object) = value else {
            return Ok(exact(self.text(value)?.to_owned()));
        };
        match self.only_entry(object)? {
            ("equals-ignore-case", text) => Ok(ignoring_case(Folded::new(self.text(text)?))),
            _ => Err(self.error("expected a text or `equals-ignore-case`")),
        }
    }

    fn text<'v>(&mut self, value: &'v Value) -> Result<&'v str, Error> {
        let Value::String(text) = value else {
            return Err(self.error("expected a text"));
        };
        self.count(text.len())?;
        Ok(text)
    }

    fn wildcard(&mut self, value: &Value) -> Result<Test, Error> {
        let read = Wildcard::parse(self.text(value)?);
        Ok(Test::Wildcard(read.map_err(|reason| self.error(reason))?))
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
        let (low, high) = match (list.len(), term(0), term(2)) {
            (2, Some((op, number)), _) => limits(op, Num::of(number)),
            (4, Some((over @ (">" | ">="), low)), Some((under @ ("<" | "<="), high))) => {
                if Num::of(low) >= Num::of(high) {
                    return Err(
                        self.error("expected a lower bound that is less than the upper one")
                    );
                }
                let (low, high) = (limits(over, Num::of(low)), limits(under, Num::of(high)));
                low.zip(high).map(|((low, _), (_, high))| (low, high))
            }
            _ => None,
        }
        .ok_or_else(|| self.error(wrong))?;
        let words = list.iter().map(|word| match word {
            Value::String(op) => op.clone(),
            other => other.to_string(),
        });
        let text = words.collect::<Vec<_>>().join(" ");
        Ok(Bounds { low, high, text })
    }

    fn anything_but(&mut self, value: &Value) -> Result<Vec<Test>, Error> {
        match value {
            Value::Object(object) => {
                let (word, value) = self.only_entry(object)?;
                self.step(word, |compiler| compiler.none_of(word, value))
            }
            Value::Array(list) if list.is_empty() => {
                Err(self.error("expected at least one value in the list"))
            }
            Value::Array(list) if all_of_one_kind(list) => {
                list.iter().map(|value| self.other_than(value)).collect()
            }
            Value::String(_) | Value::Number(_) => Ok(vec![self.other_than(value)?]),
            _ => Err(self
                .error("expected a text, a number, a list of texts, a list of numbers, or a test")),
        }
    }

    /// Here a text that is an address is only a text.
    fn other_than(&mut self, value: &Value) -> Result<Test, Error> {
        match self.exact(value)? {
            Test::Text(text, _) => Ok(Test::Text(text, None)),
            other => Ok(other),
        }
    }

    fn none_of(&mut self, word: &str, value: &Value) -> Result<Vec<Test>, Error> {
        let texts = match value {
            Value::Array(list) if !list.is_empty() => list.as_slice(),
            single => std::slice::from_ref(single),
        };
        let mut tests = Vec::with_capacity(texts.len());
        for value in texts {
            tests.push(match word {
                "prefix" => Test::Prefix(self.some_text(value)?),
                "suffix" => Test::Suffix(self.some_text(value)?),
                "equals-ignore-case" => Test::EqualsIgnoreCase(Folded::new(self.text(value)?)),
                "wildcard" => self.wildcard(value)?,
                _ => return Err(self.error(format!("expected {BUT_WORDS}"))),
            });
        }
        Ok(tests)
    }

    fn some_text(&mut self, value: &Value) -> Result<String, Error> {
        match self.text(value)? {
            "" => Err(self.error("expected a text that is not empty")),
            text => Ok(text.to_owned()),
        }
    }
}

fn limits(op: &str, number: Num) -> Option<(Num, Num)> {
    let (least, most) = Num::ALL;
    Some(match op {
        "=" => (number, number),
        ">" => (number.above(), most),
        ">=" => (number, most),
        "<" => (least, number.below()),
        "<=" => (least, number),
        _ => return None,
    })
}

fn all_of_one_kind(list: &[Value]) -> bool {
    list.iter().all(Value::is_string) || list.iter().all(Value::is_number)
}
