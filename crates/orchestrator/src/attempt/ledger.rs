//! The supervisor's record of an attempt: Postgres under a daemon ([`crate::attempt::store_ledger`]), memory for a
//! file run by hand ([`crate::local`]).

use std::future::Future;

use trainyard_core::Timestamp;
use trainyard_core::artifact::{ArtifactContent, KeptOutput};
use trainyard_core::event::AttemptEnd;
use trainyard_executor::Handle;

use crate::attempt::allowance::Allowance;
use crate::attempt::log_lines::Batch;

/// Another owner acts on the attempt now: stop acting on it, and leave its container alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FencedOff;

/// The record of one attempt. Every call is durable when it returns, and may be repeated. Passing failures (a
/// database that restarts) are waited out inside, so that an attempt outlives them.
pub trait Ledger: Send + Sync {
    /// What the record of an end returns for the caller of the supervisor: the next claims of a daemon.
    type Next: Send;

    /// The container was created, not started. `notes` are shown with the attempt.
    fn created(
        &self,
        handle: &Handle,
        notes: &[String],
    ) -> impl Future<Output = Result<(), FencedOff>> + Send;

    /// The container runs, or ran. An adopted one has no known `image`; `since` is when Docker started it.
    fn started(
        &self,
        image: Option<&str>,
        since: Option<Timestamp>,
    ) -> impl Future<Output = Result<(), FencedOff>> + Send;

    /// More of the log.
    fn append_log(&self, batch: Batch) -> impl Future<Output = Result<(), FencedOff>> + Send;

    /// The container has run for its stage's timeout.
    fn timeout_passed(&self) -> impl Future<Output = ()> + Send;

    /// The allowance for the attempt's outputs.
    fn allowance(&self) -> impl Future<Output = Result<Allowance, FencedOff>> + Send {
        async { Ok(Allowance::unlimited()) }
    }

    /// Puts a collected file into the artifact store, which may move it.
    fn keep(
        &self,
        file: &std::path::Path,
        content: &ArtifactContent,
    ) -> impl Future<Output = Result<(), String>> + Send;

    fn finished(
        &self,
        end: AttemptEnd,
        outputs: Vec<KeptOutput>,
    ) -> impl Future<Output = Result<Self::Next, FencedOff>> + Send;

    /// The container is gone from Docker.
    fn removed(&self) -> impl Future<Output = ()> + Send;
}
