//! One test of one scalar: what stands in the list of a pattern's field.

use std::{borrow::Cow, fmt};

use serde_json::Value;

use crate::{
    address::{Address, Cidr},
    fold::Folded,
    number::Num,
    wildcard::Wildcard,
};

/// A scalar of an event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar<'e> {
    Null,
    Bool(bool),
    Number(Num, Cow<'e, serde_json::Number>),
    Text(Cow<'e, str>),
}

/// A test that a scalar of the event passes or fails. `{"exists": false}` is not here: it is about a place, not a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    Null,
    Bool(bool),
    /// The same number, however it is written.
    Number(serde_json::Number),
    /// The same text; when it is an IP address, the same address.
    Text(String, Option<Address>),
    /// A text that begins so.
    Prefix(String),
    /// A text that ends so.
    Suffix(String),
    PrefixIgnoreCase(Folded),
    SuffixIgnoreCase(Folded),
    EqualsIgnoreCase(Folded),
    Wildcard(Wildcard),
    /// A number within bounds.
    Numeric(Bounds),
    /// A text that is an address within a range.
    Cidr(Cidr),
    /// Any scalar.
    Exists,
    /// A scalar that passes none of these.
    AnythingBut(Vec<Test>),
}

/// Limits of a number, both inside, and how they were written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) low: Num,
    pub(crate) high: Num,
    pub(crate) text: String,
}

impl<'e> Scalar<'e> {
    /// The scalar of a value that is no array and no object.
    pub(crate) fn of(value: &'e Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(Num::of(number), Cow::Borrowed(number)),
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(_, number) => Value::Number(number.as_ref().clone()),
            Self::Text(text) => Value::String(text.clone().into_owned()),
        }
    }
}

impl Test {
    /// Exactly this text.
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned(), Address::parse(text))
    }

    /// Whether `scalar` passes.
    pub(crate) fn passes(&self, scalar: &Scalar<'_>) -> bool {
        match (self, scalar) {
            (Self::Exists, _) | (Self::Null, Scalar::Null) => true,
            (Self::AnythingBut(tests), scalar) => !tests.iter().any(|test| test.passes(scalar)),
            (Self::Bool(expected), Scalar::Bool(value)) => expected == value,
            (Self::Number(expected), Scalar::Number(number, _)) => Num::of(expected) == *number,
            (Self::Numeric(bounds), Scalar::Number(number, _)) => {
                (bounds.low..=bounds.high).contains(number)
            }
            (test, Scalar::Text(text)) => test.passes_text(text),
            _ => false,
        }
    }

    fn passes_text(&self, text: &str) -> bool {
        match self {
            Self::Text(expected, None) => expected == text,
            Self::Text(expected, Some(address)) => {
                expected == text || Address::parse(text) == Some(*address)
            }
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::PrefixIgnoreCase(prefix) => prefix.begins(text),
            Self::SuffixIgnoreCase(suffix) => suffix.ends(text),
            Self::EqualsIgnoreCase(expected) => expected.equals(text),
            Self::Wildcard(wildcard) => wildcard.matches(text),
            Self::Cidr(cidr) => Address::parse(text).is_some_and(|address| cidr.holds(address)),
            _ => false,
        }
    }
}

/// As a reader of an explanation wants it: `a text that begins with "x"`.
impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| Value::from(text);
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text, _) => write!(f, "{}", quoted(text)),
            Self::Prefix(text) => write!(f, "a text that begins with {}", quoted(text)),
            Self::Suffix(text) => write!(f, "a text that ends with {}", quoted(text)),
            Self::PrefixIgnoreCase(folded) => {
                write!(
                    f,
                    "a text that begins with {} in any case",
                    quoted(&folded.text)
                )
            }
            Self::SuffixIgnoreCase(folded) => {
                write!(
                    f,
                    "a text that ends with {} in any case",
                    quoted(&folded.text)
                )
            }
            Self::EqualsIgnoreCase(folded) => write!(f, "{} in any case", quoted(&folded.text)),
            Self::Wildcard(wildcard) => write!(f, "a text like {}", quoted(&wildcard.text)),
            Self::Numeric(bounds) => write!(f, "a number {}", bounds.text),
            Self::Cidr(cidr) => write!(f, "an address in {}", cidr.text),
            Self::Exists => f.write_str("any value"),
            Self::AnythingBut(tests) => {
                f.write_str("anything but ")?;
                for (index, test) in tests.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { ", " })?;
                    test.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}
