//! Simulation: whole histories of Trainyard under faults, from a seed, in virtual time.
//!
//! Real parts: the pure core (`step`, `admit`, `judge`), and the orchestrator's loops around attempts (planner,
//! dispatcher, keeper, sweeper, guard) with the supervisors that run the attempt protocol. Simulated parts: the store,
//! Docker, the network between them and the daemons, the clocks, and the processes of the daemons, which may be killed,
//! paused and cut off at any call. All of it runs on one thread in tokio's paused time, and everything that is left to chance
//! is drawn from one generator, so a seed determines the whole history and repeats it.
//!
//! | part | real counterpart | file |
//! |---|---|---|
//! | engine | Docker: names are unique, an exited container starts again | `engine` |
//! | client | the Docker executor: adopts by name, looks before it starts | `docker` |
//! | store, records | one Postgres: transactions, fences, leases, answers that get lost | `store`, `records` |
//! | witness | a file that programs append to, outside of all records | `witness` |
//!
//! Out of scope: it parses no SQL, speaks no HTTP and runs no container. Those have their
//! conformance suites and the fault programme; a fault there is not found here. Causes and their
//! deduplication are the store's, and are not simulated.
//!
//! [`Night`] keeps how far a long series of histories came, and which of them were red.
//!
//! That it can fail is shown by [`Mutation`]: each plants one mistake in a simulated part, and a test
//! demands that the histories find it.

mod behaviour;
mod chaos;
mod check;
mod daemon;
mod dags;
mod docker;
mod engine;
mod history;
mod network;
mod night;
mod process;
mod random;
mod records;
mod settings;
mod store;
mod witness;
mod world;

pub use history::{History, run};
pub use night::{Left, Night, Tally, this_build};
pub use settings::{Mutation, Settings};
pub use world::{Invariant, Violation};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. State that a panic left behind is used as it is, since the panic fails the history anyway.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
