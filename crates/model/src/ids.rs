//! Identities that the platform makes. UUIDv7 where a value must be unique, counters where it must be ordered:
//! order comes only from positions, never from ids.

use std::{fmt, str::FromStr, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{clock::Clock, trace::SpanId};

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// One call of a workload, whatever triggered it. Also what users see as the request id.
    InvocationId
}
impl InvocationId {
    /// The id of these bytes, whose version and variant are the caller's to set.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its text, in room that the caller has: without the formatter, which takes longer than to make it.
    pub fn text(self, room: &mut [u8; 36]) -> &str {
        self.0.hyphenated().encode_lower(room)
    }
}
uuid_id! {
    /// One running copy of a workload.
    InstanceId
}

/// The place of an event in the log of its namespace: 1 is the first, no gaps are promised.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Position(pub u64);

/// The number of a deployment of one app: 1, 2, 3 …
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct RevisionId(pub u64);

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// SHA-256 of a blob's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash(pub [u8; 32]);

/// SHA-256 of a workload's artifact and spec: what pools, compiled code and instances are keyed by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub [u8; 32]);

macro_rules! hex_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex_of(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotHex;
            fn from_str(text: &str) -> Result<Self, NotHex> {
                let mut bytes = [0; 32];
                if text.len() != 64 || !text.is_ascii() {
                    return Err(NotHex);
                }
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
                    let pair = std::str::from_utf8(pair).map_err(|_| NotHex)?;
                    *byte = u8::from_str_radix(pair, 16).map_err(|_| NotHex)?;
                }
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(BlobHash);
hex_id!(VersionId);

impl VersionId {
    /// The first twelve hex digits: what people read.
    #[must_use]
    pub fn short(&self) -> String {
        hex_of(&self.0[..6])
    }
}

/// Lower-case hex; `format!` is ten times as slow, and every span says its version.
fn hex_of(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.map(digit).collect()
}

/// A text is not 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hex digits")]
pub struct NotHex;

/// Where new ids come from: the system's randomness, or a seed in tests. Cheap to clone.
#[derive(Clone)]
pub struct Ids(Arc<Source>);

enum Source {
    System,
    Seeded(Mutex<u64>),
}

impl Ids {
    /// Ids from the system's randomness.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Source::System))
    }

    /// The same ids for the same seed, in the order in which they are asked for.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Source::Seeded(Mutex::new(seed))))
    }

    /// 128 random bits.
    #[must_use]
    pub fn random(&self) -> u128 {
        match &*self.0 {
            // A UUIDv4 has six fixed bits; the second one covers them. Both come from a thread's own ChaCha, not from
            // the system each time.
            Source::System => Uuid::new_v4().as_u128() ^ Uuid::new_v4().as_u128().rotate_left(64),
            Source::Seeded(state) => {
                let mut state = state.lock();
                (u128::from(split_mix(&mut state)) << 64) | u128::from(split_mix(&mut state))
            }
        }
    }

    /// A new span's id.
    #[must_use]
    pub fn span(&self) -> SpanId {
        let bits = match &*self.0 {
            // The fixed bits of its halves are not in the same places.
            Source::System => {
                let (upper, lower) = Uuid::new_v4().as_u64_pair();
                upper ^ lower
            }
            Source::Seeded(_) => self.random() as u64,
        };
        SpanId(bits | 1)
    }

    /// A UUIDv7 (RFC 9562): milliseconds of the clock, then randomness.
    #[must_use]
    pub fn uuid(&self, clock: &Clock) -> Uuid {
        let random = self.random().to_be_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&random[..10]);
        uuid::Builder::from_unix_timestamp_millis(clock.now().as_millis(), &tail).into_uuid()
    }

    /// A new invocation's id.
    #[must_use]
    pub fn invocation(&self, clock: &Clock) -> InvocationId {
        InvocationId(self.uuid(clock))
    }

    /// A new instance's id.
    #[must_use]
    pub fn instance(&self, clock: &Clock) -> InstanceId {
        InstanceId(self.uuid(clock))
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for tests, never used for secrets.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_read_what_they_print() {
        let id = VersionId(std::array::from_fn(|i| {
            u8::try_from(i * 7 % 256).expect("below 256")
        }));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("xyz".parse::<VersionId>(), Err(NotHex));
        assert_eq!("é".repeat(32).parse::<BlobHash>(), Err(NotHex));
    }

    #[test]
    fn seeded_ids_repeat_and_differ() {
        let (a, b) = (Ids::seeded(7), Ids::seeded(7));
        assert_eq!(a.random(), b.random());
        assert_ne!(a.random(), a.random());
    }
}
