//! The sections of the configuration, one layer each; see [`super::settings`].

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::quantity::{Size, Span};

/// `[http]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Most connections to the API and the webhooks at the same time. Default: a quarter of the file
    /// descriptors that the daemon may have, and 1024 at the most
    #[arg(
        id = "http.connections",
        long = "http-connections",
        env = "TRAINYARD_HTTP_CONNECTIONS",
        value_name = "COUNT"
    )]
    pub connections: Option<u32>,

    /// The same from one address; loopback is exempt. Raise it where a reverse proxy on another machine
    /// speaks for many. Default: a quarter of http.connections
    #[arg(
        id = "http.connections_per_address",
        long = "http-connections-per-address",
        env = "TRAINYARD_HTTP_CONNECTIONS_PER_ADDRESS",
        value_name = "COUNT"
    )]
    pub connections_per_address: Option<u32>,

    /// Memory that the bodies of all requests may have together; more are asked to come again later.
    /// Default: 64MiB
    #[arg(
        id = "http.bodies",
        long = "http-bodies",
        env = "TRAINYARD_HTTP_BODIES",
        value_name = "SIZE"
    )]
    pub bodies: Option<Size>,
}

impl HttpSettings {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            connections: self.connections.or(below.connections),
            connections_per_address: self
                .connections_per_address
                .or(below.connections_per_address),
            bodies: self.bodies.or(below.bodies),
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// Lines for people, or one JSON object a line. Default: text
    #[arg(
        id = "log.format",
        long = "log-format",
        env = "TRAINYARD_LOG_FORMAT",
        value_name = "FORMAT"
    )]
    pub format: Option<LogFormat>,

    /// What is logged: error, warn, info, debug, trace, also by module, such as
    /// info,trainyard_engine=debug. Default: info
    #[arg(
        id = "log.level",
        long = "log-level",
        env = "TRAINYARD_LOG_LEVEL",
        value_name = "LEVEL"
    )]
    pub level: Option<String>,
}

impl LogSettings {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            format: self.format.or(below.format),
            level: self.level.or(below.level),
        }
    }
}

/// `[docker]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DockerSettings {
    /// Address of the engine, unix:///PATH or tcp://HOST:PORT. Default: $DOCKER_HOST, else
    /// unix:///var/run/docker.sock
    #[arg(
        id = "docker.host",
        long = "docker-host",
        env = "TRAINYARD_DOCKER_HOST",
        value_name = "ADDRESS"
    )]
    pub host: Option<String>,

    /// Network that stages are in. Default: the engine's own, which reaches the internet
    #[arg(
        id = "docker.network",
        long = "docker-network",
        env = "TRAINYARD_DOCKER_NETWORK",
        value_name = "NAME"
    )]
    pub network: Option<String>,

    /// How long fetching an image may bring nothing new before it is given up. Default: 2m
    #[arg(
        id = "docker.pull_idle",
        long = "docker-pull-idle",
        env = "TRAINYARD_DOCKER_PULL_IDLE",
        value_name = "DURATION"
    )]
    pub pull_idle: Option<Span>,
}

impl DockerSettings {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            host: self.host.or(below.host),
            network: self.network.or(below.network),
            pull_idle: self.pull_idle.or(below.pull_idle),
        }
    }
}

/// `[stage]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StageSettings {
    /// CPUs of a stage, in whole and parts. Default: all that this machine has
    #[arg(
        id = "stage.cpus",
        long = "stage-cpus",
        env = "TRAINYARD_STAGE_CPUS",
        value_name = "CPUS"
    )]
    pub cpus: Option<f64>,

    /// Memory of a stage; what needs more is killed. Default: 4GiB
    #[arg(
        id = "stage.memory",
        long = "stage-memory",
        env = "TRAINYARD_STAGE_MEMORY",
        value_name = "SIZE"
    )]
    pub memory: Option<Size>,

    /// Size of a stage's /dev/shm. Default: the engine's own, 64MiB
    #[arg(
        id = "stage.shm",
        long = "stage-shm",
        env = "TRAINYARD_STAGE_SHM",
        value_name = "SIZE"
    )]
    pub shm: Option<Size>,

    /// Processes and threads of a stage. Default: 4096
    #[arg(
        id = "stage.pids",
        long = "stage-pids",
        env = "TRAINYARD_STAGE_PIDS",
        value_name = "COUNT"
    )]
    pub pids: Option<u32>,

    /// How long a stage that is stopped has between SIGTERM and SIGKILL. Default: 10s
    #[arg(
        id = "stage.grace",
        long = "stage-grace",
        env = "TRAINYARD_STAGE_GRACE",
        value_name = "DURATION"
    )]
    pub grace: Option<Span>,
}

