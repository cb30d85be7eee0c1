//! Reading what an HTTP request asks of buckets: place, query and conditions. Pure, and bounded by what it is given: a
//! request head.
//!
//! `/kv` is the list of buckets, `/kv/BUCKET` the list of its keys, `/kv/BUCKET/KEY` a key, percent-encoded where it has
//! to be; slashes in a key may stand as they are.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use model::{
    Error, code,
    keyvalue::{Condition, MAX_PAGE, Revision, check_key},
};
use percent_encoding::percent_decode_str;

use crate::query::{pairs, shown};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// All buckets.
    Buckets,
    /// One.
    Bucket(String),
    /// A key of one.
    Key(String, String),
}

/// Which keys are to be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Those that begin with this.
    pub prefix: String,
    /// Those behind this one.
    pub after: Option<String>,
    /// So many at most.
    pub limit: u32,
    /// What to add to a counter.
    pub increment: Option<i64>,
}

/// Reads a path behind `/kv`.
///
/// # Errors
/// `BAD_REQUEST` for what is not UTF-8, `KV_BAD_KEY`.
pub fn place(path: &str) -> Result<Place, Error> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    if rest.is_empty() {
        return Ok(Place::Buckets);
    }
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let bucket = decoded(bucket)?;
    if key.is_empty() {
        return Ok(Place::Bucket(bucket));
    }
    let key = decoded(key)?;
    check_key(&key)?;
    Ok(Place::Key(bucket, key))
}

fn decoded(text: &str) -> Result<String, Error> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| bad("a bucket or a key is not UTF-8".to_owned()))?;
    Ok(text.into_owned())
}

/// Reads a query. What it does not know is an error.
///
/// # Errors
/// `BAD_REQUEST`.
pub fn query(text: &str) -> Result<Query, Error> {
    let mut query = Query {
        prefix: String::new(),
        after: None,
        limit: MAX_PAGE,
        increment: None,
    };
    for pair in pairs(text) {
        let (name, value) = pair?;
        let value = decoded(&value.replace('+', "%20"))?;
        match name {
            "prefix" => query.prefix = value,
            "after" => query.after = Some(value),
            "limit" => {
                let limit = value.parse().ok();
                let limit = limit.filter(|limit| (1..=MAX_PAGE).contains(limit));
                let wrong = || bad(format!("`limit` is a number from 1 to {MAX_PAGE}"));
                query.limit = limit.ok_or_else(wrong)?;
            }
            "increment" => {
                let by = value.parse().ok();
                let wrong = || bad("`increment` is a whole number of 64 bits".to_owned());
                query.increment = Some(by.ok_or_else(wrong)?);
            }
            _ => {
                let name = shown(name);
                return Err(bad(format!(
                    "there is no `{name}` here: there are `prefix`, `after`, `limit` and `increment`"
                )));
            }
        }
    }
    Ok(query)
}

/// The condition in `If-Match` and `If-None-Match` of a write (RFC 9110 §13.1).
///
/// # Errors
/// `BAD_REQUEST` for several tags, for weak ones and for both headers: what cannot be kept is not taken.
pub fn condition(headers: &HeaderMap) -> Result<Condition, Error> {
    let (matches, none) = (
        only(headers, &header::IF_MATCH)?,
        only(headers, &header::IF_NONE_MATCH)?,
    );
    match (matches, none) {
        (None, None) => Ok(Condition::Any),
        (Some("*"), None) => Ok(Condition::Present),
        (None, Some("*")) => Ok(Condition::Absent),
        (Some(text), None) => match revision(text) {
            Some(revision) => Ok(Condition::Is(revision)),
            None => Err(bad(
                "`If-Match` is `*`, or the one `ETag` that an answer had".to_owned(),
            )),
        },
        (None, Some(_)) => Err(bad("`If-None-Match` of a write is `*`".to_owned())),
        (Some(_), Some(_)) => Err(bad(
            "`If-Match` and `If-None-Match` exclude each other".to_owned()
        )),
    }
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Error> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(bad(format!("`{name}` is given more than once")));
    }
    let text = first.map(HeaderValue::to_str).transpose();
    let text = text.map_err(|_| bad(format!("`{name}` is not text")))?;
    Ok(text.map(str::trim))
}

/// The entity tag of a revision: strong, since it changes with every write.
#[must_use]
pub fn tag(revision: Revision) -> String {
    format!("\"{}\"", revision.0)
}

/// The revision that `tag` names, exactly as it was written.
#[must_use]
pub fn revision(tag: &str) -> Option<Revision> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(Revision(number))
}

fn bad(message: String) -> Error {
    Error::new(code::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_keys_decoded() {
        let key = |bucket: &str, key: &str| Place::Key(bucket.to_owned(), key.to_owned());
        for (path, expected) in [
            ("", Place::Buckets),
            ("/", Place::Buckets),
            ("/carts", Place::Bucket("carts".to_owned())),
            ("/carts/", Place::Bucket("carts".to_owned())),
            ("/carts/a", key("carts", "a")),
            ("/carts/a/b", key("carts", "a/b")),
            ("/carts/a%2Fb%20%C3%A4+", key("carts", "a/b ä+")),
            ("/carts//", key("carts", "/")),
        ] {
            assert_eq!(place(path).ok(), Some(expected), "{path}");
        }
        for path in ["/carts/%ff", "/carts/%00"] {
            assert!(place(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_query_says_what_it_does_not_know() {
        let read = query("prefix=a%2F&after=a%2Fb&limit=7").expect("is one");
        let expected = Query {
            prefix: "a/".to_owned(),
            after: Some("a/b".to_owned()),
            limit: 7,
            increment: None,
        };
        assert_eq!(read, expected);
        assert_eq!(query("increment=-3").expect("is one").increment, Some(-3));
        for text in ["limit=0", "limit=1001", "x=1", "increment=a", "prefix=%ff"] {
            assert!(query(text).is_err(), "{text}");
        }
    }

    #[test]
    fn conditions_are_taken_whole_or_refused() {
        let read = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            condition(&headers).ok()
        };
        assert_eq!(read(&[]), Some(Condition::Any));
        assert_eq!(
            read(&[("if-match", "\"7\"")]),
            Some(Condition::Is(Revision(7)))
        );
        assert_eq!(read(&[("if-match", "*")]), Some(Condition::Present));
        assert_eq!(read(&[("if-none-match", "*")]), Some(Condition::Absent));
        for refused in [
            &[("if-match", "7")][..],
            &[("if-match", "W/\"7\"")],
            &[("if-match", "\"7\", \"8\"")],
            &[("if-match", "\"07\"")],
            &[("if-match", "\"7\""), ("if-match", "\"8\"")],
            &[("if-none-match", "\"7\"")],
            &[("if-match", "*"), ("if-none-match", "*")],
        ] {
            assert_eq!(read(refused), None, "{refused:?}");
        }
        assert_eq!(revision(&tag(Revision(u64::MAX))), Some(Revision(u64::MAX)));
    }
}
