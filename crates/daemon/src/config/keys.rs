//! Every key of the configuration, once: its name, type, default, help, and the placeholder of its value.
//!
//! The key `docker.host` is the flag `--docker-host` and the variable `TRAINYARD_DOCKER_HOST`. A default that depends
//! on the machine or on the command is in [`super::Config`]; the help of its key says what it is.
//! `deploy/config.example.toml` explains the keys at more length; tests hold its keys and values to these.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use trainyard_store::{Retention as KeptFor, UnfinishedLimits};

use super::hosts::Hosts;
use super::pools::Pools;
use super::quantity::{ByteSize, Span};
use super::table::{
    in_effect, is_secret, layer, least_values, may_stand_alone, parser, section, spelled,
};
use super::values::{ExecutorKind, HiddenText, LogFormat, NameList};

layer! {
    /// One layer of the configuration. `None` leaves a key to the layer below.
    #[command(next_help_heading = "Configuration")]
    Settings, "" {
        /// Where the API and the webhooks listen
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), "IP:PORT";

        /// Permit `listen` to be an address that other machines reach. The daemon has no TLS: put a reverse proxy
        /// in front of it
        allow_remote: bool = false, "BOOL";

        /// Address at which forges and users reach the daemon, such as https://trainyard.example.org; `repo add`
        /// shows it for webhooks. Default: http:// with the address that it listens on
        public_url: String, "URL";

        /// Folder for artifacts, git mirrors, the key and, with `dev`, Postgres. Default: .trainyard with `dev`,
        /// else /var/lib/trainyard
        data_dir: PathBuf, "FOLDER";

        /// Postgres 14 or newer: postgres://USER:PASSWORD@HOST/DATABASE. If it has a password, prefer the variable:
        /// all users of the machine can see flags. Default: with `dev` a Postgres of its own
        database_url: HiddenText, "URL";

        /// Size of the connection pool for the database; nine more connections serve reads, LISTEN and leases
        database_connections: u32 = 8, "COUNT";

        /// How long to wait at the start for a Postgres that does not answer; `dev` does not wait
        database_wait: Span = Span::seconds(120), "DURATION";

        /// Folder of artifacts. Daemons on one database share one. Default: artifacts in the data folder
        artifacts_dir: PathBuf, "FOLDER";

        /// File with the key that encrypts secrets: 32 bytes in hex or base64. Created if it is missing. Default:
        /// secret.key in the data folder
        secret_key_file: PathBuf, "FILE";

        /// Executor of stages: `docker`, or `fake`, which runs nothing and is for tests
        executor: ExecutorKind = ExecutorKind::Docker, "EXECUTOR";

        /// Most stages that run at the same time. Default: twice the number of this machine's CPUs
        parallelism: u32, "COUNT";

        /// Most stages of one repo that run at the same time, on all daemons together. Default: unlimited
        stages_of_a_repo: u32, "COUNT";

        /// How often repos are polled, in addition to webhooks; at least 1s
        poll_every: Span = Span::seconds(60), "DURATION";

        /// Permit repos on this machine's own disk: any user who may add a repo can then read any repository that
        /// the daemon's user can read; `dev` permits it
        allow_file_urls: bool = false, "BOOL";

        /// Lease of an attempt, which its daemon renews every 5 s; at least 10s. After a crash, another daemon
        /// adopts the attempt once the lease has expired, and up to 5 s later
        lease: Span = Span::seconds(15), "DURATION";

        /// Space that must be free on the disks of the data folder, of artifacts and of a Docker engine on this
        /// machine: with less, no new stage is started until there is more. 0B means no minimum. Default: 2GiB, or
        /// 5 % of a smaller disk
        free_space: ByteSize, "SIZE";

        /// Named capacity for stages that ask for it, such as gpu=2,licence=1. Default: none
        pools: Pools, "NAME=SLOTS,...";
    }
    sections {
        http: HttpSettings,
        log: LogSettings,
        docker: DockerSettings,
        git: GitSettings,
        stage: StageSettings,
        limits: LimitSettings,
        metrics: MetricsSettings,
        retention: RetentionSettings,
    }
}

