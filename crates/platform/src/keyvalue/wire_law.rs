//! What holds for everything that a request can ask of buckets: what was read is bounded, and written out it is read as the
//! same.
//!
//! Called by the fuzz target (`cargo xtask fuzz buckets`) and by a test that replays the corpus. A case is lines: path, query,
//! `If-Match`, `If-None-Match`; a header that is empty is absent.

use http::{HeaderMap, HeaderValue, header};
use model::keyvalue::{Condition, MAX_KEY, MAX_PAGE};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::wire::{self, Place, Query};

/// # Panics
/// When it does not hold.
pub(crate) fn law(bytes: &[u8]) {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (path, query, matches, none) = (line(), line(), line(), line());
    if let Ok(path) = std::str::from_utf8(path) {
        of_place(path);
    }
    if let Ok(query) = std::str::from_utf8(query) {
        of_query(query);
    }
    of_condition(matches, none);
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn of_place(path: &str) {
    let Ok(place) = wire::place(path) else {
        return;
    };
    let again = match &place {
        Place::Buckets => String::new(),
        Place::Bucket(bucket) => format!("/{}", encoded(bucket)),
        Place::Key(bucket, key) => {
            assert!((1..=MAX_KEY).contains(&key.len()), "{key:?}");
            assert!(!key.chars().any(char::is_control), "{key:?}");
            format!("/{}/{}", encoded(bucket), encoded(key))
        }
    };
    // A bucket without a name is none that could be written.
    if !matches!(&place, Place::Bucket(bucket) | Place::Key(bucket, _) if bucket.is_empty()) {
        assert_eq!(wire::place(&again).ok(), Some(place), "{path:?}");
    }
}

fn of_query(text: &str) {
    let Ok(query) = wire::query(text) else {
        return;
    };
    assert!((1..=MAX_PAGE).contains(&query.limit));
    let Query {
        prefix,
        after,
        limit,
        increment,
    } = &query;
    let mut again = format!("prefix={}&limit={limit}", encoded(prefix));
    if let Some(after) = after {
        again.push_str(&format!("&after={}", encoded(after)));
    }
    if let Some(by) = increment {
        again.push_str(&format!("&increment={by}"));
    }
    assert_eq!(wire::query(&again).ok(), Some(query), "{text:?}");
}

fn of_condition(matches: &[u8], none: &[u8]) {
    let mut headers = HeaderMap::new();
    for (name, value) in [(header::IF_MATCH, matches), (header::IF_NONE_MATCH, none)] {
        if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_bytes(value)) {
            headers.insert(name, value);
        }
    }
    let has = |name| headers.contains_key(name);
    let said = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match wire::condition(&headers) {
        // What asks for a condition is never written without one.
        Ok(Condition::Any) => assert!(headers.is_empty()),
        Ok(Condition::Absent) => assert!(!has(header::IF_MATCH)),
        Ok(Condition::Present) => assert_eq!(said(header::IF_MATCH).map(str::trim), Some("*")),
        Ok(Condition::Is(revision)) => {
            let tag = wire::tag(revision);
            assert_eq!(said(header::IF_MATCH).map(str::trim), Some(tag.as_str()));
        }
        Err(_) => assert!(!headers.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_keeps_the_law() {
        testkit::replay("buckets", super::law);
    }
}
