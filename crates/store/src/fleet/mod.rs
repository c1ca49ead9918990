//! The daemons on one database: their leases, leaders, health and metrics.

pub(crate) mod condition;
pub(crate) mod daemons;
pub mod figures;
pub(crate) mod leaders;
