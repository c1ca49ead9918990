//! The contract between the orchestrator and the executors that run containers, in two parts.
//!
//! [`Containers`] is what anyone needs who runs programs in containers. [`Attempts`] adds what only attempts need: their
//! images are made ready, their end is proved, and their outputs are collected.
//!
//! Order of calls for one attempt: [`prepare`](Attempts::prepare), [`create`](Containers::create),
//! [`start`](Containers::start), then [`wait`](Containers::wait) together with [`logs`](Containers::logs), then
//! [`prove`](Attempts::prove), then [`collect`](Attempts::collect) for each output, then
//! [`remove`](Containers::remove). A supervisor that takes over after a restart enters at any point, with the handle
//! or, if that was lost, by calling `create` again with the same spec.
//!
//! - Every call may be repeated. `create` with the spec of an attempt that exists adopts its container; it never
//!   removes and creates again. A `create` that returned no handle may have left a container whose files are not all
//!   laid out: repeat it before `start`. Once there is a handle, all files are laid out. `start` starts only a
//!   container that was created and never started: on Docker, starting an exited container would run the program a
//!   second time.
//! - Calls for different attempts may run at the same time; calls for one attempt come from one
//!   supervisor, except `stop`, which may come at any moment.
//! - Dropping a future or a stream, and dropping the executor, leaves containers alone.
//! - Until `remove`, an exited container is the tombstone of its attempt: its state is the result.
//!
//! An executor that wraps another one has to pass on the calls that have a default, too.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream as FutureStream;
use trainyard_core::Timestamp;
pub use trainyard_core::adopted::LogCursor;
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::id::{AttemptId, Fence, RepoId};
use trainyard_core::render::RenderedImage;
use trainyard_core::stage::RelativePath;

use crate::blob::{Blob, BlobSink};
use crate::error::Error;
use crate::spec::{AttemptSpec, Limits, SpecHash};

/// Runs programs in containers. Today each of them is an attempt's.
pub trait Containers: Send + Sync {
    /// The executor's name, as stored with attempts: `docker`.
    fn kind(&self) -> &'static str;

    /// The id of the Docker engine, so that another daemon can check whether it reaches the same one; `None` where
    /// the executor has none that others could reach.
    ///
    /// # Errors
    /// A Docker error.
    fn engine_id(&self) -> impl Future<Output = Result<Option<String>, Error>> + Send {
        async { Ok(None) }
    }

    /// Creates the attempt's container with everything laid out in it, or adopts the one that is
    /// there with the same attempt and spec hash.
    ///
    /// # Errors
    /// `Mismatch` where another spec was used for this attempt, else a Docker error.
    fn create(&self, spec: &AttemptSpec) -> impl Future<Output = Result<Handle, Error>> + Send;

    /// Starts a container that was created and never started; does nothing to one that was started before.
    ///
    /// # Errors
    /// `Start` where the program cannot be started, `Gone`, or a Docker error.
    fn start(&self, handle: &Handle) -> impl Future<Output = Result<(), Error>> + Send;

    /// The current state; `None` where Docker has no such container.
    ///
    /// # Errors
    /// A Docker error.
    fn inspect(
        &self,
        handle: &Handle,
    ) -> impl Future<Output = Result<Option<Status>, Error>> + Send;

    /// Waits until a started container has ended and returns how ([`Status::Exited`], or `Unknown` where
    /// Docker does not know). It does not wait for one that was never started: that is `Created`.
    ///
    /// # Errors
    /// `Gone` where it vanished, else a Docker error. The caller inspects and may wait again.
    fn wait(&self, handle: &Handle) -> impl Future<Output = Result<Status, Error>> + Send;

