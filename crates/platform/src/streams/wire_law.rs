//! What holds for everything that a request can ask of streams: what was read is bounded, and written out it is read as the same.
//!
//! Called by the fuzz target (`cargo xtask fuzz streams`) and by a test that replays the corpus. A case is two lines: path, query.

use model::event::MAX_ATTRIBUTE;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::wire::{self, MAX_PAGE, Place, Query, Start};

const KNOWN: [&str; 7] = [
    "expected", "from", "limit", "through", "version", "prefix", "after",
];

/// # Panics
/// When it does not hold.
pub(crate) fn law(bytes: &[u8]) {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let mut line = || std::str::from_utf8(lines.next().unwrap_or_default()).ok();
    let (path, query) = (line(), line());
    if let Some(place) = path.and_then(|path| wire::place(path).ok()) {
        of_place(place);
    }
    if let Some(query) = query.and_then(|query| wire::query(query, &KNOWN).ok()) {
        of_query(query);
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn of_place(place: Place) {
    let again = match &place {
        Place::All => String::new(),
        Place::Stream(subject) => format!("/{}", encoded(subject)),
        Place::Snapshot(subject) => format!("/{}/snapshot", encoded(subject)),
    };
    if let Place::Stream(subject) | Place::Snapshot(subject) = &place {
        assert!((1..=MAX_ATTRIBUTE).contains(&subject.len()), "{subject:?}");
        assert!(!subject.chars().any(char::is_control), "{subject:?}");
    }
    assert_eq!(wire::place(&again).ok(), Some(place));
}

fn of_query(query: Query) {
    assert!((1..=MAX_PAGE).contains(&query.limit));
    let mut again = format!("limit={}&prefix={}", query.limit, encoded(&query.prefix));
    let from = match query.from {
        Start::Version(version) => Some(version),
        Start::Snapshot => {
            again.push_str("&from=snapshot");
            None
        }
    };
    let numbers = [
        ("expected", query.expected),
        ("from", from),
        ("through", query.through),
        ("version", query.version),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            // What a CloudEvent can carry as a number.
            assert!(i32::try_from(number).is_ok());
            again.push_str(&format!("&{name}={number}"));
        }
    }
    if let Some(after) = &query.after {
        again.push_str(&format!("&after={}", encoded(after)));
    }
    assert_eq!(wire::query(&again, &KNOWN).ok(), Some(query));
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_keeps_the_law() {
        testkit::replay("streams", super::law);
    }
}
