//! Connects to a Docker engine, and reads its description of itself.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker as Client};
use trainyard_core::id::InstanceId;
use trainyard_core::image::Registries;
use trainyard_failpoint::{AtPoint as _, Point};

use super::answers::{self, Bound, Exceeded};
use super::capabilities::Capabilities;
use super::dockerfile::BuildKit;
use super::errors::{CallError, LONG, SHORT, within};
use super::fixes::{self, Unfixed};
use super::init;
use super::networks::Subnets;
use crate::error::{Error, ErrorKind};

/// The oldest API version of engines that are supported: Docker 20.10.
pub const OLDEST_API: (u32, u32) = (1, 41);

/// The default address of Docker.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// bollard's own limit on the head of an answer, in seconds. Every call here has its own deadline,
/// which is shorter; uploads may take longer than any fixed time.
pub(super) const NO_LIMIT: u64 = 30 * 24 * 3600;

/// How containers run on a Docker engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// `unix:///…` or `tcp://…`; [`DEFAULT_HOST`] without it.
    pub host: Option<String>,
    /// The installation; containers and built images are labelled with it.
    pub instance: InstanceId,
    /// The checkout whose files are run by hand: builds of other checkouts do not share its steps and caches.
    pub checkout: Option<PathBuf>,
    /// The network of all stages and builds. Without it each repo has one of its own, and runs by hand use
    /// Docker's default network.
    pub network: Option<String>,
    /// Whether the networks of repos have no way out.
    pub internal: bool,
    /// Addresses for the networks of repos if Docker has none left.
    pub subnets: Subnets,
    /// Whether Trainyard's own init runs as the first process of each container: with it a container
    /// that is started twice runs its program once, and an end counts by the init's record of it. A
    /// program that the kernel does not execute then ends with exit code 126 or 127 instead of an error at the start.
    pub init: bool,
    /// The Docker volume with the init; by default one for each version of it, which all installations on
    /// Docker share.
    pub init_volume: String,
    /// Root's capabilities in stages' containers.
    pub capabilities: Capabilities,
    /// How much log Docker keeps of one container, in bytes; the oldest half is dropped first.
    pub log_size: u64,
    /// The registries that images may come from.
    pub registries: Registries,
    /// Whether to build Dockerfiles that need BuildKit. It knows no limits and no networks of repos.
    pub buildkit: bool,
    /// How much the steps of a build may add to Docker's disk, in bytes; `None` sets no limit.
    pub build_layers: Option<u64>,
    /// How long a pull may go on without any progress.
    pub pull_idle: Duration,
    /// How long a build may go on without printing anything.
    pub build_idle: Duration,
}

impl DockerConfig {
    /// The defaults, for an installation.
    #[must_use]
    pub fn new(instance: InstanceId) -> Self {
        Self {
            host: None,
            instance,
            checkout: None,
            network: None,
            internal: false,
            subnets: Subnets::default(),
            init: !trainyard_init::PROGRAM.is_empty(),
            init_volume: init::usual_name(),
            capabilities: Capabilities::default(),
            log_size: 128 * 1024 * 1024,
            registries: Registries::default(),
            buildkit: false,
            build_layers: None,
            pull_idle: Duration::from_secs(120),
            build_idle: Duration::from_secs(30 * 60),
        }
    }

    #[must_use]
    pub fn host(&self) -> &str {
        self.host.as_deref().unwrap_or(DEFAULT_HOST)
    }
}

/// A Docker engine's description of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its own id, which stays the same over its restarts.
    pub id: String,
    /// Its version: `20.10.24`.
    pub version: String,
    /// The version of its API: `1.41`.
    pub api_version: String,
    /// The version of the kernel's control groups: `1` or `2`.
    pub cgroup_version: String,
    /// The storage driver: `overlay2`.
    pub storage_driver: String,
    /// Where it keeps images and containers, on its host.
    pub root_dir: String,
    pub cpus: u64,
    /// Memory of its host, in bytes.
    pub memory: u64,
    /// Its parts that are older than fixes of known faults.
    pub unfixed: Vec<Unfixed>,
}

