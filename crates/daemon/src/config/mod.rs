//! What the operator wants: one file, flags and variables, made into one [`Config`].
//!
//! Flags win over the environment, that over the file, and that over the defaults, which stand here.
//! Everything is checked before anything starts, and all that is wrong is said at once. No other part
//! of the daemon reads the environment or knows where a value came from.

mod args;
mod database;
mod error;
mod file;
mod hosts;
mod pools;
mod quantity;
mod sections;
mod settings;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use trainyard_core::image::Registries;
use trainyard_engine::space::Floor;
use trainyard_executor::docker::{Capabilities, Subnets};
use trainyard_store::UnfinishedLimits;

use crate::descriptors::CONNECTIONS_LEAST;

pub use self::args::{DaemonArgs, DevArgs};
pub use self::database::Database;
pub use self::error::{ConfigError, Fault};
pub use self::hosts::Hosts;
pub use self::pools::Pools;
pub use self::quantity::{NotAQuantity, Size, Span};
pub use self::sections::{
    DockerSettings, ExecutorKind, GitSettings, HttpSettings, LimitSettings, LogFormat, LogSettings,
    MetricsSettings, RetentionSettings, StageSettings,
};
pub use self::settings::Settings;

/// Shorter leases run out between two renewals, which are 5 s apart.
const SHORTEST_LEASE: Span = Span::seconds(10);

/// Remotes are not asked more often.
const SHORTEST_POLL: Span = Span::seconds(1);

/// Docker refuses less.
const LEAST_MEMORY: Size = Size::mebibytes(6);

/// With less git does not start.
const LEAST_GIT_MEMORY: Size = Size::mebibytes(64);

/// Remotes need a moment for every answer.
const SHORTEST_FETCH: Span = Span::seconds(10);
/// A request to the API has as much.
const LEAST_BODIES: Size = Size::mebibytes(2);

/// Registries need a moment for every answer.
const SHORTEST_PULL_IDLE: Span = Span::seconds(1);

/// A daemon's configuration: complete and checked.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Where the API and the webhooks listen; port 0 is any that is free.
    pub listen: SocketAddr,
    /// Whether `listen` may be an address that other machines reach.
    pub allow_remote: bool,
    /// The data folder.
    #[serde(serialize_with = "path")]
    pub data_dir: PathBuf,
    /// Whether the data folder is the one that lies where the daemon was started, rather than one whose whole path was
    /// given.
    #[serde(skip)]
    pub data_dir_is_from_here: bool,
    /// The folder of artifacts.
    #[serde(serialize_with = "path")]
    pub artifacts_dir: PathBuf,
    /// The database.
    #[serde(rename = "database_url", skip_serializing_if = "Database::is_private")]
    pub database: Database,
    /// Most connections for work.
    pub database_connections: u32,
    /// The file of the key that seals secrets.
    #[serde(serialize_with = "path")]
    pub secret_key_file: PathBuf,
    /// What runs the stages.
    pub executor: ExecutorKind,
    /// Most attempts at the same time.
    pub parallelism: u32,
    /// Most attempts of one repo at the same time, on all daemons; `None` is no bound.
    pub stages_of_a_repo: Option<u32>,
    /// How often repos are looked at.
    pub poll_every: Span,
    /// Whether repos may be on this machine's disk.
    pub allow_file_urls: bool,
    /// How long a claim holds.
    pub lease: Span,
    /// Room that must be free on disks; `None` is what is usual.
    pub free_space: Option<Size>,
    /// What peers may take of the daemon.
    pub http: Http,
    /// What is logged.
    pub log: Log,
    /// The Docker engine.
    pub docker: Docker,
    /// Remotes of repos.
    pub git: Git,
    /// What a stage gets that asks for nothing.
    pub stage: Stage,
    /// The largest of what comes from outside.
    pub limits: Limits,
    /// Figures for a monitoring system.
    pub metrics: Metrics,
    /// What is kept.
    pub retention: Retention,
    /// Named capacity.
    pub pools: Pools,
}

/// What peers may take of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Http {
    /// Connections at the same time; `None` is what is usual.
    pub connections: Option<u32>,
    /// The same, from one address that is not loopback.
    pub connections_per_address: Option<u32>,
    /// Memory of all bodies of requests together.
    pub bodies: Size,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// A filter as `tracing_subscriber::EnvFilter` reads it; checked.
    pub level: String,
}

