//! Everything that starts runs: repos and their syncs, webhook deliveries, pushes, the DAGs of a commit, schedules.

pub(crate) mod dags;
pub(crate) mod deliveries;
pub(crate) mod pushes;
pub(crate) mod removal;
pub(crate) mod repos;
pub(crate) mod schedules;
pub(crate) mod syncs;
