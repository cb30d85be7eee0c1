//! Rust source with its comments, strings and characters blanked out, and the functions found in the rest.
//!
//! Not a parser: braces and the word `fn` are all that lengths need, and this stays right for code that rustc
//! would refuse.

use std::path::PathBuf;

use crate::workspace::Workspace;

/// A Rust file of ours.
pub(super) struct File {
    /// Relative to the root.
    pub(super) path: PathBuf,
    /// As it is.
    pub(super) text: String,
    /// The same lines without comments and literals.
    pub(super) code: String,
}

/// A function with a body.
pub(super) struct Function {
    pub(super) name: String,
    /// Of its `fn`, from 1.
    pub(super) line: usize,
    /// From its `fn` to its closing brace.
    pub(super) lines: usize,
}

/// All Rust files of ours.
pub(super) fn read_all(workspace: &Workspace) -> Vec<File> {
    ["crates", "examples", "bench"]
        .iter()
        .flat_map(|folder| workspace.files(folder))
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .filter_map(|path| {
            let text = std::fs::read_to_string(&path).ok()?;
            Some(File {
                path: workspace.short(&path).to_owned(),
                code: blank(&text),
                text,
            })
        })
        .collect()
}

/// The functions of blanked code.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    let starts = code.match_indices("fn ").map(|(at, _)| at);
    starts
        .filter(|&at| at == 0 || !is_word(bytes[at - 1]))
        .filter_map(|at| {
            let rest = &code[at + 3..];
            let name: String = rest.chars().take_while(|c| is_word_char(*c)).collect();
            let end = at + 3 + body_end(rest)?;
            (!name.is_empty()).then(|| Function {
                name,
                line: 1 + count_lines(&code[..at]),
                lines: 1 + count_lines(&code[at..end]),
            })
        })
        .collect()
}

/// Where the body that follows a function's name ends; `None` when it has none (a trait's method, a type).
fn body_end(rest: &str) -> Option<usize> {
    let (mut braces, mut others) = (0usize, 0usize);
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'(' | b'[' if braces == 0 => others += 1,
            b')' | b']' if braces == 0 => others = others.checked_sub(1)?,
            b';' if braces == 0 && others == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 && others == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Replaces comments, strings and characters by spaces; lines stay where they are.
pub(super) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match opaque(bytes, at) {
            0 => {
                out.push(bytes[at]);
                at += 1;
                continue;
            }
            length => (at + length).min(bytes.len()),
        };
        out.extend(
            bytes[at..end]
                .iter()
                .map(|b| if *b == b'\n' { b'\n' } else { b' ' }),
        );
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The length of the comment or literal that begins at `at`; 0 when none does.
fn opaque(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let word_before = at > 0 && is_word(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => 1 + quoted(&rest[1..], b'"'),
        [b'r' | b'b' | b'c', ..] if !word_before => prefixed(rest),
        [b'\'', ..] => character(rest),
        _ => 0,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Strings with a prefix: `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `c"…"`.
fn prefixed(rest: &[u8]) -> usize {
    let letters = rest
        .iter()
        .take_while(|b| matches!(b, b'r' | b'b' | b'c'))
        .count();
    let hashes = rest[letters..].iter().take_while(|b| **b == b'#').count();
    let open = letters + hashes;
    if letters > 2 || rest.get(open) != Some(&b'"') {
        return 0;
    }
    let body = &rest[open + 1..];
    if !rest[..letters].contains(&b'r') {
        return if hashes == 0 {
            open + 1 + quoted(body, b'"')
        } else {
            0
        };
    }
    let close: Vec<u8> = std::iter::once(b'"')
        .chain(std::iter::repeat_n(b'#', hashes))
        .collect();
    let end = body.windows(close.len()).position(|w| w == close);
    open + 1 + end.map_or(body.len(), |end| end + close.len())
}

/// The length up to and including the closing quote.
fn quoted(body: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while at < body.len() {
        match body[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    body.len()
}

/// A character, but not a lifetime.
fn character(rest: &[u8]) -> usize {
    match rest {
        [_, b'\\', ..] => 1 + quoted(&rest[1..], b'\''),
        _ => {
            let longest = rest.len().min(6);
            let close = rest[..longest].iter().skip(1).position(|b| *b == b'\'');
            let inside = close.map(|n| &rest[1..=n]);
            match inside.and_then(|i| std::str::from_utf8(i).ok()) {
                Some(text) if text.chars().count() == 1 => text.len() + 2,
                _ => 0,
            }
        }
    }
}

fn count_lines(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, usize, usize)]) {
        let found = functions(&blank(text));
        let found: Vec<_> = found
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        check("fn a() {}\n", &[("a", 1, 1)]);
        check(
            "pub(crate) async fn b<T>(x: T)\nwhere\n    T: Copy,\n{\n    x;\n}\n",
            &[("b", 1, 6)],
        );
        check(
            "trait T { fn c(&self);\n fn d(&self) { }\n}",
            &[("d", 2, 1)],
        );
        check(
            "type F = fn(u8) -> u8;\nfn e(f: [u8; 3]) {\n}",
            &[("e", 2, 2)],
        );
        check(
            "fn outer() {\n    fn inner() {\n    }\n}",
            &[("outer", 1, 4), ("inner", 2, 2)],
        );
    }

    #[test]
    fn literals_and_comments_do_not_count() {
        check(
            "fn a() { \"}\"; '}'; '\\''; /* } /* } */ */ r#\"}\"# ; // }\n}",
            &[("a", 1, 2)],
        );
        check("fn a<'x>(y: &'x str) {\n b\"fn z() {}\"; }", &[("a", 1, 2)]);
        check(
            "// fn no() {}\n/// fn no() {}\nfn yes() { 'é'; }",
            &[("yes", 3, 1)],
        );
    }
}
