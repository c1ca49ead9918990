//! Housekeeping: invariants, quarantine, retention.

pub(crate) mod invariants;
pub(crate) mod quarantine;
pub(crate) mod retention;
