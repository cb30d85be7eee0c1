//! `X-Forwarded-*` and `Forwarded`: what workloads learn about the client.
//!
//! By default nobody is trusted: what a client says about itself is replaced by what the gateway sees. Only the
//! listed proxies are believed, and what they say is continued.

use std::{fmt, net::IpAddr, str::FromStr};

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use platform::remove_header;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Addresses of proxies in front of the gateway: `10.0.0.0/8`, `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text is no address and no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotANetwork;

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an address or a network such as 10.0.0.0/8")
    }
}

impl std::error::Error for NotANetwork {}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| NotANetwork)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let most = width(address);
        let bits = bits.unwrap_or(most);
        if bits > most {
            Err(NotANetwork)
        } else {
            Ok(Self { address, bits })
        }
    }
}

impl Network {
    /// Whether `address` belongs to it; an IPv4 address in IPv6 form counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, other) = (self.address.to_canonical(), address.to_canonical());
        if own.is_ipv4() != other.is_ipv4() {
            return false;
        }
        let rest = u32::from(width(own)) - u32::from(self.bits.min(width(own)));
        let shift = |value: u128| value.checked_shr(rest).unwrap_or(0);
        shift(number(own)) == shift(number(other))
    }
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The other end of a connection, with what is written about it into every request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Whether it is a proxy that is believed.
    pub trusted: bool,
    /// Whether it speaks TLS.
    pub tls: bool,
    text: HeaderValue,
}

impl Peer {
    /// The client at `address`.
    #[must_use]
    pub fn new(address: IpAddr, trusted: &[Network]) -> Self {
        let address = address.to_canonical();
        Self {
            address,
            trusted: trusted.iter().any(|network| network.contains(address)),
            tls: false,
            text: HeaderValue::from_str(&address.to_string()).expect("an address is ASCII"),
        }
    }
}

impl Peer {
    /// The same, over TLS.
    #[must_use]
    pub fn over_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

/// Writes into `headers` where the request came from; `host` is what the client asked for.
pub fn write(headers: &mut HeaderMap, peer: &Peer, host: Option<&HeaderValue>) {
    if !peer.trusted {
        headers.remove(FORWARDED);
        remove_header(headers, &REAL_IP);
        headers.insert(FOR, peer.text.clone());
        headers.insert(PROTO, HeaderValue::from_static(peer.scheme()));
        match host {
            Some(host) => drop(headers.insert(HOST, host.clone())),
            None => drop(headers.remove(HOST)),
        }
        return;
    }
    let chain = joined(headers, &FOR, peer.text.as_bytes());
    headers.insert(FOR, chain);
    headers
        .entry(PROTO)
        .or_insert(HeaderValue::from_static(peer.scheme()));
    if let Some(host) = host {
        headers.entry(HOST).or_insert_with(|| host.clone());
    }
    if headers.contains_key(FORWARDED) {
        let chain = joined(headers, &FORWARDED, element(peer).as_bytes());
        headers.insert(FORWARDED, chain);
    }
}

/// All values of `name` and `last`, as one list.
fn joined(headers: &HeaderMap, name: &HeaderName, last: &[u8]) -> HeaderValue {
    let mut list = Vec::new();
    for value in headers.get_all(name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(last);
    HeaderValue::from_bytes(&list).expect("joined header values are a header value")
}

/// One element of `Forwarded` (RFC 7239 §6: IPv6 in brackets and quotes).
fn element(peer: &Peer) -> String {
    let scheme = peer.scheme();
    match peer.address {
        IpAddr::V4(v4) => format!("for={v4};proto={scheme}"),
        IpAddr::V6(v6) => format!("for=\"[{v6}]\";proto={scheme}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(trusted: &[&str], peer: &str, client: &[(&'static str, &'static str)]) -> Vec<String> {
        let trusted: Vec<Network> = trusted
            .iter()
            .map(|n| n.parse().expect("is a network"))
            .collect();
        let peer = Peer::new(peer.parse().expect("is an address"), &trusted);
        let mut headers = HeaderMap::new();
        for (name, value) in client {
            headers.append(*name, HeaderValue::from_static(value));
        }
        write(&mut headers, &peer, Some(&HeaderValue::from_static("shop")));
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().expect("is ASCII")))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_client_cannot_say_who_it_is() {
        let claims = [
            ("x-forwarded-for", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-host", "bank"),
        ];
        let expected = [
            "x-forwarded-for: 192.0.2.7",
            "x-forwarded-host: shop",
            "x-forwarded-proto: http",
        ];
        assert_eq!(said(&[], "::ffff:192.0.2.7", &claims), expected);
    }

    #[test]
    fn a_trusted_proxy_is_continued() {
        let claims = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(
            said(&["10.0.0.0/8", "fd00::/8"], "fd00::9", &claims),
            [
                "forwarded: for=1.1.1.1, for=\"[fd00::9]\";proto=http",
                "x-forwarded-for: 1.1.1.1, 2.2.2.2, fd00::9",
                "x-forwarded-host: shop",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn networks_contain_their_addresses() {
        let check = |network: &str, address: &str| {
            let network: Network = network.parse().expect("is a network");
            network.contains(address.parse().expect("is an address"))
        };
        assert!(check("10.0.0.0/8", "10.255.0.1") && !check("10.0.0.0/8", "11.0.0.1"));
        assert!(check("0.0.0.0/0", "8.8.8.8") && !check("0.0.0.0/0", "::1"));
        assert!(check("::1", "::1") && check("::/0", "fe80::1"));
        for bad in ["", "10.0.0.0/33", "::1/129", "x", "10.0.0.0/"] {
            assert_eq!(bad.parse::<Network>(), Err(NotANetwork), "{bad}");
        }
    }
}
