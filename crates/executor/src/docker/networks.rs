//! Gives each repo a network of its own: its stages and builds reach each other and the outside. Stages of
//! different repos do not reach each other.
//!
//! A network is made when it is first needed, found again by its name, and removed once no container has
//! needed it for a while. Docker gives each one an address range of its own while it has any left; after that,
//! Trainyard gives it one of the operator's ranges.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::{
    InspectNetworkOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptions,
    ListNetworksOptionsBuilder,
};
use sha2::{Digest, Sha256};
use tracing::{debug, info};
use trainyard_core::id::RepoId;
use trainyard_failpoint::{AtPoint as _, Point};

use super::Engine;
use super::errors::{CallError, LONG, SHORT, within};
use crate::error::{Error, ErrorKind};

/// The labels of networks.
const INSTANCE: &str = "io.trainyard.network.instance";
const REPO: &str = "io.trainyard.network.repo";

/// The prefix of the bridges of all Trainyard networks, so that a rule of the host's firewall can name them.
const BRIDGE: &str = "ty-";

/// The size of the part of an operator's range that a network gets: 253 containers that run at the same time, more
/// than twice the CPUs of most machines.
const PREFIX: u8 = 24;

/// How many ranges that no Docker network has are tried: routes of the host may collide with some.
const TRIES: usize = 8;

/// How long a network is kept after it was last needed.
const LATELY: Duration = Duration::from_secs(10 * 60);

/// Networks that this process has seen, with the time when each was last needed.
#[derive(Debug, Default)]
pub(super) struct Networks {
    needed: Mutex<HashMap<String, (RepoId, Instant)>>,
    making: tokio::sync::Mutex<()>,
}

impl Networks {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, (RepoId, Instant)>) -> T) -> T {
        act(&mut self.needed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a network is known to exist; if so, marks it as needed now.
    fn is_there(&self, name: &str) -> bool {
        self.with(|needed| {
            needed
                .get_mut(name)
                .map(|(_, at)| *at = Instant::now())
                .is_some()
        })
    }

    fn is_needed(&self, name: &str) -> bool {
        self.with(|needed| {
            needed
                .get(name)
                .is_some_and(|(_, at)| at.elapsed() < LATELY)
        })
    }

    pub(super) fn forget_all(&self) {
        self.with(HashMap::clear);
    }

    pub(super) fn forget(&self, name: &str) {
        self.with(|needed| {
            needed.remove(name);
        });
    }
}

/// Ranges of addresses for networks, used where Docker has none of its own left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnets {
    first: Ipv4Addr,
    prefix: u8,
}

impl Default for Subnets {
    fn default() -> Self {
        Self {
            first: Ipv4Addr::new(10, 201, 0, 0),
            prefix: 16,
        }
    }
}

impl FromStr for Subnets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || {
            format!(
                "`{text}` is not a range of addresses: write it as 10.201.0.0/16, between /8 and /{PREFIX}"
            )
        };
        let (first, prefix) = text.trim().split_once('/').ok_or_else(fault)?;
        let first: Ipv4Addr = first.parse().map_err(|_| fault())?;
        let prefix: u8 = prefix.parse().map_err(|_| fault())?;
        if !(8..=PREFIX).contains(&prefix) || first.to_bits() << prefix != 0 {
            return Err(fault());
        }
        Ok(Self { first, prefix })
    }
}

impl std::fmt::Display for Subnets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl Subnets {
    /// The parts of the range, each of the size of one network, that have no address in common with `taken`.
    fn free(self, taken: &[Range]) -> impl Iterator<Item = String> {
        let count = 1u32 << (PREFIX - self.prefix);
        (0..count)
            .map(move |place| Range {
                first: self.first.to_bits() + (place << (32 - PREFIX)),
                prefix: PREFIX,
            })
            .filter(|range| !taken.iter().any(|other| range.overlaps(*other)))
            .map(|range| format!("{}/{PREFIX}", Ipv4Addr::from_bits(range.first)))
    }
}

/// The addresses of a single network.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: u32,
    prefix: u8,
}

impl Range {
    /// Parses Docker's notation; `None` for IPv6.
    fn read(text: &str) -> Option<Self> {
        let (first, prefix) = text.split_once('/')?;
        let first: Ipv4Addr = first.parse().ok()?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        Some(Self {
            first: first.to_bits(),
            prefix,
        })
    }

    fn overlaps(self, other: Self) -> bool {
        let shared = u32::from(self.prefix.min(other.prefix));
        let differing = (self.first ^ other.first).leading_zeros();
        differing >= shared
    }
}

