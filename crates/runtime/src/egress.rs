//! What a workload may reach outside: the names that its manifest declares, and addresses that are public or declared.
//!
//! Pure. A name is checked first, then every address that it resolves to, and only a checked address is dialled: so a
//! name that is allowed cannot be pointed at the inside of a network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::Egress;

/// Whether `rules` let a workload reach `host` on `port`. `host` is lower-case, without brackets or a final dot.
pub(crate) fn permits(rules: &[Egress], host: &str, port: u16) -> bool {
    rules
        .iter()
        .any(|rule| port_fits(rule, port) && host_fits(&rule.host, host))
}

/// Whether a workload that may reach the name may dial the address that it resolved to.
pub(crate) fn may_dial(rules: &[Egress], address: IpAddr, port: u16) -> bool {
    is_public(address)
        || rules.iter().any(|rule| {
            let declared = strip(&rule.host);
            let literal = declared
                .parse()
                .is_ok_and(|ip: IpAddr| ip.to_canonical() == address.to_canonical());
            let loopback =
                declared.eq_ignore_ascii_case("localhost") && address.to_canonical().is_loopback();
            port_fits(rule, port) && (literal || loopback)
        })
}

/// What to add to a manifest so that `host` may be reached on `port`.
pub(crate) fn advice(host: &str, port: u16) -> String {
    let port = match port {
        80 | 443 => String::new(),
        port => format!(", port: {port}"),
    };
    format!("add `{{host: \"{host}\"{port}}}` to its `egress` in tangelo.yaml")
}

/// The form in which hosts are compared: lower-case, no brackets, no final dot.
pub(crate) fn normal(host: &str) -> String {
    let host = strip(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn strip(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host)
}

fn port_fits(rule: &Egress, port: u16) -> bool {
    rule.port.map_or(port == 80 || port == 443, |p| p == port)
}

fn host_fits(rule: &str, host: &str) -> bool {
    let rule = normal(rule);
    if let Some(suffix) = rule.strip_prefix("*.") {
        return host
            .strip_suffix(suffix)
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
    }
    if let (Ok(rule), Ok(host)) = (rule.parse::<IpAddr>(), host.parse::<IpAddr>()) {
        return rule.to_canonical() == host.to_canonical();
    }
    rule == host
}

/// Whether an address is one of the public Internet (IANA's special-purpose registries, 2025).
///
/// Addresses that carry another inside (mapped, NAT64, 6to4) are judged by that one.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => embedded(v6).map_or_else(|| is_public_v6(v6), is_public_v4),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

/// Only global unicast (2000::/3) without what is carved out of it.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // 2001::/23 has protocols, Teredo and benchmarks; the others are documentation.
    let special = match a {
        0x2001 => b < 0x200 || b == 0xdb8,
        0x3fff => b < 0x1000,
        _ => false,
    };
    (0x2000..0x4000).contains(&a) && !special
}

fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(g, h)),
        (0x2002, ..) => Some(v4(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(host: &str, port: Option<u16>) -> Egress {
        Egress {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn names_are_exact_or_below_a_suffix() {
        let rules = [rule("api.example.com", None), rule("*.cdn.net", Some(8443))];
        let check = |host: &str, port, expected| {
            assert_eq!(
                permits(&rules, &normal(host), port),
                expected,
                "{host}:{port}"
            );
        };
        check("api.example.com", 443, true);
        check("API.Example.COM.", 80, true);
        check("api.example.com", 8080, false);
        check("example.com", 443, false);
        check("api.example.com.evil.net", 443, false);
        check("evilapi.example.com", 443, false);
        check("a.cdn.net", 8443, true);
        check("a.b.cdn.net", 8443, true);
        check("a.cdn.net", 443, false);
        check("cdn.net", 8443, false);
        check("evilcdn.net", 8443, false);
        check(".cdn.net", 8443, false);
    }

    #[test]
    fn addresses_inside_are_refused_in_every_disguise() {
        for inside in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.88.99.1",
            "::",
            "::1",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001::1",
            "2001:db8::1",
            "100::1",
            "3fff::1",
            "5f00::1",
        ] {
            assert!(!is_public(inside.parse().expect("an address")), "{inside}");
        }
        for outside in [
            "1.1.1.1",
            "93.184.216.34",
            "172.32.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_public(outside.parse().expect("an address")), "{outside}");
        }
    }

    #[test]
    fn a_literal_address_must_be_written_out() {
        let dial = |rules: &[Egress], ip: &str, port| {
            may_dial(rules, ip.parse().expect("an address"), port)
        };
        let by_name = [rule("db.corp", Some(5000))];
        assert!(!dial(&by_name, "10.0.0.5", 5000));
        let by_address = [rule("db.corp", Some(5000)), rule("10.0.0.5", Some(5000))];
        assert!(dial(&by_address, "10.0.0.5", 5000));
        assert!(dial(&by_address, "::ffff:10.0.0.5", 5000));
        assert!(!dial(&by_address, "10.0.0.5", 80));
        let local = [rule("localhost", Some(3000))];
        assert!(dial(&local, "127.0.0.1", 3000) && dial(&local, "::1", 3000));
        assert!(!dial(&local, "127.0.0.1", 3001) && !dial(&local, "10.0.0.1", 3000));
        assert!(permits(&[rule("[::1]", Some(1))], &normal("[::1]"), 1));
    }
}
