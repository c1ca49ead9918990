//! What people and programs see, in the types of `trainyard_api`: no other form of it is in between. Where the daemon
//! needs more than it shows, a type here has that beside them.

mod artifacts;
mod census;
pub(crate) mod dags;
mod deliveries;
pub(crate) mod held;
pub(crate) mod metrics;
mod queue;
pub(crate) mod repos;
pub(crate) mod run;
pub(crate) mod runs;
