//! What holds for events of REST APIs and load balancers, whose headers and parameters are lists beside, or instead of, the
//! last value of each: no value is lost, made up or put under another name, and the order stays.

use std::collections::{BTreeMap, BTreeSet};

use http::request::Parts;
use serde_json::Value;

use super::law::{same_body, text, unquoted};

/// What a gateway of AWS adds.
const ADDED: [&str; 2] = ["x-forwarded-port", "x-amzn-trace-id"];

type Lists = BTreeMap<String, Vec<String>>;

/// An event of a REST API (payload 1.0): lists, and the last value of each, both decoded.
pub(super) fn rest(parts: &Parts, event: &[u8], body: &[u8]) {
    let event = read(parts, event, body);
    let query = query(parts, unquoted);
    for (lists, last, expected, cased) in [
        ("multiValueHeaders", "headers", headers(parts), false),
        (
            "multiValueQueryStringParameters",
            "queryStringParameters",
            query,
            true,
        ),
    ] {
        let shown = lists_of(&event[lists], cased);
        same(&shown, &expected, cased);
        let one: BTreeMap<String, Value> = object(&event[last], cased);
        let names: BTreeSet<_> = one.keys().collect();
        assert_eq!(names, shown.keys().collect(), "{last}");
        for (name, value) in &one {
            assert_eq!(
                value.as_str(),
                shown[name].last().map(String::as_str),
                "{last}: {name}"
            );
        }
        if cased {
            assert_eq!(
                event[lists].is_null(),
                expected.is_empty(),
                "none at all is `null`"
            );
        }
    }
}

/// An event of a load balancer: lists or the last value of each, never both, and nothing of the query decoded.
pub(super) fn alb(parts: &Parts, event: &[u8], body: &[u8], multi: bool) {
    let event = read(parts, event, body);
    let query = query(parts, str::to_owned);
    for (lists, last, expected, cased) in [
        ("multiValueHeaders", "headers", headers(parts), false),
        (
            "multiValueQueryStringParameters",
            "queryStringParameters",
            query,
            true,
        ),
    ] {
        let (there, not) = if multi { (lists, last) } else { (last, lists) };
        assert!(event.get(not).is_none(), "{not} is there, too");
        if multi {
            same(&lists_of(&event[there], true), &expected, cased);
            continue;
        }
        let only_last = |values: &Vec<String>| values.last().cloned().into_iter().collect();
        let expected = expected
            .iter()
            .map(|(name, all)| (name.clone(), only_last(all)));
        let shown = object(&event[there], true).into_iter();
        let shown =
            shown.map(|(name, value)| (name, vec![value.as_str().expect("a text").to_owned()]));
        same(&shown.collect(), &expected.collect(), cased);
    }
}

fn read(parts: &Parts, event: &[u8], body: &[u8]) -> Value {
    let event: Value = serde_json::from_slice(event).expect("an event is JSON");
    assert_eq!(event["path"], parts.uri.path());
    assert_eq!(event["httpMethod"], parts.method.as_str());
    same_body(&event, body);
    event
}

/// Each name of `shown` is expected or, of headers, one that gateways add; and each that is expected is there.
fn same(shown: &Lists, expected: &Lists, is_query: bool) {
    for (name, values) in shown {
        match expected.get(name) {
            Some(all) => assert_eq!(values, all, "{name}"),
            None => assert!(
                !is_query && ADDED.contains(&name.as_str()),
                "{name} is made up"
            ),
        }
    }
    let lost = expected.keys().find(|name| !shown.contains_key(*name));
    assert_eq!(lost, None, "it is lost");
}

fn headers(parts: &Parts) -> Lists {
    let lines = |name| parts.headers.get_all(name).iter().map(text).collect();
    parts
        .headers
        .keys()
        .map(|name| (name.as_str().to_owned(), lines(name)))
        .collect()
}

fn query(parts: &Parts, read: impl Fn(&str) -> String) -> Lists {
    let mut lists = Lists::new();
    let query = parts.uri.query().unwrap_or_default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let at = pair.find('=');
        let name = read(&pair[..at.unwrap_or(pair.len())]);
        let value = read(at.map_or("", |at| &pair[at + 1..]));
        lists.entry(name).or_default().push(value);
    }
    lists
}

/// The lists of an event. Names of headers are compared as small letters: how they are written is not what is looked at.
fn lists_of(value: &Value, cased: bool) -> Lists {
    let list = |value: Value| -> Vec<String> {
        let all = value.as_array().expect("a list").iter();
        all.map(|one| one.as_str().expect("a text").to_owned())
            .collect()
    };
    let all = object(value, cased).into_iter();
    all.map(|(name, value)| (name, list(value))).collect()
}

fn object(value: &Value, cased: bool) -> BTreeMap<String, Value> {
    let all = value.as_object().cloned().unwrap_or_default();
    let count = all.len();
    let name = |name: String| {
        if cased {
            name
        } else {
            name.to_ascii_lowercase()
        }
    };
    let named: BTreeMap<_, _> = all.into_iter().map(|(n, v)| (name(n), v)).collect();
    assert_eq!(named.len(), count, "a header is there twice");
    named
}
