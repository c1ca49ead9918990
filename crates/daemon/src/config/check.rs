//! Checks of values, and of values against each other.

use tracing_subscriber::EnvFilter;
use trainyard_core::stage::Resources;
use trainyard_store::SHORTEST_POLL;

use super::faults::Faults;
use super::quantity::{ByteSize, Span};
use super::{Config, Git, Http, Limits, Log, Stage};
use crate::descriptors::CONNECTIONS_LEAST;

/// Shorter leases would expire between two renewals, which are 5 s apart.
const SHORTEST_LEASE: Span = Span::seconds(10);

/// The largest request of the API, and as much again.
const LEAST_BODIES: ByteSize = ByteSize::mebibytes(2);

/// A quarter is the largest answer. A page of a log with binary data has up to 1.5 MiB.
const LEAST_ANSWERS: ByteSize = ByteSize::mebibytes(8);

/// With less memory, git does not start.
const LEAST_GIT_MEMORY: ByteSize = ByteSize::mebibytes(64);

/// Remotes need some time for each answer.
const SHORTEST_FETCH: Span = Span::seconds(10);

/// Registries need some time for each answer.
const SHORTEST_PULL_IDLE: Span = Span::seconds(1);

impl Config {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.require(
            self.allow_remote || self.listen.ip().is_loopback(),
            format!(
                "listen = {} is reachable from other machines, and Trainyard has no TLS of its own: who is \
                 on the way reads tokens and secrets. Listen on 127.0.0.1 behind a reverse proxy with TLS, \
                 or set allow_remote = true",
                self.listen
            ),
        );
        faults.require(
            self.database_connections >= 2,
            "database_connections must be at least 2",
        );
        faults.require(self.parallelism >= 1, "parallelism must be at least 1");
        faults.require(
            self.stages_of_a_repo != Some(0),
            "stages_of_a_repo must be at least 1; leave it out for no limit",
        );
        faults.at_least("poll_every", self.poll_every, Span(SHORTEST_POLL));
        faults.require(
            self.lease >= SHORTEST_LEASE,
            format!("lease must be at least {SHORTEST_LEASE}: it is renewed every 5 s"),
        );
        self.http.check(self.limits.webhook, faults);
        self.log.check(faults);
        faults.at_least(
            "docker.pull_idle",
            self.docker.pull_idle,
            SHORTEST_PULL_IDLE,
        );
        self.git.check(faults);
        self.stage.check(faults);
        self.limits.check(faults);
    }
}

impl Http {
    fn check(&self, webhook: ByteSize, faults: &mut Faults) {
        faults.require(
            self.connections
                .is_none_or(|count| u64::from(count) >= CONNECTIONS_LEAST),
            format!("http.connections must be at least {CONNECTIONS_LEAST}"),
        );
        faults.require(
            self.connections_per_address != Some(0),
            "http.connections_per_address must be at least 1",
        );
        faults.require(
            // Peers without a token have three quarters, and one address less.
            self.bodies.0 / 2 >= webhook.0 && self.bodies >= LEAST_BODIES,
            format!(
                "http.bodies must be at least {LEAST_BODIES}, and at least twice limits.webhook, which is {webhook}"
            ),
        );
        faults.require(
            self.answers >= LEAST_ANSWERS,
            format!("http.answers must be at least {LEAST_ANSWERS}"),
        );
    }
}

impl Log {
    fn check(&self, faults: &mut Faults) {
        if let Err(problem) = EnvFilter::try_new(&self.level) {
            faults.add(format!(
                "log.level = {:?} is not a valid log filter ({problem}): write a level such as info, or \
                 info,trainyard_orchestrator=debug",
                self.level
            ));
        }
    }
}

impl Git {
    fn check(&self, faults: &mut Faults) {
        faults.at_least("git.memory", self.memory, LEAST_GIT_MEMORY);
        faults.at_least("git.fetch_time", self.fetch_time, SHORTEST_FETCH);
    }
}

impl Stage {
    fn check(&self, faults: &mut Faults) {
        let are_cpus = |cpus: f64| cpus >= 0.01 && cpus.is_finite();
        faults.require(
            self.cpus.is_none_or(are_cpus),
            "stage.cpus must be at least 0.01",
        );
        faults.at_least(
            "stage.memory",
            self.memory,
            ByteSize(Resources::LEAST_MEMORY),
        );
        faults.at_least("stage.pids", self.pids, 1);
        faults.require(
            self.memory_at_most.is_none_or(|most| most >= self.memory),
            "stage.memory_at_most must be at least stage.memory",
        );
        faults.require(
            self.pids_at_most >= self.pids,
            "stage.pids_at_most must be at least stage.pids",
        );
        faults.require(
            self.cpus_at_most.is_none_or(are_cpus),
            "stage.cpus_at_most must be at least 0.01",
        );
        faults.at_least(
            "stage.timeout_at_most",
            self.timeout_at_most,
            Span::seconds(1),
        );
    }
}

impl Limits {
    fn check(&self, faults: &mut Faults) {
        faults.at_least(
            "limits.unfinished_runs_of_a_repo",
            self.unfinished_runs_of_a_repo,
            1,
        );
        faults.at_least(
            "limits.unfinished_stages_of_a_repo",
            self.unfinished_stages_of_a_repo,
            1,
        );
    }
}
