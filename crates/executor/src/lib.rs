//! The contract of executors, [`Containers`] and [`Attempts`], and its implementations.
//!
//! An executor knows containers and nothing of runs, retries or the database. An [`AttemptSpec`] describes what to
//! run. The executor returns a [`Handle`] that finds the attempt again after a restart of the daemon, and reports the
//! container's state ([`Status`]), not what that state means.
//!
//! `docker::Docker` is the one for production. `fake::Fake` does what its script says and checks that callers keep
//! the contract. It replaces Docker in tests and benchmarks, and passes the same conformance suite.

pub mod any;
mod archive;
pub mod blob;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod contract;
pub mod docker;
mod error;
pub mod fake;
mod pipe;
#[cfg(feature = "readers")]
pub mod readers;
mod shell;
mod source;
pub mod spec;

pub use any::AnyExecutor;
pub use blob::{Blob, BlobSink, LocalFile};
pub use contract::{
    Attempts, BuildImage, Containers, Exit, Handle, ImageRequest, Listed, LogCursor, LogFrame,
    LogStream, PreparedImage, Proof, StageFolder, Status, Stream,
};
pub use error::{Error, ErrorKind};
pub use spec::{AttemptSpec, Ceilings, InputSpec, Limits, SpecHash};
