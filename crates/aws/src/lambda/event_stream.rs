//! Amazon's event stream, as `InvokeWithResponseStream` answers in it: a message per piece of the reply, and a last one
//! that says how it ended (<https://smithy.io/2.0/aws/amazon-eventstream.html>).

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use model::{Error, code};
use platform::{Body, BodyError, LOG_TAIL};
use serde_json::{Value, json};

/// The media type.
pub(super) const MEDIA_TYPE: &str = "application/vnd.amazon.eventstream";
/// The most that one message carries: readers refuse more than 16 MiB with all around it.
const LARGEST: usize = 1 << 20;
/// The type of a header's value: text with its length before it.
const TEXT: u8 = 7;

/// What a handler leaves that failed, in the words of Lambda.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// `Unhandled`.
    pub(super) code: String,
    /// The error object.
    pub(super) details: String,
}

/// A reply on its way, as messages.
pub(super) struct Messages {
    reply: Body,
    /// What came and is not sent.
    piece: Bytes,
    /// The end of the log in base64, where it is asked for and known.
    log: Option<String>,
    wants_log: bool,
    ended: bool,
}

impl Messages {
    /// The messages of a reply whose pieces go out as they come.
    pub(super) fn of(reply: Body, log: Option<&[u8]>, wants_log: bool) -> Self {
        Self {
            reply,
            piece: Bytes::new(),
            log: log.filter(|_| wants_log).map(|log| STANDARD.encode(log)),
            wants_log,
            ended: false,
        }
    }

    fn end(&mut self, failure: Option<Failure>) -> Bytes {
        self.ended = true;
        complete(failure, self.log.take())
    }
}

/// All that is said of an invocation that left nothing but an error.
pub(super) fn failed(failure: Failure, log: Option<&[u8]>) -> Bytes {
    complete(Some(failure), log.map(|log| STANDARD.encode(log)))
}

/// What is said of a handler that fails while its reply is sent.
fn broken(error: &BodyError) -> Failure {
    let details = match error {
        BodyError::Workload(error) => object(error),
        other => json!({"errorType": "Runtime.Unknown", "errorMessage": other.to_string()}),
    };
    Failure {
        code: "Unhandled".to_owned(),
        details: details.to_string(),
    }
}

/// The error object of a failure of which only the line is left that it has in traces (`ValueError: no such order`).
pub(super) fn object(error: &Error) -> Value {
    let said = error.context.as_deref().and_then(|line| {
        let (kind, message) = line.split_once(": ")?;
        (!kind.contains(char::is_whitespace)).then_some((kind, message))
    });
    match said {
        Some((kind, message)) if error.code == code::FUNCTION_ERROR => {
            json!({"errorType": kind, "errorMessage": message})
        }
        _ if error.code == code::WORKLOAD_TIMEOUT => {
            json!({"errorType": "Sandbox.Timedout", "errorMessage": error.message})
        }
        _ => json!({"errorType": "Runtime.ExitError", "errorMessage": error.message}),
    }
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if !this.piece.is_empty() {
                let part = this.piece.split_to(this.piece.len().min(LARGEST));
                let message = message("PayloadChunk", "application/octet-stream", &part);
                return Poll::Ready(Some(Ok(Frame::data(message))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let message = match ready!(http_body::Body::poll_frame(Pin::new(&mut this.reply), cx)) {
                None => this.end(None),
                Some(Err(error)) => this.end(Some(broken(&error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        this.piece = piece;
                        continue;
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        let log = trailers.get(LOG_TAIL).and_then(|log| log.to_str().ok());
                        this.log = log.filter(|_| this.wants_log).map(str::to_owned);
                        continue;
                    }
                },
            };
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
    }
}

fn complete(failure: Option<Failure>, log: Option<String>) -> Bytes {
    let mut said = serde_json::Map::new();
    if let Some(Failure { code, details }) = failure {
        said.insert("ErrorCode".to_owned(), code.into());
        said.insert("ErrorDetails".to_owned(), details.into());
    }
    if let Some(log) = log {
        said.insert("LogResult".to_owned(), log.into());
    }
    let said = Value::Object(said).to_string();
    message("InvokeComplete", "application/json", said.as_bytes())
}

/// One message: lengths and their checksum, headers, payload, and a checksum of all.
fn message(event: &str, content_type: &str, payload: &[u8]) -> Bytes {
    let mut headers = BytesMut::new();
    for (name, value) in [
        (":event-type", event),
        (":content-type", content_type),
        (":message-type", "event"),
    ] {
        // Names and values here are short.
        headers.put_u8(u8::try_from(name.len()).unwrap_or_default());
        headers.put_slice(name.as_bytes());
        headers.put_u8(TEXT);
        headers.put_u16(u16::try_from(value.len()).unwrap_or_default());
        headers.put_slice(value.as_bytes());
    }
    let total = 12 + headers.len() + payload.len() + 4;
    let mut all = BytesMut::with_capacity(total);
    all.put_u32(u32::try_from(total).unwrap_or_default());
    all.put_u32(u32::try_from(headers.len()).unwrap_or_default());
    all.put_u32(crc32(&all));
    all.put_slice(&headers);
    all.put_slice(payload);
    all.put_u32(crc32(&all));
    all.freeze()
}

/// CRC-32 as in gzip (RFC 1952, section 8).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let low = usize::from(crc.to_le_bytes()[0] ^ byte);
        TABLE[low] ^ (crc >> 8)
    };
    !bytes.iter().fold(!0, step)
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "it is below 256")]
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                0xedb8_8320 ^ (crc >> 1)
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_message_says_its_lengths_and_its_kind() {
        let bytes = message("PayloadChunk", "application/octet-stream", b"hi");
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        assert_eq!(number(0) as usize, bytes.len());
        assert_eq!(number(8), crc32(&bytes[..8]));
        assert_eq!(number(bytes.len() - 4), crc32(&bytes[..bytes.len() - 4]));
        let payload = 12 + number(4) as usize;
        assert_eq!(&bytes[payload..payload + 2], b"hi");
        assert_eq!(&bytes[12..24], b"\x0b:event-type");
    }

    #[test]
    fn errors_keep_the_type_that_their_handler_gave_them() {
        let error = Error::new(code::FUNCTION_ERROR, "raised").context("ValueError: no: such");
        assert_eq!(
            object(&error),
            json!({"errorType": "ValueError", "errorMessage": "no: such"})
        );
        let error = Error::new(code::INSTANCE_DIED, "it ended");
        assert_eq!(object(&error)["errorType"], "Runtime.ExitError");
    }
}