/// The Docker engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Docker {
    /// Its address; `None` is the engine's usual socket.
    pub host: Option<String>,
    /// The network of all stages and builds; `None` is one for each repo.
    pub network: Option<String>,
    /// Whether the networks of repos have no way out.
    pub internal: bool,
    /// Addresses for these once Docker has none left.
    #[serde(serialize_with = "shown")]
    pub subnets: Subnets,
    /// Registries that images may come from.
    #[serde(serialize_with = "listed")]
    pub registries: Registries,
    /// What root may do in stages.
    #[serde(serialize_with = "named")]
    pub capabilities: Capabilities,
    /// How long a pull may bring nothing new.
    pub pull_idle: Span,
    /// Whether an engine without fixes of known faults is refused.
    pub require_fixes: bool,
}

/// Remotes of repos.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Git {
    /// Memory for one fetch, or to read one commit.
    pub memory: Size,
    /// Longest fetch.
    pub fetch_time: Span,
    /// Largest fetch.
    pub fetch_size: Size,
    /// Bytes in a second, at least.
    pub slowest: Size,
    /// Whether remotes may be on this machine.
    #[serde(skip)]
    pub loopback: bool,
    /// Whether remotes may be in private networks.
    pub private_addresses: bool,
    /// Hosts that may be anywhere.
    pub hosts: Hosts,
    /// Whether passwords may go without encryption.
    pub open_passwords: bool,
}

/// What a stage gets that asks for nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// CPUs; `None` is no limit.
    pub cpus: Option<f64>,
    /// Memory.
    pub memory: Size,
    /// Size of `/dev/shm`; `None` is the engine's default.
    pub shm: Option<Size>,
    /// Processes and threads.
    pub pids: u32,
    /// The most memory that one may ask for; `None` is all of the engine's machine.
    pub memory_at_most: Option<Size>,
    /// The most CPUs; `None` is all of the engine's machine.
    pub cpus_at_most: Option<f64>,
    /// The largest `/dev/shm`; `None` is half of the memory.
    pub shm_at_most: Option<Size>,
    /// The most processes and threads.
    pub pids_at_most: u32,
    /// The longest timeout.
    pub timeout_at_most: Span,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Span,
}

/// The largest of what comes from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Log kept of one attempt.
    pub log: Size,
    /// Largest output.
    pub artifact: Size,
    /// Log kept of all attempts of a run.
    pub logs_of_a_run: Size,
    /// All outputs of a run.
    pub artifacts_of_a_run: Size,
    /// What the container of a stage writes; 0 is no bound.
    pub layer: Size,
    /// Largest webhook.
    pub webhook: Size,
    /// Runs of one repo that have not ended.
    pub unfinished_runs_of_a_repo: u32,
    /// Stages that these have left together.
    pub unfinished_stages_of_a_repo: u32,
}

/// Figures for a monitoring system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Whether they need no token.
    pub public: bool,
}

/// What is kept, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// A run, after its end.
    pub runs_for: Span,
    /// The newest runs of each DAG, for ever.
    pub runs_of_each_dag: u32,
    /// A log, after its run's end.
    pub logs_for: Span,
    /// A webhook, after it was dealt with.
    pub deliveries_for: Span,
    /// An image that was built for stages, after a run last used it.
    pub images_for: Span,
}

/// Which command starts the daemon: it decides some defaults.
#[derive(Debug, Clone)]
enum Start {
    Daemon,
    Dev {
        pg_bin: Option<PathBuf>,
        pg_image: Option<String>,
    },
}

impl Config {
    /// The configuration of `trainyard daemon`.
    ///
    /// # Errors
    /// The file cannot be read or has faults, or values do not fit.
    pub fn for_daemon(args: &DaemonArgs) -> Result<Self, ConfigError> {
        Self::load(args.config.as_deref(), args.settings.clone(), Start::Daemon)
    }

