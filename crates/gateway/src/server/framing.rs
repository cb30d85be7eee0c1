//! Where one HTTP/1.1 request ends and the next begins, read a second time and more strictly than hyper reads it.
//!
//! hyper forgives what another server on the way may read differently (a length beside chunks, a length given twice, a
//! line that ends in a bare LF) and keeps no trace of it in the request's head, so the bytes are looked at before it gets
//! them. Whoever reads both the same way cannot be made to disagree about where a smuggled request begins (RFC 9112 §11.2).
//!
//! Pure: bytes in, the first thing that is wrong out. Uses nothing of this crate, so that a fuzz target builds it alone.

use memchr::memchr;

/// The longest line that describes a chunk. Extensions mean nothing here, so nobody needs long ones.
const CHUNK_LINE: usize = 256;

/// The bytes of one connection from a client, read up to where they were given.
#[derive(Debug)]
pub struct Framing {
    place: Place,
    /// What came of a line whose end has not come.
    partial: Vec<u8>,
    /// The longest line of a head.
    longest: usize,
    /// What the head that is being read says about its body.
    head: Head,
    /// Heads that are complete.
    heads: u32,
}

/// The first thing that two servers could read differently. Nothing is looked at after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misframed {
    /// The request that it is in, counted from one.
    pub request: u32,
    /// How many of the bytes that were given last come before it.
    pub at: usize,
    /// Whether it is in the body: the request's head is out already.
    pub in_body: bool,
    /// What is wrong, to go on after "the request is ambiguous or incomplete: ".
    pub why: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a request's first byte.
    Between,
    Headers,
    Length(u64),
    ChunkLine,
    Chunk(u64),
    /// The line break after a chunk's bytes; whether its CR has come.
    ChunkEnd(bool),
    Trailers,
    /// Something was wrong.
    Lost,
}

#[derive(Debug, Default, Clone, Copy)]
struct Head {
    length: Option<u64>,
    chunked: bool,
    /// HTTP/1.0 knows no chunks.
    old: bool,
}

impl Framing {
    /// A new connection, on which a line of a head has at most `longest` bytes.
    #[must_use]
    pub const fn new(longest: usize) -> Self {
        Self {
            place: Place::Between,
            partial: Vec::new(),
            longest,
            head: Head {
                length: None,
                chunked: false,
                old: false,
            },
            heads: 0,
        }
    }

    /// Heads that are complete.
    #[must_use]
    pub const fn heads(&self) -> u32 {
        self.heads
    }

    /// Whether a request's body has begun and not ended.
    #[must_use]
    pub const fn in_body(&self) -> bool {
        matches!(
            self.place,
            Place::Length(_)
                | Place::ChunkLine
                | Place::Chunk(_)
                | Place::ChunkEnd(_)
                | Place::Trailers
        )
    }

    /// Whether all that came is whole requests.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.place == Place::Between && self.partial.is_empty()
    }

    /// Reads on.
    ///
    /// # Errors
    /// The first thing that is wrong; after that, nothing is.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Misframed> {
        let mut at = 0;
        while at < bytes.len() && self.place != Place::Lost {
            match self.step(&bytes[at..]) {
                Ok(taken) => at += taken,
                Err(why) => {
                    let in_body = self.in_body();
                    self.place = Place::Lost;
                    self.partial = Vec::new();
                    return Err(Misframed {
                        request: self.heads + u32::from(!in_body),
                        at,
                        in_body,
                        why,
                    });
                }
            }
        }
        Ok(())
    }

    /// Reads as far as the place stays the same, at least one byte.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        match self.place {
            Place::Lost => Ok(bytes.len()),
            Place::Length(left) => {
                let taken = at_most(left, bytes.len());
                self.place = match left - taken as u64 {
                    0 => Place::Between,
                    left => Place::Length(left),
                };
                Ok(taken)
            }
            Place::Chunk(left) => {
                let taken = at_most(left, bytes.len());
                self.place = match left - taken as u64 {
                    0 => Place::ChunkEnd(false),
                    left => Place::Chunk(left),
                };
                Ok(taken)
            }
            Place::ChunkEnd(had_cr) => {
                self.place = match (had_cr, bytes[0]) {
                    (false, b'\r') => Place::ChunkEnd(true),
                    (true, b'\n') => Place::ChunkLine,
                    _ => return Err("a chunk of its body is longer than it says"),
                };
                Ok(1)
            }
            Place::Between | Place::Headers => self.line_of_head(bytes),
            Place::ChunkLine | Place::Trailers => self.line_of_body(bytes),
        }
    }

    fn line_of_head(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        // What is no request at all (the frames of a WebSocket) is not collected until a line break comes by chance.
        if self.place == Place::Between && self.partial.is_empty() && !begins_request(bytes[0]) {
            return Err("it begins with no method");
        }
        let (taken, ended) = self.line(bytes, self.longest)?;
        if ended {
            let line = std::mem::take(&mut self.partial);
            self.head_line(&line)?;
            self.recycle(line);
        }
        Ok(taken)
    }

    fn line_of_body(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let longest = match self.place {
            Place::ChunkLine => CHUNK_LINE,
            _ => self.longest,
        };
        let (taken, ended) = self.line(bytes, longest)?;
        if ended {
            let line = std::mem::take(&mut self.partial);
            match self.place {
                Place::ChunkLine => self.place = chunk_line(&line)?,
                _ if line.is_empty() => self.place = Place::Between,
                _ => {
                    let (name, _) = field(&line)?;
                    if frames(name) {
                        return Err("a trailer of its body frames or addresses it");
                    }
                }
            }
            self.recycle(line);
        }
        Ok(taken)
    }

    /// Takes bytes of a line, up to its end: then `partial` is the line without its break.
    fn line(&mut self, bytes: &[u8], longest: usize) -> Result<(usize, bool), &'static str> {
        let end = memchr(b'\n', bytes);
        let rest = &bytes[..end.unwrap_or(bytes.len())];
        if self.partial.len() + rest.len() > longest + 1 {
            return Err("a line of it is too long");
        }
        self.partial.extend_from_slice(rest);
        let Some(end) = end else {
            return Ok((bytes.len(), false));
        };
        if self.partial.pop() != Some(b'\r') {
            return Err("a line of it ends in a line feed alone");
        }
        Ok((end + 1, true))
    }

    /// Keeps the room of a line for the next, while a head is being read: an idle connection keeps nothing.
    fn recycle(&mut self, mut line: Vec<u8>) {
        if self.place == Place::Headers {
            line.clear();
            self.partial = line;
        }
    }

    fn head_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        match self.place {
            // A line break or two before a request were sent by clients that counted wrong (RFC 9112 §2.2).
            Place::Between if line.is_empty() => {}
            Place::Headers if line.is_empty() => self.end_of_head()?,
            Place::Headers => self.header(line)?,
            _ => {
                self.head = Head {
                    old: is_old(line)?,
                    ..Head::default()
                };
                self.place = Place::Headers;
            }
        }
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.head.length.is_some() {
                return Err("it has more than one length");
            }
            self.head.length = Some(number(value, 10).ok_or("its length is no number")?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.head.old {
                return Err("HTTP/1.0 knows no Transfer-Encoding");
            }
            if self.head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("its Transfer-Encoding is not one `chunked`");
            }
            self.head.chunked = true;
        } else if is_disguised(name) {
            return Err("it has a header that some servers take for one that frames its body");
        }
        Ok(())
    }

    fn end_of_head(&mut self) -> Result<(), &'static str> {
        self.place = match (self.head.chunked, self.head.length) {
            (true, Some(_)) => return Err("it has both a length and a Transfer-Encoding"),
            (true, None) => Place::ChunkLine,
            (false, None | Some(0)) => Place::Between,
            (false, Some(length)) => Place::Length(length),
        };
        self.heads += 1;
        Ok(())
    }
}

