//! The sections of the configuration, one layer each; see [`super::settings`].

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::hosts::Hosts;
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

    /// The same from one address; loopback is exempt. Raise it if a reverse proxy on another machine
    /// serves many clients. Default: a quarter of http.connections
    #[arg(
        id = "http.connections_per_address",
        long = "http-connections-per-address",
        env = "TRAINYARD_HTTP_CONNECTIONS_PER_ADDRESS",
        value_name = "COUNT"
    )]
    pub connections_per_address: Option<u32>,

    /// Memory for the bodies of all requests together; further requests must be retried later.
    /// Default: 64MiB
    #[arg(
        id = "http.bodies",
        long = "http-bodies",
        env = "TRAINYARD_HTTP_BODIES",
        value_name = "SIZE"
    )]
    pub bodies: Option<Size>,

    /// Memory for all answers that have not been read yet; a quarter of it is the most for one token, and for one
    /// answer. Default: 64MiB
    #[arg(
        id = "http.answers",
        long = "http-answers",
        env = "TRAINYARD_HTTP_ANSWERS",
        value_name = "SIZE"
    )]
    pub answers: Option<Size>,
}

impl HttpSettings {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            connections: self.connections.or(below.connections),
            connections_per_address: self
                .connections_per_address
                .or(below.connections_per_address),
            bodies: self.bodies.or(below.bodies),
            answers: self.answers.or(below.answers),
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

    /// Log level: error, warn, info, debug, trace, also by module, such as
    /// info,trainyard_orchestrator=debug. Libraries are logged at info at most, since they log what they
    /// send, secrets included. Default: info
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
    /// Address of Docker, unix:///PATH or tcp://HOST:PORT. Default: $DOCKER_HOST, else unix:///var/run/docker.sock
    #[arg(
        id = "docker.host",
        long = "docker-host",
        env = "TRAINYARD_DOCKER_HOST",
        value_name = "ADDRESS"
    )]
    pub host: Option<String>,

    /// Network of all stages and builds: bridge, none, or one that you created. Default: a network for
    /// each repo, which other repos cannot reach
    #[arg(
        id = "docker.network",
        long = "docker-network",
        env = "TRAINYARD_DOCKER_NETWORK",
        value_name = "NAME"
    )]
    pub network: Option<String>,

    /// Make the networks of repos internal: stages and builds reach only those of their own repo. Default: false
    #[arg(
        id = "docker.internal", long = "docker-internal", env = "TRAINYARD_DOCKER_INTERNAL", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
    )]
    pub internal: Option<bool>,

    /// Addresses for the networks of repos once Docker's own are used up (after some 30 networks); each
    /// network takes a /24. Default: 10.201.0.0/16
    #[arg(
        id = "docker.subnets",
        long = "docker-subnets",
        env = "TRAINYARD_DOCKER_SUBNETS",
        value_name = "RANGE"
    )]
    pub subnets: Option<String>,

    /// Registries that images may come from, such as docker.io,registry.internal:5000; `public` stands for all
    /// that are neither on this machine nor in a private network. Default: public
    #[arg(
        id = "docker.registries",
        long = "docker-registries",
        env = "TRAINYARD_DOCKER_REGISTRIES",
        value_name = "HOST,...",
        value_delimiter = ','
    )]
    pub registries: Option<Vec<String>>,

    /// Allow Dockerfiles that need BuildKit (`RUN --mount`, here-documents). Such builds have no memory limit and
    /// run in Docker's own network; `dev` allows them. Default: false
    #[arg(
        id = "docker.buildkit", long = "docker-buildkit", env = "TRAINYARD_DOCKER_BUILDKIT", value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
    )]
    pub buildkit: Option<bool>,

    /// Linux capabilities of stages whose image runs as root; all others are dropped. Default:
    /// CHOWN,DAC_OVERRIDE,FOWNER,KILL,SETGID,SETUID
    #[arg(
        id = "docker.capabilities",
        long = "docker-capabilities",
        env = "TRAINYARD_DOCKER_CAPABILITIES",
        value_name = "NAME,...",
        value_delimiter = ','
    )]
    pub capabilities: Option<Vec<String>>,

    /// How long a pull of an image may make no progress before it is cancelled. Default: 2m
    #[arg(
        id = "docker.pull_idle",
        long = "docker-pull-idle",
        env = "TRAINYARD_DOCKER_PULL_IDLE",
        value_name = "DURATION"
    )]
    pub pull_idle: Option<Span>,

    /// Refuse to start on a Docker engine or runc whose version number is older than the fixes of known container
    /// escapes, even if a distribution has backported them. Without it, the log lists missing fixes. Default: false
    #[arg(
        id = "docker.require_fixes", long = "docker-require-fixes", env = "TRAINYARD_DOCKER_REQUIRE_FIXES",
        value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
    )]
    pub require_fixes: Option<bool>,
}