impl StageSettings {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            cpus: self.cpus.or(below.cpus),
            memory: self.memory.or(below.memory),
            shm: self.shm.or(below.shm),
            pids: self.pids.or(below.pids),
            grace: self.grace.or(below.grace),
        }
    }
}

/// `[limits]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Log kept of one attempt: of a longer one the first and the last half. Default: 16MiB
    #[arg(
        id = "limits.log",
        long = "limits-log",
        env = "TRAINYARD_LIMITS_LOG",
        value_name = "SIZE"
    )]
    pub log: Option<Size>,

    /// Largest output that is kept; a stage with a larger one fails. Default: 8GiB
    #[arg(
        id = "limits.artifact",
        long = "limits-artifact",
        env = "TRAINYARD_LIMITS_ARTIFACT",
        value_name = "SIZE"
    )]
    pub artifact: Option<Size>,

    /// Largest webhook that is read. Default: 5MiB
    #[arg(
        id = "limits.webhook",
        long = "limits-webhook",
        env = "TRAINYARD_LIMITS_WEBHOOK",
        value_name = "SIZE"
    )]
    pub webhook: Option<Size>,
}

impl LimitSettings {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            log: self.log.or(below.log),
            artifact: self.artifact.or(below.artifact),
            webhook: self.webhook.or(below.webhook),
        }
    }
}

/// `[metrics]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSettings {
    /// Show /metrics without a token. Default: false
    #[arg(
        id = "metrics.public", long = "metrics-public", env = "TRAINYARD_METRICS_PUBLIC", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
    )]
    pub public: Option<bool>,
}

impl MetricsSettings {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            public: self.public.or(below.public),
        }
    }
}

/// `[retention]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// How long a run is kept after it ended. Default: 90d
    #[arg(
        id = "retention.runs_for",
        long = "retention-runs-for",
        env = "TRAINYARD_RETENTION_RUNS_FOR",
        value_name = "DURATION"
    )]
    pub runs_for: Option<Span>,

    /// So many of the newest runs of each DAG are kept for ever. Default: 20
    #[arg(
        id = "retention.runs_of_each_dag",
        long = "retention-runs-of-each-dag",
        env = "TRAINYARD_RETENTION_RUNS_OF_EACH_DAG",
        value_name = "COUNT"
    )]
    pub runs_of_each_dag: Option<u32>,

    /// How long a log is kept after its run ended. Default: 30d
    #[arg(
        id = "retention.logs_for",
        long = "retention-logs-for",
        env = "TRAINYARD_RETENTION_LOGS_FOR",
        value_name = "DURATION"
    )]
    pub logs_for: Option<Span>,

    /// How long a webhook is kept after it was dealt with. Default: 30d
    #[arg(
        id = "retention.deliveries_for",
        long = "retention-deliveries-for",
        env = "TRAINYARD_RETENTION_DELIVERIES_FOR",
        value_name = "DURATION"
    )]
    pub deliveries_for: Option<Span>,

    /// How long an image that was built for stages is kept after a run last used it. Default: 7d
    #[arg(
        id = "retention.images_for",
        long = "retention-images-for",
        env = "TRAINYARD_RETENTION_IMAGES_FOR",
        value_name = "DURATION"
    )]
    pub images_for: Option<Span>,
}

impl RetentionSettings {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            runs_for: self.runs_for.or(below.runs_for),
            runs_of_each_dag: self.runs_of_each_dag.or(below.runs_of_each_dag),
            logs_for: self.logs_for.or(below.logs_for),
            deliveries_for: self.deliveries_for.or(below.deliveries_for),
            images_for: self.images_for.or(below.images_for),
        }
    }
}

/// What runs the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorKind {
    /// Containers of a Docker engine.
    Docker,
    /// Processes on the daemon's own host, without isolation.
    Process,
    /// What its script says; for tests.
    Fake,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}