impl Engine {
    /// The network of a repo's stages and builds; `None` for Docker's default one.
    pub(super) async fn network(&self, repo: Option<RepoId>) -> Result<Option<String>, Error> {
        if let Some(given) = &self.config.network {
            return Ok(Some(given.clone()));
        }
        let Some(repo) = repo else {
            return Ok(None);
        };
        let name = self.network_name(repo);
        if self.networks.is_there(&name) {
            return Ok(Some(name));
        }
        let _turn = self.networks.making.lock().await;
        if !self.networks.is_there(&name) {
            if !self.has_network(&name).await? {
                self.make_network(&name, repo).await?;
            }
            self.networks
                .with(|needed| needed.insert(name.clone(), (repo, Instant::now())));
        }
        Ok(Some(name))
    }

    fn network_name(&self, repo: RepoId) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.config.instance.0.as_bytes());
        hasher.update(repo.0.as_bytes());
        hasher.update([u8::from(self.config.internal)]);
        let hash = hex::encode(hasher.finalize());
        format!("trainyard-{}", &hash[..16])
    }

    /// Whether Docker has the network. The error is for one of this name that another installation made.
    async fn has_network(&self, name: &str) -> Result<bool, Error> {
        let options = InspectNetworkOptionsBuilder::default().build();
        let found = within(
            SHORT,
            self.client
                .inspect_network(name, Some(options))
                .at(Point::InspectNetwork),
        )
        .await;
        match found {
            Ok(found) => {
                let labels = found.labels.unwrap_or_default();
                if labels.get(INSTANCE) == Some(&self.config.instance.to_string()) {
                    return Ok(true);
                }
                let message = format!(
                    "a Docker network named {name} exists that this installation did not make; remove it with \
                     `docker network rm {name}`"
                );
                Err(Error::new(ErrorKind::Engine, message))
            }
            Err(call_error) if call_error.status() == Some(404) => Ok(false),
            Err(call_error) => Err(call_error.into_error("look for a network")),
        }
    }

    /// Makes the network again that Docker did not find when it started a container; returns whether it was one of
    /// ours. Another daemon may have removed it just before the container was created.
    pub(super) async fn mend_network(&self, call_error: &CallError) -> Result<bool, Error> {
        if call_error.status() != Some(404) || !call_error.text().contains("network ") {
            return Ok(false);
        }
        let known = self.networks.with(|needed| {
            let found = needed
                .iter()
                .find(|(name, _)| call_error.text().contains(*name));
            found.map(|(name, (repo, _))| (name.clone(), *repo))
        });
        let Some((name, repo)) = known else {
            return Ok(false);
        };
        let _turn = self.networks.making.lock().await;
        if !self.has_network(&name).await? {
            self.make_network(&name, repo).await?;
        }
        Ok(true)
    }

    async fn make_network(&self, name: &str, repo: RepoId) -> Result<(), Error> {
        let call_error = match self.try_network(name, repo, None).await {
            Ok(()) => return Ok(()),
            Err(call_error) => call_error,
        };
        if !is_exhausted(&call_error) {
            // Another daemon may have made it meanwhile: the name of its bridge is taken then.
            return match self.has_network(name).await {
                Ok(true) => Ok(()),
                _ => Err(call_error.into_error("make a network")),
            };
        }
        if self.remove_idle_networks().await? > 0
            && self.try_network(name, repo, None).await.is_ok()
        {
            return Ok(());
        }
        let taken = self.taken().await?;
        for subnet in self.config.subnets.free(&taken).take(TRIES) {
            match self.try_network(name, repo, Some(subnet)).await {
                Ok(()) => return Ok(()),
                Err(call_error) if call_error.text().contains("overlaps") => {}
                Err(call_error) => return Err(call_error.into_error("make a network")),
            }
        }
        Err(no_addresses(self.config.subnets))
    }

    /// The addresses of all networks of Docker, whether they are ours or not.
    async fn taken(&self) -> Result<Vec<Range>, Error> {
        let listed = self
            .client
            .list_networks(None::<ListNetworksOptions>)
            .at(Point::ListNetworks);
        let listed = within(LONG, listed).await;
        let listed = listed.map_err(|call_error| call_error.into_error("list networks"))?;
        let pools = listed
            .into_iter()
            .filter_map(|network| network.ipam?.config)
            .flatten();
        Ok(pools
            .filter_map(|pool| Range::read(&pool.subnet?))
            .collect())
    }

    async fn try_network(
        &self,
        name: &str,
        repo: RepoId,
        subnet: Option<String>,
    ) -> Result<(), CallError> {
        let hash = name.rsplit('-').next().unwrap_or(name);
        // An interface's name has at most 15 characters.
        let bridge = format!("{BRIDGE}{}", hash.get(..12).unwrap_or(hash));
        let text = |name: &str, value: String| (name.to_owned(), value);
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            internal: Some(self.config.internal),
            attachable: Some(false),
            ipam: subnet.map(|subnet| Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(subnet),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            options: Some(HashMap::from([text(
                "com.docker.network.bridge.name",
                bridge,
            )])),
            labels: Some(HashMap::from([
                text(INSTANCE, self.config.instance.to_string()),
                text(REPO, repo.to_string()),
            ])),
            ..NetworkCreateRequest::default()
        };
        let made = self.client.create_network(request).at(Point::CreateNetwork);
        within(LONG, made).await?;
        info!(network = name, repo = %repo, "made the network of a repo");
        Ok(())
    }

    /// Removes the networks of this installation that no container is in and that were not needed recently;
    /// returns how many.
    pub(super) async fn remove_idle_networks(&self) -> Result<usize, Error> {
        let label = format!("{INSTANCE}={}", self.config.instance);
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListNetworksOptionsBuilder::default()
            .filters(&filters)
            .build();
        let listed = within(
            LONG,
            self.client
                .list_networks(Some(options))
                .at(Point::ListNetworks),
        )
        .await
        .map_err(|call_error| call_error.into_error("list networks"))?;
        let mut removed = 0;
        for name in listed.into_iter().filter_map(|network| network.name) {
            if self.networks.is_needed(&name) || self.is_used(&name).await? {
                continue;
            }
            self.networks.forget(&name);
            let gone = within(
                LONG,
                self.client.remove_network(&name).at(Point::RemoveNetwork),
            );
            match gone.await {
                Ok(()) => removed += 1,
                Err(call_error) if call_error.status() == Some(404) => {}
                // A container was connected meanwhile.
                Err(call_error) if call_error.status() == Some(403) => {
                    debug!(
                        network = name,
                        error = call_error.text(),
                        "a network is in use"
                    );
                }
                Err(call_error) => return Err(call_error.into_error("remove a network")),
            }
        }
        Ok(removed)
    }

    /// Whether a container is in the network, running or not.
    async fn is_used(&self, network: &str) -> Result<bool, Error> {
        let filters = HashMap::from([("network".to_owned(), vec![network.to_owned()])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .limit(1)
            .filters(&filters)
            .build();
        let listed = self
            .client
            .list_containers(Some(options))
            .at(Point::ListContainers);
        let listed = within(SHORT, listed).await;
        let listed = listed.map_err(|call_error| call_error.into_error("list containers"))?;
        Ok(!listed.is_empty())
    }
}

/// The error where no address is left. It is final, so that the attempt releases its slot: only people, and the
/// end of other repos' work, make room, and `retry` waits without a slot.
fn no_addresses(subnets: Subnets) -> Error {
    let message = format!(
        "Docker has no addresses left for another repo's network, and {subnets} has none either; remove networks \
         that are not used (`docker network prune`), or set docker.subnets to a larger range"
    );
    Error::new(ErrorKind::NoAddresses, message)
}

/// Whether Docker has no ranges of addresses of its own left.
fn is_exhausted(call_error: &CallError) -> bool {
    call_error.text().contains("non-overlapping")
        || call_error.text().contains("predefined address pools")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_into_networks() {
        let subnets: Subnets = "10.201.0.0/16".parse().unwrap();
        let all: Vec<String> = subnets.free(&[]).collect();
        assert_eq!(all.len(), 256);
        assert_eq!((&*all[1], &*all[255]), ("10.201.1.0/24", "10.201.255.0/24"));
        assert_eq!(subnets, Subnets::default());
        for wrong in [
            "10.201.0.0",
            "10.201.0.1/16",
            "10.0.0.0/4",
            "10.0.0.0/25",
            "x/16",
        ] {
            assert!(wrong.parse::<Subnets>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_that_networks_have_are_not_tried() {
        let subnets: Subnets = "10.201.0.0/22".parse().unwrap();
        let free = |taken: &[&str]| -> Vec<String> {
            let taken: Vec<Range> = taken.iter().filter_map(|text| Range::read(text)).collect();
            subnets.free(&taken).collect()
        };
        let others = ["172.17.0.0/16", "10.200.0.0/16", "fd00::/64", "odd"];
        assert_eq!(free(&others).len(), 4);
        assert_eq!(
            free(&["10.201.1.0/24", "10.201.2.128/25"]),
            ["10.201.0.0/24", "10.201.3.0/24"]
        );
        for all in ["10.201.0.0/22", "10.0.0.0/8", "0.0.0.0/0"] {
            assert_eq!(free(&[all]), [""; 0], "{all}");
        }
    }

    #[test]
    fn class_16_an_attempt_without_an_address_does_not_wait_in_its_slot() {
        let error = no_addresses(Subnets::default());
        assert!(!error.is_transient());
        assert!(error.message.contains("docker.subnets"), "{error}");
    }
}
