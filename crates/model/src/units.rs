//! Sizes and durations as users write them: `128MiB`, `10s`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// A text is not a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidUnit {
    /// What was given, cut to 40 characters.
    pub text: String,
    /// What would have been right, with an example.
    pub expected: &'static str,
}

impl ByteSize {
    /// `n` KiB.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// The number, for arithmetic with lengths; saturates where `usize` is smaller.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = InvalidUnit;

    /// Digits and one of `B`, `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB`; a bare number is bytes.
    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let wrong = || InvalidUnit {
            text: text.chars().take(40).collect(),
            expected: "a size (a whole number with B, KiB, MiB or GiB: `128MiB`)",
        };
        let (number, unit) = split_number(text).ok_or_else(wrong)?;
        let scale: u64 = match unit {
            "" | "B" => 1,
            "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        number.checked_mul(scale).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Reads `250ms`, `10s`, `5m`, `1h` or `7d`; whole numbers only.
///
/// # Errors
/// [`InvalidUnit`] when the text is none of these, or beyond 64 bits of milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidUnit> {
    let wrong = || InvalidUnit {
        text: text.chars().take(40).collect(),
        expected: "a duration (a whole number with ms, s, m, h or d: `10s`)",
    };
    let (number, unit) = split_number(text).ok_or_else(wrong)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

/// A duration as [`parse_duration`] reads it, in the largest unit of which it is a whole number; what is below a millisecond is
/// left out.
#[must_use]
pub fn written_duration(span: Duration) -> String {
    let millis = span.as_millis();
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ];
    let fits = |(_, unit): &(&str, u128)| millis > 0 && millis.is_multiple_of(*unit);
    let (name, unit) = units.into_iter().find(fits).unwrap_or(("ms", 1));
    format!("{}{name}", millis / unit)
}

/// A duration as people read it: `870µs`, `12.3ms`, `1.20s`, `3m05s`.
#[must_use]
pub fn display_duration(span: Duration) -> String {
    let micros = span.as_micros();
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..1_000_000 => format!("{:.1}ms", span.as_secs_f64() * 1e3),
        1_000_000..60_000_000 => format!("{:.2}s", span.as_secs_f64()),
        _ => format!("{}m{:02}s", span.as_secs() / 60, span.as_secs() % 60),
    }
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("17B", 17),
            ("128MiB", 128 << 20),
            ("1 GiB", 1 << 30),
            ("5KB", 5000),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "MiB", "1.5MiB", "-1", "9MiBs", "99999999999GiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        assert_eq!(ByteSize::mib(128).to_string(), "128MiB");
        assert_eq!(ByteSize(1500).to_string(), "1500B");
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "10", "s", "1.5s", "10 years", "18446744073709551615d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for text in ["0ms", "10ms", "1500ms", "1s", "90m", "1h", "7d"] {
            let span = parse_duration(text).expect("is one");
            assert_eq!(written_duration(span), text);
        }
        assert_eq!(display_duration(Duration::from_micros(12_345)), "12.3ms");
        assert_eq!(display_duration(Duration::from_secs(185)), "3m05s");
    }
}
