//! What the data of an event is made of, for people to read: every field with its type, through references, lists and cases.

use serde_json::Value;

use crate::{conjunction::resolve, contract::Contract, keywords::several};

/// How deep fields are listed; what is deeper is in the schema.
const DEPTH: usize = 8;
/// Most fields that are listed of one contract.
const MOST: usize = 1000;
/// Most values of an `enum` that are shown.
const VALUES: usize = 12;

/// A field of an event's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Where it is: `lines[].price.currency`.
    pub path: String,
    /// What it may be: `string`, `"a" or "b"`, `array of integer or null`.
    pub kind: String,
    /// Whether what it is a part of must have it.
    pub required: bool,
    /// Its description; empty: it has none.
    pub what: String,
}

impl Contract {
    /// All fields in the order of the schema, those of objects after the object. What refers to itself is listed once, and then named.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        let mut walk = Walk {
            bundle: &self.bundle,
            open: Vec::new(),
            found: Vec::new(),
        };
        walk.list(&self.bundle, "");
        walk.found
    }
}

struct Walk<'s> {
    bundle: &'s Value,
    /// The schemas that are being looked into: what refers to itself comes back to one.
    open: Vec<*const Value>,
    found: Vec<Field>,
}

impl<'s> Walk<'s> {
    /// Lists the fields of what a schema allows.
    fn list(&mut self, schema: &'s Value, prefix: &str) {
        let parts = self.parts(schema);
        let circular = parts
            .iter()
            .any(|part| self.open.contains(&std::ptr::from_ref(*part)));
        if circular || self.open.len() > DEPTH * 8 || prefix.matches('.').count() >= DEPTH {
            return;
        }
        let before = self.open.len();
        self.open
            .extend(parts.iter().map(|part| std::ptr::from_ref(*part)));
        for part in &parts {
            let fields = part.get("properties").and_then(Value::as_object);
            for (name, schema) in fields.into_iter().flatten() {
                let required = parts.iter().any(|part| names(part.get("required"), name));
                self.field(format!("{prefix}{name}"), schema, required);
            }
            if let Some(items) = part.get("items").filter(|items| items.is_object()) {
                let list = prefix.strip_suffix('.').unwrap_or(prefix);
                self.list(items, &format!("{list}[]."));
            }
            for case in cases(part) {
                self.list(case, prefix);
            }
        }
        self.open.truncate(before);
    }

    fn field(&mut self, path: String, schema: &'s Value, required: bool) {
        if self.found.len() >= MOST || self.found.iter().any(|known| known.path == path) {
            return;
        }
        let described = self.parts(schema).into_iter();
        let what = described
            .filter_map(|part| part.get("description")?.as_str())
            .next();
        self.found.push(Field {
            kind: self.kind(schema, 0),
            required,
            what: what.unwrap_or_default().to_owned(),
            path: path.clone(),
        });
        self.list(schema, &format!("{path}."));
    }

    /// The schemas that hold for the same value: itself, what it refers to, and all of `allOf`.
    fn parts(&self, schema: &'s Value) -> Vec<&'s Value> {
        let (mut parts, mut looking): (Vec<&Value>, _) = (Vec::new(), vec![schema]);
        while let Some(next) = looking.pop() {
            if parts.iter().any(|known| std::ptr::eq(*known, next)) {
                continue;
            }
            parts.push(next);
            let all = next.get("allOf").and_then(Value::as_array);
            looking.extend(all.into_iter().flatten().rev());
            looking.extend(
                next.as_object()
                    .and_then(|fields| resolve(self.bundle, fields)),
            );
        }
        parts
    }

    /// What a value may be, in words.
    fn kind(&self, schema: &'s Value, depth: usize) -> String {
        if depth > DEPTH {
            return "any".to_owned();
        }
        let parts = self.parts(schema);
        let first = |word: &str| parts.iter().find_map(|part| part.get(word));
        if let Some(value) = first("const") {
            return value.to_string();
        }
        if let Some(values) = first("enum").and_then(Value::as_array) {
            return one_of(values);
        }
        if let Some(kinds) = first("type") {
            let kinds = several(kinds).iter().filter_map(Value::as_str);
            let kinds = kinds.map(|kind| match (kind, first("items")) {
                ("array", Some(items)) if items.is_object() => {
                    format!("array of {}", self.kind(items, depth + 1))
                }
                _ => kind.to_owned(),
            });
            return kinds.collect::<Vec<_>>().join(" or ");
        }
        let mut kinds: Vec<String> = Vec::new();
        for case in parts.iter().flat_map(|part| cases(part)) {
            let kind = self.kind(case, depth + 1);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        match (kinds.is_empty(), first("properties")) {
            (false, _) => kinds.join(" or "),
            (true, Some(_)) => "object".to_owned(),
            (true, None) => "any".to_owned(),
        }
    }
}

/// The schemas of which one must hold, or may.
fn cases(schema: &Value) -> impl Iterator<Item = &Value> {
    let words = ["oneOf", "anyOf", "then", "else"];
    let cases = words.into_iter().filter_map(|word| schema.get(word));
    cases.flat_map(several)
}

fn names(required: Option<&Value>, name: &str) -> bool {
    let names = required.and_then(Value::as_array);
    names.into_iter().flatten().any(|one| one == name)
}

fn one_of(values: &[Value]) -> String {
    let shown: Vec<String> = values.iter().take(VALUES).map(Value::to_string).collect();
    match values.len() - shown.len() {
        0 => shown.join(" or "),
        more => format!("{} or one of {more} more", shown.join(" or ")),
    }
}
