//! The vocabulary of JSON Schema 2020-12: its keywords by what stands below them. One table, since a keyword that one reader of
//! schemas follows and another does not is a hole in a proof.

use serde_json::Value;

/// A schema, or a list of them, for the same value.
pub(crate) const OF_THE_SAME: &[&str] = &["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
/// A schema, or a list of them, for parts of the value, for their names, or for what a text holds.
const OF_PARTS: &[&str] = &[
    "prefixItems",
    "items",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
/// Schemas by names of one's own, which are no keywords.
pub(crate) const BY_NAME: &[&str] = &[
    "properties",
    "patternProperties",
    "$defs",
    "dependentSchemas",
];
/// Data, in which nothing is a schema.
pub(crate) const DATA: &[&str] = &["const", "enum", "default", "examples"];
/// Keywords that refuse nothing (formats, too: they are annotations).
pub(crate) const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "title",
    "description",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
    "examples",
    "format",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
];
/// Keywords that name places otherwise than by a JSON Pointer; they are not followed.
pub(crate) const UNSPOKEN: &[&str] = &["$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary"];
/// What is left: texts, numbers, and lists of these.
const PLAIN: &[&str] = &[
    "$ref",
    "type",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxContains",
    "minContains",
    "maxProperties",
    "minProperties",
    "required",
    "dependentRequired",
];

/// Whether a keyword's value is a schema, or a list of them.
pub(crate) fn holds_schemas(keyword: &str) -> bool {
    OF_THE_SAME.contains(&keyword) || OF_PARTS.contains(&keyword)
}

/// Whether 2020-12 has such a keyword.
pub(crate) fn is_known(keyword: &str) -> bool {
    let groups = [
        OF_THE_SAME,
        OF_PARTS,
        BY_NAME,
        DATA,
        ANNOTATIONS,
        UNSPOKEN,
        PLAIN,
    ];
    groups.iter().any(|group| group.contains(&keyword))
}

/// The items of a list of schemas, or the one schema.
pub(crate) fn several(value: &Value) -> &[Value] {
    match value {
        Value::Array(several) => several,
        one => std::slice::from_ref(one),
    }
}
