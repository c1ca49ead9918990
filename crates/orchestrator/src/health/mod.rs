//! Checks what the orchestrator depends on: Docker, the disks, the lease, and the other daemons.
//!
//! The [`guard`] combines the checks: where one fails, new stages wait, and running stages go on.

pub mod breaker;
pub mod disks;
pub mod engine_watch;
pub mod guard;
pub mod guarded;
pub mod leadership;
pub mod lease;
pub mod neighbours;
pub(crate) mod panics;
pub(crate) mod retry_log;
pub mod space;
