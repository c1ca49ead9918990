//! Kinds of IP addresses, for connections that a text from outside asks for (git remotes, image registries), and the
//! spellings of numeric addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of an IP address, as far as it decides who may connect to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// The public internet's.
    Public,
    /// This machine itself.
    Loopback,
    /// A private network.
    Private,
    /// The link between neighbours, where clouds have their metadata, with credentials in it.
    Link,
    /// Unassigned: unspecified, multicast, reserved.
    Reserved,
}

impl AddressKind {
    /// The kind of an address. An address that embeds an IPv4 address (mapped, NAT64, 6to4) has the kind of that one.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => kind_of_4(ip),
            IpAddr::V6(ip) => kind_of_6(ip),
        }
    }
}

fn kind_of_4(ip: Ipv4Addr) -> AddressKind {
    match ip.octets() {
        [127, ..] => AddressKind::Loopback,
        [169, 254, ..] | [100, 100, 100, 200] | [168, 63, 129, 16] => AddressKind::Link,
        [10, ..] | [192, 168, ..] => AddressKind::Private,
        [172, second, ..] if (16..32).contains(&second) => AddressKind::Private,
        [100, second, ..] if (64..128).contains(&second) => AddressKind::Private,
        [198, 18 | 19, ..] => AddressKind::Private,
        [0 | 224.., ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => AddressKind::Reserved,
        _ => AddressKind::Public,
    }
}

fn kind_of_6(ip: Ipv6Addr) -> AddressKind {
    let parts = ip.segments();
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        kind_of_4(Ipv4Addr::new(a, b, c, d))
    };
    match parts {
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressKind::Loopback,
        // An IPv4 address in another form: mapped, compatible, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            inner(high, low)
        }
        [0x2002, high, low, ..] => inner(high, low),
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => AddressKind::Link,
        [0xfe80..=0xfebf, ..] => AddressKind::Link,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => AddressKind::Private,
        // Teredo, documentation, and everything outside of the assigned ranges.
        [0x2001, 0 | 0xdb8, ..] => AddressKind::Reserved,
        [0x2000..=0x3fff, ..] => AddressKind::Public,
        _ => AddressKind::Reserved,
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

/// A part of a numeric address; a number that is too large becomes the largest one.
fn number(part: &str) -> Option<u64> {
    let lower = part.to_ascii_lowercase();
    let (digits, radix) = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(""), _) => ("0", 16),
        (Some(hex), _) => (hex, 16),
        // Some resolvers read a number that is not octal as decimal.
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
            "168.63.129.16",
            "192.0.0.192",
            "192.0.2.2",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
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
            assert!(
                AddressKind::of(address.parse().unwrap()) != AddressKind::Public,
                "{address}"
            );
        }
        for address in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "2002:808:808::",
        ] {
            assert!(
                AddressKind::of(address.parse().unwrap()) == AddressKind::Public,
                "{address}"
            );
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
                AddressKind::of(address.into()) != AddressKind::Public || host == "0127.0.0.1",
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

    fn kind_of(text: &str) -> AddressKind {
        AddressKind::of(text.parse().unwrap())
    }

    #[test]
    fn class_14_addresses_are_distinguished_in_all_their_spellings() {
        for (kind, texts) in [
            (
                AddressKind::Loopback,
                &[
                    "127.0.0.1",
                    "127.9.9.9",
                    "::1",
                    "::ffff:127.0.0.1",
                    "64:ff9b::7f00:1",
                ][..],
            ),
            (
                AddressKind::Link,
                &[
                    "169.254.169.254",
                    "fe80::1",
                    "::ffff:169.254.169.254",
                    "2002:a9fe:a9fe::1",
                    "fd00:ec2::254",
                    "100.100.100.200",
                ],
            ),
            (
                AddressKind::Private,
                &[
                    "10.0.0.1",
                    "172.31.0.1",
                    "192.168.1.1",
                    "100.64.0.1",
                    "fd12::1",
                    "::ffff:10.0.0.1",
                ],
            ),
            (
                AddressKind::Reserved,
                &["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"],
            ),
            (
                AddressKind::Public,
                &["140.82.121.4", "172.32.0.1", "2606:50c0::1"],
            ),
        ] {
            for text in texts {
                assert_eq!(kind_of(text), kind, "{text}");
            }
        }
    }
}
