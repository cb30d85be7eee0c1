//! Stored payloads: a format byte, then the payload. Format 1 is JSON, 2 ascending numbers, 3 bytes of
//! somebody else's. A reader refuses
//! formats it does not know, so that a later format can enter without a guess.

use bytes::Bytes;
use model::Position;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};

/// JSON (RFC 8259) behind the format byte.
const JSON: u8 = 1;
/// Ascending numbers: each as its distance to the one before, in LEB128.
const ASCENDING: u8 = 2;

/// Bytes of somebody else's, as they are.
const RAW: u8 = 3;

/// Encodes bytes of somebody else's.
#[must_use]
pub(crate) fn encode_raw(bytes: &[u8]) -> Vec<u8> {
    [&[RAW], bytes].concat()
}

/// Decodes what [`encode_raw`] wrote.
///
/// # Errors
/// [`Error::Corrupt`].
pub(crate) fn decode_raw(bytes: &Bytes) -> Result<Bytes> {
    match bytes.first() {
        Some(&RAW) => Ok(bytes.slice(1..)),
        _ => Err(Error::Corrupt("payload")),
    }
}

/// Encodes `value` behind its format byte.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_sized(value, 256)
}

/// The same of a value that takes about `size` bytes: what is larger by much costs copies.
pub(crate) fn encode_sized<T: Serialize>(value: &T, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    bytes.push(JSON);
    serde_json::to_writer(&mut bytes, value)
        .expect("stored types have string keys and write to memory");
    bytes
}

/// Decodes what [`encode`] wrote; `what` names the payload in the error.
///
/// # Errors
/// [`Error::Corrupt`] when the format is unknown or the payload does not fit the type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T> {
    match bytes.split_first() {
        Some((&JSON, payload)) => serde_json::from_slice(payload).map_err(|_| Error::Corrupt(what)),
        _ => Err(Error::Corrupt(what)),
    }
}

/// Encodes ascending positions.
#[must_use]
pub(crate) fn encode_positions(positions: &[Position]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 2 * positions.len());
    bytes.push(ASCENDING);
    let mut before = 0;
    for position in positions {
        let mut rest = position.0 - before;
        before = position.0;
        while rest >= 0x80 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    bytes
}

/// Decodes what [`encode_positions`] wrote.
///
/// # Errors
/// [`Error::Corrupt`].
pub(crate) fn decode_positions(bytes: &[u8]) -> Result<Vec<Position>> {
    let corrupt = Error::Corrupt("cursor");
    let Some((&ASCENDING, mut rest)) = bytes.split_first() else {
        return Err(corrupt);
    };
    let (mut positions, mut before) = (Vec::new(), 0u64);
    while !rest.is_empty() {
        let (distance, after) = varint(rest).ok_or_else(|| corrupt.clone())?;
        before = before
            .checked_add(distance)
            .ok_or_else(|| corrupt.clone())?;
        positions.push(Position(before));
        rest = after;
    }
    Ok(positions)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        let positions = [0, 1, 127, 128, 300, 1 << 43].map(Position);
        let bytes = encode_positions(&positions);
        assert_eq!(decode_positions(&bytes).ok(), Some(positions.to_vec()));
        assert!(decode_positions(&[2, 0x80]).is_err());
        assert!(decode_positions(&[1, 1]).is_err());
    }

    #[test]
    fn payloads_begin_with_their_format() {
        let bytes = encode(&vec![1, 2, 3]);
        assert_eq!(bytes[0], 1);
        assert_eq!(decode::<Vec<u8>>(&bytes, "list").ok(), Some(vec![1, 2, 3]));
        assert!(decode::<Vec<u8>>(&[2, b'[', b']'], "list").is_err());
        assert!(decode::<Vec<u8>>(&[], "list").is_err());
    }
}
