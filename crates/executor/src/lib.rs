//! What runs attempts: one contract, [`Executor`], and its implementations.
//!
//! An executor knows containers (or processes) and nothing of runs, retries or the database. It is
//! told what to run by an [`AttemptSpec`], hands back a [`Handle`] that finds the attempt again
//! after a restart of the daemon, and reports what is so ([`Status`]) rather than what it means.
//!
//! `docker::Docker` is the one for production. `process::Process` runs commands on the daemon's
//! own host, without isolation. `fake::Fake` does what its script says and checks that callers keep
//! the contract; it stands in for the others in tests and benchmarks, and is no mock: it passes the
//! same conformance suite.

pub mod any;
mod archive;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod contract;
pub mod docker;
pub mod fake;
mod pipe;
pub mod process;
#[cfg(feature = "readers")]
pub mod readers;
mod shell;
mod source;
pub mod spec;

pub use any::AnyExecutor;
pub use contract::{
    Collected, CollectedKind, Error, ErrorKind, Executor, Exit, Handle, ImageRequest, Listed,
    LogCursor, LogFrame, LogStream, PreparedImage, Proof, StageFolder, Status, Stream,
};
pub use spec::{AttemptSpec, Ceilings, InputKind, InputSpec, Limits, SpecHash};
