//! Which addresses are the public internet's, and the spellings of numeric ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address belongs to the public internet: not loopback, link-local (which has the metadata
/// services of clouds), private, shared, reserved or multicast, nor one of those within an IPv6 address.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let last = Ipv4Addr::from((u32::from(segments[6]) << 16) | u32::from(segments[7]));
    match segments {
        // Mapped, compatible, and the loopback among them.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => false,
        // Translated to IPv4.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_public_v4(last),
        // 6to4: the IPv4 address is in the second and third part.
        [0x2002, high, low, ..] => {
            is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
        }
        // Teredo and documentation.
        [0x2001, 0 | 0xdb8, ..] => false,
        // Only 2000::/3 is in use as public.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// The IPv4 address that a host's name is, in any spelling that resolvers take: `127.1`, `2130706433`,
/// `0x7f.1`, `0177.0.0.1`. `None` where it is a name; 0.0.0.0 where it is a number out of range.
#[must_use]
pub fn numeric_address(host: &str) -> Option<Ipv4Addr> {
    let parts: Option<Vec<u64>> = host.split('.').map(number).collect();
    let parts = parts?;
    let (last, heads) = parts.split_last()?;
    if heads.len() > 3 || heads.iter().any(|head| *head > 255) {
        return Some(Ipv4Addr::UNSPECIFIED);
    }
    let room = 1u64 << (8 * (4 - heads.len()));
    if *last >= room {
        return Some(Ipv4Addr::UNSPECIFIED);
    }
    let mut value = *last;
    for (place, head) in heads.iter().enumerate() {
        value |= head << (8 * (3 - place));
    }
    Some(Ipv4Addr::from(u32::try_from(value).unwrap_or_default()))
}

/// A part of a numeric address; one that is too large is larger than any room for it.
fn number(part: &str) -> Option<u64> {
    let lower = part.to_ascii_lowercase();
    let (digits, radix) = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(""), _) => ("0", 16),
        (Some(hex), _) => (hex, 16),
        // What is not octal is read as decimal by some.
        (None, Some(octal)) if !octal.is_empty() && !octal.contains(['8', '9']) => (octal, 8),
        (None, _) => (lower.as_str(), 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    Some(u64::from_str_radix(digits, radix).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_14_addresses_that_are_not_public_are_known() {
        for address in [
            "127.0.0.1",
            "127.255.255.255",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "192.0.2.2",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:0:127.0.0.1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "2002:808:808::",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn class_14_every_spelling_of_a_number_is_an_address() {
        for host in [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "0x7F.0X0.0x0.0x1",
            "0127.0.0.1",
        ] {
            let address = numeric_address(host).unwrap();
            assert!(
                !is_public(address.into()) || host == "0127.0.0.1",
                "{host}: {address}"
            );
        }
        for host in [
            "256.1.1.1",
            "1.2.3.4.5",
            "4294967296",
            "99999999999999999999999",
        ] {
            assert_eq!(numeric_address(host), Some(Ipv4Addr::UNSPECIFIED), "{host}");
        }
        for host in ["ghcr.io", "1.example.com", "a1", "127.0.0.1.nip.io", ""] {
            assert_eq!(numeric_address(host), None, "{host}");
        }
    }
}
