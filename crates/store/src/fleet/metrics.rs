//! Every metric that a daemon exposes to a monitoring system: names, labels and meaning, each written once.
//! docs/metrics.md shows the same table, and a test compares the two.
//!
//! Metrics are counted where the facts happen, in this crate and in those above it; with no recorder installed that
//! costs next to nothing. They are per daemon and start at zero with it; numbers that must be exact across restarts
//! are read from the database. (In the domain, a *metric* is a number that a stage reports.)

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
}

#[derive(Debug, Clone, Copy)]
pub struct DaemonMetric {
    pub name: &'static str,
    pub kind: Kind,
    /// Its label and the known values of that, if it has one.
    pub label: Option<(&'static str, &'static [&'static str])>,
    pub says: &'static str,
}

const fn metric(name: &'static str, kind: Kind, says: &'static str) -> DaemonMetric {
    DaemonMetric {
        name,
        kind,
        label: None,
        says,
    }
}

const fn labelled(
    name: &'static str,
    kind: Kind,
    label: (&'static str, &'static [&'static str]),
    says: &'static str,
) -> DaemonMetric {
    DaemonMetric {
        name,
        kind,
        label: Some(label),
        says,
    }
}

pub const LEASES_LOST: DaemonMetric = metric(
    "trainyard_leases_lost_total",
    Kind::Counter,
    "Times that the daemon's lease expired and it stopped supervising its attempts",
);

/// Attempts that were adopted.
pub const ATTEMPTS_ADOPTED: DaemonMetric = metric(
    "trainyard_attempts_adopted_total",
    Kind::Counter,
    "Attempts adopted because no daemon held them any more, including this daemon's own after a restart",
);

/// How attempts and runs end.
const ENDS: &[&str] = &[
    "succeeded",
    "failed",
    "errored",
    "timed_out",
    "cancelled",
    "lost",
];

/// Attempts whose end was recorded.
pub const ATTEMPTS_FINISHED: DaemonMetric = labelled(
    "trainyard_attempts_finished_total",
    Kind::Counter,
    ("outcome", ENDS),
    "Attempts whose end was recorded; `lost` are those whose end cannot be proved",
);

pub const RUNS_FINISHED: DaemonMetric = labelled(
    "trainyard_runs_finished_total",
    Kind::Counter,
    ("state", ENDS),
    "Runs that ended, by state",
);

/// Attempts that wait for capacity, in the whole installation.
pub const ATTEMPTS_QUEUED: DaemonMetric = metric(
    "trainyard_attempts_queued",
    Kind::Gauge,
    "Attempts that wait for capacity, in the whole installation",
);

/// Subjects in quarantine, in the whole installation.
pub const QUARANTINES: DaemonMetric = metric(
    "trainyard_quarantines",
    Kind::Gauge,
    "Repos, DAGs and runs in quarantine, in the whole installation",
);

/// Repos whose last sync failed, in the whole installation.
pub const REPOS_FAILING: DaemonMetric = metric(
    "trainyard_repos_failing",
    Kind::Gauge,
    "Repos whose last sync failed, in the whole installation",
);

/// Time since Docker's containers were last listed.
pub const RECONCILE_LAG: DaemonMetric = metric(
    "trainyard_reconcile_lag_seconds",
    Kind::Gauge,
    "Seconds since Docker's containers were last listed completely",
);

pub const BREAKER_STATE: DaemonMetric = metric(
    "trainyard_breaker_state",
    Kind::Gauge,
    "The circuit breaker of Docker: 0 closed, 1 on trial, 2 open",
);

/// Times that the circuit breaker opened.
pub const BREAKER_TRIPS: DaemonMetric = metric(
    "trainyard_breaker_trips_total",
    Kind::Counter,
    "Times that the circuit breaker of Docker opened",
);

/// Whether claims are paused.
pub const CLAIMS_PAUSED: DaemonMetric = labelled(
    "trainyard_claims_paused",
    Kind::Gauge,
    ("kind", &["engine", "space", "disk"]),
    "1 while this daemon starts nothing new because of Docker, low free space or a disk that does not answer",
);

pub const FREE_BYTES: DaemonMetric = labelled(
    "trainyard_free_bytes",
    Kind::Gauge,
    ("place", &["data", "artifacts", "engine"]),
    "Bytes free on the guarded disks; of several places on one disk, only one is reported",
);

/// Attempts whose logs cannot be written.
pub const LOGS_WAITING: DaemonMetric = metric(
    "trainyard_logs_waiting",
    Kind::Gauge,
    "Attempts whose log waits for the database; meanwhile their output stays in Docker's log",
);

pub const LOG_BYTES_DROPPED: DaemonMetric = metric(
    "trainyard_log_bytes_dropped_total",
    Kind::Counter,
    "Bytes dropped out of the middle of logs that are larger than limits.log",
);

pub const WEBHOOK_DELIVERIES: DaemonMetric = labelled(
    "trainyard_webhook_deliveries_total",
    Kind::Counter,
    (
        "result",
        &["stored", "known", "refused", "malformed", "too_large"],
    ),
    "Webhook deliveries, by result",
);

/// Whether the database answers.
pub const DATABASE_UP: DaemonMetric = metric(
    "trainyard_database_up",
    Kind::Gauge,
    "1 if the database answered when these metrics were read",
);

pub const STORE_CONNECTIONS_IN_USE: DaemonMetric = metric(
    "trainyard_store_connections_in_use",
    Kind::Gauge,
    "Connections to the database that are in use",
);

/// Whether notifications of other daemons arrive.
pub const LISTENING: DaemonMetric = metric(
    "trainyard_listening",
    Kind::Gauge,
    "1 while LISTEN/NOTIFY is connected; at 0 the daemon polls, and finds changes some seconds later",
);

pub const ALL: [DaemonMetric; 18] = [
    LEASES_LOST,
    ATTEMPTS_ADOPTED,
    ATTEMPTS_FINISHED,
    RUNS_FINISHED,
    ATTEMPTS_QUEUED,
    QUARANTINES,
    REPOS_FAILING,
    RECONCILE_LAG,
    BREAKER_STATE,
    BREAKER_TRIPS,
    CLAIMS_PAUSED,
    FREE_BYTES,
    LOGS_WAITING,
    LOG_BYTES_DROPPED,
    WEBHOOK_DELIVERIES,
    DATABASE_UP,
    STORE_CONNECTIONS_IN_USE,
    LISTENING,
];

/// Registers all metrics with the recorder, at zero: a metric that appears only after a failure cannot be watched.
/// The disks are known only to the code that checks them.
pub fn begin() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.says),
            Kind::Gauge => describe_gauge!(metric.name, metric.says),
        }
        if metric.name == FREE_BYTES.name {
            continue;
        }
        match (metric.kind, metric.label) {
            (Kind::Counter, None) => metric.add(0),
            (Kind::Gauge, None) => metric.set(0.0),
            (Kind::Counter, Some((_, values))) => values.iter().for_each(|v| metric.add_for(v, 0)),
            (Kind::Gauge, Some((_, values))) => values.iter().for_each(|v| metric.set_for(v, 0.0)),
        }
    }
}

impl DaemonMetric {
    pub fn add(&self, count: u64) {
        counter!(self.name).increment(count);
    }

    /// Adds to the counter of one label value.
    pub fn add_for(&self, value: &'static str, count: u64) {
        counter!(self.name, self.label_name() => value).increment(count);
    }

    pub fn set(&self, value: f64) {
        gauge!(self.name).set(value);
    }

    /// Sets the gauge of one label value.
    pub fn set_for(&self, of: &'static str, value: f64) {
        gauge!(self.name, self.label_name() => of).set(value);
    }

    /// Raises a gauge by one until the returned guard is dropped.
    #[must_use]
    pub fn while_held(&self) -> HeldGauge {
        let held = gauge!(self.name);
        held.increment(1.0);
        HeldGauge(held)
    }

    fn label_name(&self) -> &'static str {
        self.label.map_or("", |(name, _)| name)
    }
}

/// A gauge counts this as long as it lives.
pub struct HeldGauge(metrics::Gauge);

impl Drop for HeldGauge {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
