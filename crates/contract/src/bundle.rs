//! Files of the folder brought into one schema that refers only to itself: nothing is fetched, ever.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use crate::{
    conjunction::resolve,
    keywords::{BY_NAME, DATA, OF_THE_SAME, UNSPOKEN, several},
};

/// The schema of `path` with all that it refers to: `{"$ref": "#/$defs/…", "$defs": {…}}`.
pub(crate) fn bundle(
    path: &str,
    files: &BTreeMap<String, Value>,
) -> Result<Value, (String, String)> {
    let (mut wanted, mut taken) = (vec![path.to_owned()], BTreeMap::new());
    let mut known: BTreeSet<String> = wanted.iter().cloned().collect();
    while let Some(next) = wanted.pop() {
        let wrong = |reason| (next.clone(), reason);
        let file = files
            .get(&next)
            .ok_or_else(|| wrong("there is no such file".to_owned()))?;
        let mut schema = file.clone();
        if let Value::Object(fields) = &mut schema {
            // Where it lies is its name.
            fields.shift_remove("$id");
            fields.shift_remove("$schema");
        }
        let mut refers = Vec::new();
        rewrite(&mut schema, &next, files, &mut refers).map_err(wrong)?;
        wanted.extend(refers.into_iter().filter(|path| known.insert(path.clone())));
        taken.insert(next, schema);
    }
    let defs: Map<String, Value> = taken.into_iter().collect();
    let bundle = json!({"$ref": format!("#/$defs/{}", escaped(path)), "$defs": defs});
    match longest_in_place(&bundle) {
        Some(length) if length <= MAX_IN_PLACE => Ok(bundle),
        Some(_) => Err((
            path.to_owned(),
            format!("schemas refer to each other more than {MAX_IN_PLACE} times in a row"),
        )),
        None => Err((
            path.to_owned(),
            "a schema refers to itself without an element or a property between".to_owned(),
        )),
    }
}

/// How many schemas of the same value may lie inside or behind each other.
const MAX_IN_PLACE: usize = 64;

/// The longest row of schemas that hold for the same value; `None`: one has no end, and to check it would have none either.
fn longest_in_place(bundle: &Value) -> Option<usize> {
    let mut lengths: HashMap<*const Value, Option<usize>> = HashMap::new();
    let (mut stack, mut looking) = (Vec::new(), vec![bundle]);
    // What holds for parts of the value begins a row of its own.
    while let Some(value) = looking.pop() {
        stack.push((value, false));
        match value {
            Value::Object(fields) => looking.extend(fields.values()),
            Value::Array(items) => looking.extend(items),
            _ => {}
        }
    }
    while let Some((schema, seen)) = stack.pop() {
        let key = std::ptr::from_ref(schema);
        let same_value = in_place(bundle, schema);
        if seen {
            let mut longest = 0;
            for next in &same_value {
                match lengths.get(&std::ptr::from_ref(*next)) {
                    Some(Some(length)) => longest = longest.max(*length),
                    // It is still open: it leads here.
                    _ => return None,
                }
            }
            lengths.insert(key, Some(longest + 1));
            continue;
        }
        if lengths.contains_key(&key) {
            continue;
        }
        lengths.insert(key, None);
        stack.push((schema, true));
        stack.extend(same_value.into_iter().map(|next| (next, false)));
    }
    lengths.into_values().flatten().max()
}

fn in_place<'b>(bundle: &'b Value, schema: &'b Value) -> Vec<&'b Value> {
    let Value::Object(fields) = schema else {
        return Vec::new();
    };
    let mut all: Vec<&Value> = resolve(bundle, fields).into_iter().collect();
    let same = OF_THE_SAME.iter().filter_map(|word| fields.get(*word));
    all.extend(same.flat_map(several));
    let depending = fields.get("dependentSchemas").and_then(Value::as_object);
    all.extend(depending.into_iter().flat_map(Map::values));
    all
}

fn rewrite(
    schema: &mut Value,
    path: &str,
    files: &BTreeMap<String, Value>,
    refers: &mut Vec<String>,
) -> Result<(), String> {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if UNSPOKEN.contains(&name.as_str()) {
                    return Err(format!(
                        "`{name}` is not spoken: name the place by a JSON Pointer in `$ref`"
                    ));
                }
                match (name.as_str(), &mut *value) {
                    (by_name, Value::Object(schemas)) if BY_NAME.contains(&by_name) => {
                        for schema in schemas.values_mut() {
                            rewrite(schema, path, files, refers)?;
                        }
                    }
                    ("$ref", Value::String(to)) => {
                        let (file, pointer) = target(to, path)?;
                        let there = files
                            .get(&file)
                            .is_some_and(|file| file.pointer(&pointer).is_some());
                        if !there {
                            return Err(format!(
                                "`$ref` leads to `{}`, which is not there",
                                shown(to)
                            ));
                        }
                        *to = format!("#/$defs/{}{pointer}", escaped(&file));
                        refers.push(file);
                    }
                    ("$id", Value::String(_)) => {
                        return Err(
                            "`$id` stands only at the top: a file's name is where it lies"
                                .to_owned(),
                        );
                    }
                    (data, _) if DATA.contains(&data) => {}
                    _ => rewrite(value, path, files, refers)?,
                }
            }
            Ok(())
        }
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| rewrite(item, path, files, refers)),
        _ => Ok(()),
    }
}

/// The file and the JSON Pointer that a `$ref` in the file at `from` means.
fn target(to: &str, from: &str) -> Result<(String, String), String> {
    let (file, fragment) = to.split_once('#').unwrap_or((to, ""));
    if !fragment.is_empty() && !fragment.starts_with('/') {
        return Err(format!(
            "expected a JSON Pointer after `#` in `{}`",
            shown(to)
        ));
    }
    let pointer = percent_decoded(fragment);
    if file.is_empty() {
        return Ok((from.to_owned(), pointer));
    }
    let outside = || format!("`{}` leads out of the folder of contracts", shown(to));
    if file.starts_with('/') || file.contains([':', '\\', '?', '%']) {
        return Err(outside());
    }
    let mut steps: Vec<&str> = from.split('/').collect();
    steps.pop();
    for step in file.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop().ok_or_else(outside)?;
            }
            step => steps.push(step),
        }
    }
    Ok((steps.join("/"), pointer))
}

fn percent_decoded(fragment: &str) -> String {
    let bytes = fragment.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = fragment.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A name as a step of a JSON Pointer (RFC 6901), in a fragment.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_stay_inside() {
        let of = |to: &str| target(to, "order.created/1.json");
        let ok = |file: &str, pointer: &str| Ok((file.to_owned(), pointer.to_owned()));
        assert_eq!(
            of("#/$defs/a%20b"),
            ok("order.created/1.json", "/$defs/a b")
        );
        assert_eq!(of("../common/money.json#/x"), ok("common/money.json", "/x"));
        assert_eq!(of("./2.json"), ok("order.created/2.json", ""));
        for outside in [
            "../../x.json",
            "/etc/passwd",
            "https://x.example/s.json",
            "file:x",
            "a\\b",
            "%2e%2e/x",
        ] {
            assert!(
                of(outside).is_err_and(|e| e.contains("out of the folder")),
                "{outside}"
            );
        }
        assert!(of("#anchor").is_err());
    }
}
