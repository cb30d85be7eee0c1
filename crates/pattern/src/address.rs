//! IP addresses and their ranges (`cidr`), read as EventBridge reads them: an IPv4 address that is mapped into IPv6 is that
//! IPv4 address, and digits of IPv4 are decimal whatever zeros lead.

use std::net::Ipv6Addr;

/// An address; those of version 4 stand where RFC 4291 (§2.5.5.2) maps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address(pub(crate) u128);

/// Where version 4 stands: `::ffff:0:0/96`.
const V4: u128 = 0xffff << 32;

/// A range of addresses, both ends inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cidr {
    pub(crate) text: String,
    pub(crate) low: Address,
    pub(crate) high: Address,
}

impl Address {
    /// Reads a text that is an address and nothing else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > 45 || !text.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':') {
            return None;
        }
        if text.contains(':') {
            return text.parse::<Ipv6Addr>().ok().map(|v6| Self(v6.to_bits()));
        }
        let mut parts = text.split('.');
        let mut v4 = 0_u128;
        for _ in 0..4 {
            let part = parts.next()?;
            let digits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            let part = digits.then(|| part.parse::<u8>().ok()).flatten()?;
            v4 = v4 << 8 | u128::from(part);
        }
        parts.next().is_none().then_some(Self(V4 | v4))
    }

    const fn is_v4(self) -> bool {
        self.0 >> 32 == V4 >> 32
    }
}

impl Cidr {
    /// Reads `10.0.0.0/8` or `2001:db8::/32`; bits beyond the mask do not matter.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            "expected an address, `/` and the bits of its mask: `10.0.0.0/8` or `2001:db8::/32`";
        let (address, bits) = text.split_once('/').ok_or(wrong)?;
        let address = Address::parse(address)
            .ok_or_else(|| format!("`{}` is no IP address", shown(address)))?;
        let (most, base) = if address.is_v4() { (32, 96) } else { (128, 0) };
        let digits =
            !bits.is_empty() && bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit());
        let bits = digits.then(|| bits.parse::<u32>().ok()).flatten();
        let bits = bits
            .filter(|bits| *bits <= most)
            .ok_or_else(|| format!("expected a mask of 0 to {most} bits after the `/`"))?;
        let free = u128::MAX.checked_shr(base + bits).unwrap_or(0);
        Ok(Self {
            text: text.to_owned(),
            low: Address(address.0 & !free),
            high: Address(address.0 | free),
        })
    }

    pub(crate) fn holds(&self, address: Address) -> bool {
        (self.low..=self.high).contains(&address) && self.low.is_v4() == address.is_v4()
    }
}

fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_addresses() {
        let check = |cidr: &str, address: &str, expected: bool| {
            let cidr = Cidr::parse(cidr).expect("is a range");
            let address = Address::parse(address).expect("is an address");
            assert_eq!(cidr.holds(address), expected, "{cidr:?} {address:?}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("10.1.2.3/0", "255.255.255.255", true);
        check("10.1.2.3/32", "10.1.2.3", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("::/0", "2001:db8::1", true);
        check("::/0", "10.0.0.1", false);
        check("2001:db8:1234:1a00::/64", "2001:db8:1234:1a00::9", true);
        check("2001:db8:1234:1a00::/64", "2001:db8:1234:1a01::", false);
        check("10.0.0.0/8", "::ffff:a01:203", true);
    }

    #[test]
    fn what_is_no_range_says_so() {
        for wrong in [
            "foo",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "1.2.3.4/+8",
            "1.2.3.256/8",
            "x::/8",
        ] {
            assert!(Cidr::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Address::parse("1.2.3.4.5"), None);
        assert_eq!(Address::parse("010.2.3.4"), Address::parse("10.2.3.4"));
    }
}