impl DockerSettings {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            host: self.host.or(below.host),
            network: self.network.or(below.network),
            internal: self.internal.or(below.internal),
            subnets: self.subnets.or(below.subnets),
            registries: self.registries.or(below.registries),
            buildkit: self.buildkit.or(below.buildkit),
            capabilities: self.capabilities.or(below.capabilities),
            pull_idle: self.pull_idle.or(below.pull_idle),
            require_fixes: self.require_fixes.or(below.require_fixes),
        }
    }
}

/// `[stage]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StageSettings {
    /// CPUs of a stage, as a decimal number. Default: all that this machine has
    #[arg(
        id = "stage.cpus",
        long = "stage-cpus",
        env = "TRAINYARD_STAGE_CPUS",
        value_name = "CPUS"
    )]
    pub cpus: Option<f64>,

    /// Memory of a stage; a stage that needs more is killed. Default: 4GiB
    #[arg(
        id = "stage.memory",
        long = "stage-memory",
        env = "TRAINYARD_STAGE_MEMORY",
        value_name = "SIZE"
    )]
    pub memory: Option<Size>,

    /// Size of a stage's /dev/shm. Default: Docker's own, 64MiB
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

    /// Most memory that a stage may ask for. Default: all of the Docker engine's machine
    #[arg(
        id = "stage.memory_at_most",
        long = "stage-memory-at-most",
        env = "TRAINYARD_STAGE_MEMORY_AT_MOST",
        value_name = "SIZE"
    )]
    pub memory_at_most: Option<Size>,

    /// Most CPUs that a stage may ask for. Default: all of the Docker engine's machine
    #[arg(
        id = "stage.cpus_at_most",
        long = "stage-cpus-at-most",
        env = "TRAINYARD_STAGE_CPUS_AT_MOST",
        value_name = "CPUS"
    )]
    pub cpus_at_most: Option<f64>,

    /// Largest /dev/shm that a stage may ask for. Default: half of stage.memory_at_most
    #[arg(
        id = "stage.shm_at_most",
        long = "stage-shm-at-most",
        env = "TRAINYARD_STAGE_SHM_AT_MOST",
        value_name = "SIZE"
    )]
    pub shm_at_most: Option<Size>,

    /// Most processes and threads that a stage may ask for. Default: 32768
    #[arg(
        id = "stage.pids_at_most",
        long = "stage-pids-at-most",
        env = "TRAINYARD_STAGE_PIDS_AT_MOST",
        value_name = "COUNT"
    )]
    pub pids_at_most: Option<u32>,

    /// Longest timeout that a stage may ask for; a stage without a timeout is stopped after it. Default: 30d
    #[arg(
        id = "stage.timeout_at_most",
        long = "stage-timeout-at-most",
        env = "TRAINYARD_STAGE_TIMEOUT_AT_MOST",
        value_name = "DURATION"
    )]
    pub timeout_at_most: Option<Span>,

    /// Grace period of a stage between SIGTERM and SIGKILL. Default: 10s
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
            memory_at_most: self.memory_at_most.or(below.memory_at_most),
            cpus_at_most: self.cpus_at_most.or(below.cpus_at_most),
            shm_at_most: self.shm_at_most.or(below.shm_at_most),
            pids_at_most: self.pids_at_most.or(below.pids_at_most),
            timeout_at_most: self.timeout_at_most.or(below.timeout_at_most),
            grace: self.grace.or(below.grace),
        }
    }
}

/// `[limits]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Log kept of one attempt: of a longer log the beginning and the end, half each. Default: 16MiB
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

    /// Most log kept of all attempts of one run together; of later output, only a little is kept. Default: 1GiB
    #[arg(
        id = "limits.logs_of_a_run",
        long = "limits-logs-of-a-run",
        env = "TRAINYARD_LIMITS_LOGS_OF_A_RUN",
        value_name = "SIZE"
    )]
    pub logs_of_a_run: Option<Size>,

    /// Most space for the outputs of one run together; a stage whose outputs do not fit fails. Default: 32GiB
    #[arg(
        id = "limits.artifacts_of_a_run",
        long = "limits-artifacts-of-a-run",
        env = "TRAINYARD_LIMITS_ARTIFACTS_OF_A_RUN",
        value_name = "SIZE"
    )]
    pub artifacts_of_a_run: Option<Size>,

    /// Most that the container of a stage may write to Docker's disk; a container that has written more
    /// is stopped, and its stage fails. 0B means unlimited. Default: 32GiB
    #[arg(
        id = "limits.layer",
        long = "limits-layer",
        env = "TRAINYARD_LIMITS_LAYER",
        value_name = "SIZE"
    )]
    pub layer: Option<Size>,

    /// Largest webhook that is accepted. Default: 5MiB
    #[arg(
        id = "limits.webhook",
        long = "limits-webhook",
        env = "TRAINYARD_LIMITS_WEBHOOK",
        value_name = "SIZE"
    )]
    pub webhook: Option<Size>,

    /// Most unfinished runs of one repo: further runs are not started, and the DAG shows why. Default: 2000
    #[arg(
        id = "limits.unfinished_runs_of_a_repo",
        long = "limits-unfinished-runs-of-a-repo",
        env = "TRAINYARD_LIMITS_UNFINISHED_RUNS_OF_A_REPO",
        value_name = "COUNT"
    )]
    pub unfinished_runs_of_a_repo: Option<u32>,

    /// Most unfinished stages of these runs together. Default: 100000
    #[arg(
        id = "limits.unfinished_stages_of_a_repo",
        long = "limits-unfinished-stages-of-a-repo",
        env = "TRAINYARD_LIMITS_UNFINISHED_STAGES_OF_A_REPO",
        value_name = "COUNT"
    )]
    pub unfinished_stages_of_a_repo: Option<u32>,
}

