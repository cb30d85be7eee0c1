//! Numbers as keys that compare as the numbers do: `200`, `200.0` and `2e2` are one key, and integers beyond 2^53 stay
//! apart, which EventBridge keeps apart by their digits.

use serde_json::Number;

/// A number's place among all JSON numbers; equal numbers have equal keys, however they are written.
///
/// The upper half is the nearest double, with its bits in the order of the numbers; the lower half is how far an integer is
/// from that double.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Num(pub(crate) u128);

/// The middle of the lower half: the number is its double.
const NO_OFFSET: u64 = 1 << 63;

impl Num {
    /// The smallest and the largest key.
    pub(crate) const ALL: (Self, Self) = (Self(0), Self(u128::MAX));

    pub(crate) fn of(number: &Number) -> Self {
        let integer = number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from));
        match integer {
            Some(integer) => Self::of_integer(integer),
            // JSON numbers are finite; what is not a number at all cannot be here.
            None => Self::of_double(number.as_f64().unwrap_or_default(), NO_OFFSET),
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "what rounding loses is kept as the offset; doubles next to 64-bit integers fit i128"
    )]
    fn of_integer(integer: i128) -> Self {
        let nearest = integer as f64;
        let offset = (integer - nearest as i128) as i64;
        Self::of_double(nearest, offset.cast_unsigned().wrapping_add(NO_OFFSET))
    }

    fn of_double(double: f64, offset: u64) -> Self {
        // -0.0 is 0.
        let bits = (double + 0.0).to_bits();
        let ordered = if bits >> 63 == 1 {
            !bits
        } else {
            bits | 1 << 63
        };
        Self(u128::from(ordered) << 64 | u128::from(offset))
    }

    /// The key just below, for an open bound.
    pub(crate) const fn below(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The key just above, for an open bound.
    pub(crate) const fn above(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The first number in a JSON text that is not zero and is read as zero, because it is smaller than a double can be.
pub(crate) fn underflowing(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let (mut at, mut quoted) = (0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => quoted = !quoted,
            b'\\' if quoted => at += 1,
            b'-' | b'0'..=b'9' if !quoted => {
                let number = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
                let length = bytes[at..].iter().take_while(|b| number(b)).count();
                let token = &text[at..at + length];
                let mantissa = token.split(['e', 'E']).next().unwrap_or(token);
                let is_zero = !mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b));
                if !is_zero && token.parse() == Ok(0.0_f64) {
                    return Some(token);
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn num(text: &str) -> Num {
        Num::of(&serde_json::from_str(text).expect("is a number"))
    }

    #[test]
    fn keys_are_in_the_order_of_the_numbers() {
        let rising = [
            "-1e300",
            "-18446744073709551616",
            "-9223372036854775808",
            "-9223372036854775807",
            "-9007199254740993",
            "-9007199254740992",
            "-2.5",
            "-1e-320",
            "0",
            "1E-320",
            "0.1",
            "0.30000000000000004",
            "1",
            "9007199254740991",
            "9007199254740992",
            "9007199254740993",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551614",
            "18446744073709551615",
            "18446744073709551616",
            "1e300",
        ];
        for pair in rising.windows(2) {
            assert!(num(pair[0]) < num(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn spellings_are_one_number() {
        for same in [
            ["1", "1.0"],
            ["1e0", "10e-1"],
            ["200", "2.0e2"],
            ["0", "-0.0"],
        ] {
            assert_eq!(num(same[0]), num(same[1]), "{same:?}");
        }
    }

    #[test]
    fn what_is_too_small_is_found() {
        assert_eq!(underflowing(r#"{"a": ["1E-400", 0e-999, 0.0]}"#), None);
        assert_eq!(
            underflowing(r#"{"a": [1E-320, "\"", 1E-325]}"#),
            Some("1E-325")
        );
    }
}