    /// The configuration of `trainyard dev`.
    ///
    /// # Errors
    /// As [`Config::for_daemon`].
    pub fn for_dev(args: &DevArgs) -> Result<Self, ConfigError> {
        let start = Start::Dev {
            pg_bin: args.pg_bin.clone(),
            pg_image: args.pg_image.clone(),
        };
        Self::load(args.config.as_deref(), args.settings.clone(), start)
    }

    /// The configuration as TOML, as it is in effect, with nothing secret in it: for the log.
    #[must_use]
    pub fn redacted(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }

    /// How much has to be free on disks.
    #[must_use]
    pub fn floor(&self) -> Floor {
        self.free_space
            .map_or(Floor::Usual, |size| Floor::Bytes(size.0))
    }

    fn load(file: Option<&Path>, given: Settings, start: Start) -> Result<Self, ConfigError> {
        let settings = match file {
            Some(file) => given.over(file::read(file)?),
            None => given,
        };
        let mut refused = Vec::new();
        let config = Self::with_defaults(settings, start, &mut refused);
        config.check(&mut refused);
        match config {
            config if refused.is_empty() => Ok(config),
            _ => Err(ConfigError::Refused(refused)),
        }
    }

    fn with_defaults(settings: Settings, start: Start, refused: &mut Vec<String>) -> Self {
        let is_dev = matches!(start, Start::Dev { .. });
        let is_from_here = settings
            .data_dir
            .as_ref()
            .map_or(is_dev, |folder| folder.is_relative());
        let data_dir = settings.data_dir.unwrap_or_else(|| {
            if is_dev {
                ".trainyard"
            } else {
                "/var/lib/trainyard"
            }
            .into()
        });
        let data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);
        let host = settings.docker.host.or_else(docker_host);
        let unfinished = UnfinishedLimits::default();
        // An engine elsewhere may have fewer CPUs, and refuses more than it has.
        let is_local = host.as_deref().is_none_or(|host| host.starts_with("unix:"));
        Self {
            listen: settings
                .listen
                .unwrap_or((Ipv4Addr::LOCALHOST, 8080).into()),
            allow_remote: settings.allow_remote.unwrap_or(false),
            artifacts_dir: settings
                .artifacts_dir
                .unwrap_or_else(|| data_dir.join("artifacts")),
            secret_key_file: settings
                .secret_key_file
                .unwrap_or_else(|| data_dir.join("secret.key")),
            data_dir,
            data_dir_is_from_here: is_from_here,
            database: database(settings.database_url, start, refused),
            database_connections: settings.database_connections.unwrap_or(8),
            executor: settings.executor.unwrap_or(ExecutorKind::Docker),
            parallelism: settings.parallelism.unwrap_or_else(|| 2 * cpus()),
            stages_of_a_repo: settings.stages_of_a_repo,
            poll_every: settings.poll_every.unwrap_or(Span::seconds(60)),
            allow_file_urls: settings.allow_file_urls.unwrap_or(is_dev),
            lease: settings.lease.unwrap_or(Span::seconds(15)),
            free_space: settings.free_space,
            http: Http {
                connections: settings.http.connections,
                connections_per_address: settings.http.connections_per_address,
                bodies: settings.http.bodies.unwrap_or(Size::mebibytes(64)),
            },
            log: Log {
                format: settings.log.format.unwrap_or(LogFormat::Text),
                level: settings.log.level.unwrap_or_else(|| "info".to_owned()),
            },
            docker: Docker {
                host,
                network: settings.docker.network,
                internal: settings.docker.internal.unwrap_or(false),
                subnets: read(settings.docker.subnets, "docker.subnets", refused, |text| {
                    text.parse()
                }),
                registries: read(
                    settings.docker.registries,
                    "docker.registries",
                    refused,
                    Registries::new,
                ),
                capabilities: read(
                    settings.docker.capabilities,
                    "docker.capabilities",
                    refused,
                    Capabilities::new,
                ),
                pull_idle: settings.docker.pull_idle.unwrap_or(Span::seconds(120)),
                require_fixes: settings.docker.require_fixes.unwrap_or(false),
            },
            git: Git {
                memory: settings.git.memory.unwrap_or(Size::mebibytes(1024)),
                fetch_time: settings.git.fetch_time.unwrap_or(Span::seconds(30 * 60)),
                fetch_size: settings.git.fetch_size.unwrap_or(Size::mebibytes(4096)),
                slowest: settings.git.slowest.unwrap_or(Size(1 << 10)),
                loopback: is_dev,
                private_addresses: settings.git.private_addresses.unwrap_or(is_dev),
                hosts: settings.git.hosts.unwrap_or_default(),
                open_passwords: settings.git.open_passwords.unwrap_or(false),
            },
            stage: Stage {
                cpus: settings
                    .stage
                    .cpus
                    .or_else(|| is_local.then(|| f64::from(cpus()))),
                memory: settings.stage.memory.unwrap_or(Size::mebibytes(4096)),
                shm: settings.stage.shm,
                pids: settings.stage.pids.unwrap_or(4096),
                memory_at_most: settings.stage.memory_at_most,
                cpus_at_most: settings.stage.cpus_at_most,
                shm_at_most: settings.stage.shm_at_most,
                pids_at_most: settings.stage.pids_at_most.unwrap_or(32768),
                timeout_at_most: settings.stage.timeout_at_most.unwrap_or(Span::days(30)),
                grace: settings.stage.grace.unwrap_or(Span::seconds(10)),
            },
            limits: Limits {
                log: settings.limits.log.unwrap_or(Size::mebibytes(16)),
                artifact: settings.limits.artifact.unwrap_or(Size::mebibytes(8192)),
                logs_of_a_run: settings
                    .limits
                    .logs_of_a_run
                    .unwrap_or(Size::mebibytes(1024)),
                artifacts_of_a_run: settings
                    .limits
                    .artifacts_of_a_run
                    .unwrap_or(Size::mebibytes(32 * 1024)),
                layer: settings.limits.layer.unwrap_or(Size::mebibytes(32 * 1024)),
                webhook: settings.limits.webhook.unwrap_or(Size::mebibytes(5)),
                unfinished_runs_of_a_repo: settings
                    .limits
                    .unfinished_runs_of_a_repo
                    .unwrap_or(unfinished.runs),
                unfinished_stages_of_a_repo: settings
                    .limits
                    .unfinished_stages_of_a_repo
                    .unwrap_or(unfinished.stages),
            },
            metrics: Metrics {
                public: settings.metrics.public.unwrap_or(false),
            },
            retention: Retention {
                runs_for: settings.retention.runs_for.unwrap_or(Span::days(90)),
                runs_of_each_dag: settings.retention.runs_of_each_dag.unwrap_or(20),
                logs_for: settings.retention.logs_for.unwrap_or(Span::days(30)),
                deliveries_for: settings.retention.deliveries_for.unwrap_or(Span::days(30)),
                images_for: settings.retention.images_for.unwrap_or(Span::days(7)),
            },
            pools: settings.pools.unwrap_or_default(),
        }
    }

    fn check(&self, refused: &mut Vec<String>) {
        let mut require = |holds: bool, sentence: String| {
            if !holds {
                refused.push(sentence);
            }
        };
        require(
            self.allow_remote || self.listen.ip().is_loopback(),
            format!(
                "listen = {} is reachable from other machines, and Trainyard has no TLS of its own: who is \
                 on the way reads tokens and secrets. Listen on 127.0.0.1 behind a reverse proxy with TLS, \
                 or set allow_remote = true",
                self.listen
            ),
        );
        require(
            self.database_connections >= 2,
            "database_connections must be at least 2".to_owned(),
        );
        require(
            self.parallelism >= 1,
            "parallelism must be at least 1".to_owned(),
        );
        require(
            self.stages_of_a_repo != Some(0),
            "stages_of_a_repo must be at least 1; without it there is no bound".to_owned(),
        );
        require(
            self.limits.unfinished_runs_of_a_repo >= 1,
            "limits.unfinished_runs_of_a_repo must be at least 1".to_owned(),
        );
        require(
            self.limits.unfinished_stages_of_a_repo >= 1,
            "limits.unfinished_stages_of_a_repo must be at least 1".to_owned(),
        );
        require(
            self.poll_every >= SHORTEST_POLL,
            format!("poll_every must be at least {SHORTEST_POLL}"),
        );
        require(
            self.lease >= SHORTEST_LEASE,
            format!("lease must be at least {SHORTEST_LEASE}: it is renewed every 5 s"),
        );
        require(
            self.git.memory >= LEAST_GIT_MEMORY,
            format!("git.memory must be at least {LEAST_GIT_MEMORY}"),
        );
        require(
            self.git.fetch_time >= SHORTEST_FETCH,
            format!("git.fetch_time must be at least {SHORTEST_FETCH}"),
        );
        require(
            self.docker.pull_idle >= SHORTEST_PULL_IDLE,
            format!("docker.pull_idle must be at least {SHORTEST_PULL_IDLE}"),
        );
        require(
            self.stage
                .cpus
                .is_none_or(|cpus| cpus >= 0.01 && cpus.is_finite()),
            "stage.cpus must be at least 0.01".to_owned(),
        );
        require(
            self.stage.memory >= LEAST_MEMORY,
            format!("stage.memory must be at least {LEAST_MEMORY}"),
        );
        require(
            self.stage.pids >= 1,
            "stage.pids must be at least 1".to_owned(),
        );
        require(
            self.http
                .connections
                .is_none_or(|count| u64::from(count) >= CONNECTIONS_LEAST),
            format!("http.connections must be at least {CONNECTIONS_LEAST}"),
        );
        require(
            self.http.connections_per_address != Some(0),
            "http.connections_per_address must be at least 1".to_owned(),
        );
        require(
            self.http.bodies >= self.limits.webhook && self.http.bodies >= LEAST_BODIES,
            format!(
                "http.bodies must be at least {LEAST_BODIES}, and at least limits.webhook, which is {}",
                self.limits.webhook
            ),
        );
        let stage = &self.stage;
        require(
            stage.memory_at_most.is_none_or(|most| most >= stage.memory),
            "stage.memory_at_most must be at least stage.memory".to_owned(),
        );
        require(
            stage.pids_at_most >= stage.pids,
            "stage.pids_at_most must be at least stage.pids".to_owned(),
        );
        require(
            stage
                .cpus_at_most
                .is_none_or(|most| most >= 0.01 && most.is_finite()),
            "stage.cpus_at_most must be at least 0.01".to_owned(),
        );
        require(
            stage.timeout_at_most >= Span::seconds(1),
            "stage.timeout_at_most must be at least 1s".to_owned(),
        );
        if let Err(problem) = EnvFilter::try_new(&self.log.level) {
            require(
                false,
                format!(
                    "log.level = {:?} is no log filter ({problem}): write a level such as info, or \
                     info,trainyard_engine=debug",
                    self.log.level
                ),
            );
        }
    }
}

