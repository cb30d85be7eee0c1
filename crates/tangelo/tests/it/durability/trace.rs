//! What `strace -f -y` wrote, as calls in the order in which the tracer saw them begin and end.
//!
//! A thread stops at both ends of a call until the tracer has seen it, so this order is one in which things happened:
//! what was caused by the end of a call comes after it.

use std::{cell::OnceCell, collections::HashMap};

/// A system call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    /// Its arguments as strace writes them: descriptors with what they are open on, strings quoted.
    pub(super) text: String,
    /// The lines of its beginning and its end.
    pub(super) began: usize,
    pub(super) ended: usize,
    /// The bytes of its strings, one after the other, each as the character of that number.
    bytes: OnceCell<String>,
}

/// All calls that succeeded, by their beginnings.
pub(super) fn parse(text: &str) -> Vec<Call> {
    let (mut calls, mut open) = (Vec::new(), HashMap::new());
    for (at, line) in text.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            open.insert(thread, (at, begun.to_owned()));
            continue;
        }
        let (began, whole) = match rest.strip_prefix("<... ") {
            None => (at, rest.to_owned()),
            Some(resumed) => {
                let (Some((began, begun)), Some((_, end))) =
                    (open.remove(thread), resumed.split_once(" resumed>"))
                else {
                    continue;
                };
                (began, begun + end)
            }
        };
        calls.extend(call(&whole, began, at));
    }
    calls.sort_by_key(|call| call.began);
    calls
}

/// Whether `process` ended well, which is the last that is written of it.
pub(super) fn has_ended(text: &str, process: &str) -> bool {
    let mut words = text.lines().rev().map(str::split_whitespace);
    words.any(|line| line.eq([process, "+++", "exited", "with", "0", "+++"]))
}

/// `name(arguments) = result`, unless the result is an error.
fn call(line: &str, began: usize, ended: usize) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (text, result) = rest.rsplit_once(" = ")?;
    let failed = result.starts_with(['-', '?']);
    (!failed).then(|| Call {
        name: name.to_owned(),
        text: text.trim_end().trim_end_matches(')').to_owned(),
        began,
        ended,
        bytes: OnceCell::new(),
    })
}

impl Call {
    /// What the descriptor that comes first is open on.
    pub(super) fn on(&self) -> &str {
        let open = self.text.split_once('<').map_or("", |(_, rest)| rest);
        open.split_once('>').map_or("", |(path, _)| path)
    }

    pub(super) fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.name.as_str())
    }

    /// The quoted strings as strace writes them.
    fn quoted(&self) -> Vec<&str> {
        let (mut found, mut start, mut escaped) = (Vec::new(), None, false);
        for (at, byte) in self.text.bytes().enumerate() {
            match (start, byte) {
                _ if escaped => escaped = false,
                (Some(_), b'\\') => escaped = true,
                (Some(from), b'"') => {
                    found.push(&self.text[from..at]);
                    start = None;
                }
                (None, b'"') => start = Some(at + 1),
                _ => {}
            }
        }
        found
    }

    /// The strings among its arguments.
    pub(super) fn strings(&self) -> Vec<Vec<u8>> {
        self.quoted().into_iter().map(unescape).collect()
    }

    /// Whether a string among its arguments has `marker` in it, which has nothing to escape.
    pub(super) fn says(&self, marker: &str) -> bool {
        self.text.contains(marker)
    }

    /// Whether `bytes` are in a string among its arguments.
    pub(super) fn has(&self, bytes: &[u8]) -> bool {
        let all = || characters(&self.strings().concat());
        self.bytes.get_or_init(all).contains(&characters(bytes))
    }
}

/// So that the searches of the standard library do, which are fast in unoptimised tests.
fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The bytes of a string that strace wrote with C's escapes.
fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut all) = (text.bytes().peekable(), Vec::new());
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            all.push(byte);
            continue;
        }
        let Some(kind) = bytes.next() else { break };
        all.push(match kind {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'v' => 11,
            b'f' => 12,
            b'0'..=b'7' => {
                let mut value = u32::from(kind - b'0');
                for _ in 0..2 {
                    let digit = bytes.next_if(|b| (b'0'..=b'7').contains(b));
                    value = digit.map_or(value, |digit| value * 8 + u32::from(digit - b'0'));
                    if digit.is_none() {
                        break;
                    }
                }
                u8::try_from(value).unwrap_or(b'?')
            }
            other => other,
        });
    }
    all
}

#[test]
fn interrupted_calls_are_put_together_and_strings_read() {
    let text = "7 recvfrom(9<socket:[5]>,  <unfinished ...>\n\
                8 fdatasync(4</d/state.db-wal>) = 0\n\
                7 <... recvfrom resumed>\"a\\0\\1771\\\"\\n\", 64, 0, NULL, NULL) = 6\n\
                8 fsync(4</d/x>) = -1 EIO (Input/output error)\n\
                8 +++ exited with 0 +++\n";
    let calls = parse(text);
    let [read, sync] = &calls[..] else {
        panic!("two calls succeeded: {calls:?}")
    };
    assert_eq!((read.began, read.ended, read.on()), (0, 2, "socket:[5]"));
    assert!(read.has(b"a\0\x7f1\"\n") && read.says("1"), "{read:?}");
    assert_eq!(
        (sync.name.as_str(), sync.on()),
        ("fdatasync", "/d/state.db-wal")
    );
}
