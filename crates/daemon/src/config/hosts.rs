//! Names of hosts, as a TOML list or as `forge.lan,127.0.0.1`.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// The longest name of a host.
const LONGEST: usize = 253;

/// Names or addresses of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Hosts(pub Vec<String>);

impl Hosts {
    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        names
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(|name| {
                let is_host = name.len() <= LONGEST
                    && name
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c));
                let has_port = name.matches(':').count() == 1;
                if is_host && !has_port {
                    Ok(name.to_ascii_lowercase())
                } else {
                    Err(format!(
                        "`{name}` is not a host: write a name or an address without a port, such as forge.lan or 10.0.0.5"
                    ))
                }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl FromStr for Hosts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::of(text.split(','))
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.join(","))
    }
}

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Self::of(names.iter().map(String::as_str)).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_without_ports() {
        let hosts: Hosts = "Forge.LAN, 10.0.0.5,[::1],::1".parse().unwrap();
        assert_eq!(hosts.0, ["forge.lan", "10.0.0.5", "[::1]", "::1"]);
        for text in ["forge.lan:3000", "http://forge.lan", "a/b", "a b"] {
            assert!(text.parse::<Hosts>().is_err(), "{text}");
        }
    }
}
