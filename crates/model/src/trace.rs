//! Trace identity: W3C Trace Context level 1 and its bridge to AWS's `X-Amzn-Trace-Id`, in both directions.
//!
//! Reading never fails loudly: a header that is not well formed counts as absent, as both specifications ask.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 128 bits that every span of a trace shares; never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub u128);

/// 64 bits that name one span; never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub u64);

/// Where an invocation stands in its trace: what `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span that new spans are children of; `None` at the root.
    pub parent: Option<SpanId>,
    /// Whether the caller asked for the trace to be kept.
    pub sampled: bool,
}

impl TraceContext {
    /// The root of a new trace, out of 128 random bits.
    #[must_use]
    pub fn root(random: u128) -> Self {
        Self {
            trace: TraceId(random.max(1)),
            parent: None,
            sampled: true,
        }
    }

    /// The same trace, below `span`.
    #[must_use]
    pub const fn below(self, span: SpanId) -> Self {
        Self {
            parent: Some(span),
            ..self
        }
    }

    /// Reads `traceparent` (W3C Trace Context §3.2). Versions above 00 are read as far as 00 goes; `ff` is refused.
    #[must_use]
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() < 55 || !text.is_ascii() {
            return None;
        }
        let version = lower_hex(&text[0..2])?;
        let ends_well = if version == 0 {
            bytes.len() == 55
        } else {
            bytes.len() == 55 || bytes[55] == b'-'
        };
        if version == 0xff || !ends_well || [2, 35, 52].iter().any(|&at| bytes[at] != b'-') {
            return None;
        }
        let trace = lower_hex(&text[3..35])?;
        let parent = u64::try_from(lower_hex(&text[36..52])?).ok()?;
        let flags = lower_hex(&text[53..55])?;
        (trace != 0 && parent != 0).then_some(Self {
            trace: TraceId(trace),
            parent: Some(SpanId(parent)),
            sampled: flags & 1 == 1,
        })
    }

    /// Reads `X-Amzn-Trace-Id` (`Root=1-8hex-24hex;Parent=16hex;Sampled=1`, in any order).
    #[must_use]
    pub fn from_xray(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.split(';').find_map(|part| {
                let (key, value) = part.trim().split_once('=')?;
                key.eq_ignore_ascii_case(name).then_some(value)
            })
        };
        let root = field("Root")?.strip_prefix("1-")?;
        if root.len() != 33 || !root.is_ascii() || root.as_bytes()[8] != b'-' {
            return None;
        }
        let trace = (lower_hex(&root[..8])? << 96) | lower_hex(&root[9..])?;
        let parent = field("Parent")
            .filter(|p| p.len() == 16 && p.is_ascii())
            .and_then(lower_hex);
        let parent = parent
            .and_then(|p| u64::try_from(p).ok())
            .filter(|&p| p != 0);
        (trace != 0).then_some(Self {
            trace: TraceId(trace),
            parent: parent.map(SpanId),
            sampled: field("Sampled") != Some("0"),
        })
    }

    /// `traceparent` with `span` as the parent of what the receiver does.
    #[must_use]
    pub fn traceparent(&self, span: SpanId) -> String {
        let mut text = String::with_capacity(55);
        self.push_traceparent(span, &mut text);
        text
    }

    /// The same, at the end of `text`.
    pub fn push_traceparent(&self, span: SpanId, text: &mut String) {
        text.push_str("00-");
        push_hex(text, self.trace.0, 32);
        text.push('-');
        push_hex(text, span.0.into(), 16);
        text.push_str(if self.sampled { "-01" } else { "-00" });
    }

    /// `X-Amzn-Trace-Id` with `span` as the parent of what the receiver does.
    #[must_use]
    pub fn xray(&self, span: SpanId) -> String {
        let mut text = String::with_capacity(74);
        self.push_xray(span, &mut text);
        text
    }

    /// The same, at the end of `text`.
    pub fn push_xray(&self, span: SpanId, text: &mut String) {
        text.push_str("Root=1-");
        push_hex(text, self.trace.0 >> 96, 8);
        text.push('-');
        push_hex(text, self.trace.0, 24);
        text.push_str(";Parent=");
        push_hex(text, span.0.into(), 16);
        text.push_str(if self.sampled {
            ";Sampled=1"
        } else {
            ";Sampled=0"
        });
    }
}

