//! Patterns as one would write them down first: all ways, all choices of values, nothing looked up. Shares no code with the
//! crate; it decides about patterns that compile.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::Value;

type Way = BTreeMap<String, Vec<Value>>;
/// A scalar with its path and the elements of arrays it is in.
type Scalar<'e> = (String, &'e Value, Vec<(usize, usize)>);

pub(crate) fn matches(pattern: &Value, event: &Value) -> bool {
    let mut ways = vec![Way::new()];
    expand(pattern, None, &mut ways);
    let mut scalars = Vec::new();
    let mut arrays = 0;
    flatten(event, None, &mut Vec::new(), &mut arrays, &mut scalars);
    event.is_object()
        && ways
            .iter()
            .any(|way| meets(&way.iter().collect::<Vec<_>>(), &scalars, &[]))
}

fn joined(path: Option<&str>, step: &str) -> String {
    match path {
        None => step.to_owned(),
        Some(path) => format!("{path}.{step}"),
    }
}

fn expand(pattern: &Value, path: Option<&str>, ways: &mut Vec<Way>) {
    for (name, value) in pattern.as_object().expect("an object") {
        if name == "$or" {
            let before = std::mem::take(ways);
            for way in value.as_array().expect("a list") {
                let mut these = before.clone();
                expand(way, path, &mut these);
                ways.extend(these);
            }
            continue;
        }
        let path = joined(path, name);
        match value {
            Value::Array(tests) => ways.iter_mut().for_each(|way| {
                way.insert(path.clone(), tests.clone());
            }),
            object => expand(object, Some(&path), ways),
        }
    }
}

fn flatten<'e>(
    value: &'e Value,
    path: Option<String>,
    inside: &mut Vec<(usize, usize)>,
    arrays: &mut usize,
    scalars: &mut Vec<Scalar<'e>>,
) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = joined(path.as_deref(), name);
                flatten(value, Some(path), inside, arrays, scalars);
            }
        }
        Value::Array(items) => {
            *arrays += 1;
            let array = *arrays;
            for (index, item) in items.iter().enumerate() {
                let container = item.is_array() || item.is_object();
                if container {
                    inside.push((array, index));
                }
                flatten(item, path.clone(), inside, arrays, scalars);
                if container {
                    inside.pop();
                }
            }
        }
        scalar => scalars.push((path.unwrap_or_default(), scalar, inside.clone())),
    }
}

fn fits(chosen: &[(usize, usize)], inside: &[(usize, usize)]) -> bool {
    inside.iter().all(|(array, index)| {
        chosen
            .iter()
            .all(|(other, at)| other != array || at == index)
    })
}

fn meets(
    way: &[(&String, &Vec<Value>)],
    scalars: &[Scalar<'_>],
    chosen: &[(usize, usize)],
) -> bool {
    let Some(((path, tests), rest)) = way.split_first() else {
        return true;
    };
    let open: Vec<_> = scalars
        .iter()
        .filter(|(at, _, inside)| at == *path && fits(chosen, inside))
        .collect();
    let may_lack = tests
        .iter()
        .any(|test| test["exists"] == Value::Bool(false));
    if may_lack && open.is_empty() && meets(rest, scalars, chosen) {
        return true;
    }
    open.iter().any(|(_, value, inside)| {
        let mut with = chosen.to_vec();
        with.extend(inside);
        tests.iter().any(|test| passes(test, value)) && meets(rest, scalars, &with)
    })
}

fn passes(test: &Value, value: &Value) -> bool {
    let Value::Object(word) = test else {
        return exact(test, value);
    };
    let (word, argument) = word.iter().next().expect("one word");
    match word.as_str() {
        "exists" => argument == &Value::Bool(true),
        "exactly" => exact(argument, value),
        "numeric" => numeric(argument.as_array().expect("a list"), value),
        "cidr" => cidr(argument.as_str().expect("a text"), value),
        "anything-but" => match argument {
            Value::Array(list) => !list.iter().any(|other| same(other, value)),
            Value::Object(inner) => {
                let (word, argument) = inner.iter().next().expect("one word");
                let list = argument.as_array().cloned();
                let list = list.unwrap_or_else(|| vec![argument.clone()]);
                !list.iter().any(|other| texts(word, other, value))
            }
            other => !same(other, value),
        },
        word => texts(word, argument, value),
    }
}

fn texts(word: &str, argument: &Value, value: &Value) -> bool {
    let Some(text) = value.as_str() else {
        return false;
    };
    let (argument, no_case) = match argument {
        Value::Object(inner) => (inner["equals-ignore-case"].as_str(), true),
        other => (other.as_str(), false),
    };
    let argument = argument.expect("a text");
    let lower = |text: &str| text.to_ascii_lowercase();
    match (word, no_case) {
        ("equals-ignore-case", _) => lower(text) == lower(argument),
        ("prefix", false) => text.starts_with(argument),
        ("prefix", true) => lower(text).starts_with(&lower(argument)),
        ("suffix", false) => text.ends_with(argument),
        ("suffix", true) => lower(text).ends_with(&lower(argument)),
        ("wildcard", _) => wildcard(argument.as_bytes(), text.as_bytes()),
        other => panic!("{other:?} is no word"),
    }
}

fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skip| wildcard(rest, &text[skip..])),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            text.first() == Some(literal) && wildcard(rest, &text[1..])
        }
    }
}

fn exact(expected: &Value, value: &Value) -> bool {
    let address = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
    same(expected, value) || address(expected).is_some_and(|one| address(value) == Some(one))
}

fn same(expected: &Value, value: &Value) -> bool {
    match (expected.as_f64(), value.as_f64()) {
        (Some(expected), Some(value)) => expected == value,
        _ => expected == value,
    }
}

fn numeric(list: &[Value], value: &Value) -> bool {
    let Some(value) = value.as_f64() else {
        return false;
    };
    list.chunks(2).all(|pair| {
        let limit = pair[1].as_f64().expect("a number");
        match pair[0].as_str().expect("an operator") {
            "=" => value == limit,
            "<" => value < limit,
            "<=" => value <= limit,
            ">" => value > limit,
            ">=" => value >= limit,
            other => panic!("{other} is no operator"),
        }
    })
}

fn cidr(range: &str, value: &Value) -> bool {
    let (base, bits) = range.split_once('/').expect("a range");
    let bits: u32 = bits.parse().expect("bits");
    let address = value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    match (base.parse().expect("an address"), address) {
        (IpAddr::V4(base), Some(IpAddr::V4(address))) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(base), Some(IpAddr::V6(address))) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}
