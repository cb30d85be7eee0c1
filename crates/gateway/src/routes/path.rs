//! A request's path, checked once: what two parsers could read differently is refused, the rest stays as it came.
//!
//! Percent-encoding is kept raw and compared decoded, segment by segment. An encoded separator (`%2F`, `%5C`, `\`)
//! is data of its segment; [`Path::with_separators`] gives the other reading, so that a caller can refuse a path
//! that would be served by a different route if a workload decoded it first.

use std::borrow::Cow;

use model::{Error, code};
use percent_encoding::percent_decode_str;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathFault {
    /// It does not begin with `/`.
    Relative,
    /// It has `//`.
    EmptySegment,
    /// It has a `.` or `..` segment, plain or encoded.
    DotSegment,
    /// A `%` is not followed by two hex digits.
    BadEncoding,
    /// It has an encoded NUL.
    Nul,
}

impl PathFault {
    /// What is wrong, for the client.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Relative => "it does not begin with `/`",
            Self::EmptySegment => "it has an empty segment (`//`)",
            Self::DotSegment => "it has a `.` or `..` segment, plain or encoded",
            Self::BadEncoding => "a `%` is not followed by two hex digits",
            Self::Nul => "it has an encoded NUL",
        }
    }
}

/// A checked path, raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path<'a> {
    raw: &'a str,
    ambiguous: bool,
}

impl<'a> Path<'a> {
    /// Checks `raw`, a path without query.
    ///
    /// # Errors
    /// [`PathFault`] says why it is refused.
    pub fn check(raw: &'a str) -> Result<Self, PathFault> {
        let segments = raw.strip_prefix('/').ok_or(PathFault::Relative)?;
        let mut ambiguous = false;
        let mut rest = Some(segments);
        while let Some(here) = rest {
            let (segment, next) = split_segment(here);
            if segment.is_empty() && next.is_some() {
                return Err(PathFault::EmptySegment);
            }
            if segment.bytes().any(|b| matches!(b, b'%' | b'\\' | b'.')) {
                ambiguous |= check_segment(segment)?;
            }
            rest = next;
        }
        Ok(Self { raw, ambiguous })
    }

    /// The path as it came.
    #[must_use]
    pub const fn raw(&self) -> &'a str {
        self.raw
    }

    /// Its segments: what stands between and behind its slashes. `/` has one, which is empty.
    pub fn segments(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.raw[1..].split('/')
    }

    /// What follows its first `count` segments: `None` when it has no more.
    #[must_use]
    pub fn after(&self, count: usize) -> Option<&'a str> {
        let mut rest = Some(&self.raw[1..]);
        for _ in 0..count {
            rest = split_segment(rest?).1;
        }
        rest
    }

    /// The path as a workload would see it that takes encoded separators for real ones; `None` when it has none.
    #[must_use]
    pub fn with_separators(&self) -> Option<String> {
        if !self.ambiguous {
            return None;
        }
        let plain = self
            .raw
            .replace('\\', "/")
            .replace("%2F", "/")
            .replace("%2f", "/");
        let plain = plain.replace("%5C", "/").replace("%5c", "/");
        let mut path = String::with_capacity(plain.len());
        for segment in plain.split('/').filter(|s| !s.is_empty()) {
            path.push('/');
            path.push_str(segment);
        }
        if plain.ends_with('/') {
            path.push('/');
        }
        Some(path)
    }
}

/// The first segment of `text` and what follows its slash, if there is one.
pub(super) fn split_segment(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (text, None),
    }
}

/// The bytes that `segment` stands for.
pub(super) fn decode(segment: &str) -> Cow<'_, [u8]> {
    percent_decode_str(segment).into()
}

