//! One span: a stretch of work in a trace, named and attributed after OpenTelemetry's semantic conventions.

use std::{borrow::Cow, sync::Arc, time::Duration};

use model::{AppName, InvocationId, SpanId, Time, TraceId, WorkloadName};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};

use crate::text::Text;

/// Which side of a call a span is (OpenTelemetry, `SpanKind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// Work inside: a wait, a phase of a cold start.
    Internal,
    /// Answering a request.
    Server,
    /// Making a request.
    Client,
    /// Handing over a message.
    Producer,
    /// Working on a message.
    Consumer,
}

impl SpanKind {
    /// All kinds; the place of a kind is its stored number.
    pub(crate) const ALL: [Self; 5] = [
        Self::Internal,
        Self::Server,
        Self::Client,
        Self::Producer,
        Self::Consumer,
    ];
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttrValue {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any number.
    Float(f64),
    /// A text.
    Text(Text),
}

/// The attributes of a span, in the order in which they were added.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attributes(Vec<(Cow<'static, str>, AttrValue)>);

/// A stretch of work in a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// The trace that it belongs to.
    pub trace: TraceId,
    /// Its own id.
    pub id: SpanId,
    /// The span that caused it; `None` for the root of the trace.
    pub parent: Option<SpanId>,
    /// What was done, with few different values: a route, not a path.
    pub name: Text,
    /// Which side of a call it is.
    pub kind: SpanKind,
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
    /// The app that did it.
    pub app: Option<AppName>,
    /// The workload that did it; `None` where the platform itself did.
    pub workload: Option<WorkloadName>,
    /// The invocation that it is part of.
    pub invocation: Option<InvocationId>,
    /// Why it failed; `None` when it did not.
    pub error: Option<String>,
    /// More about it.
    #[serde(default)]
    pub attributes: Attributes,
    /// Whether nothing more of this trace is awaited here once this has ended: the gateway's span, a delivery.
    #[serde(default)]
    pub local_root: bool,
}

impl Span {
    /// How long it took.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.end.since(self.start)
    }

    /// `app/workload`, where both are known.
    pub(crate) fn service(&self) -> Option<String> {
        let (app, workload) = (self.app.as_ref()?, self.workload.as_ref()?);
        Some(format!("{app}/{workload}"))
    }

    /// About how many bytes of memory it holds.
    pub(crate) fn weight(&self) -> usize {
        let error = self.error.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.name.len() + error + self.attributes.weight()
    }
}

impl Attributes {
    /// None, with room for so many.
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        Self(Vec::with_capacity(room))
    }

    /// Adds one; the last of a name is the one that [`Attributes::get`] finds.
    pub fn push(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<AttrValue>) {
        self.0.push((key.into(), value.into()));
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&AttrValue> {
        let mut newest_first = self.0.iter().rev();
        newest_first.find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// The value of `key` when it is a text.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            AttrValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of `key` when it is a whole number.
    #[must_use]
    pub fn int(&self, key: &str) -> Option<i64> {
        match self.get(key)? {
            AttrValue::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &AttrValue)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value))
    }

    fn weight(&self) -> usize {
        let texts = self.0.iter().map(|(_, value)| match value {
            AttrValue::Text(text) => text.len(),
            _ => 0,
        });
        self.0.capacity() * size_of::<(Cow<'static, str>, AttrValue)>() + texts.sum::<usize>()
    }
}

impl<K: Into<Cow<'static, str>>> From<Vec<(K, AttrValue)>> for Attributes {
    fn from(pairs: Vec<(K, AttrValue)>) -> Self {
        pairs.into_iter().collect()
    }
}

impl<K: Into<Cow<'static, str>>> FromIterator<(K, AttrValue)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (K, AttrValue)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> serde::de::Visitor<'de> for Pairs {
            type Value = Attributes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of attributes")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Attributes, A::Error> {
                let mut all = Attributes::default();
                while let Some((key, value)) = map.next_entry::<String, AttrValue>()? {
                    all.push(key, value);
                }
                Ok(all)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

impl From<&'static str> for AttrValue {
    fn from(text: &'static str) -> Self {
        Self::Text(Text::Fixed(text))
    }
}

impl From<String> for AttrValue {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Text> for AttrValue {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<Arc<str>> for AttrValue {
    fn from(text: Arc<str>) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for AttrValue {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for AttrValue {
    /// What JSON has no number for (`NaN`, `inf`) becomes a text.
    fn from(number: f64) -> Self {
        if number.is_finite() {
            Self::Float(number)
        } else {
            Self::from(number.to_string())
        }
    }
}

impl From<bool> for AttrValue {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}