    /// The log after `after` (from the start without it), following until the container has ended
    /// and all of it was read. Frames are pieces, not lines; an empty one means that reading goes on.
    /// A container that was never started has no log: its stream ends at once.
    ///
    /// # Errors
    /// On opening: `Gone`, or a Docker error. Items can fail too; reopen with the cursor of
    /// the last frame.
    fn logs(
        &self,
        handle: &Handle,
        after: Option<LogCursor>,
    ) -> impl Future<Output = Result<LogStream, Error>> + Send;

    /// How much a container has written to Docker's disk so far, in bytes: `None` where Docker does not
    /// know. Counting may take long, and sparse files may count by their full length.
    ///
    /// # Errors
    /// A Docker error, which says nothing about the container.
    fn written(&self, _handle: &Handle) -> impl Future<Output = Result<Option<u64>, Error>> + Send {
        async { Ok(None) }
    }

    /// Asks the program to end (SIGTERM) and kills it after `grace`. Returns once it has ended.
    /// A container that was never started is removed instead; one that ended is left alone.
    ///
    /// # Errors
    /// A Docker error.
    fn stop(
        &self,
        handle: &Handle,
        grace: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Removes the container and all that was laid out for it. Removing a missing container is fine. Call it
    /// for a container that has ended or never started; a program that still runs is killed without notice.
    ///
    /// # Errors
    /// A Docker error.
    fn remove(&self, handle: &Handle) -> impl Future<Output = Result<(), Error>> + Send;

    /// Every container of this instance that Docker has, in any state: a complete listing.
    ///
    /// # Errors
    /// A Docker error; then nothing is known.
    fn list(&self) -> impl Future<Output = Result<Vec<Listed>, Error>> + Send;

    /// Checks whether Docker answers at all, by a request that no container can block: one that
    /// hangs may block a listing of all containers, while new ones still start.
    ///
    /// # Errors
    /// A Docker error.
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Removes the networks of repos that no container is in, for a daemon that stops.
    ///
    /// # Errors
    /// A Docker error.
    fn remove_networks(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
}

/// Runs attempts: containers whose end is proved, and whose outputs are kept.
pub trait Attempts: Containers {
    /// Makes an image ready: pulls or builds it. `progress` takes lines for people.
    ///
    /// # Errors
    /// `ImageNotFound`, `ImagePull`, `ImageBuild`, or a Docker error.
    fn prepare(
        &self,
        request: &ImageRequest,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> impl Future<Output = Result<PreparedImage, Error>> + Send;

    /// Whether a program runs once however often its container is started: then an unconfirmed
    /// start may be repeated.
    fn starts_once(&self) -> bool;

    /// Proves an end that [`wait`](Containers::wait) or [`inspect`](Containers::inspect) reported. Cheapest
    /// once the log was read to its end.
    ///
    /// # Errors
    /// `Gone` where nothing is left to read, else a Docker error.
    fn prove(
        &self,
        handle: &Handle,
        seen: &Exit,
    ) -> impl Future<Output = Result<Proof, Error>> + Send;

    /// Copies an output of an exited container to `to`, never through memory. A folder
    /// becomes a tar archive with fixed times and owners, so that equal content has an equal hash.
    /// `None` where the path does not exist.
    ///
    /// # Errors
    /// `TooLarge` beyond `limit` bytes, `OutputUnfit`, `Storage`, `Gone`, or a Docker error.
    fn collect(
        &self,
        handle: &Handle,
        output: &RelativePath,
        to: &Arc<dyn BlobSink>,
        limit: u64,
    ) -> impl Future<Output = Result<Option<ArtifactContent>, Error>> + Send;

    /// The names of files below a folder of an exited container, for a hint about a missing one: as many as are
    /// found in a few seconds, maybe none.
    ///
    /// # Errors
    /// A Docker error.
    fn files(
        &self,
        _handle: &Handle,
        _folder: StageFolder,
    ) -> impl Future<Output = Result<Vec<String>, Error>> + Send {
        async { Ok(Vec::new()) }
    }

    /// Removes images that stages' `build:` left behind, made before a moment and not `wanted` by their id, unless a
    /// container uses them. An image that is needed again is built again.
    ///
    /// # Errors
    /// A Docker error.
    fn remove_unused_build_images(
        &self,
        _before: Timestamp,
        _wanted: &BTreeSet<String>,
    ) -> impl Future<Output = Result<Vec<BuildImage>, Error>> + Send {
        async { Ok(Vec::new()) }
    }
}

/// Finds an attempt's container again. Small, and stored as text: it outlives the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    pub attempt: AttemptId,
    /// Docker's own id of the container.
    pub container: String,
}

/// An image to make ready.
#[derive(Debug, Clone)]
pub struct ImageRequest {
    pub image: RenderedImage,
    /// A tar archive of the source tree, compressed by zstd or not; needed to build.
    pub source: Option<Arc<dyn Blob>>,
    /// The repo that requests it. `None` for a file run by hand.
    pub repo: Option<RepoId>,
    /// The branch of that repo: a built image belongs to this branch alone.
    pub branch: Option<String>,
    /// Limits of the build's steps.
    pub limits: Limits,
}

/// An image that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedImage {
    /// Docker's id of the image, to create containers from.
    pub id: String,
    /// The reference to show and to store: by digest where there is one, else the id.
    pub shown: String,
}

/// An image that was built for stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildImage {
    pub id: String,
    pub tags: Vec<String>,
    pub created: Timestamp,
    /// Its bytes on disk, those that it shares with other images included.
    pub size: u64,
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Created and never started.
    Created,
    /// It runs.
    Running {
        /// When it started, by Docker's clock.
        since: Timestamp,
    },
    /// It ran and ended.
    Exited {
        /// The exit code; 128 + n after signal n.
        code: i32,
        /// Whether Docker says that the kernel killed it for its use of memory.
        out_of_memory: bool,
        /// When it started, by Docker's clock.
        since: Timestamp,
        /// When it ended, by Docker's clock.
        at: Timestamp,
    },
    /// Docker has it, but does not know how it ended (`dead`, or no start time).
    Unknown,
}

