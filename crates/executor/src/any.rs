//! The executor that a daemon was configured with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use trainyard_core::Timestamp;
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::stage::RelativePath;

use crate::blob::BlobSink;
use crate::contract::{
    Attempts, BuildImage, Containers, Exit, Handle, ImageRequest, Listed, LogCursor, LogStream,
    PreparedImage, Proof, StageFolder, Status,
};
use crate::docker::Docker;
use crate::error::Error;
use crate::fake::Fake;
use crate::spec::AttemptSpec;

/// One of the executors. Clones are cheap and share one Docker engine.
#[derive(Debug, Clone)]
pub enum AnyExecutor {
    Docker(Docker),
    /// The scripted executor.
    Fake(Fake),
}

/// Passes calls on to the configured executor. Their futures are on the heap: a call to Docker would be part of each
/// future around it, on every level, and those of a supervisor are deep.
macro_rules! passed_on {
    ($($call:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {$(
        async fn $call(&self, $($argument: $kind),*) -> Result<$answer, Error> {
            match self {
                Self::Docker(executor) => Box::pin(executor.$call($($argument),*)).await,
                Self::Fake(executor) => Box::pin(executor.$call($($argument),*)).await,
            }
        }
    )*};
}

impl Containers for AnyExecutor {
    fn kind(&self) -> &'static str {
        match self {
            Self::Docker(executor) => executor.kind(),
            Self::Fake(executor) => executor.kind(),
        }
    }

    passed_on! {
        engine_id() -> Option<String>;
        create(spec: &AttemptSpec) -> Handle;
        start(handle: &Handle) -> ();
        inspect(handle: &Handle) -> Option<Status>;
        wait(handle: &Handle) -> Status;
        logs(handle: &Handle, after: Option<LogCursor>) -> LogStream;
        written(handle: &Handle) -> Option<u64>;
        stop(handle: &Handle, grace: Duration) -> ();
        remove(handle: &Handle) -> ();
        list() -> Vec<Listed>;
        ping() -> ();
        remove_networks() -> ();
    }
}

impl Attempts for AnyExecutor {
    fn starts_once(&self) -> bool {
        match self {
            Self::Docker(executor) => executor.starts_once(),
            Self::Fake(executor) => executor.starts_once(),
        }
    }

    passed_on! {
        prepare(request: &ImageRequest, progress: &(dyn Fn(String) + Send + Sync)) -> PreparedImage;
        prove(handle: &Handle, seen: &Exit) -> Proof;
        collect(handle: &Handle, output: &RelativePath, to: &Arc<dyn BlobSink>, limit: u64) -> Option<ArtifactContent>;
        files(handle: &Handle, folder: StageFolder) -> Vec<String>;
        remove_unused_build_images(before: Timestamp, wanted: &BTreeSet<String>) -> Vec<BuildImage>;
    }
}