/// Whether a segment holds an encoded separator.
fn check_segment(segment: &str) -> Result<bool, PathFault> {
    if !is_well_encoded(segment.as_bytes()) {
        return Err(PathFault::BadEncoding);
    }
    let decoded = decode(segment);
    if decoded.contains(&0) {
        return Err(PathFault::Nul);
    }
    let is_separator = |b: &u8| matches!(b, b'/' | b'\\');
    if decoded.split(is_separator).any(is_dots) {
        return Err(PathFault::DotSegment);
    }
    Ok(decoded.iter().any(is_separator))
}

fn is_well_encoded(mut bytes: &[u8]) -> bool {
    while let Some(at) = bytes.iter().position(|&b| b == b'%') {
        match bytes.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => bytes = &bytes[at + 3..],
            _ => return false,
        }
    }
    true
}

/// `.` or `..`, also with the path parameters that some servers cut off first (`..;x`).
fn is_dots(piece: &[u8]) -> bool {
    let name = piece.split(|&b| b == b';').next().unwrap_or_default();
    matches!(name, b"." | b"..")
}

/// A path of a request, as an error of the client where it is none.
///
/// # Errors
/// `BAD_REQUEST`.
pub(crate) fn checked(path: &str) -> Result<Path<'_>, Error> {
    Path::check(path).map_err(|fault| {
        let message = format!(
            "the path is refused, because servers read it differently: {}",
            fault.as_str()
        );
        Error::new(code::BAD_REQUEST, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_parsers_read_differently_is_refused() {
        for (raw, fault) in [
            ("", PathFault::Relative),
            ("a/b", PathFault::Relative),
            ("*", PathFault::Relative),
            ("//", PathFault::EmptySegment),
            ("//a", PathFault::EmptySegment),
            ("/a//b", PathFault::EmptySegment),
            ("/..", PathFault::DotSegment),
            ("/a/../b", PathFault::DotSegment),
            ("/a/./b", PathFault::DotSegment),
            ("/a/%2e%2E/b", PathFault::DotSegment),
            ("/a/.%2e", PathFault::DotSegment),
            ("/a/..%2fb", PathFault::DotSegment),
            ("/a/b%5c..%5cc", PathFault::DotSegment),
            ("/a/b\\..\\c", PathFault::DotSegment),
            ("/a/..;x=1/b", PathFault::DotSegment),
            ("/a%", PathFault::BadEncoding),
            ("/a%2", PathFault::BadEncoding),
            ("/a%zz/", PathFault::BadEncoding),
            ("/a%00b", PathFault::Nul),
        ] {
            assert_eq!(Path::check(raw), Err(fault), "{raw}");
        }
    }

    #[test]
    fn the_rest_stays_as_it_came() {
        for raw in [
            "/",
            "/a",
            "/a/",
            "/a.b/..c/...",
            "/%41/%7e",
            "/ä",
            "/a;b/c:d@e",
            "/a%252e%252e/b",
        ] {
            assert_eq!(
                Path::check(raw).map(|p| (p.raw(), p.ambiguous)),
                Ok((raw, false))
            );
        }
    }

    #[test]
    fn encoded_separators_have_a_second_reading() {
        for (raw, other) in [
            ("/a%2Fb", "/a/b"),
            ("/a%2f%2fb/", "/a/b/"),
            ("/x/a\\b%5Cc", "/x/a/b/c"),
            ("/%2fa", "/a"),
        ] {
            let path = Path::check(raw).expect("is no attack by itself");
            assert_eq!(path.with_separators().as_deref(), Some(other), "{raw}");
        }
        assert_eq!(Path::check("/a/b").map(|p| p.with_separators()), Ok(None));
    }

    #[test]
    fn segments_are_counted_from_the_front() {
        let path = Path::check("/a/b/c/").expect("is a path");
        assert_eq!(path.segments().collect::<Vec<_>>(), ["a", "b", "c", ""]);
        assert_eq!(
            [
                path.after(0),
                path.after(2),
                path.after(3),
                path.after(4),
                path.after(9)
            ],
            [Some("a/b/c/"), Some("c/"), Some(""), None, None]
        );
    }
}
