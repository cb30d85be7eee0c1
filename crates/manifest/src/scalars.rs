//! Scalars of a manifest: texts, words, names, numbers, durations and sizes.

use std::time::Duration;

use model::{ByteSize, Name, parse_duration};

use crate::{
    reader::{Reader, shown},
    tree::{Bytes, Node, Value},
};

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct At<T> {
    pub(crate) at: Bytes,
    pub(crate) value: T,
}

/// Whether a variable of the environment can be named so.
pub(crate) fn is_variable(name: &str) -> bool {
    name.len() <= 255
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.starts_with(|c: char| !c.is_ascii_digit())
}

impl Reader<'_> {
    /// A text that is not empty.
    pub(crate) fn string(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) if text.is_empty() => {
                self.error(node.at, format!("expected {what}, found an empty text"));
                None
            }
            Value::Text(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => {
                let raw = shown(self.raw(node));
                self.wrong(node, &format!("expected {what}"))
                    .help(format!("put it in quotes to make it a text: `\"{raw}\"`"));
                None
            }
            _ => {
                self.wrong(node, &format!("expected {what}"));
                None
            }
        }
    }

    /// A list of texts, each with its place.
    pub(crate) fn strings(&mut self, node: &Node, what: &str) -> Vec<At<String>> {
        let items = self.list(node, what);
        items
            .iter()
            .filter_map(|item| {
                let value = self.string(item, what)?;
                Some(At { at: item.at, value })
            })
            .collect()
    }

    /// A name by the rules of [`Name`].
    pub(crate) fn name(&mut self, at: Bytes, text: &str) -> Option<Name> {
        Name::new(text)
            .map_err(|error| {
                let help = "1 to 63 of a-z, 0-9 and `-`, beginning with a letter";
                self.error(at, error.to_string()).help(help);
            })
            .ok()
    }

    /// The name of a secret, where a password could be written by mistake; `None`: it is none, which was noted.
    pub(crate) fn secret(&mut self, node: &Node, key: &str, example: &str) -> Option<String> {
        let name = self.string(node, "the name of a secret")?;
        if is_variable(&name) {
            return Some(name);
        }
        // Not shown: it may be the password itself.
        self.error(
            node.at,
            format!("`{key}` is the name of a secret, not the password"),
        )
        .help(format!(
            "for example `{key}: {example}`, and that name in the file of `--secrets`"
        ));
        None
    }

    /// One of `words`.
    pub(crate) fn word(&mut self, node: &Node, words: &[&'static str]) -> Option<&'static str> {
        let text = self.string(node, &crate::reader::listed(words))?;
        let found = words.iter().find(|word| **word == text).copied();
        if found.is_none() {
            let message = format!("`{}` is not known here", shown(&text));
            self.unknown_word(node.at, message, &text, words.iter().copied());
        }
        found
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, node: &Node) -> bool {
        match node.value {
            Value::Bool(value) => value,
            _ => {
                self.wrong(node, "expected `true` or `false`");
                false
            }
        }
    }

    /// A whole number within `range`.
    pub(crate) fn number(
        &mut self,
        node: &Node,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let Value::Number(number) = &node.value else {
            self.wrong(node, &format!("expected {expected}"));
            return None;
        };
        let found = number.as_u64().and_then(|n| u32::try_from(n).ok());
        let found = found.filter(|n| range.contains(n));
        if found.is_none() {
            self.error(node.at, format!("{number} is out of range"))
                .expected(format!("expected {expected}"));
        }
        found
    }

    /// A duration from `least` to `most`.
    pub(crate) fn duration(
        &mut self,
        node: &Node,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        let read = match &node.value {
            Value::Text(text) => parse_duration(text),
            Value::Number(_) => parse_duration(self.raw(node)),
            _ => {
                self.wrong(node, "expected a duration such as `10s`");
                return None;
            }
        };
        let shows = model::units::written_duration;
        match read {
            Err(error) => {
                let help = "for example `250ms`, `10s`, `5m`, `1h` or `7d`";
                self.error(node.at, error.to_string()).help(help);
                None
            }
            Ok(span) if span < least || span > most => {
                let expected = format!("expected {} to {}", shows(least), shows(most));
                self.error(node.at, format!("`{}` is out of range", self.raw(node)))
                    .expected(expected);
                None
            }
            Ok(span) => Some(span),
        }
    }

    /// A size from `least` to `most`.
    pub(crate) fn size(
        &mut self,
        node: &Node,
        least: ByteSize,
        most: ByteSize,
    ) -> Option<ByteSize> {
        let read = match &node.value {
            Value::Text(text) => text.parse::<ByteSize>(),
            Value::Number(_) => self.raw(node).parse(),
            _ => {
                self.wrong(node, "expected a size such as `128MiB`");
                return None;
            }
        };
        match read {
            Err(error) => {
                let help = "for example `512KiB`, `128MiB` or `2GiB`";
                self.error(node.at, error.to_string()).help(help);
                None
            }
            Ok(size) if size < least || size > most => {
                self.error(node.at, format!("`{}` is out of range", self.raw(node)))
                    .expected(format!("expected {least} to {most}"));
                None
            }
            Ok(size) => Some(size),
        }
    }
}
