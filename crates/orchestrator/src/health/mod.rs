//! Whether what the orchestrator needs is well: Docker, the disks, its lease, and the daemons beside it.
//!
//! The [`guard`] puts it together: where something is not well, new stages wait, and running ones go on.

pub mod breaker;
pub mod disks;
pub mod engine_watch;
pub mod guard;
pub mod leadership;
pub mod lease;
pub mod neighbours;
pub(crate) mod panics;
pub(crate) mod retry_log;
pub mod space;
