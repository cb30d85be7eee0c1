//! Whether an event matches. Fields of one object pattern must be met by one and the same element of an array of the
//! event; a list in the event meets a field when any of its elements does.

use serde_json::Value;

use crate::syntax::{Fields, Leaf, Node, Pattern};

impl Pattern {
    /// Whether `event` matches. Its depth is bounded by whoever parsed it.
    #[must_use]
    pub fn matches(&self, event: &Value) -> bool {
        event.is_object() && fields_match(&self.fields, Some(event), event)
    }
}

fn fields_match(fields: &Fields, value: Option<&Value>, event: &Value) -> bool {
    match value {
        Some(Value::Array(items)) if !items.is_empty() => items
            .iter()
            .any(|item| fields_match(fields, Some(item), event)),
        value => {
            let object = value.and_then(Value::as_object);
            let met = fields.all.iter().all(|(name, node)| {
                node_matches(node, object.and_then(|object| object.get(name)), event)
            });
            met && fields
                .any
                .iter()
                .all(|ways| ways.iter().any(|way| fields_match(way, value, event)))
        }
    }
}

fn node_matches(node: &Node, value: Option<&Value>, event: &Value) -> bool {
    match node {
        Node::Fields(fields) => fields_match(fields, value, event),
        Node::Leaf(leaf) => leaf_matches(leaf, value, event),
    }
}

fn leaf_matches(leaf: &Leaf, value: Option<&Value>, event: &Value) -> bool {
    value.is_some_and(|value| scalars_pass(leaf, value))
        || leaf
            .absent
            .as_ref()
            .is_some_and(|path| !holds_scalar(event, path))
}

fn scalars_pass(leaf: &Leaf, value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| scalars_pass(leaf, item)),
        Value::Object(_) => false,
        scalar => leaf.tests.iter().any(|test| test.passes(scalar)),
    }
}

/// Whether a scalar is at `path` anywhere: absence is a fact about the whole event, not about one element of an array.
fn holds_scalar(value: &Value, path: &[String]) -> bool {
    match (value, path) {
        (Value::Array(items), _) => items.iter().any(|item| holds_scalar(item, path)),
        (Value::Object(object), [first, rest @ ..]) => object
            .get(first)
            .is_some_and(|value| holds_scalar(value, rest)),
        (Value::Object(_), []) => false,
        (_, path) => path.is_empty(),
    }
}
