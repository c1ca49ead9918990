//! The daemons on one database: their leases, leaders, health and metrics.

pub(crate) mod daemons;
pub(crate) mod health;
pub(crate) mod leaders;
pub mod metrics;
