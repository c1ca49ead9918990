//! The store: Postgres, and the only crate with SQL.
//!
//! The pure core decides what happens to a run; this crate stores it. The central call is [`Store::advance`]: lock
//! the run, read its state, let the core apply and plan, write the difference, all in one transaction. Recovery needs
//! no code of its own: unfinished runs are in the tables, and planning them again is always safe.
//!
//! - One file for each aggregate. Statements are checked against a real database when this crate is developed, and
//!   against `.sqlx` when it is built (`prepare.sh` renews it).
//! - `now` comes once for each transaction from Postgres, read in the statement that takes the lock, and is passed
//!   down. So several daemons share one clock.
//! - Lock order, everywhere: repo, DAG, schedule, run, stage run, attempt, blob; runs in the order of their ids.
//!   The admission lock comes last, and no transaction waits for a row while it holds that lock.
//! - No transaction is held across a slow operation.
//! - A row that cannot be read is an error that names it, and stops only the work on that row.
//!
//! # Errors
//! Every call can fail as Postgres does: it does not answer, or refuses. The docs of a call name its other errors.

mod access;
mod attempts;
mod care;
mod db;
mod files;
pub mod fleet;
mod runs;
mod store;
mod triggers;
mod views;

pub use access::audit::AuditFilter;
pub use access::seal::SecretKey;
pub use access::secrets::{SECRET_AT_MOST, StoredSecret, StoredSecrets};
pub use access::tokens::TokenInfo;
pub use attempts::abandon::{Abandoned, GivingUp, SeenGone};
pub use attempts::adopt::{LeftBehind, StopRequest};
pub use attempts::assemble::Claim;
pub use attempts::claim::{ClaimCapacity, ClaimRequest};
pub use attempts::finish::{Finished, FinishedAttempt};
pub use attempts::sweep::RecordedAttempt;
pub use care::invariants::{INVARIANTS, Invariant};
pub use care::quarantine::{Subject, Weight};
pub use care::retention::{KeptImages, Pruned, Retention};
pub use db::error::{Error, Result, answered_within};
pub use db::options::StoreOptions;
pub use db::report_pace::ReportPace;
pub use db::topics::{Follower, Topic, Topics};
pub use db::wakes::{Concern, Wake, Wakes, Woken};
pub use files::blob_folder::BlobFolder;
pub use files::blobs::{ALL_BYTES, BlobEntry, Blobs, OpenBlob};
pub use files::logs::{LogChunk, LogSlice};
pub use files::sweep::Swept;
pub use fleet::daemons::{DaemonInfo, LeaseSeen};
pub use fleet::health::{DaemonHealth, HealthProblem, ProblemKind};
pub use fleet::leaders::Role;
pub use runs::advance::Advanced;
pub use runs::cancel::{CancelFilter, CancelledRuns};
pub use runs::due::NextWake;
pub use runs::room::UnfinishedLimits;
pub use runs::start::{NewRun, Recorded};
pub use store::Store;
pub use triggers::dags::{DagAtCommit, PinnedDag, dag_bytes};
pub use triggers::deliveries::{BranchMove, DeliveryRecorded, NewDelivery, PendingPush};
pub use triggers::pushes::{PushRecorded, PushSeen};
pub use triggers::repos::{
    AddressNumber, NewRepo, RepoChange, RepoChanged, RepoCredentials, RepoRemote, RepoToSync,
    SHORTEST_POLL,
};
pub use triggers::schedules::FireReport;
pub use triggers::syncs::{FailingSyncs, SyncOutcome};
pub use views::dags::DagPlace;
pub use views::metrics::MetricFilter;
pub use views::repos::RepoSummary;
pub use views::run::Logged;
pub use views::runs::RunFilter;
