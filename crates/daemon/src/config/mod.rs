//! The configuration: merges a file, flags and environment variables into one [`Config`].
//!
//! 1. Flags win over the environment, the environment over the file, the file over what `dev` changes, and that over the
//!    defaults. [`keys`] has all keys.
//! 2. Everything is checked before anything starts, and all problems are reported at once.
//! 3. No other part of the daemon reads the environment or knows where a value came from.

mod args;
mod check;
mod database;
mod docker;
mod error;
mod faults;
mod file;
mod hosts;
mod keys;
mod pools;
mod quantity;
mod table;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use trainyard_orchestrator::health::space::Floor;

use self::faults::Faults;

pub use self::args::{DaemonArgs, DevArgs};
pub use self::database::Database;
pub use self::docker::DockerOptions;
pub use self::error::{ConfigError, FileFault};
pub use self::hosts::Hosts;
use self::keys::{DockerSettings, GitSettings};
pub use self::keys::{Git, Http, Limits, Log, Metrics, Retention, Settings, Stage};
pub use self::pools::Pools;
pub use self::quantity::{ByteSize, NotAQuantity, Span};
use self::values::HiddenText;
pub use self::values::{ExecutorKind, LogFormat};

/// A daemon's configuration: complete and checked.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Whether `trainyard dev` started it: remotes may be on this machine.
    #[serde(skip)]
    pub is_dev: bool,
    /// The keys of the file that a variable or a flag overrides, in sentences: for the log.
    #[serde(skip)]
    pub overridden: Vec<String>,
    /// Where the API and the webhooks listen; port 0 is any free port.
    pub listen: SocketAddr,
    /// Whether `listen` may be an address that other machines reach.
    pub allow_remote: bool,
    /// The address at which others reach it, without a slash at the end; `None` is where it listens.
    pub public_url: Option<String>,
    /// The data folder.
    #[serde(serialize_with = "path")]
    pub data_dir: PathBuf,
    /// Whether the data folder is the one in the folder that the daemon was started in, rather than one that was
    /// given by its whole path.
    #[serde(skip)]
    pub data_dir_is_from_here: bool,
    /// The folder of artifacts.
    #[serde(serialize_with = "path")]
    pub artifacts_dir: PathBuf,
    /// The database.
    #[serde(rename = "database_url", skip_serializing_if = "Database::is_private")]
    pub database: Database,
    /// Size of the connection pool for work.
    pub database_connections: u32,
    /// How long the daemon waits at its start for a database that does not answer.
    pub database_wait: Span,
    /// The file of the key that encrypts secrets.
    #[serde(serialize_with = "path")]
    pub secret_key_file: PathBuf,
    /// The executor of stages.
    pub executor: ExecutorKind,
    /// Most attempts at the same time.
    pub parallelism: u32,
    /// Most attempts of one repo at the same time, on all daemons; `None` means unlimited.
    pub stages_of_a_repo: Option<u32>,
    /// How often repos are polled.
    pub poll_every: Span,
    /// Whether repos may be on this machine's disk.
    pub allow_file_urls: bool,
    /// The duration of a lease.
    pub lease: Span,
    /// Space that must be free on disks; `None` is the default.
    pub free_space: Option<ByteSize>,
    /// The limits for peers of the HTTP server.
    pub http: Http,
    /// The settings of the log.
    pub log: Log,
    /// The Docker engine.
    pub docker: DockerOptions,
    /// Remotes of repos.
    pub git: Git,
    /// The default resources of a stage.
    pub stage: Stage,
    /// Size limits for data from outside.
    pub limits: Limits,
    /// Metrics for a monitoring system.
    pub metrics: Metrics,
    /// The rules of retention.
    pub retention: Retention,
    /// Pools: named capacity.
    pub pools: Pools,
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

    /// The configuration in effect as TOML, without secrets: for the log.
    #[must_use]
    pub fn redacted(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }

    /// How much space must be free on disks.
    #[must_use]
    pub fn floor(&self) -> Floor {
        self.free_space
            .map_or(Floor::Usual, |size| Floor::Bytes(size.0))
    }

    fn load(file: Option<&Path>, given: Settings, start: Start) -> Result<Self, ConfigError> {
        let mut settings = given;
        let mut overridden = Vec::new();
        if let Some(file) = file {
            let below = file::read(file)?;
            overridden = settings.shared(&below);
            settings = settings.over(below);
        }
        if matches!(start, Start::Dev { .. }) {
            settings = settings.over(Settings::of_dev());
        }
        let mut faults = Faults::default();
        let mut config = Self::with_defaults(&settings, start, &mut faults);
        config.overridden = overridden
            .into_iter()
            .map(|[key, variable, flag]| {
                format!("{key} is from {variable} or --{flag}, not from the file")
            })
            .collect();
        config.check(&mut faults);
        if faults.0.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Refused(faults.0))
        }
    }

    fn with_defaults(settings: &Settings, start: Start, faults: &mut Faults) -> Self {
        let data_dir = settings.data_dir();
        let data_dir = data_dir.unwrap_or_else(|| "/var/lib/trainyard".into());
        let is_from_here = data_dir.is_relative();
        let data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);
        let docker = DockerOptions::new(&settings.docker, faults);
        let mut stage = Stage::from(settings.stage.clone());
        // A Docker engine on another machine may have fewer CPUs, and rejects more than it has.
        let here = docker.is_local().then(|| f64::from(cpus()));
        stage.cpus = stage.cpus.or(here);
        Self {
            is_dev: matches!(start, Start::Dev { .. }),
            overridden: Vec::new(),
            listen: settings.listen(),
            allow_remote: settings.allow_remote(),
            public_url: faults.read("public_url", settings.public_url(), |text| {
                public_url(&text)
            }),
            artifacts_dir: settings
                .artifacts_dir()
                .unwrap_or_else(|| data_dir.join("artifacts")),
            secret_key_file: settings
                .secret_key_file()
                .unwrap_or_else(|| data_dir.join("secret.key")),
            data_dir,
            data_dir_is_from_here: is_from_here,
            database: database(settings.database_url(), start, faults),
            database_connections: settings.database_connections(),
            database_wait: settings.database_wait(),
            executor: settings.executor(),
            parallelism: settings.parallelism().unwrap_or_else(|| 2 * cpus()),
            stages_of_a_repo: settings.stages_of_a_repo(),
            poll_every: settings.poll_every(),
            allow_file_urls: settings.allow_file_urls(),
            lease: settings.lease(),
            free_space: settings.free_space(),
            http: settings.http.clone().into(),
            log: settings.log.clone().into(),
            docker,
            git: settings.git.clone().into(),
            stage,
            limits: settings.limits.clone().into(),
            metrics: settings.metrics.clone().into(),
            retention: settings.retention.clone().into(),
            pools: settings.pools().unwrap_or_default(),
        }
    }
}

