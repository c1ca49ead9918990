//! The registries that images may come from.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

use super::ImageReference;
use crate::address::{AddressKind, numeric_address};

/// The word for all registries of the public internet.
const PUBLIC: &str = "public";

/// Which registries an operator allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registries {
    /// Whether all registries of the public internet are allowed.
    public: bool,
    /// The registries that are allowed whatever their address; with the port where one is named.
    named: BTreeSet<String>,
}

/// Why a registry may not be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryFault {
    /// Its name is one of this machine or of its network.
    #[error("the registry {0} is on this machine or in a private network")]
    Private(String),
    /// Its name resolves to such an address.
    #[error("the registry {0} has an address in a private network")]
    ResolvesToPrivate(String),
    /// The operator's list lacks it.
    #[error("the registry {0} is not among those that are allowed")]
    NotListed(String),
}

impl Default for Registries {
    fn default() -> Self {
        Self {
            public: true,
            named: BTreeSet::new(),
        }
    }
}

impl Registries {
    /// Reads the operator's list: hosts with their ports, and the word `public` for all public registries.
    ///
    /// # Errors
    /// An entry that is neither.
    pub fn new<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let mut registries = Self {
            public: false,
            named: BTreeSet::new(),
        };
        for entry in entries {
            let entry = entry.as_ref().trim();
            if entry == PUBLIC {
                registries.public = true;
                continue;
            }
            // Read it as part of a reference: an entry that reads differently could never match one.
            let host = entry.to_ascii_lowercase();
            let read = ImageReference::parse(&format!("{host}/x"));
            match read {
                Ok(read) if read.registry() == host => drop(registries.named.insert(host)),
                _ => {
                    return Err(format!(
                        "`{entry}` is not the host of a registry; write it as registry.example.com or \
                         registry.example.com:5000, or `public` for all of the public internet"
                    ));
                }
            }
        }
        Ok(registries)
    }

    /// Whether images may come from the registry of a reference, judged by its name.
    ///
    /// # Errors
    /// Why they may not.
    pub fn allow(&self, reference: &ImageReference) -> Result<(), RegistryFault> {
        let registry = reference.registry();
        if self.named.contains(registry) {
            return Ok(());
        }
        let host = registry.split(':').next().unwrap_or(registry);
        if !self.public {
            return Err(RegistryFault::NotListed(registry.to_owned()));
        }
        let is_here = host == "localhost" || host.ends_with(".localhost");
        let address = numeric_address(host).map(IpAddr::from);
        if is_here || address.is_some_and(|address| AddressKind::of(address) != AddressKind::Public)
        {
            return Err(RegistryFault::Private(registry.to_owned()));
        }
        Ok(())
    }

    /// Whether the address of the registry matters: it does not where the operator named the registry.
    #[must_use]
    pub fn minds_addresses(&self, reference: &ImageReference) -> bool {
        !self.named.contains(reference.registry())
    }

    /// Whether the registry may be used at these addresses.
    ///
    /// # Errors
    /// One of them is not public.
    pub fn allow_addresses(
        &self,
        reference: &ImageReference,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), RegistryFault> {
        let all_public = addresses
            .into_iter()
            .all(|address| AddressKind::of(address) == AddressKind::Public);
        if all_public || !self.minds_addresses(reference) {
            return Ok(());
        }
        let registry = reference.registry().to_owned();
        Err(RegistryFault::ResolvesToPrivate(registry))
    }
}

impl fmt::Display for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = self.public.then_some(PUBLIC);
        let all: Vec<&str> = public
            .into_iter()
            .chain(self.named.iter().map(String::as_str))
            .collect();
        f.write_str(&all.join(","))
    }
}

impl FromStr for Registries {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let entries = text.split(',').map(str::trim);
        Self::new(entries.filter(|entry| !entry.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(registries: &Registries, text: &str) -> Result<(), RegistryFault> {
        registries.allow(&ImageReference::parse(text).unwrap())
    }

    #[test]
    fn class_14_without_a_list_registries_of_the_host_s_networks_are_refused() {
        let usual = Registries::default();
        for text in [
            "127.0.0.1:8598/admin/page",
            "127.0.0.1/x",
            "localhost/x",
            "localhost:5000/x",
            "LOCALHOST:5000/x",
            "registry.localhost/x",
            "10.0.0.5:5000/x",
            "172.17.0.1:80/x",
            "192.168.0.1/x",
            "169.254.169.254/x",
            "2130706433:80/x",
            "0x7f000001:80/x",
            "0177.0.0.1/x",
            "127.1/x",
            "0:5000/x",
            "0.0.0.0/x",
            "100.100.100.200/x",
        ] {
            assert!(allow(&usual, text).is_err(), "{text}");
        }
        for text in [
            "alpine:3",
            "ghcr.io/a/b",
            "8.8.8.8/x",
            "registry.example.com:5000/x",
        ] {
            assert_eq!(allow(&usual, text), Ok(()), "{text}");
        }
    }

    #[test]
    fn class_14_a_name_of_a_private_address_is_refused_unless_the_operator_named_it() {
        let image = ImageReference::parse("registry.internal:5000/x").unwrap();
        let private = [IpAddr::from([8, 8, 8, 8]), IpAddr::from([10, 0, 0, 1])];
        assert!(
            Registries::default()
                .allow_addresses(&image, private)
                .is_err()
        );
        let named: Registries = "public, registry.internal:5000".parse().unwrap();
        assert_eq!(named.allow_addresses(&image, private), Ok(()));
    }

    #[test]
    fn a_list_allows_exactly_what_it_names() {
        let listed: Registries = "docker.io,127.0.0.1:5000".parse().unwrap();
        assert_eq!(allow(&listed, "alpine"), Ok(()));
        assert_eq!(allow(&listed, "127.0.0.1:5000/x"), Ok(()));
        for text in ["127.0.0.1/x", "127.0.0.1:5001/x", "ghcr.io/x"] {
            assert!(allow(&listed, text).is_err(), "{text}");
        }
        assert_eq!(listed.to_string(), "127.0.0.1:5000,docker.io");
        for wrong in ["http://ghcr.io", "ghcr.io/team", "*", "a b", "alpine"] {
            assert!(Registries::new([wrong]).is_err(), "{wrong}");
        }
    }
}
