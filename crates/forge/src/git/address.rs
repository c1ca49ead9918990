//! Which machines a remote may be on.
//!
//! Whoever adds a repo makes the daemon connect to an address from where the daemon is: what only this
//! machine, or only its network, may see must not be had that way. A host is judged when its address is
//! read, as far as the address tells, and again by every IP address that its name leads to, just before
//! one of exactly those is connected to. So a name that leads elsewhere the second time gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Host;

use super::UrlRules;

/// What an IP address is, as far as it matters to who may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Public,
    /// This machine itself.
    Loopback,
    /// A network of somebody's own.
    Private,
    /// The link between neighbours, where clouds have their metadata, with credentials in it.
    Link,
    /// Nobody's: unspecified, multicast, reserved.
    Reserved,
}

impl UrlRules {
    /// Whether a host may be followed, as far as its name tells.
    pub(super) fn admit_host(&self, host: &Host<&str>) -> Result<(), String> {
        match host {
            Host::Ipv4(ip) => self.admit(&host.to_string(), IpAddr::V4(*ip)),
            Host::Ipv6(ip) => self.admit(&host.to_string(), IpAddr::V6(*ip)),
            Host::Domain(name) => {
                let name = name.trim_end_matches('.');
                if name == "localhost" || name.ends_with(".localhost") {
                    return self.admit(name, IpAddr::V4(Ipv4Addr::LOCALHOST));
                }
                Ok(())
            }
        }
    }

    /// Whether `ip`, which is an address of `host`, may be connected to. Says why not, and which key
    /// permits it.
    pub(super) fn admit(&self, host: &str, ip: IpAddr) -> Result<(), String> {
        let is_named = self.hosts.iter().any(|named| plain(named) == plain(host));
        let shown = if plain(host).parse() == Ok(ip) {
            format!("{ip} is")
        } else {
            format!("{host} leads to {ip}, which is")
        };
        let why = match kind(ip) {
            _ if is_named => return Ok(()),
            Kind::Public => return Ok(()),
            Kind::Loopback if self.allow_loopback => return Ok(()),
            Kind::Private if self.allow_private => return Ok(()),
            Kind::Loopback => "the daemon's own machine",
            Kind::Private => {
                return Err(format!(
                    "{shown} in a private network; `git.private_addresses = true` in the configuration permits those, \
                     `git.hosts = [{:?}]` this one",
                    plain(host)
                ));
            }
            Kind::Link => "in the range of a machine's neighbours and of cloud metadata",
            Kind::Reserved => "the address of no machine",
        };
        Err(format!(
            "{shown} {why}; `git.hosts = [{:?}]` in the configuration permits it",
            plain(host)
        ))
    }
}

/// A host as it is compared: small letters, without the dot of a full name and without brackets.
fn plain(host: &str) -> String {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.')
        .to_ascii_lowercase()
}

fn kind(ip: IpAddr) -> Kind {
    match ip {
        IpAddr::V4(ip) => kind_of_4(ip),
        IpAddr::V6(ip) => kind_of_6(ip),
    }
}

fn kind_of_4(ip: Ipv4Addr) -> Kind {
    match ip.octets() {
        [127, ..] => Kind::Loopback,
        [169, 254, ..] | [100, 100, 100, 200] | [168, 63, 129, 16] => Kind::Link,
        [10, ..] | [192, 168, ..] => Kind::Private,
        [172, second, ..] if (16..32).contains(&second) => Kind::Private,
        [100, second, ..] if (64..128).contains(&second) => Kind::Private,
        [198, 18 | 19, ..] => Kind::Private,
        [0 | 224.., ..] | [192, 0, 0, _] => Kind::Reserved,
        _ => Kind::Public,
    }
}

fn kind_of_6(ip: Ipv6Addr) -> Kind {
    let parts = ip.segments();
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        kind_of_4(Ipv4Addr::new(a, b, c, d))
    };
    match parts {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Loopback,
        // An IPv4 address in other clothes: mapped, compatible, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            inner(high, low)
        }
        [0x2002, high, low, ..] => inner(high, low),
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Kind::Link,
        [0xfe80..=0xfebf, ..] => Kind::Link,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => Kind::Private,
        // Teredo, and everything outside of what is given out.
        [0x2001, 0, ..] => Kind::Reserved,
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(text: &str) -> Kind {
        kind(text.parse().unwrap())
    }

    #[test]
    fn class_14_addresses_are_told_apart_in_all_their_clothes() {
        for (kind, texts) in [
            (
                Kind::Loopback,
                &[
                    "127.0.0.1",
                    "127.9.9.9",
                    "::1",
                    "::ffff:127.0.0.1",
                    "64:ff9b::7f00:1",
                ][..],
            ),
            (
                Kind::Link,
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
                Kind::Private,
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
                Kind::Reserved,
                &["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"],
            ),
            (
                Kind::Public,
                &["140.82.121.4", "172.32.0.1", "2606:50c0::1"],
            ),
        ] {
            for text in texts {
                assert_eq!(kind_of(text), kind, "{text}");
            }
        }
    }

    #[test]
    fn class_14_a_refusal_names_the_key_that_permits_it() {
        let rules = UrlRules::default();
        let why = |host: &str, ip: &str| rules.admit(host, ip.parse().unwrap()).unwrap_err();
        assert!(why("10.0.0.1", "10.0.0.1").contains("git.private_addresses"));
        let rebound = why("rebind.example.org", "127.0.0.1");
        assert!(
            rebound.contains("rebind.example.org leads to 127.0.0.1"),
            "{rebound}"
        );
        assert!(
            rebound.contains("git.hosts = [\"rebind.example.org\"]"),
            "{rebound}"
        );
        assert!(why("169.254.169.254", "169.254.169.254").contains("metadata"));
    }

    #[test]
    fn a_host_that_the_operator_names_may_be_anywhere() {
        let rules = UrlRules {
            hosts: vec!["Forge.LAN".to_owned(), "::1".to_owned()],
            ..UrlRules::default()
        };
        assert!(
            rules
                .admit("forge.lan.", "10.0.0.1".parse().unwrap())
                .is_ok()
        );
        assert!(rules.admit("[::1]", "::1".parse().unwrap()).is_ok());
        assert!(
            rules
                .admit("other.lan", "10.0.0.1".parse().unwrap())
                .is_err()
        );
    }

    #[test]
    fn loopback_of_a_development_machine_does_not_open_its_neighbours() {
        let rules = UrlRules {
            allow_loopback: true,
            allow_private: true,
            ..UrlRules::default()
        };
        assert!(
            rules
                .admit("localhost", "127.0.0.1".parse().unwrap())
                .is_ok()
        );
        assert!(rules.admit("x", "192.168.0.1".parse().unwrap()).is_ok());
        assert!(
            rules
                .admit("x", "169.254.169.254".parse().unwrap())
                .is_err()
        );
        assert!(rules.admit("x", "0.0.0.0".parse().unwrap()).is_err());
    }
}
