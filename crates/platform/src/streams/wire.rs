//! Reading what an HTTP request asks of streams: place and query. Pure, and bounded by what it is given: a request head.
//!
//! `/streams` is the list of streams, `/streams/SUBJECT` one, `/streams/SUBJECT/snapshot` its snapshot. A subject is one segment
//! of the path: what is none of letters, digits and `-._~` is percent-encoded in it, slashes too.

use model::{Error, code, event::MAX_ATTRIBUTE};
use percent_encoding::percent_decode_str;

use crate::query::{pairs, shown};

/// Most events, or streams, in one answer.
pub const MAX_PAGE: u32 = 500;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// All streams.
    All,
    /// One, by its subject.
    Stream(String),
    /// The snapshot of one.
    Snapshot(String),
}

/// From where a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From this number on.
    Version(u64),
    /// From its snapshot on.
    Snapshot,
}

/// What a query says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Where the stream is believed to be.
    pub expected: Option<u64>,
    /// From where it is read.
    pub from: Start,
    /// So many at most.
    pub limit: u32,
    /// Up to where events are taken out.
    pub through: Option<u64>,
    /// What a snapshot is of.
    pub version: Option<u64>,
    /// Only streams whose subjects begin with this.
    pub prefix: String,
    /// And come behind this.
    pub after: Option<String>,
}

/// Reads a path behind `/streams`.
///
/// # Errors
/// `BAD_REQUEST`.
pub fn place(path: &str) -> Result<Place, Error> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    if rest.is_empty() {
        return Ok(Place::All);
    }
    match rest.split_once('/') {
        None => Ok(Place::Stream(subject(rest)?)),
        Some((first, "snapshot")) => Ok(Place::Snapshot(subject(first)?)),
        Some(_) => Err(bad(
            "there are /streams, /streams/SUBJECT and /streams/SUBJECT/snapshot; a slash in a subject is written %2F".to_owned(),
        )),
    }
}

fn subject(text: &str) -> Result<String, Error> {
    let subject = decoded(text)?;
    if subject.is_empty() || subject.len() > MAX_ATTRIBUTE || subject.chars().any(char::is_control)
    {
        return Err(bad(format!(
            "the subject of a stream has 1 to {MAX_ATTRIBUTE} bytes and no control characters"
        )));
    }
    Ok(subject)
}

fn decoded(text: &str) -> Result<String, Error> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| bad("the request is not percent-encoded UTF-8".to_owned()))?;
    Ok(text.into_owned())
}

/// Reads a query that may say `known`; anything else in it is an error.
///
/// # Errors
/// `BAD_REQUEST`.
pub fn query(text: &str, known: &[&str]) -> Result<Query, Error> {
    let mut query = Query {
        expected: None,
        from: Start::Version(1),
        limit: MAX_PAGE,
        through: None,
        version: None,
        prefix: String::new(),
        after: None,
    };
    for pair in pairs(text) {
        let (name, value) = pair?;
        if !known.contains(&name) {
            let name = shown(name);
            let known = known.join("`, `");
            return Err(bad(format!(
                "there is no `{name}` here: there are `{known}`"
            )));
        }
        let value = decoded(&value.replace('+', "%20"))?;
        match name {
            "expected" => query.expected = Some(number(name, &value)?),
            "through" => query.through = Some(number(name, &value)?),
            "version" => query.version = Some(number(name, &value)?),
            "from" if value == "snapshot" => query.from = Start::Snapshot,
            "from" => query.from = Start::Version(number(name, &value)?),
            "limit" => {
                let limit = u32::try_from(number(name, &value)?).ok();
                let limit = limit.filter(|limit| (1..=MAX_PAGE).contains(limit));
                let wrong = || bad(format!("`limit` is a number from 1 to {MAX_PAGE}"));
                query.limit = limit.ok_or_else(wrong)?;
            }
            "prefix" => query.prefix = value,
            _ => query.after = Some(value),
        }
    }
    Ok(query)
}

/// Versions fit into what CloudEvents have for whole numbers: 32 bits with a sign.
fn number(name: &str, value: &str) -> Result<u64, Error> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse::<i32>().ok().filter(|_| digits);
    let number = number.and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| bad(format!("`{name}` is a whole number, 0 or more")))
}

fn bad(message: String) -> Error {
    Error::new(code::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_subjects_decoded() {
        let stream = |subject: &str| Place::Stream(subject.to_owned());
        for (path, expected) in [
            ("", Place::All),
            ("/", Place::All),
            ("/order-1", stream("order-1")),
            ("/orders%2F1", stream("orders/1")),
            ("/snapshot", stream("snapshot")),
            ("/a/snapshot", Place::Snapshot("a".to_owned())),
        ] {
            assert_eq!(place(path).ok(), Some(expected), "{path}");
        }
        for path in ["/a/b", "/a/", "//snapshot", "/%ff", "/%00", "/a/snapshot/"] {
            assert!(place(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_query_says_what_it_does_not_know() {
        let known = ["expected", "from", "limit"];
        let read = query("expected=0&from=7&limit=9", &known).expect("is one");
        assert_eq!(
            (read.expected, read.from, read.limit),
            (Some(0), Start::Version(7), 9)
        );
        let read = query("from=snapshot", &known).expect("is one");
        assert_eq!(read.from, Start::Snapshot);
        for text in [
            "expected=-1",
            "expected=+1",
            "expected=",
            "from=x",
            "limit=0",
            "limit=501",
            "through=1",
            "x",
            "expected=2147483648",
        ] {
            assert!(query(text, &known).is_err(), "{text}");
        }
    }
}