fn at_most(left: u64, have: usize) -> usize {
    usize::try_from(left).map_or(have, |left| left.min(have))
}

/// A method, or a line break before one.
const fn begins_request(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~' | b'\r' | b'\n')
}

/// Whether a request line speaks HTTP/1.0: a method, a target and a version with one space between them (RFC 9112 §3).
fn is_old(line: &[u8]) -> Result<bool, &'static str> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("its first line is not a method, a target and a version");
    };
    if method.is_empty() || target.is_empty() {
        return Err("its first line is not a method, a target and a version");
    }
    if memchr(b'#', target).is_some() {
        return Err("its target has a fragment, which some servers drop and others do not");
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err("its version is neither HTTP/1.1 nor HTTP/1.0"),
    }
}

/// A header's name, and its value without the white space around it.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    if is_blank(line[0]) {
        return Err("a header of it is folded over two lines");
    }
    let colon = memchr(b':', line).ok_or("a line of its head has no colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    match name.last() {
        None => Err("a header of it has no name"),
        Some(&last) if is_blank(last) => {
            Err("there is a space between a header's name and its colon")
        }
        Some(_) => Ok((name, trimmed(value))),
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && is_blank(*first)
    {
        value = rest;
    }
    while let [rest @ .., last] = value
        && is_blank(*last)
    {
        value = rest;
    }
    value
}

/// `content_length` is `CONTENT_LENGTH` to whoever passes headers on as CGI does.
fn is_disguised(name: &[u8]) -> bool {
    let alike = |plain: &[u8]| {
        let same = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-');
        name.len() == plain.len() && name.iter().zip(plain).all(same)
    };
    alike(b"content-length") || alike(b"transfer-encoding")
}

/// What may not come after a body, because it says where the body is or whose it is (RFC 9110 §6.5.1).
pub(crate) fn frames(name: &[u8]) -> bool {
    let named = |plain: &str| name.eq_ignore_ascii_case(plain.as_bytes());
    is_disguised(name) || named("host") || named("trailer") || named("te")
}

/// Digits to `base` and nothing else: no sign, no blank, not none.
fn number(text: &[u8], base: u32) -> Option<u64> {
    let digit = |byte: &u8| char::from(*byte).to_digit(base);
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        number
            .checked_mul(u64::from(base))?
            .checked_add(u64::from(digit(byte)?))
    })
}

/// What follows a line that describes a chunk (RFC 9112 §7.1): its bytes, or the trailers.
fn chunk_line(line: &[u8]) -> Result<Place, &'static str> {
    let (size, extension) = match memchr(b';', line) {
        Some(at) => (trimmed_end(&line[..at]), &line[at..]),
        None => (line, &[][..]),
    };
    let plain = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    if !extension.iter().all(plain) {
        return Err("a chunk of its body has a control character in its extension");
    }
    match number(size, 16) {
        None => Err("a chunk of its body has no size"),
        Some(0) => Ok(Place::Trailers),
        // Beyond it, hyper's own count and this one would have to agree on overflow.
        Some(size) if size > i64::MAX as u64 => Err("a chunk of its body is too large"),
        Some(size) => Ok(Place::Chunk(size)),
    }
}

fn trimmed_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