/// The last `digits` hex digits of `number`. Both headers go with every call, and `format!` is ten times as slow.
fn push_hex(text: &mut String, number: u128, digits: usize) {
    let mut all = [0; 32];
    all[..16].copy_from_slice(&hex((number >> 64) as u64));
    all[16..].copy_from_slice(&hex(number as u64));
    let wanted = std::str::from_utf8(&all[all.len() - digits..]);
    text.push_str(wanted.expect("digits are ASCII"));
}

/// The 16 hex digits of `number`, all at once: its half bytes are moved apart to a byte each, and become letters where they
/// are above nine.
const fn hex(number: u64) -> [u8; 16] {
    const EACH: u128 = u128::MAX / 0xff;
    let mut apart = number as u128;
    apart = (apart | apart << 32) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
    apart = (apart | apart << 16) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
    apart = (apart | apart << 8) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
    apart = (apart | apart << 4) & 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f;
    let above_nine = ((apart + EACH * 6) >> 4) & EACH;
    let letters = EACH * (b'0' as u128) + above_nine * ((b'a' - b'0' - 10) as u128);
    (apart + letters).to_be_bytes()
}

/// Digits as both headers have them: lower-case hex only.
fn lower_hex(text: &str) -> Option<u128> {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.bytes()
        .all(digit)
        .then(|| u128::from_str_radix(text, 16).ok())?
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

macro_rules! hex_text {
    ($name:ident, $int:ty, $digits:literal) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotAnId;
            /// Lower or upper case hex, all digits, not zero.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                if text.len() != $digits || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(NotAnId);
                }
                match <$int>::from_str_radix(text, 16) {
                    Ok(id) if id != 0 => Ok(Self(id)),
                    _ => Err(NotAnId),
                }
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

/// A text is not the hex form of a trace or span id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 (trace) or 16 (span) hex digits, not all zero")]
pub struct NotAnId;

hex_text!(TraceId, u128, 32);
hex_text!(SpanId, u64, 16);

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn traceparent_round_trips() {
        let context = TraceContext::from_traceparent(PARENT).expect("the specification's example");
        assert_eq!(
            context.traceparent(context.parent.expect("has one")),
            PARENT
        );
    }

    #[test]
    fn digits_are_those_of_the_standard_library() {
        let spread = (0..64).map(|shift| 0x0123_4567_89ab_cdef_u64.rotate_left(shift));
        for number in spread.chain([0, 1, 9, 10, u64::MAX]) {
            assert_eq!(hex(number), *format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn malformed_traceparents_count_as_absent() {
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01",
        ] {
            assert_eq!(TraceContext::from_traceparent(bad), None, "{bad}");
        }
        let newer = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert!(TraceContext::from_traceparent(newer).is_some());
    }

    #[test]
    fn xray_bridges_to_the_same_trace() {
        let xray = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let context = TraceContext::from_xray(xray).expect("AWS's example");
        assert_eq!(
            context.trace.to_string(),
            "5759e988bd862e3fe1be46a994272793"
        );
        assert_eq!(context.xray(context.parent.expect("has one")), xray);
        let bare = TraceContext::from_xray("Sampled=0; Root=1-5759e988-bd862e3fe1be46a994272793");
        assert_eq!(bare.map(|c| (c.parent, c.sampled)), Some((None, false)));
        for bad in [
            "",
            "Root=1-5759e988",
            "Root=2-5759e988-bd862e3fe1be46a994272793",
            "Root=1-é",
        ] {
            assert_eq!(TraceContext::from_xray(bad), None, "{bad}");
        }
    }
}
