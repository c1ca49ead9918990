//! Decides which machines a remote may be on.
//!
//! A user who adds a repo makes the daemon connect to an address from the daemon's machine, and must not reach
//! services that only this machine or its network may see. A host is checked when its address is read, as far as its
//! name shows, and again by every IP address that its name resolves to, just before the connection to one of exactly
//! these. So a name that resolves differently the second time gains nothing.

use std::net::{IpAddr, Ipv4Addr};

use trainyard_core::address::AddressKind;
use url::Host;

use super::UrlRules;

impl UrlRules {
    /// Whether a host may be followed, as far as its name shows.
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

    /// Whether `ip`, an address of `host`, may be connected to. The error has the reason and the key that permits it.
    pub(super) fn admit(&self, host: &str, ip: IpAddr) -> Result<(), String> {
        let is_named = self.hosts.iter().any(|named| plain(named) == plain(host));
        let shown = if plain(host).parse() == Ok(ip) {
            format!("{ip} is")
        } else {
            format!("{host} leads to {ip}, which is")
        };
        let why = match AddressKind::of(ip) {
            _ if is_named => return Ok(()),
            AddressKind::Public => return Ok(()),
            AddressKind::Loopback if self.allow_loopback => return Ok(()),
            AddressKind::Private if self.allow_private => return Ok(()),
            AddressKind::Loopback => "the daemon's own machine",
            AddressKind::Private => {
                return Err(format!(
                    "{shown} in a private network; `git.private_addresses = true` in the configuration permits those, \
                     `git.hosts = [{:?}]` this one",
                    plain(host)
                ));
            }
            AddressKind::Link => "a link-local address, the range of cloud metadata",
            AddressKind::Reserved => "a reserved address",
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

#[cfg(test)]
mod tests {
    use super::*;

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
