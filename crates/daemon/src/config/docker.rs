//! The settings for the Docker engine.

use serde::Serialize;
use trainyard_core::image::Registries;
use trainyard_executor::docker::{Capabilities, Subnets};

use super::faults::Faults;
use super::keys::DockerSettings;
use super::quantity::Span;

/// The Docker engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DockerOptions {
    /// Its address; `None` is Docker's usual socket.
    pub host: Option<String>,
    /// The network of all stages and builds; `None` is one for each repo.
    pub network: Option<String>,
    /// Whether the networks of repos are internal: without a route out.
    pub internal: bool,
    /// Addresses for these networks once Docker has none left.
    #[serde(serialize_with = "shown")]
    pub subnets: Subnets,
    /// Registries that images may come from.
    #[serde(serialize_with = "listed")]
    pub registries: Registries,
    /// Whether Dockerfiles that need BuildKit are built.
    pub buildkit: bool,
    /// Capabilities of root in stages.
    #[serde(serialize_with = "named")]
    pub capabilities: Capabilities,
    /// How long a pull may make no progress.
    pub pull_idle: Span,
    /// Whether a Docker engine without the fixes of known vulnerabilities is refused.
    pub require_fixes: bool,
}

impl DockerOptions {
    pub(super) fn new(given: &DockerSettings, faults: &mut Faults) -> Self {
        Self {
            host: given.host().or_else(docker_host),
            network: given.network(),
            internal: given.internal(),
            subnets: faults.read("docker.subnets", given.subnets(), |text| text.parse()),
            registries: faults.read("docker.registries", given.registries(), |names| {
                Registries::new(names.0)
            }),
            buildkit: given.buildkit(),
            capabilities: faults.read("docker.capabilities", given.capabilities(), |names| {
                Capabilities::new(names.0)
            }),
            pull_idle: given.pull_idle(),
            require_fixes: given.require_fixes(),
        }
    }

    /// Whether Docker is on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.host
            .as_deref()
            .is_none_or(|host| host.starts_with("unix:"))
    }
}

/// Docker's own variable for the address of the Docker engine.
fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST")
        .ok()
        .filter(|host| !host.is_empty())
}

fn shown<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn listed<S: serde::Serializer>(registries: &Registries, serializer: S) -> Result<S::Ok, S::Error> {
    let all = registries.to_string();
    serializer.collect_seq(all.split(',').filter(|one| !one.is_empty()))
}

fn named<S: serde::Serializer>(
    capabilities: &Capabilities,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(capabilities.names())
}
