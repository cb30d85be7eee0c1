//! HTTP/1.1 requests as runtime clients send them: heads and chunked bodies, read from a buffer.
//!
//! Pure: no I/O. Not a general server: only what the Runtime API needs is kept of a head. Everything is bounded, and
//! what is not well formed ends the connection.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::extension_api::Headers;

/// The largest head: clients put a stack trace of up to 1 MiB into one header, as AWS allows them.
pub(crate) const MAX_HEAD: usize = (1 << 20) + (64 << 10);
/// The most header lines of a request or a trailer.
const MAX_HEADERS: usize = 64;
/// The longest line that says the size of a chunk, its extensions included.
const MAX_CHUNK_LINE: usize = 256;

/// What is kept of a request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whether it is a GET; else a POST or a method that nothing here serves.
    pub(crate) method: Method,
    /// Its path, the query cut off.
    pub(crate) path: String,
    /// How its body is framed.
    pub(crate) framing: Framing,
    /// Whether the client waits for a go-ahead before it sends the body.
    pub(crate) expects_continue: bool,
    /// Whether the connection ends after the answer.
    pub(crate) closes: bool,
    /// `Lambda-Runtime-Function-Error-Type`.
    pub(crate) error_type: Option<String>,
    /// Whether the body is a reply that is to be passed on while it comes: `Lambda-Runtime-Function-Response-Mode`.
    pub(crate) streams: bool,
    /// `Content-Type`.
    pub(crate) content_type: Option<String>,
    /// What extensions say in headers.
    pub(crate) extension: Option<Box<Headers>>,
}

/// The methods that the Runtime API has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
    /// Any other.
    Other,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Until the last chunk.
    Chunked,
}

/// A request that is not HTTP, or larger than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Takes a whole head off the front of `buffer`; `None` when more bytes are needed.
pub(crate) fn take_head(buffer: &mut BytesMut) -> Result<Option<Head>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() > MAX_HEAD => {
            return Err(Malformed("the head is too large"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed("the head is not HTTP/1.1")),
    };
    let head = read_head(&request)?;
    buffer.advance(length);
    Ok(Some(head))
}

fn read_head(request: &httparse::Request<'_, '_>) -> Result<Head, Malformed> {
    let target = request.path.unwrap_or_default();
    let mut head = Head {
        method: match request.method {
            Some("GET") => Method::Get,
            Some("POST") => Method::Post,
            _ => Method::Other,
        },
        path: target.split('?').next().unwrap_or_default().to_owned(),
        framing: Framing::Length(0),
        expects_continue: false,
        closes: request.version == Some(0),
        error_type: None,
        streams: false,
        content_type: None,
        extension: None,
    };
    let mut framed = false;
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let value = || std::str::from_utf8(header.value).unwrap_or_default().trim();
        if is("content-length") || is("transfer-encoding") {
            if std::mem::replace(&mut framed, true) {
                return Err(Malformed("the body is framed twice"));
            }
            head.framing = framing(is("content-length"), value())?;
        } else if is("expect") {
            head.expects_continue = value().eq_ignore_ascii_case("100-continue");
        } else if is("connection") {
            head.closes = value().eq_ignore_ascii_case("close");
        } else if is("lambda-runtime-function-error-type") {
            head.error_type = Some(value().chars().take(256).collect());
        } else if is("lambda-extension-name") {
            let said = head.extension.get_or_insert_default();
            said.name = Some(value().chars().take(256).collect());
        } else if is("lambda-extension-identifier") {
            let said = head.extension.get_or_insert_default();
            said.identifier = Some(value().chars().take(256).collect());
        } else if is("lambda-extension-function-error-type") {
            let said = head.extension.get_or_insert_default();
            said.error_type = Some(value().chars().take(256).collect());
        } else if is("lambda-runtime-function-response-mode") {
            head.streams = value().eq_ignore_ascii_case("streaming");
        } else if is("content-type") {
            head.content_type = Some(value().to_owned());
        }
    }
    Ok(head)
}

fn framing(length: bool, value: &str) -> Result<Framing, Malformed> {
    if !length {
        return if value.eq_ignore_ascii_case("chunked") {
            Ok(Framing::Chunked)
        } else {
            Err(Malformed("the transfer encoding is not `chunked`"))
        };
    }
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Malformed("the content length is not a number"));
    }
    value
        .parse()
        .map(Framing::Length)
        .map_err(|_| Malformed("the content length is not a number"))
}

/// A chunked body on its way in (RFC 9112, §7.1).
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    left: u64,
    stage: Stage,
    /// What the trailer says: the handler failed in mid-reply.
    pub(crate) late: Option<LateError>,
}

/// An error that a trailer reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LateError {
    /// `Lambda-Runtime-Function-Error-Type`.
    pub(crate) error_type: String,
    /// `Lambda-Runtime-Function-Error-Body`, decoded: the error object.
    pub(crate) body: Bytes,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Size,
    Data,
    DataEnd,
    Trailer,
    Done,
}

impl Chunks {
    /// Moves what has come from `input` to `output`; true when the body is complete.
    pub(crate) fn take(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<bool, Malformed> {
        loop {
            let moved = match self.stage {
                Stage::Size => self.size(input)?,
                Stage::Data => self.data(input, output),
                Stage::DataEnd => self.data_end(input)?,
                Stage::Trailer => self.trailer(input)?,
                Stage::Done => return Ok(true),
            };
            if !moved {
                return Ok(false);
            }
        }
    }

    fn size(&mut self, input: &mut BytesMut) -> Result<bool, Malformed> {
        // httparse takes a line without any digit for the last chunk.
        if input.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return Err(Malformed("a chunk's size is not one"));
        }
        match httparse::parse_chunk_size(input) {
            Ok(httparse::Status::Complete((length, size))) if length <= MAX_CHUNK_LINE => {
                input.advance(length);
                self.left = size;
                self.stage = if size == 0 {
                    Stage::Trailer
                } else {
                    Stage::Data
                };
                Ok(true)
            }
            Ok(httparse::Status::Partial) if input.len() < MAX_CHUNK_LINE => Ok(false),
            _ => Err(Malformed("a chunk's size is not one")),
        }
    }

