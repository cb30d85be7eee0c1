//! The path of a route, compiled: literal segments, parameters, and a `*` at the end; and the path that a rewrite
//! makes of a request's path. Captured parts are passed on raw, so that nothing is decoded twice.

use super::path::{Path, decode};

/// One segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// These bytes, decoded.
    Literal(Box<[u8]>),
    /// Anything but nothing, under this name.
    Parameter(Box<str>),
}

/// A compiled path of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Its segments, the `*` left out.
    pub segments: Vec<Segment>,
    /// Whether anything may follow, nothing included: `/a/*` covers `/a`, `/a/` and `/a/b`.
    pub wildcard: bool,
}

/// Why a path of a route or a rewrite is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPattern(pub &'static str);

impl Pattern {
    /// Compiles `/exact`, `/prefix/*`, `/with/{parameter}` and mixtures.
    ///
    /// # Errors
    /// [`BadPattern`]; the manifest refuses the same with a place.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        let (text, wildcard) = match text.strip_suffix("/*") {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if wildcard && text.ends_with('/') {
            return Err(BadPattern("it has an empty segment (`//`)"));
        }
        let mut segments = Vec::new();
        if !(text.is_empty() && wildcard) {
            Path::check(text).map_err(|fault| BadPattern(fault.as_str()))?;
            for segment in text[1..].split('/') {
                segments.push(Segment::new(segment)?);
            }
        }
        Ok(Self { segments, wildcard })
    }

    /// Whether `path` matches: the definition that the tree of routes is checked against.
    #[must_use]
    pub fn matches(&self, path: &Path<'_>) -> bool {
        let mut given = path.segments();
        let all = self
            .segments
            .iter()
            .all(|segment| given.next().is_some_and(|text| segment.matches(text)));
        all && (self.wildcard || given.next().is_none())
    }
}

impl Segment {
    fn new(text: &str) -> Result<Self, BadPattern> {
        if let Some(name) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            return match name {
                "" => Err(BadPattern("a parameter has no name")),
                name => Ok(Self::Parameter(name.into())),
            };
        }
        if text.contains(['{', '}', '*']) {
            return Err(BadPattern(
                "a parameter or a `*` is not a whole segment, or the `*` is not the last",
            ));
        }
        Ok(Self::Literal(decode(text).into()))
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Literal(bytes) => *decode(text) == **bytes,
            Self::Parameter(_) => !text.is_empty(),
        }
    }
}

/// The path that the workload sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    /// The segment at this place of the request's path.
    Segment(usize),
    /// What the `*` of the pattern stands for: all behind this many segments.
    Rest(usize),
}

impl Rewrite {
    /// Compiles a rewrite for requests that match `pattern`.
    ///
    /// # Errors
    /// [`BadPattern`] when it names what the pattern has not.
    pub fn new(text: &str, pattern: &Pattern) -> Result<Self, BadPattern> {
        if !text.starts_with('/') {
            return Err(BadPattern("a rewrite begins with `/`"));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '*']) {
            if at > 0 {
                pieces.push(Piece::Text(rest[..at].into()));
            }
            rest = if rest[at..].starts_with('*') {
                pieces.push(rest_piece(pattern)?);
                &rest[at + 1..]
            } else {
                let (name, after) = rest[at + 1..]
                    .split_once('}')
                    .ok_or(BadPattern("a rewrite has a `{` without its `}`"))?;
                pieces.push(parameter_piece(name, pattern)?);
                after
            };
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Self(pieces))
    }

    /// The new path for `path`, which matches the pattern that this was made for.
    ///
    /// Where the `*` stands for nothing at all (`/a` under `/a/*`), the slash before it goes, too.
    #[must_use]
    pub fn apply(&self, path: &Path<'_>) -> String {
        let mut new = String::with_capacity(path.raw().len() + 16);
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => new.push_str(text),
                Piece::Segment(at) => new.push_str(path.segments().nth(*at).unwrap_or_default()),
                Piece::Rest(count) => match path.after(*count) {
                    Some(rest) => new.push_str(rest),
                    None if new.len() > 1 && new.ends_with('/') => {
                        new.pop();
                    }
                    None => {}
                },
            }
        }
        new
    }
}

fn rest_piece(pattern: &Pattern) -> Result<Piece, BadPattern> {
    if pattern.wildcard {
        Ok(Piece::Rest(pattern.segments.len()))
    } else {
        Err(BadPattern("a rewrite has a `*`, but the path has none"))
    }
}

fn parameter_piece(name: &str, pattern: &Pattern) -> Result<Piece, BadPattern> {
    let is_it = |segment: &Segment| matches!(segment, Segment::Parameter(own) if **own == *name);
    let place = pattern.segments.iter().position(is_it);
    place.map(Piece::Segment).ok_or(BadPattern(
        "a rewrite names a parameter that the path has not",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn rewritten(pattern: &str, rewrite: &str, path: &str) -> String {
        let pattern = Pattern::new(pattern).expect("is a pattern");
        let path = Path::check(path).expect("is a path");
        assert!(pattern.matches(&path), "{path:?}");
        Rewrite::new(rewrite, &pattern)
            .expect("is a rewrite")
            .apply(&path)
    }

    #[test]
    fn rewrites_carry_raw_parts_over() {
        for (pattern, rewrite, path, new) in [
            ("/api/*", "/*", "/api/a/b", "/a/b"),
            ("/api/*", "/*", "/api", "/"),
            ("/api/*", "/*", "/api/", "/"),
            ("/api/*", "/v2/*", "/api", "/v2"),
            ("/api/*", "/v2/*", "/api/", "/v2/"),
            ("/api/*", "/v2/*", "/api/a%2Fb/c", "/v2/a%2Fb/c"),
            (
                "/u/{id}",
                "/users/{id}/profile",
                "/u/J%C3%BCrgen",
                "/users/J%C3%BCrgen/profile",
            ),
            ("/{a}/{b}/*", "/{b}-{a}/*", "/1/2/3/4", "/2-1/3/4"),
            ("/x", "/y", "/x", "/y"),
        ] {
            assert_eq!(rewritten(pattern, rewrite, path), new, "{pattern} {path}");
        }
    }

    #[test]
    fn bad_patterns_and_rewrites_are_refused() {
        for bad in [
            "", "a", "*", "/a*", "/*/a", "/{a", "/x{a}", "/{}", "/a/../b", "//*",
        ] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
        let pattern = Pattern::new("/a/{id}").expect("is a pattern");
        for bad in ["x", "/{other}", "/*", "/{id"] {
            assert!(Rewrite::new(bad, &pattern).is_err(), "{bad}");
        }
    }
}