section! {
    /// `[http]`: limits for peers of the HTTP server.
    HttpSettings => Http, "http." {
        /// Most connections to the API and the webhooks at the same time. Default: a quarter of the file
        /// descriptors that the daemon may have, and 1024 at the most
        connections: u32, "COUNT";

        /// The same from one address; loopback is exempt. Raise it if a reverse proxy on another machine serves
        /// many clients. Default: a quarter of http.connections
        connections_per_address: u32, "COUNT";

        /// Memory for the bodies of all requests together; further requests must be retried later
        bodies: ByteSize = ByteSize::mebibytes(64), "SIZE";

        /// Memory for all answers that have not been read yet; a quarter of it is the most for one token, and for one
        /// answer
        answers: ByteSize = ByteSize::mebibytes(64), "SIZE";
    }
}

section! {
    /// `[log]`: the log of the daemon.
    LogSettings => Log, "log." {
        /// Lines for people, or one JSON object a line
        format: LogFormat = LogFormat::Text, "FORMAT";

        /// Log level: error, warn, info, debug, trace, also by module, such as info,trainyard_orchestrator=debug.
        /// Libraries are logged at info at most, since they log what they send, secrets included
        level: String = "info".to_owned(), "LEVEL";
    }
}

layer! {
    /// `[docker]`: the Docker engine.
    DockerSettings, "docker." {
        /// Address of Docker, unix:///PATH or tcp://HOST:PORT. Default: $DOCKER_HOST, else
        /// unix:///var/run/docker.sock
        host: String, "ADDRESS";

        /// Network of all stages and builds: bridge, none, or one that you created. Default: a network for each
        /// repo, which other repos cannot reach
        network: String, "NAME";

        /// Make the networks of repos internal: stages and builds reach only those of their own repo
        internal: bool = false, "BOOL";

        /// Addresses for the networks of repos once Docker's own are used up (after some 30 networks); each network
        /// takes a /24. Default: 10.201.0.0/16
        subnets: String, "RANGE";

        /// Registries that images may come from, such as docker.io,registry.internal:5000; `public` stands for all
        /// that are neither on this machine nor in a private network. Default: public
        registries: NameList, "HOST,...";

        /// Allow Dockerfiles that need BuildKit (`RUN --mount`, here-documents). Such builds have no memory limit
        /// and run in Docker's own network; `dev` allows them
        buildkit: bool = false, "BOOL";

        /// Linux capabilities of stages whose image runs as root; all others are dropped. Default:
        /// CHOWN,DAC_OVERRIDE,FOWNER,KILL,SETGID,SETUID
        capabilities: NameList, "NAME,...";

        /// How long a pull of an image may make no progress before it is cancelled
        pull_idle: Span = Span::seconds(120), "DURATION";

        /// Refuse to start on a Docker engine or runc whose version number is older than the fixes of known
        /// container escapes, even if a distribution has backported them. Without it, the log lists missing fixes
        require_fixes: bool = false, "BOOL";
    }
}

section! {
    /// `[git]`: remotes of repos.
    GitSettings => Git, "git." {
        /// Memory that git may take for one fetch, or to read one commit: it works in a process of its own, and a
        /// fetch that needs more is cancelled
        memory: ByteSize = ByteSize::mebibytes(1024), "SIZE";

        /// How long a fetch may take
        fetch_time: Span = Span::seconds(30 * 60), "DURATION";

        /// How many bytes a fetch may transfer
        fetch_size: ByteSize = ByteSize::mebibytes(4096), "SIZE";

        /// Least bytes per second that a remote must send, on average over each minute of waiting; 0B means no
        /// minimum
        slowest: ByteSize = ByteSize(1 << 10), "SIZE";

        /// Permit remotes at addresses of private networks, such as 10.0.0.5: users who may add a repo can then
        /// make the daemon connect to hosts there; `dev` permits it
        private_addresses: bool = false, "BOOL";

        /// Hosts of remotes that are permitted at any address, this machine included, such as forge.lan,127.0.0.1.
        /// Default: none; with `dev` also this machine
        hosts: Hosts, "HOST,...";

        /// Permit passwords for http:// remotes on other machines: they can be read on the network
        open_passwords: bool = false, "BOOL";
    }
}

