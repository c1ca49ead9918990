//! One attempt of a stage, from its claim to its recorded end.
//!
//! The [`supervisor`] drives it: it takes its supplies (source tree, inputs, secrets), prepares the image, creates
//! and starts the container, follows the log, proves how the program ended, collects outputs, and writes each step to
//! the [`ledger`] under the attempt's fence.

pub mod allowance;
pub mod assignment;
pub(crate) mod claim_supplies;
mod collect;
mod copy_budget;
mod hints;
pub mod layers;
pub mod ledger;
pub mod log_lines;
pub mod log_pump;
pub mod mask;
pub mod metrics_file;
mod near_misses;
pub(crate) mod needed_secrets;
pub mod sources;
pub(crate) mod store_ledger;
pub mod supervisor;
pub mod supplies;
