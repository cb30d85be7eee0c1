//! YAML as a tree in which every key and value knows its place.
//!
//! Bounded in size, depth, nodes and alias expansion before anything is built; a syntax error or a breached bound is one
//! diagnostic. A duplicate key is noted, and the text read again without it, so that the rest is still checked.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, Options, Spanned};

use crate::{
    diagnostic::Span,
    reader::{Reader, shown},
};

/// Most keys, values and collections of a manifest.
const MAX_NODES: usize = 100_000;
/// Stack of the thread that reads.
const STACK: usize = 32 << 20;
/// Most nodes that aliases may add.
const MAX_REPLAYED: usize = 20_000;

/// A place in the text, in bytes; lines and columns are found only for what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bytes {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Where it stands (an alias: where the alias stands).
    pub(crate) at: Bytes,
    /// Where its text is (an alias: at the anchor).
    pub(crate) source: Bytes,
    pub(crate) value: Value,
}

/// A key with its place.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) at: Bytes,
    pub(crate) text: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// Reads the text of `reader` into a tree; `None` when it is not YAML within the limits, which is then noted.
pub(crate) fn parse(reader: &mut Reader<'_>) -> Option<Node> {
    let text = reader.text();
    let limit = reader.limits().manifest;
    if text.len() > limit.as_usize() {
        reader.error(
            Bytes::default(),
            format!("the manifest is larger than {limit}"),
        );
        return None;
    }
    if text.trim().is_empty() {
        reader
            .error(Bytes::default(), "the manifest is empty")
            .help("`tangelo init` writes one that works");
        return None;
    }
    let depth = reader.limits().depth;
    let tree = match read(text, DuplicateKeyPolicy::Error, depth) {
        Err(problem) if problem.duplicate => {
            reader.error(problem.at, problem.message);
            read(text, DuplicateKeyPolicy::FirstWins, depth)
        }
        other => other,
    };
    tree.map_err(|problem| reader.error(problem.at, problem.message).help(problem.help))
        .ok()
}

/// Why a text is not a tree.
struct Problem {
    at: Bytes,
    message: String,
    help: &'static str,
    duplicate: bool,
}

/// Reads on a thread of its own: a level of nesting costs the parser up to 60 KiB of stack in debug builds, more than
/// the threads of servers and tests have for all levels that the limit allows.
fn read(text: &str, duplicate_keys: DuplicateKeyPolicy, depth: usize) -> Result<Node, Problem> {
    let deserialize =
        || deserialize(text, duplicate_keys, depth).map_err(|error| problem(text, &error));
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(STACK);
        let running = builder
            .spawn_scoped(scope, deserialize)
            .map_err(|_| Problem::of("the system gave no thread to read the manifest"))?;
        running
            .join()
            .unwrap_or_else(|_| Err(Problem::of("the manifest cannot be read")))
    })
}

fn deserialize(
    text: &str,
    duplicate_keys: DuplicateKeyPolicy,
    depth: usize,
) -> Result<Node, Error> {
    let options: Options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: depth,
            flow_nesting_limit: depth,
            max_nodes: MAX_NODES,
            // One more than there may be: then the error says what is wrong.
            max_documents: 2,
            max_recorded_anchor_events: MAX_REPLAYED,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: duplicate_keys,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
}

fn problem(text: &str, error: &Error) -> Problem {
    let at = error
        .location()
        .map_or_else(Bytes::default, |location| place(text, &location));
    let (message, help, duplicate) = match error.without_snippet() {
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("this key");
            (format!("`{}` is given twice", shown(key)), "", true)
        }
        Error::MultipleDocuments { .. } => {
            ("a manifest is one YAML document".to_owned(), "", false)
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            let help = "a manifest is at most 64 levels deep and has at most 100,000 values, aliases followed";
            (
                "the manifest is too deep or too large".to_owned(),
                help,
                false,
            )
        }
        other => {
            let told = other.to_string();
            let line = told.lines().next().unwrap_or_default();
            let line = line.split(" at line ").next().unwrap_or(line);
            let help = "an indent of spaces makes a map; `{a: b}` and `[a, b]` stand on one line";
            (format!("this is not YAML: {}", shown(line)), help, false)
        }
    };
    Problem {
        at,
        message,
        help,
        duplicate,
    }
}

impl Problem {
    fn of(message: &str) -> Self {
        Self {
            at: Bytes::default(),
            message: message.to_owned(),
            help: "",
            duplicate: false,
        }
    }
}

/// Where an error is: the parser's own errors know line and column, but no bytes.
fn place(text: &str, location: &Location) -> Bytes {
    if location.span().byte_offset().is_some() {
        return Bytes::from(*location);
    }
    let number = |n: u64| usize::try_from(n).unwrap_or(0).saturating_sub(1);
    let (line, column) = (number(location.line()), number(location.column()));
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text[start..].lines().next().unwrap_or_default();
    let start = start + rest.chars().take(column).map(char::len_utf8).sum::<usize>();
    Bytes {
        start,
        end: start + 1,
    }
}

impl From<Location> for Bytes {
    fn from(location: Location) -> Self {
        let span = location.span();
        let number = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let start = number(span.byte_offset());
        Self {
            start,
            end: start + number(span.byte_len()),
        }
    }
}

impl Bytes {
    pub(crate) fn span(self, text: &str) -> Span {
        Span::of(text, self.start, self.end)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            at: read.referenced.into(),
            source: read.defined.into(),
            value: read.value,
        })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self {
            at: read.referenced.into(),
            text: read.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}
