//! The content coding of what publishers send (RFC 9110, section 8.4): gzip or none, unpacked within the limit of the plain body.

use std::io::Read;

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use futures_util::stream;
use http::{HeaderMap, header};
use http_body::Frame;
use http_body_util::StreamBody;
use model::{ByteSize, Error, code};
use runtime::{Body, BodyError};

use crate::dispatch::Buffers;

/// Bytes that are unpacked at a time, and no more before it is known that there is room for them.
const STEP: usize = 64 << 10;

/// What a body is without its coding. It grows no further than `limit`, whatever it promises, and takes its part of the budget as it does.
///
/// # Errors
/// `CODING_NOT_SPOKEN`; `BAD_EVENT` when it is not what it says; `BODY_TOO_LARGE`, `BUFFERS_FULL`.
pub(super) async fn plain(
    headers: &HeaderMap,
    bytes: Bytes,
    limit: ByteSize,
    buffers: &Buffers,
) -> Result<Bytes, Error> {
    let named = headers.get_all(header::CONTENT_ENCODING).iter();
    let named: Vec<String> = named
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|coding| String::from_utf8_lossy(coding).trim().to_ascii_lowercase())
        .filter(|coding| !coding.is_empty() && coding != "identity")
        .collect();
    match named.as_slice() {
        [] => Ok(bytes),
        // The second is its old name (section 8.4.1.3).
        [one] if one == "gzip" || one == "x-gzip" => {
            let steps = StreamBody::new(stream::iter(Steps(Some(MultiGzDecoder::new(
                bytes.reader(),
            )))));
            buffers
                .read(Body::stream(steps), limit, "the events are, unpacked,")
                .await
        }
        others => {
            let others: String = others.join(", ").chars().take(80).collect();
            let message =
                format!("events come plain or with `content-encoding: gzip`, not with `{others}`");
            Err(Error::new(code::CODING_NOT_SPOKEN, message))
        }
    }
}

/// A body that is unpacked as it is read; `None`: it has ended.
struct Steps<R>(Option<MultiGzDecoder<R>>);

impl<R: std::io::BufRead> Iterator for Steps<R> {
    type Item = Result<Frame<Bytes>, BodyError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut step = Vec::new();
        let read = self.0.as_mut()?.take(STEP as u64).read_to_end(&mut step);
        if let Err(error) = read {
            self.0 = None;
            let message = format!("the body is no gzip: {error}");
            return Some(Err(BodyError::Workload(Error::new(
                code::BAD_EVENT,
                message,
            ))));
        }
        if step.is_empty() {
            self.0 = None;
            return None;
        }
        Some(Ok(Frame::data(step.into())))
    }
}