/// How a container ended, as Docker reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 + n after signal n.
    pub code: i32,
    /// Whether Docker says that the kernel killed it for its use of memory.
    pub out_of_memory: bool,
}

/// A proof of how a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It ended as `exit` says.
    Ended {
        exit: Exit,
        /// Whether it is known to have been sent a signal to end before.
        asked: bool,
    },
    /// It was killed from outside, with all of its processes: by Docker, its host, or a person.
    Killed,
    /// It was never run; the reason, for people.
    NeverRan(String),
    /// The kernel did not execute it, which is the fault of the stage or its image; the reason, for people.
    Unfit(String),
    /// Nothing proves how, or whether, it ended.
    Unproved,
}

impl Proof {
    /// For executors whose report is proof enough.
    #[must_use]
    pub const fn by_engine(seen: &Exit) -> Self {
        Self::Ended {
            exit: *seen,
            asked: false,
        }
    }
}

/// One container in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub handle: Handle,
    /// The fence of the claim that created it.
    pub fence: Fence,
    /// The spec that it was created from.
    pub spec_hash: SpecHash,
    /// Its state. Cheap listings have no exit code: they say [`Status::Unknown`] for a container that
    /// has ended, and the caller inspects it.
    pub status: Status,
}

/// Which output stream of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFrame {
    /// Which stream it came from.
    pub stream: Stream,
    pub at: Timestamp,
    /// The bytes: any, of any length, not cut at lines.
    pub bytes: Bytes,
    /// Where to go on after this frame.
    pub cursor: LogCursor,
}

/// Frames in the order in which Docker received them.
pub type LogStream = Pin<Box<dyn FutureStream<Item = Result<LogFrame, Error>> + Send>>;

/// A folder that a program writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageFolder {
    Outputs,
    /// The one in which it began.
    Working,
}
