//! Read models for pages and the command line. No decision depends on them.

pub(crate) mod artifacts;
mod census;
pub(crate) mod dags;
pub(crate) mod deliveries;
pub(crate) mod held;
pub(crate) mod metrics;
pub(crate) mod queue;
pub(crate) mod repos;
pub(crate) mod run;
pub(crate) mod runs;