impl LimitSettings {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            log: self.log.or(below.log),
            artifact: self.artifact.or(below.artifact),
            logs_of_a_run: self.logs_of_a_run.or(below.logs_of_a_run),
            artifacts_of_a_run: self.artifacts_of_a_run.or(below.artifacts_of_a_run),
            layer: self.layer.or(below.layer),
            webhook: self.webhook.or(below.webhook),
            unfinished_runs_of_a_repo: self
                .unfinished_runs_of_a_repo
                .or(below.unfinished_runs_of_a_repo),
            unfinished_stages_of_a_repo: self
                .unfinished_stages_of_a_repo
                .or(below.unfinished_stages_of_a_repo),
        }
    }
}

/// `[git]`
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GitSettings {
    /// Memory that git may take for one fetch, or to read one commit: it works in a process of its own,
    /// and a fetch that needs more is cancelled. Default: 1GiB
    #[arg(
        id = "git.memory",
        long = "git-memory",
        env = "TRAINYARD_GIT_MEMORY",
        value_name = "SIZE"
    )]
    pub memory: Option<Size>,

    /// How long a fetch may take. Default: 30m
    #[arg(
        id = "git.fetch_time",
        long = "git-fetch-time",
        env = "TRAINYARD_GIT_FETCH_TIME",
        value_name = "DURATION"
    )]
    pub fetch_time: Option<Span>,

    /// How many bytes a fetch may transfer. Default: 4GiB
    #[arg(
        id = "git.fetch_size",
        long = "git-fetch-size",
        env = "TRAINYARD_GIT_FETCH_SIZE",
        value_name = "SIZE"
    )]
    pub fetch_size: Option<Size>,

    /// Least bytes per second that a remote must send, on average over each minute of waiting; 0B means no minimum.
    /// Default: 1KiB
    #[arg(
        id = "git.slowest",
        long = "git-slowest",
        env = "TRAINYARD_GIT_SLOWEST",
        value_name = "SIZE"
    )]
    pub slowest: Option<Size>,

    /// Permit remotes at addresses of private networks, such as 10.0.0.5: users who may add a repo can then make
    /// the daemon connect to hosts there. Default: true with `dev`, else false
    #[arg(
        id = "git.private_addresses", long = "git-private-addresses", env = "TRAINYARD_GIT_PRIVATE_ADDRESSES",
        value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
    )]
    pub private_addresses: Option<bool>,

    /// Hosts of remotes that are permitted at any address, this machine included, such as
    /// forge.lan,127.0.0.1. Default: none; with `dev` also this machine
    #[arg(
        id = "git.hosts",
        long = "git-hosts",
        env = "TRAINYARD_GIT_HOSTS",
        value_name = "HOST,..."
    )]
    pub hosts: Option<Hosts>,

    /// Permit passwords for http:// remotes on other machines: they can be read on the network. Default: false
    #[arg(
        id = "git.open_passwords", long = "git-open-passwords", env = "TRAINYARD_GIT_OPEN_PASSWORDS",
        value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
    )]
    pub open_passwords: Option<bool>,
}

impl GitSettings {
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            memory: self.memory.or(below.memory),
            fetch_time: self.fetch_time.or(below.fetch_time),
            fetch_size: self.fetch_size.or(below.fetch_size),
            slowest: self.slowest.or(below.slowest),
            private_addresses: self.private_addresses.or(below.private_addresses),
            hosts: self.hosts.or(below.hosts),
            open_passwords: self.open_passwords.or(below.open_passwords),
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

    /// How many of the newest runs of each DAG are kept for ever. Default: 20
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

    /// How long a webhook is kept after it was processed. Default: 30d
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

/// The executor of stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorKind {
    /// Containers of a Docker engine.
    Docker,
    /// A fake that follows a script; for tests.
    Fake,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}