section! {
    /// `[stage]`: default and largest resources of a stage.
    StageSettings => Stage, "stage." {
        /// CPUs of a stage, as a decimal number. Default: all that this machine has
        cpus: f64, "CPUS";

        /// Memory of a stage; a stage that needs more is killed
        memory: ByteSize = ByteSize::mebibytes(4096), "SIZE";

        /// Size of a stage's /dev/shm. Default: Docker's own, 64MiB
        shm: ByteSize, "SIZE";

        /// Processes and threads of a stage
        pids: u32 = 4096, "COUNT";

        /// Most memory that a stage may ask for. Default: all of the Docker engine's machine
        memory_at_most: ByteSize, "SIZE";

        /// Most CPUs that a stage may ask for. Default: all of the Docker engine's machine
        cpus_at_most: f64, "CPUS";

        /// Largest /dev/shm that a stage may ask for. Default: half of stage.memory_at_most
        shm_at_most: ByteSize, "SIZE";

        /// Most processes and threads that a stage may ask for
        pids_at_most: u32 = 32768, "COUNT";

        /// Longest timeout that a stage may ask for; a stage without a timeout is stopped after it
        timeout_at_most: Span = Span::days(30), "DURATION";

        /// Grace period of a stage between SIGTERM and SIGKILL
        grace: Span = Span::seconds(10), "DURATION";
    }
}

section! {
    /// `[limits]`: size limits for data from outside.
    LimitSettings => Limits, "limits." {
        /// Log kept of one attempt: of a longer log the beginning and the end, half each
        log: ByteSize = ByteSize::mebibytes(16), "SIZE";

        /// Largest output that is kept; a stage with a larger one fails
        artifact: ByteSize = ByteSize::mebibytes(8 << 10), "SIZE";

        /// Most log kept of all attempts of one run together; of later output, only a little is kept
        logs_of_a_run: ByteSize = ByteSize::mebibytes(1 << 10), "SIZE";

        /// Most space for the outputs of one run together; a stage whose outputs do not fit fails
        artifacts_of_a_run: ByteSize = ByteSize::mebibytes(32 << 10), "SIZE";

        /// Most that the container of a stage may write to Docker's disk; a container that has written more is
        /// stopped, and its stage fails. 0B means unlimited
        layer: ByteSize = ByteSize::mebibytes(32 << 10), "SIZE";

        /// Largest webhook that is accepted
        webhook: ByteSize = ByteSize::mebibytes(5), "SIZE";

        /// Most unfinished runs of one repo: further runs are not started, and the DAG shows why
        unfinished_runs_of_a_repo: u32 = UnfinishedLimits::default().runs, "COUNT";

        /// Most unfinished stages of these runs together
        unfinished_stages_of_a_repo: u32 = UnfinishedLimits::default().stages, "COUNT";
    }
}

section! {
    /// `[metrics]`: metrics for a monitoring system.
    MetricsSettings => Metrics, "metrics." {
        /// Show /metrics without a token
        public: bool = false, "BOOL";
    }
}

section! {
    /// `[retention]`: rules of retention.
    RetentionSettings => Retention, "retention." {
        /// How long a run is kept after it ended
        runs_for: Span = Span(KeptFor::default().runs_for), "DURATION";

        /// How many of the newest runs of each DAG are kept for ever
        runs_of_each_dag: u32 = KeptFor::default().runs_of_each_dag, "COUNT";

        /// How long a log is kept after its run ended
        logs_for: Span = Span(KeptFor::default().logs_for), "DURATION";

        /// How long a webhook is kept after it was processed
        deliveries_for: Span = Span(KeptFor::default().deliveries_for), "DURATION";

        /// How long an image that was built for stages is kept after a run last used it
        images_for: Span = Span(KeptFor::default().images_for), "DURATION";

        /// How long an entry of the audit log is kept
        audit_for: Span = Span(KeptFor::default().audit_for), "DURATION";
    }
}
