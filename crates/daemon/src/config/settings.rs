//! All settings, declared once for files, flags and environment variables.
//!
//! A [`Settings`] is one layer: the settings of a file, or of the environment and the flags together (clap gives
//! flags precedence). `None` leaves a setting to the layer below. A field is read from TOML by its name, and from the
//! command line by its attributes. A test checks that the names match: the key `docker.host` is the flag
//! `--docker-host` and the variable `TRAINYARD_DOCKER_HOST`. Defaults are in [`super::Config`], which merges the
//! layers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::BoolishValueParser;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use super::pools::Pools;
use super::quantity::{Size, Span};
use super::sections::{
    DockerSettings, ExecutorKind, GitSettings, HttpSettings, LimitSettings, LogSettings,
    MetricsSettings, RetentionSettings, StageSettings,
};

/// One layer of the configuration.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[command(next_help_heading = "Configuration")]
pub struct Settings {
    /// Where the API and the webhooks listen. Default: 127.0.0.1:8080
    #[arg(
        id = "listen",
        long = "listen",
        env = "TRAINYARD_LISTEN",
        value_name = "IP:PORT"
    )]
    pub listen: Option<SocketAddr>,

    /// Permit `listen` to be an address that other machines reach. The daemon has no TLS: put a reverse
    /// proxy in front of it. Default: false
    #[arg(
        id = "allow_remote", long = "allow-remote", env = "TRAINYARD_ALLOW_REMOTE", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
    )]
    pub allow_remote: Option<bool>,

    /// Address at which forges and users reach the daemon, such as https://trainyard.example.org;
    /// `repo add` shows it for webhooks. Default: http:// with the address that it listens on
    #[arg(
        id = "public_url",
        long = "public-url",
        env = "TRAINYARD_PUBLIC_URL",
        value_name = "URL"
    )]
    pub public_url: Option<String>,

    /// Folder for artifacts, git mirrors, the key and, with `dev`, Postgres. Default: .trainyard with
    /// `dev`, else /var/lib/trainyard
    #[arg(
        id = "data_dir",
        long = "data-dir",
        env = "TRAINYARD_DATA_DIR",
        value_name = "FOLDER"
    )]
    pub data_dir: Option<PathBuf>,

    /// Postgres 14 or newer: postgres://USER:PASSWORD@HOST/DATABASE. If it has a password, prefer the
    /// variable: all users of the machine can see flags. Default: with `dev` a Postgres of its own
    #[arg(
        id = "database_url",
        long = "database-url",
        env = "TRAINYARD_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    #[serde(deserialize_with = "secret")]
    pub database_url: Option<SecretString>,

    /// Size of the connection pool for the database; nine more connections serve reads, LISTEN and
    /// leases. Default: 8
    #[arg(
        id = "database_connections",
        long = "database-connections",
        env = "TRAINYARD_DATABASE_CONNECTIONS",
        value_name = "COUNT"
    )]
    pub database_connections: Option<u32>,

    /// How long to wait at the start for a Postgres that does not answer. Default: 2m, with `dev` 0s
    #[arg(
        id = "database_wait",
        long = "database-wait",
        env = "TRAINYARD_DATABASE_WAIT",
        value_name = "DURATION"
    )]
    pub database_wait: Option<Span>,

    /// Folder of artifacts. Daemons on one database share one. Default: artifacts in the data folder
    #[arg(
        id = "artifacts_dir",
        long = "artifacts-dir",
        env = "TRAINYARD_ARTIFACTS_DIR",
        value_name = "FOLDER"
    )]
    pub artifacts_dir: Option<PathBuf>,

    /// File with the key that encrypts secrets: 32 bytes in hex or base64. Created if it is missing.
    /// Default: secret.key in the data folder
    #[arg(
        id = "secret_key_file",
        long = "secret-key-file",
        env = "TRAINYARD_SECRET_KEY_FILE",
        value_name = "FILE"
    )]
    pub secret_key_file: Option<PathBuf>,

    /// Executor of stages: `docker`, or `fake`, which runs nothing and is for tests. Default: docker
    #[arg(
        id = "executor",
        long = "executor",
        env = "TRAINYARD_EXECUTOR",
        value_name = "EXECUTOR"
    )]
    pub executor: Option<ExecutorKind>,

    /// Most stages that run at the same time. Default: twice the number of this machine's CPUs
    #[arg(
        id = "parallelism",
        long = "parallelism",
        env = "TRAINYARD_PARALLELISM",
        value_name = "COUNT"
    )]
    pub parallelism: Option<u32>,

    /// Most stages of one repo that run at the same time, on all daemons together. Default: unlimited
    #[arg(
        id = "stages_of_a_repo",
        long = "stages-of-a-repo",
        env = "TRAINYARD_STAGES_OF_A_REPO",
        value_name = "COUNT"
    )]
    pub stages_of_a_repo: Option<u32>,

    /// How often repos are polled, in addition to webhooks. Default: 1m
    #[arg(
        id = "poll_every",
        long = "poll-every",
        env = "TRAINYARD_POLL_EVERY",
        value_name = "DURATION"
    )]
    pub poll_every: Option<Span>,

    /// Permit repos on this machine's own disk: any user who may add a repo can then read any repository that
    /// the daemon's user can read. Default: true with `dev`, else false
    #[arg(
        id = "allow_file_urls", long = "allow-file-urls", env = "TRAINYARD_ALLOW_FILE_URLS", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
    )]
    pub allow_file_urls: Option<bool>,

    /// Lease of an attempt, which its daemon renews every 5 s; at least 10s. After a crash, another
    /// daemon adopts the attempt once the lease has expired, and up to 5 s later. Default: 15s
    #[arg(
        id = "lease",
        long = "lease",
        env = "TRAINYARD_LEASE",
        value_name = "DURATION"
    )]
    pub lease: Option<Span>,

    /// Space that must be free on the disks of the data folder, of artifacts and of a Docker engine on this
    /// machine: with less, no new stage is started until there is more. 0B means no minimum. Default: 2GiB, or
    /// 5 % of a smaller disk
    #[arg(
        id = "free_space",
        long = "free-space",
        env = "TRAINYARD_FREE_SPACE",
        value_name = "SIZE"
    )]
    pub free_space: Option<Size>,

    /// Named capacity for stages that ask for it, such as gpu=2,licence=1. Default: none
    #[arg(
        id = "pools",
        long = "pools",
        env = "TRAINYARD_POOLS",
        value_name = "NAME=SLOTS,..."
    )]
    pub pools: Option<Pools>,

    /// Limits for peers of the HTTP server.
    #[command(flatten)]
    pub http: HttpSettings,

    /// The daemon's log.
    #[command(flatten)]
    pub log: LogSettings,

    /// The Docker engine.
    #[command(flatten)]
    pub docker: DockerSettings,

    /// Remotes of repos.
    #[command(flatten)]
    pub git: GitSettings,

    /// Default resources of a stage.
    #[command(flatten)]
    pub stage: StageSettings,

    /// Size limits for data from outside.
    #[command(flatten)]
    pub limits: LimitSettings,

    /// Metrics for a monitoring system.
    #[command(flatten)]
    pub metrics: MetricsSettings,

    /// Rules of retention.
    #[command(flatten)]
    pub retention: RetentionSettings,
}

