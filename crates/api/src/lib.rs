//! The wire format: the types of `/api/v1`, and a client with one method per route.
//!
//! The types own their encoding: JSON in snake case, moments in RFC 3339, durations as numbers of
//! seconds in fields that end in `_seconds`, states and outcomes as the words of the glossary. Fields
//! are added, not renamed; readers skip what they do not know.
//!
//! | method and path | query, body | answer |
//! |---|---|---|
//! | GET `/daemon` | | [`DaemonInfo`] |
//! | GET `/daemons` | | [`Listing`] of [`DaemonSummary`] |
//! | GET `/violations` | | [`Listing`] of [`Violation`] |
//! | GET `/repos` | | [`Listing`] of [`Repo`] |
//! | POST `/repos` | [`NewRepo`] | [`RepoSaved`] |
//! | GET `/repos/{repo}` | | [`RepoDetail`] |
//! | PATCH `/repos/{repo}` | [`ChangeRepo`] | [`RepoSaved`] |
//! | DELETE `/repos/{repo}` | | |
//! | GET `/repos/{repo}/history` | | [`History`] |
//! | GET `/repos/{repo}/deliveries` | `limit` | [`Listing`] of [`Delivery`] |
//! | POST `/repos/{repo}/sync` | | [`Repo`], once it was synced |
//! | POST `/repos/{repo}/cancel` | [`CancelRuns`] | [`RunsCancelled`]: up to 500 |
//! | GET `/repos/{repo}/secrets` | | [`Listing`] of [`Secret`] |
//! | PUT, DELETE `/repos/{repo}/secrets/{name}` | [`SecretValue`] | |
//! | GET `/dags` | `repo` | [`Listing`] of [`Dag`] |
//! | GET `/dags/{repo}/{dag}` | | [`DagDetail`] |
//! | DELETE `/dags/{repo}/{dag}` | | |
//! | GET `/dags/{repo}/{dag}/history` | | [`History`] |
//! | POST `/dags/{repo}/{dag}/runs` | [`Trigger`] | [`RunStarted`] |
//! | PUT `/dags/{repo}/{dag}/paused` | [`Paused`] | [`Dag`] |
//! | GET `/dags/{repo}/{dag}/ticks` | `count` | [`Listing`] of [`Tick`] |
//! | GET `/runs` | `dag`, `repo`, `branch`, `commit`, `state`, `since`, `before`, `limit` | [`Listing`] of [`Run`] |
//! | GET `/runs/{run}` | | [`RunDetail`] |
//! | POST `/runs/{run}/cancel` | | [`Run`] |
//! | POST `/runs/{run}/abandon` | | [`Run`] |
//! | POST `/runs/{run}/retry` | [`RetryRequest`] | [`RunStarted`] |
//! | GET `/runs/{run}/events` | `after`, `wait_seconds` | [`Listing`] of [`RunEvent`] |
//! | GET `/runs/{run}/stages/{stage}/log` | `attempt`, `offset`, `wait_seconds` | [`LogPage`] |
//! | GET `/runs/{run}/artifacts` | | [`Listing`] of [`Artifact`] |
//! | GET `/runs/{run}/artifacts/{stage}/{output}` | | the content |
//! | GET `/metrics` | `run`, `dag`, `stage`, `name`, `limit` | [`Listing`] of [`Metric`] |
//! | GET `/audit` | `repo`, `by`, `action`, `since`, `until`, `before`, `limit` | [`Listing`] of [`AuditEntry`] |
//! | GET `/quarantine` | | [`Listing`] of [`Quarantined`] |
//! | DELETE `/quarantine/{id}` | | |
//! | GET, POST `/tokens` | [`NewToken`] | [`Listing`] of [`Token`], [`TokenMade`] |
//! | DELETE `/tokens/{token}` | | |
//! | POST `/gc` | [`GcRequest`] | [`GcReport`] |
//!
//! In `/dags/{repo}/{dag}`, a repo of `-` stands for the only one that has the DAG. Listings of runs
//! and of the audit log are paged: `before` takes the last `id` of the page before, as `after` does of a run's events.
//! `offset` of a log takes the `next_offset` of the piece before; without `attempt`, a stage's log is
//! that of its last attempt.
//! With `wait_seconds`, the daemon holds the answer until there is something to report, 50 seconds at the most. A
//! caller that asks again each time misses nothing: [`Client::watch_run`], [`Client::follow_events`],
//! [`Client::follow_log`]. `state` and `action` take several words with commas between them, `commit` the beginning of a hash.
//!
//! An unknown key in a query or a body is an error, so that a typo has no silent effect: a misspelt request for a dry
//! run of the garbage collection would delete for real.
//!
//! Errors are [`ErrorBody`], with these statuses: 400 not readable, 401 no valid token, 403 a token that may only
//! read, 404 not found, 409 conflict with the present state, 413 too large, 422 not valid, 429 too many requests
//! without a valid token, 503 not available, 504 not in time. Sets, removals and revocations are answered 204,
//! creations 201, everything else 200.

mod audit;
mod client;
mod dag;
mod declared;
mod follow;
mod log;
mod repo;
mod routes;
mod run;
mod system;

pub use audit::{AuditEntry, AuditSelection, Principal};
pub use client::{Client, ClientError, Download};
pub use dag::{
    ConcurrencyRule, Dag, DagDetail, Fault, GateBounds, LastRun, Param, Paused, PushRule, Schedule,
    StageOutline, Tick, Trigger,
};
pub use declared::json_values;
pub use log::{LogLine, LogPage, text_bytes};
pub use repo::{
    Branch, ChangeRepo, Delivery, History, NewRepo, Repo, RepoDetail, RepoSaved, Secret,
    SecretValue,
};
pub use run::{
    Artifact, Attempt, CancelRuns, Cause, Metric, MetricSelection, Reason, RetryRequest, Run,
    RunDetail, RunEvent, RunSelection, RunStarted, RunsCancelled, Stage,
};
pub use system::{
    DaemonInfo, DaemonState, DaemonSummary, ErrorBody, GcReport, GcRequest, Health, HeldAttempt,
    Lead, Listing, NewToken, Quarantined, Readiness, ReadyState, Token, TokenMade, TokenScope,
    Violation,
};

/// The prefix of every path of the API.
pub const PREFIX: &str = "/api/v1";

pub use trainyard_core::Timestamp;
