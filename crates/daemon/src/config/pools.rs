//! Pools and their slots, as a TOML table or as `gpu=2,licence=1`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use trainyard_core::name::PoolName;

/// Slots of each pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pools(pub BTreeMap<PoolName, u32>);

impl FromStr for Pools {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pools = BTreeMap::new();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let fault = || format!("invalid pool `{item}`: write NAME=SLOTS, such as gpu=2");
            let (name, slots) = item.split_once('=').ok_or_else(fault)?;
            let name = PoolName::new(name.trim()).map_err(|error| error.to_string())?;
            let slots = slots.trim().parse().map_err(|_| fault())?;
            if pools.insert(name.clone(), slots).is_some() {
                return Err(format!("the pool `{name}` is given twice"));
            }
        }
        Ok(Self(pools))
    }
}

impl fmt::Display for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<String> = self
            .0
            .iter()
            .map(|(name, slots)| format!("{name}={slots}"))
            .collect();
        f.pad(&items.join(","))
    }
}

impl Serialize for Pools {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, slots)| (name.as_str(), slots)))
    }
}

impl<'de> Deserialize<'de> for Pools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pools = BTreeMap::<Name, u32>::deserialize(deserializer)?;
        Ok(Self(
            pools
                .into_iter()
                .map(|(Name(name), slots)| (name, slots))
                .collect(),
        ))
    }
}

/// A name that is validated while it is parsed, so that an error has its position.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name(PoolName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        PoolName::new(text).map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_read_from_one_argument() {
        let pools: Pools = "gpu=2, licence=1".parse().unwrap();
        assert_eq!(pools.to_string(), "gpu=2,licence=1");
        assert_eq!("".parse(), Ok(Pools::default()));
    }

    #[test]
    fn a_wrong_pool_is_named() {
        for wrong in ["gpu", "gpu=two", "GPU=1", "gpu=1,gpu=2"] {
            let error = wrong.parse::<Pools>().unwrap_err();
            assert!(error.to_lowercase().contains("gpu"), "{wrong}: {error}");
        }
    }
}