impl Settings {
    /// Merges this layer over another: settings of this one win.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            listen: self.listen.or(below.listen),
            allow_remote: self.allow_remote.or(below.allow_remote),
            public_url: self.public_url.or(below.public_url),
            data_dir: self.data_dir.or(below.data_dir),
            database_url: self.database_url.or(below.database_url),
            database_connections: self.database_connections.or(below.database_connections),
            database_wait: self.database_wait.or(below.database_wait),
            artifacts_dir: self.artifacts_dir.or(below.artifacts_dir),
            secret_key_file: self.secret_key_file.or(below.secret_key_file),
            executor: self.executor.or(below.executor),
            parallelism: self.parallelism.or(below.parallelism),
            stages_of_a_repo: self.stages_of_a_repo.or(below.stages_of_a_repo),
            poll_every: self.poll_every.or(below.poll_every),
            allow_file_urls: self.allow_file_urls.or(below.allow_file_urls),
            lease: self.lease.or(below.lease),
            free_space: self.free_space.or(below.free_space),
            pools: self.pools.or(below.pools),
            http: self.http.over(below.http),
            log: self.log.over(below.log),
            docker: self.docker.over(below.docker),
            git: self.git.over(below.git),
            stage: self.stage.over(below.stage),
            limits: self.limits.over(below.limits),
            metrics: self.metrics.over(below.metrics),
            retention: self.retention.over(below.retention),
        }
    }

    /// Resolves relative paths against `folder`: those in a file are relative to its folder.
    #[must_use]
    pub(super) fn within(mut self, folder: &Path) -> Self {
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
        let command = Self::augment_args(clap::Command::new("keys"));
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

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    String::deserialize(deserializer).map(|text| Some(SecretString::from(text)))
}