/// A client for Docker, with the version of the API agreed on.
pub(super) async fn client(config: &DockerConfig) -> Result<Client, Error> {
    let host = config.host();
    let connected = if host.starts_with("unix://") {
        Client::connect_with_unix(host, NO_LIMIT, API_DEFAULT_VERSION)
    } else if host.starts_with("tcp://") || host.starts_with("http://") {
        Client::connect_with_http(host, NO_LIMIT, API_DEFAULT_VERSION)
    } else {
        return Err(Error::new(
            ErrorKind::Engine,
            format!("invalid Docker address `{host}`; use unix:///PATH or tcp://HOST:PORT"),
        ));
    };
    let client = connected.map_err(|error| unreachable(host, &CallError::from(error)))?;
    let version = within(SHORT, client.version().at(Point::Version))
        .await
        .map_err(|call_error| unreachable(host, &call_error))?;
    let api = version.api_version.unwrap_or_default();
    if parse_version(&api).is_none_or(|api| api < OLDEST_API) {
        let (major, minor) = OLDEST_API;
        return Err(Error::new(
            ErrorKind::Engine,
            format!(
                "the Docker engine at {host} has API version {api}; \
                 Trainyard needs {major}.{minor} or newer (Docker 20.10)"
            ),
        ));
    }
    within(SHORT, client.negotiate_version().at(Point::Negotiate))
        .await
        .map_err(|call_error| unreachable(host, &call_error))
}

/// A client for answers whose length others decide, and whether one of them was too long.
pub(super) fn bounded(config: &DockerConfig, bound: Bound) -> Result<(Client, Exceeded), Error> {
    let host = config.host();
    answers::client(host, bound).map_err(|error| unreachable(host, &CallError::from(error)))
}

/// Asks Docker about itself.
pub(super) async fn info(client: &Client, buildkit: bool) -> Result<EngineInfo, Error> {
    let doing = "describe itself";
    let version = within(LONG, client.version().at(Point::Version))
        .await
        .map_err(|call_error| call_error.into_error(doing))?;
    let info = within(LONG, client.info().at(Point::Info))
        .await
        .map_err(|call_error| call_error.into_error(doing))?;
    let number = |value: Option<i64>| {
        value
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or_default()
    };
    Ok(EngineInfo {
        unfixed: fixes::lacking(&version, buildkit),
        id: info.id.unwrap_or_default(),
        version: version.version.unwrap_or_default(),
        api_version: version.api_version.unwrap_or_default(),
        cgroup_version: info
            .cgroup_version
            .map(|version| version.to_string())
            .unwrap_or_default(),
        storage_driver: info.driver.unwrap_or_default(),
        root_dir: info.docker_root_dir.unwrap_or_default(),
        cpus: number(info.ncpu),
        memory: number(info.mem_total),
    })
}

/// The facts about Docker's BuildKit. Each supported Docker engine has one.
pub(super) async fn buildkit(client: &Client) -> Result<BuildKit, Error> {
    let version = within(SHORT, client.version().at(Point::Version))
        .await
        .map_err(|call_error| call_error.into_error("describe itself"))?;
    Ok(BuildKit {
        version: version
            .version
            .as_deref()
            .and_then(parse_version)
            .unwrap_or_default(),
        arch: version.arch.unwrap_or_default(),
    })
}

impl fmt::Display for EngineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Docker {} (API {})", self.version, self.api_version)
    }
}

fn unreachable(host: &str, call_error: &CallError) -> Error {
    let text = call_error.text();
    let hint = if text.contains("ermission denied") {
        "; this user may not use it: join the group `docker`, or set another `docker.host`"
    } else {
        "; is it running?"
    };
    Error::new(
        ErrorKind::Unreachable,
        format!("the Docker engine at {host} cannot be reached: {text}{hint}"),
    )
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let minor = rest.split('.').next().unwrap_or(rest);
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(parse_version("1.100") > parse_version("1.41"));
        assert_eq!(parse_version("1.41"), Some(OLDEST_API));
        assert_eq!(parse_version("20.10.24+dfsg1"), Some((20, 10)));
        assert_eq!(parse_version("new"), None);
    }
}
