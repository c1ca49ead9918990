//! Runs: starting, advancing, and finding those that are due.

pub(crate) mod advance;
pub(crate) mod cancel;
pub(crate) mod draft;
pub(crate) mod due;
pub(crate) mod lock;
pub(crate) mod metrics;
pub(crate) mod overlap;
pub(crate) mod room;
pub(crate) mod rows;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod step;
