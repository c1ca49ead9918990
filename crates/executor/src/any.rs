//! The executor that a daemon was configured with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use trainyard_core::Timestamp;
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::stage::RelativePath;

use crate::blob::BlobSink;
use crate::contract::{
    Error, Executor, Exit, Handle, ImageRequest, Listed, LogCursor, LogStream, PreparedImage,
    Proof, StageFolder, Status,
};
use crate::docker::Docker;
use crate::fake::Fake;
use crate::spec::AttemptSpec;

/// One of the executors. Clones are cheap and share one Docker engine.
#[derive(Debug, Clone)]
pub enum AnyExecutor {
    Docker(Docker),
    /// The scripted executor.
    Fake(Fake),
}

impl From<Docker> for AnyExecutor {
    fn from(executor: Docker) -> Self {
        Self::Docker(executor)
    }
}

impl From<Fake> for AnyExecutor {
    fn from(executor: Fake) -> Self {
        Self::Fake(executor)
    }
}

impl AnyExecutor {
    /// The id of the Docker engine, so that another daemon can check whether it reaches the same one;
    /// `None` where the executor has none that others could reach.
    ///
    /// # Errors
    /// A Docker error.
    pub async fn engine_id(&self) -> Result<Option<String>, Error> {
        match self {
            Self::Docker(docker) => Ok(Some(docker.info().await?.id)),
            Self::Fake(_) => Ok(None),
        }
    }

    /// Removes images that stages' `build:` left behind, made before a moment and not `wanted` by their
    /// id. Returns their number and their bytes. Executors without images have nothing to remove.
    ///
    /// # Errors
    /// A Docker error.
    pub async fn remove_unused_build_images(
        &self,
        before: Timestamp,
        wanted: &BTreeSet<String>,
    ) -> Result<(usize, u64), Error> {
        match self {
            Self::Docker(docker) => {
                let removed = Box::pin(docker.remove_unused_build_images(before, wanted)).await?;
                let bytes = removed.iter().map(|image| image.size).sum();
                Ok((removed.len(), bytes))
            }
            Self::Fake(_) => Ok((0, 0)),
        }
    }

    /// Removes the networks of repos that no container is in, for a daemon that stops.
    ///
    /// # Errors
    /// Docker did not answer, or refused.
    pub async fn remove_networks(&self) -> Result<(), Error> {
        match self {
            Self::Docker(docker) => Box::pin(docker.remove_networks()).await,
            Self::Fake(_) => Ok(()),
        }
    }
}

/// Calls the same method of the configured executor. Futures that take time are on the heap: a call to Docker would
/// be part of each future around it, on every level, and those of a supervisor are deep.
macro_rules! dispatch {
    ($this:expr, $executor:ident => $call:expr, awaited) => {
        match $this {
            AnyExecutor::Docker($executor) => Box::pin($call).await,
            AnyExecutor::Fake($executor) => Box::pin($call).await,
        }
    };
    ($this:expr, $executor:ident => $call:expr) => {
        match $this {
            AnyExecutor::Docker($executor) => $call,
            AnyExecutor::Fake($executor) => $call,
        }
    };
}

impl Executor for AnyExecutor {
    fn kind(&self) -> &'static str {
        dispatch!(self, executor => executor.kind())
    }

    async fn prepare(
        &self,
        request: &ImageRequest,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        dispatch!(self, executor => executor.prepare(request, progress), awaited)
    }

    async fn create(&self, spec: &AttemptSpec) -> Result<Handle, Error> {
        dispatch!(self, executor => executor.create(spec), awaited)
    }

    async fn start(&self, handle: &Handle) -> Result<(), Error> {
        dispatch!(self, executor => executor.start(handle), awaited)
    }

    fn starts_once(&self) -> bool {
        dispatch!(self, executor => executor.starts_once())
    }

    async fn prove(&self, handle: &Handle, seen: &Exit) -> Result<Proof, Error> {
        dispatch!(self, executor => executor.prove(handle, seen), awaited)
    }

    async fn inspect(&self, handle: &Handle) -> Result<Option<Status>, Error> {
        dispatch!(self, executor => executor.inspect(handle), awaited)
    }

    async fn written(&self, handle: &Handle) -> Result<Option<u64>, Error> {
        dispatch!(self, executor => executor.written(handle), awaited)
    }

    async fn wait(&self, handle: &Handle) -> Result<Status, Error> {
        dispatch!(self, executor => executor.wait(handle), awaited)
    }

    async fn logs(&self, handle: &Handle, after: Option<LogCursor>) -> Result<LogStream, Error> {
        dispatch!(self, executor => executor.logs(handle, after), awaited)
    }

    async fn collect(
        &self,
        handle: &Handle,
        output: &RelativePath,
        to: &Arc<dyn BlobSink>,
        limit: u64,
    ) -> Result<Option<ArtifactContent>, Error> {
        dispatch!(self, executor => executor.collect(handle, output, to, limit), awaited)
    }

    async fn files(&self, handle: &Handle, folder: StageFolder) -> Result<Vec<String>, Error> {
        dispatch!(self, executor => executor.files(handle, folder), awaited)
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        dispatch!(self, executor => executor.stop(handle, grace), awaited)
    }

    async fn remove(&self, handle: &Handle) -> Result<(), Error> {
        dispatch!(self, executor => executor.remove(handle), awaited)
    }

    async fn ping(&self) -> Result<(), Error> {
        dispatch!(self, executor => executor.ping(), awaited)
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        dispatch!(self, executor => executor.list(), awaited)
    }
}
