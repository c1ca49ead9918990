//! What runs attempts: one contract, [`Executor`], and its implementations.
//!
//! An executor knows containers and nothing of runs, retries or the database. It is
//! told what to run by an [`AttemptSpec`], hands back a [`Handle`] that finds the attempt again
//! after a restart of the daemon, and reports what is so ([`Status`]) rather than what it means.
//!
//! `docker::Docker` is the one for production. `fake::Fake` does what its script says and checks that callers keep
//! the contract. It replaces Docker in tests and benchmarks, and passes the same conformance suite.

pub mod any;
mod archive;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod contract;
pub mod docker;
pub mod fake;
mod pipe;
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