/// A key whose text means something; what does not is refused, and the default taken to look on.
fn read<T, V: Default>(
    given: Option<T>,
    key: &str,
    refused: &mut Vec<String>,
    parse: impl FnOnce(T) -> Result<V, String>,
) -> V {
    given.map_or_else(V::default, |given| {
        parse(given).unwrap_or_else(|problem| {
            refused.push(format!("{key}: {problem}"));
            V::default()
        })
    })
}

fn database(url: Option<SecretString>, start: Start, refused: &mut Vec<String>) -> Database {
    match (url, start) {
        (Some(url), _) => {
            if !database::is_postgres(&url) {
                refused.push(
                    "database_url is no address of a Postgres: write \
                     postgres://USER:PASSWORD@HOST/DATABASE, with signs such as @ and / in the password \
                     as %40 and %2F"
                        .to_owned(),
                );
            }
            Database::Url(url)
        }
        (None, Start::Dev { pg_bin, pg_image }) => Database::Private {
            binaries: pg_bin,
            image: pg_image,
        },
        (None, Start::Daemon) => {
            refused.push(
                "database_url is missing: set it in the configuration file or as TRAINYARD_DATABASE_URL. \
                 `trainyard dev` brings its own Postgres"
                    .to_owned(),
            );
            Database::Private {
                binaries: None,
                image: None,
            }
        }
    }
}

/// Docker's own variable: who has set it means this engine.
fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST")
        .ok()
        .filter(|host| !host.is_empty())
}

fn cpus() -> u32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|count| u32::try_from(count.get()).ok())
        .unwrap_or(1)
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

fn path<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}
