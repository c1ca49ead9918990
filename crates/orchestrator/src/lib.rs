//! The orchestrator: it starts runs, runs their stages as containers, and records how they end.
//!
//! - [`loops`]: the background loops of a daemon, from the scheduler to the pruner.
//! - [`attempt`]: one attempt of a stage from its claim to its recorded end: supervisor, log, outputs, masking.
//! - [`health`]: checks of Docker, the disks, the lease and the other daemons, and what is paused if one fails.
//! - [`records`]: what the loops ask of the database and the files of a daemon.
//! - [`local`]: one DAG file without a daemon (`trainyard exec`), over the same core, supervisor and executor.

pub mod attempt;
pub mod clock;
pub mod health;
pub mod local;
pub mod loops;
pub mod records;
pub mod tasks;
