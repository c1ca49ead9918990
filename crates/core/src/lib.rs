//! Trainyard's pure domain: what a DAG is, what happened to a run, and what to do next.
//!
//! Facts go in and decisions come out. [`transition::apply`] records what happened to one run,
//! [`plan::plan`] says what to do next for it, and [`admit::admit`] shares capacity among runs.
//! All are synchronous functions on plain data: this crate has no runtime, no database, no clock,
//! no environment and no randomness. Time, capacity and ids are arguments, so every decision can be
//! replayed and tested by itself.
//!
//! | decided here                                   | done elsewhere                            |
//! |------------------------------------------------|-------------------------------------------|
//! | is this DAG well formed                        | reading its text (`dagfile`)              |
//! | which stages may start, retry, stop, be skipped| running containers (`executor`)           |
//! | which waiting attempts get capacity            | claims, leases, fences (`store`)          |
//! | which ticks of a schedule are due              | waking up in time (`orchestrator`)        |
//! | does a gate hold                               | collecting the metrics (`orchestrator`)   |

pub mod address;
pub mod admit;
pub mod adopted;
pub mod again;
pub mod ahead;
pub mod artifact;
pub mod backoff;
pub mod cause;
pub mod cron;
pub mod dag;
pub mod event;
pub mod expression;
pub mod gate;
pub mod id;
pub mod image;
pub mod measure;
pub mod name;
pub mod outcome;
pub mod overlap;
pub mod param;
pub mod plan;
pub mod principal;
pub mod render;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod script;
pub mod secret;
pub mod stage;
pub mod text;
pub mod transition;
pub mod trigger;
pub mod why;

/// A moment in UTC. The only time type of this crate; it never comes from a clock read here.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// `moment` and a wait after it; the end of time where there is no such moment.
fn after(moment: Timestamp, wait: std::time::Duration) -> Timestamp {
    chrono::Duration::from_std(wait)
        .ok()
        .and_then(|wait| moment.checked_add_signed(wait))
        .unwrap_or(Timestamp::MAX_UTC)
}
