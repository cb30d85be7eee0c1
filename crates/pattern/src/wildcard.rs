//! `wildcard`: a text in which `*` stands for any characters, `\*` for an asterisk and `\\` for a backslash.
//!
//! Matching is linear in the text for each piece between asterisks: a piece is taken where it is first found, which is
//! right because what follows an asterisk may begin anywhere. What EventBridge calls too complex is refused all the same.

/// Most asterisks of one wildcard, and most places in it that a text may be at at the same time. EventBridge names neither
/// of its limits; it refuses `*:*:*:*:*:event-bus/*` and takes pieces that repeat themselves six times.
const MAX_ASTERISKS: usize = 5;
const MAX_COMPLEXITY: usize = 12;

/// A wildcard that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wildcard {
    pub(crate) text: String,
    /// What is between the asterisks, one more than these.
    pieces: Vec<String>,
}

impl Wildcard {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = vec![String::new()];
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let last = pieces.last_mut().expect("there is always one piece");
            match (c, chars.peek().copied()) {
                ('*', Some('*')) => {
                    return Err(
                        "expected one `*`, not `**`: one stands for any characters".to_owned()
                    );
                }
                ('*', _) => pieces.push(String::new()),
                ('\\', Some(escaped @ ('*' | '\\'))) => {
                    last.push(escaped);
                    chars.next();
                }
                ('\\', _) => {
                    return Err(
                        "expected `*` or `\\` after `\\` (a backslash itself is `\\\\`)".to_owned(),
                    );
                }
                (other, _) => last.push(other),
            }
        }
        let read = Self {
            text: text.to_owned(),
            pieces,
        };
        if read.pieces.len() > MAX_ASTERISKS + 1 || read.complexity() > MAX_COMPLEXITY {
            return Err(
                "this wildcard is too complex: use fewer `*`, or fewer repetitions after one"
                    .to_owned(),
            );
        }
        Ok(read)
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let [head, inner @ .., tail] = self.pieces.as_slice() else {
            return self.pieces.first().is_some_and(|only| only == text);
        };
        let Some(mut rest) = text.strip_prefix(head.as_str()) else {
            return false;
        };
        for piece in inner {
            match rest.find(piece.as_str()) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(tail.as_str())
    }

    /// The whole text, when there is no asterisk.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// What every match begins with.
    pub(crate) fn head(&self) -> &str {
        self.pieces.first().map_or("", String::as_str)
    }

    /// What every match ends with.
    pub(crate) fn tail(&self) -> &str {
        self.pieces.last().map_or("", String::as_str)
    }

    /// What every match contains.
    pub(crate) fn pieces(&self) -> &[String] {
        &self.pieces
    }

    /// The most places that a text can be at: each asterisk, and as often in the piece after it as the piece's beginning
    /// ends with a beginning of itself.
    fn complexity(&self) -> usize {
        let after = self.pieces.iter().skip(1);
        after.map(|piece| 1 + self_overlap(piece.as_bytes())).sum()
    }
}

/// How many proper, non-empty beginnings of `piece` some text may end with at once.
fn self_overlap(piece: &[u8]) -> usize {
    // Knuth, Morris and Pratt's failure function, and how long its chain is.
    let mut border = vec![0_usize; piece.len()];
    let mut chain = vec![0_usize; piece.len() + 1];
    let mut most = 0;
    for at in 0..piece.len() {
        if at > 0 {
            let mut length = border[at - 1];
            while length > 0 && piece[length] != piece[at] {
                length = border[length - 1];
            }
            border[at] = length + usize::from(piece[length] == piece[at]);
        }
        chain[at + 1] = 1 + chain[border[at]];
        // A whole piece is the next asterisk, which is counted already.
        if at + 1 < piece.len() {
            most = most.max(chain[at + 1]);
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asterisks_stand_for_any_characters() {
        let check = |wildcard: &str, text: &str, expected: bool| {
            let read = Wildcard::parse(wildcard).expect("is one");
            assert_eq!(read.matches(text), expected, "{wildcard} on {text}");
        };
        check("", "", true);
        check("*", "", true);
        check("a*a", "a", false);
        check("a*a", "aa", true);
        check("*ab*b", "abb", true);
        check("*ab*b", "ab", false);
        check("d*f", "deeeefx", false);
        check("12*4*", "12345", true);
        check(r"a\*b", "a*b", true);
        check(r"a\*b", "axb", false);
        check(r"\\*", r"\x", true);
        check("*データ*", "xデータy", true);
    }

    #[test]
    fn mistakes_and_complexity() {
        let refused = |wildcard: &str, reason: &str| {
            let error = Wildcard::parse(wildcard).expect_err("is none");
            assert!(error.contains(reason), "{error}");
        };
        refused("a**b", "not `**`");
        refused(r"a\b", "after `\\`");
        refused(r"ab\", "after `\\`");
        refused("*:*:*:*:*:event-bus/*", "too complex");
        refused(&format!("*{}b", "a".repeat(20)), "too complex");
        assert!(Wildcard::parse("/Users/*/dir/dir/dir/dir/dir/doc.txt").is_ok());
        assert!(Wildcard::parse("*/init/*").is_ok());
    }
}
