//! Blocks as they are stored: a format byte, the length, then spans or lines compressed with LZ4.
//!
//! Reading trusts nothing: sizes are checked before memory is taken, and whatever is not as this writes it
//! makes the whole block unreadable, never a panic.

mod reader;
mod records;

pub(crate) use reader::{Reader, put_varint};
pub(crate) use records::{get_log, get_span, put_log, put_span};

use crate::{log::LogRecord, span::Span};

/// The first byte of a block.
const FORMAT: u8 = 1;

/// The largest block after decompression, in bytes: what is written stays far below.
const MAX_BLOCK: usize = 32 << 20;

/// Spans as a block.
pub(crate) fn encode_spans<'a>(spans: impl Iterator<Item = &'a Span>) -> Vec<u8> {
    let mut raw = Vec::new();
    spans.for_each(|span| put_span(&mut raw, span));
    seal(&raw)
}

/// The spans of a block; `None` when it is not one.
pub(crate) fn decode_spans(bytes: &[u8]) -> Option<Vec<Span>> {
    all(&open(bytes)?, get_span)
}

/// Lines as a block.
pub(crate) fn encode_logs<'a>(logs: impl Iterator<Item = &'a LogRecord>) -> Vec<u8> {
    let mut raw = Vec::new();
    logs.for_each(|log| put_log(&mut raw, log));
    seal(&raw)
}

/// The lines of a block; `None` when it is not one.
pub(crate) fn decode_logs(bytes: &[u8]) -> Option<Vec<LogRecord>> {
    all(&open(bytes)?, get_log)
}

fn all<T>(raw: &[u8], get: impl Fn(&mut Reader<'_>) -> Option<T>) -> Option<Vec<T>> {
    let mut reader = Reader::new(raw);
    let mut found = Vec::new();
    while !reader.is_empty() {
        found.push(get(&mut reader)?);
    }
    Some(found)
}

fn seal(raw: &[u8]) -> Vec<u8> {
    let mut out = vec![FORMAT];
    put_varint(&mut out, raw.len() as u64);
    out.extend_from_slice(&lz4_flex::compress(raw));
    out
}

fn open(bytes: &[u8]) -> Option<Vec<u8>> {
    let (&FORMAT, rest) = bytes.split_first()? else {
        return None;
    };
    let mut reader = Reader::new(rest);
    let length = usize::try_from(reader.varint()?).ok()?;
    if length > MAX_BLOCK {
        return None;
    }
    let raw = lz4_flex::decompress(reader.rest(), length).ok()?;
    (raw.len() == length).then_some(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        records::tests::{any_log, any_span},
        *,
    };

    proptest! {
        #[test]
        fn blocks_round_trip(
            spans in proptest::collection::vec(any_span(), 0..8),
            logs in proptest::collection::vec(any_log(), 0..8),
        ) {
            prop_assert_eq!(decode_spans(&encode_spans(spans.iter())), Some(spans));
            prop_assert_eq!(decode_logs(&encode_logs(logs.iter())), Some(logs));
        }

        #[test]
        fn damaged_blocks_are_refused_without_panic(
            spans in proptest::collection::vec(any_span(), 1..4),
            at: prop::sample::Index,
            value: u8,
            cut: prop::sample::Index,
        ) {
            let mut bytes = encode_spans(spans.iter());
            let _ = decode_spans(&bytes[..cut.index(bytes.len())]);
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _ = (decode_spans(&bytes), decode_logs(&bytes));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = (decode_spans(&bytes), decode_logs(&bytes));
            let mut reader = Reader::new(&bytes);
            let _ = get_span(&mut reader);
        }
    }

    #[test]
    fn a_block_that_claims_to_be_huge_takes_no_memory() {
        let mut bytes = vec![FORMAT];
        put_varint(&mut bytes, u64::MAX);
        assert_eq!(decode_spans(&bytes), None);
    }
}
