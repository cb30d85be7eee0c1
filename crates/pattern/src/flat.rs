//! An event as its scalars, each with its path and the elements of arrays that it is in. Only what some pattern looks at is
//! kept.

use std::borrow::Cow;

use model::{Event, Time, event::EventData};
use serde_json::{Map, Value};

use crate::{
    paths::{PathId, Paths, TOP},
    test::Scalar,
};

/// What of an event patterns look at, in the order of the paths.
pub(crate) struct Flat<'e> {
    scalars: Vec<Found<'e>>,
    pub(crate) members: Members,
}

/// One scalar.
pub(crate) struct Found<'e> {
    pub(crate) path: PathId,
    pub(crate) scalar: Scalar<'e>,
    pub(crate) member: MemberId,
}

/// A set of elements of arrays, each inside the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(u32);

/// In no array, or in one only as a scalar of it.
pub(crate) const NOWHERE: MemberId = MemberId(0);

/// An element of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Element {
    pub(crate) array: u32,
    pub(crate) index: u32,
}

/// The elements of arrays that hold objects and arrays, as a tree.
#[derive(Default)]
pub(crate) struct Members {
    /// What each is in, and which element it is.
    inside: Vec<(MemberId, Element)>,
    /// Where each array stands.
    arrays: Vec<PathId>,
}

impl Members {
    /// The element that `member` adds, and what that is in.
    pub(crate) fn of(&self, member: MemberId) -> Option<(MemberId, Element)> {
        let at = (member.0 as usize).checked_sub(1)?;
        self.inside.get(at).copied()
    }

    pub(crate) fn path(&self, array: u32) -> PathId {
        self.arrays.get(array as usize).copied().unwrap_or(TOP)
    }

    fn array(&mut self, path: PathId) -> u32 {
        self.arrays.push(path);
        count(self.arrays.len() - 1)
    }

    fn add(&mut self, inside: MemberId, array: u32, index: usize) -> MemberId {
        let element = Element {
            array,
            index: count(index),
        };
        self.inside.push((inside, element));
        MemberId(count(self.inside.len()))
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("an event has a limit of size far below")
}

impl<'e> Flat<'e> {
    /// What `paths` lead to in a JSON value; nothing, unless it is an object.
    pub(crate) fn of_json(paths: &Paths, event: &'e Value) -> Self {
        let mut flat = Self::empty();
        if let Value::Object(fields) = event {
            flat.object(paths, TOP, NOWHERE, fields);
        }
        flat.sorted()
    }

    /// What `paths` lead to in the JSON format of an event, without making that.
    pub(crate) fn of_event(paths: &Paths, event: &'e Event) -> Self {
        let mut flat = Self::empty();
        flat.text(paths, "specversion", Some("1.0".into()));
        flat.text(paths, "id", Some(event.id.as_str().into()));
        flat.text(paths, "source", Some(event.source.as_str().into()));
        flat.text(paths, "type", Some(event.kind.as_str().into()));
        let optional = [
            ("subject", &event.subject),
            ("datacontenttype", &event.content_type),
            ("dataschema", &event.schema),
        ];
        for (name, text) in optional {
            flat.text(paths, name, text.as_deref().map(Cow::Borrowed));
        }
        if paths.enter(TOP, "time").is_some() {
            flat.text(paths, "time", event.time.map(Time::rfc3339).map(Cow::Owned));
        }
        for (name, value) in &event.extensions {
            flat.named(paths, TOP, NOWHERE, name, value);
        }
        match &event.data {
            EventData::None => {}
            EventData::Json(value) => flat.named(paths, TOP, NOWHERE, "data", value),
            EventData::Binary(_) if paths.enter(TOP, "data_base64").is_some() => {
                let text = match event.to_json().get_mut("data_base64") {
                    Some(Value::String(text)) => Some(Cow::Owned(std::mem::take(text))),
                    _ => None,
                };
                flat.text(paths, "data_base64", text);
            }
            EventData::Binary(_) => {}
        }
        flat.sorted()
    }

    fn empty() -> Self {
        Self {
            scalars: Vec::new(),
            members: Members::default(),
        }
    }

    fn sorted(mut self) -> Self {
        self.scalars.sort_by_key(|found| found.path);
        self
    }

    fn text(&mut self, paths: &Paths, name: &str, text: Option<Cow<'e, str>>) {
        let path = paths.enter(TOP, name).filter(|path| paths.is_field(*path));
        if let Some((path, text)) = path.zip(text) {
            self.scalars.push(Found {
                path,
                scalar: Scalar::Text(text),
                member: NOWHERE,
            });
        }
    }

    fn object(
        &mut self,
        paths: &Paths,
        at: PathId,
        member: MemberId,
        fields: &'e Map<String, Value>,
    ) {
        for (name, value) in fields {
            self.named(paths, at, member, name, value);
        }
    }

    fn named(&mut self, paths: &Paths, at: PathId, member: MemberId, name: &str, value: &'e Value) {
        if let Some(path) = paths.enter(at, name) {
            self.value(paths, path, member, value);
        }
    }

    fn value(&mut self, paths: &Paths, path: PathId, member: MemberId, value: &'e Value) {
        match value {
            Value::Object(fields) if paths.goes_on(path) => {
                self.object(paths, path, member, fields);
            }
            Value::Object(_) => {}
            Value::Array(items) => {
                let array = self.members.array(path);
                for (index, item) in items.iter().enumerate() {
                    let member = match item {
                        Value::Object(_) | Value::Array(_) => {
                            self.members.add(member, array, index)
                        }
                        _ => member,
                    };
                    self.value(paths, path, member, item);
                }
            }
            scalar if paths.is_field(path) => {
                if let Some(scalar) = Scalar::of(scalar) {
                    self.scalars.push(Found {
                        path,
                        scalar,
                        member,
                    });
                }
            }
            _ => {}
        }
    }

    /// The scalars at a path.
    pub(crate) fn at(&self, path: PathId) -> &[Found<'e>] {
        let begin = self.scalars.partition_point(|found| found.path < path);
        let rest = &self.scalars[begin..];
        &rest[..rest.partition_point(|found| found.path == path)]
    }

    /// The scalars of each path that has any.
    pub(crate) fn by_path(&self) -> impl Iterator<Item = &[Found<'e>]> {
        self.scalars.chunk_by(|one, next| one.path == next.path)
    }

    /// How many paths have scalars, at most.
    pub(crate) fn len(&self) -> usize {
        self.scalars.len()
    }
}