impl Settings {
    /// What `trainyard dev` changes: all is on one machine, and belongs to one user.
    fn of_dev() -> Self {
        Self {
            data_dir: Some(".trainyard".into()),
            database_wait: Some(Span::seconds(0)),
            allow_file_urls: Some(true),
            docker: DockerSettings {
                buildkit: Some(true),
                ..DockerSettings::default()
            },
            git: GitSettings {
                private_addresses: Some(true),
                ..GitSettings::default()
            },
            ..Self::default()
        }
    }

    /// Resolves relative paths against `folder`: those in a file are relative to its folder.
    fn within(mut self, folder: &Path) -> Self {
        for path in [
            &mut self.data_dir,
            &mut self.artifacts_dir,
            &mut self.secret_key_file,
        ]
        .into_iter()
        .flatten()
        {
            *path = folder.join(&path);
        }
        self
    }

    /// The path of every key (`docker.host`) with its help text on the command line.
    #[must_use]
    pub fn keys() -> BTreeMap<String, String> {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("keys"));
        command
            .get_arguments()
            .map(|argument| {
                let help = argument
                    .get_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                (argument.get_id().to_string(), help)
            })
            .collect()
    }
}

/// Without the slash at its end, since paths are appended to it.
fn public_url(text: &str) -> Result<Option<String>, String> {
    let url = url::Url::parse(text).ok().filter(|url| {
        ["http", "https"].contains(&url.scheme())
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    let url = url.ok_or("invalid address: write https://HOST, without `?`, `#` or a login")?;
    Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
}

fn database(url: Option<HiddenText>, start: Start, faults: &mut Faults) -> Database {
    match (url, start) {
        (Some(HiddenText(url)), _) => {
            if !database::is_postgres(&url) {
                faults.add(
                    "invalid database_url: write \
                     postgres://USER:PASSWORD@HOST/DATABASE, with signs such as @ and / in the password \
                     as %40 and %2F",
                );
            }
            Database::Url(url)
        }
        (None, Start::Dev { pg_bin, pg_image }) => Database::Private {
            binaries: pg_bin,
            image: pg_image,
        },
        (None, Start::Daemon) => {
            faults.add(
                "database_url is missing: set it in the configuration file or as TRAINYARD_DATABASE_URL. \
                 `trainyard dev` brings its own Postgres",
            );
            Database::Private {
                binaries: None,
                image: None,
            }
        }
    }
}

fn cpus() -> u32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|count| u32::try_from(count.get()).ok())
        .unwrap_or(1)
}

fn path<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}
