//! The loops that make things happen: they read facts, let the core decide, and carry it out.
//!
//! Each loop is idempotent and takes no input: it looks at the truth on a wake or a tick and does what
//! is due, so a lost wake costs a little time and nothing else. Each has a `pass` that a test can call
//! once. None holds a transaction across a call to Docker or git.
//!
//! | loop | wakes on | does |
//! |---|---|---|
//! | [`planner`] | runs made, cancelled, due | judges concurrency, plans runs |
//! | [`dispatcher`] | attempts queued, slots freed | claims attempts, starts a [`supervisor`] each |
//! | [`keeper`] | stop requests, a tick | renews leases; passes stops on, lets go of what has ended, adopts |
//! | [`sweeper`] | a tick | compares containers with what is known of them, removes what has ended |
//! | [`scheduler`] | schedules changed, the next tick | turns due ticks into causes |
//! | [`watcher`] | webhook deliveries, a tick | fetches repos, turns moved heads into causes |
//! | [`guard`] | a tick | tells whether the engine, the disks and the lease are well; pauses claims where not |
//! | [`pruner`] | a tick | retention |
//!
//! With several daemons on one database all claim and plan; scheduler, watcher and pruner work where their
//! daemon leads ([`leadership`]); whoever loses its [`lease`] lets go of its attempts.
//!
//! [`local`] runs one file with none of them, over the same core, supervisor and executor.

pub mod allowance;
pub mod assignment;
mod branch_trouble;
pub mod breaker;
mod claim_supplies;
pub mod clock;
pub mod dag_reading;
pub mod disks;
pub mod dispatcher;
pub mod engine_watch;
pub mod guard;
mod hints;
pub mod keeper;
pub mod layers;
pub mod leadership;
pub mod lease;
pub mod ledger;
pub mod local;
pub mod local_outputs;
pub mod log_lines;
pub mod log_pump;
pub mod mask;
pub mod metrics_file;
mod near_misses;
mod needed_secrets;
pub mod neighbours;
pub mod planner;
pub mod pruner;
pub mod scheduler;
pub mod sources;
pub mod space;
pub mod store_ledger;
pub mod supervisor;
pub mod supplies;
pub mod sweeper;
pub mod watcher;
pub mod working_tree;

mod collect;
mod engine;
mod lasting_trouble;
mod panics;
mod removals;

pub use engine::{Engine, EngineOptions, LoopEnded};