    fn data(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> bool {
        let taken = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(input.len());
        output.put_slice(&input[..taken]);
        input.advance(taken);
        self.left -= taken as u64;
        if self.left == 0 {
            self.stage = Stage::DataEnd;
        }
        taken > 0
    }

    fn data_end(&mut self, input: &mut BytesMut) -> Result<bool, Malformed> {
        if input.len() < 2 {
            return Ok(false);
        }
        if input[..2] != *b"\r\n" {
            return Err(Malformed("a chunk is longer than it said"));
        }
        input.advance(2);
        self.stage = Stage::Size;
        Ok(true)
    }

    fn trailer(&mut self, input: &mut BytesMut) -> Result<bool, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        match httparse::parse_headers(input, &mut headers) {
            Ok(httparse::Status::Complete((length, headers))) => {
                self.late = late_error(headers);
                input.advance(length);
                self.stage = Stage::Done;
                Ok(true)
            }
            Ok(httparse::Status::Partial) if input.len() <= MAX_HEAD => Ok(false),
            _ => Err(Malformed("the trailer is not one")),
        }
    }
}

fn late_error(headers: &[httparse::Header<'_>]) -> Option<LateError> {
    let named = |name: &str| {
        let header = headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        header.map(|h| h.value.trim_ascii())
    };
    let error_type = named("lambda-runtime-function-error-type")?;
    let body = named("lambda-runtime-function-error-body").unwrap_or_default();
    Some(LateError {
        error_type: String::from_utf8_lossy(error_type)
            .chars()
            .take(256)
            .collect(),
        // Base64 says AWS; what is not is taken as it stands.
        body: STANDARD
            .decode(body)
            .map_or_else(|_| Bytes::copy_from_slice(body), Bytes::from),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Result<Option<Head>, Malformed> {
        take_head(&mut BytesMut::from(text))
    }

    #[test]
    fn heads_as_clients_send_them() {
        let mut buffer = BytesMut::from(
            "POST /2018-06-01/runtime/invocation/1/response?x HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\
             content-length: 4\r\nExpect: 100-continue\r\nLambda-Runtime-Function-Error-Type: E\r\n\r\nbody",
        );
        let read = take_head(&mut buffer).expect("is good").expect("is whole");
        assert_eq!(read.path, "/2018-06-01/runtime/invocation/1/response");
        assert_eq!(
            (read.method, read.framing),
            (Method::Post, Framing::Length(4))
        );
        assert_eq!(read.error_type.as_deref(), Some("E"));
        assert!(read.expects_continue && !read.closes);
        assert_eq!(&buffer[..], b"body");
        let old = head("GET / HTTP/1.0\r\n\r\n")
            .expect("is good")
            .expect("is whole");
        assert!(old.closes && old.framing == Framing::Length(0));
        assert_eq!(head("GET / HTTP/1.1\r\nHost"), Ok(None));
    }

    #[test]
    fn malformed_heads_say_so() {
        for (text, problem) in [
            ("\0\0\0", "the head is not HTTP/1.1"),
            (
                "POST / HTTP/1.1\r\nContent-Length: +4\r\n\r\n",
                "the content length is not a number",
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
                "the body is framed twice",
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
                "the body is framed twice",
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
                "the transfer encoding is not `chunked`",
            ),
        ] {
            assert_eq!(head(text), Err(Malformed(problem)), "{text}");
        }
        let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(MAX_HEAD));
        assert_eq!(head(&long), Err(Malformed("the head is too large")));
    }

    #[test]
    fn chunks_come_in_any_pieces() {
        let wire = b"5\r\nhello\r\n1;ext=1\r\n!\r\n0\r\nLambda-Runtime-Function-Error-Type: Late\r\nlambda-runtime-function-error-body: e30=\r\n\r\nrest";
        for step in 1..wire.len() {
            let (mut chunks, mut input, mut output) =
                (Chunks::default(), BytesMut::new(), BytesMut::new());
            let mut done = false;
            for piece in wire.chunks(step) {
                input.put_slice(piece);
                done = chunks
                    .take(&mut input, &mut output)
                    .expect("is well formed");
            }
            assert!(done);
            assert_eq!((&output[..], &input[..]), (&b"hello!"[..], &b"rest"[..]));
            let late = chunks.late.expect("the trailer says so");
            assert_eq!((&*late.error_type, &*late.body), ("Late", &b"{}"[..]));
        }
    }

    #[test]
    fn malformed_chunks_say_so() {
        for (wire, problem) in [
            ("x\r\n", "a chunk's size is not one"),
            ("1\r\nab\r\n", "a chunk is longer than it said"),
            ("0\r\n\0: x\r\n\r\n", "the trailer is not one"),
        ] {
            let got = Chunks::default().take(&mut BytesMut::from(wire), &mut BytesMut::new());
            assert_eq!(got, Err(Malformed(problem)), "{wire:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_well(bytes: Vec<u8>) {
            let _ = take_head(&mut BytesMut::from(&bytes[..]));
            let mut input = BytesMut::from(&bytes[..]);
            let mut output = BytesMut::new();
            let _ = Chunks::default().take(&mut input, &mut output);
            prop_assert!(output.len() <= bytes.len());
        }
    }
}
