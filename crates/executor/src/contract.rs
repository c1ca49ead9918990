//! The contract between the supervisor of an attempt and the executor that runs it.
//!
//! Order of calls for one attempt: [`prepare`](Executor::prepare), [`create`](Executor::create),
//! [`start`](Executor::start), then [`wait`](Executor::wait) together with [`logs`](Executor::logs), then
//! [`prove`](Executor::prove), then [`collect`](Executor::collect) for each output, then
//! [`remove`](Executor::remove). A supervisor that takes over after a restart enters at any point, with the handle
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

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream as FutureStream;
use thiserror::Error as ThisError;
use trainyard_core::Timestamp;
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::id::{AttemptId, Fence, RepoId};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::render::RenderedImage;
use trainyard_core::stage::RelativePath;

use crate::blob::{Blob, BlobSink};
use crate::spec::{AttemptSpec, Limits, SpecHash};

/// Runs attempts in containers.
pub trait Executor: Send + Sync {
    /// The executor's name, as stored with attempts: `docker`.
    fn kind(&self) -> &'static str;

    /// Makes an image ready: pulls or builds it. `progress` takes lines for people.
    ///
    /// # Errors
    /// `ImageNotFound`, `ImagePull`, `ImageBuild`, or a Docker error.
    fn prepare(
        &self,
        request: &ImageRequest,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> impl Future<Output = Result<PreparedImage, Error>> + Send;

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

    /// Whether a program runs once however often its container is started: then an unconfirmed
    /// start may be repeated.
    fn starts_once(&self) -> bool;

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

    /// Proves an end that [`wait`](Self::wait) or [`inspect`](Self::inspect) reported. Cheapest
    /// once the log was read to its end.
    ///
    /// # Errors
    /// `Gone` where nothing is left to read, else a Docker error.
    fn prove(
        &self,
        handle: &Handle,
        seen: &Exit,
    ) -> impl Future<Output = Result<Proof, Error>> + Send;

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

    /// Checks whether Docker answers at all, by a request that no container can block: one that
    /// hangs may block a listing of all containers, while new ones still start.
    ///
    /// # Errors
    /// A Docker error.
    fn ping(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Every container of this instance that Docker has, in any state: a complete listing.
    ///
    /// # Errors
    /// A Docker error; then nothing is known.
    fn list(&self) -> impl Future<Output = Result<Vec<Listed>, Error>> + Send;
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

/// Where in a log a frame ends; compare only cursors of one attempt. The meaning of the numbers is
/// the executor's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogCursor {
    pub major: i64,
    pub minor: i64,
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

/// An executor's error. A failure of the user's program is not an error: see [`Status::Exited`].
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    /// What happened and what the user can do, for people.
    pub message: String,
}

/// Kinds of errors, by what the caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The image does not exist, or requires a login.
    ImageNotFound,
    /// The image exists or may exist, but could not be pulled.
    ImagePull,
    /// The build failed.
    ImageBuild,
    /// The container could not be created or the program not started; the stage is at fault.
    Start,
    /// A container of this attempt exists with another spec.
    Mismatch,
    /// The container does not exist (any more).
    Gone,
    /// An output is larger than permitted.
    TooLarge,
    /// An output is, or holds, something that cannot be kept: a device, or a link that leads out of it.
    OutputUnfit,
    /// No address is left for the network of its repo.
    NoAddresses,
    /// A disk is full or fails.
    Storage,
    /// Docker does not answer, or does not answer in time.
    Unreachable,
    /// Docker gave an unexpected answer.
    Engine,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// Whether the same call may succeed later with nothing changed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self.kind {
            ErrorKind::ImagePull
            | ErrorKind::Storage
            | ErrorKind::Unreachable
            | ErrorKind::Engine => true,
            ErrorKind::ImageNotFound
            | ErrorKind::ImageBuild
            | ErrorKind::Start
            | ErrorKind::Mismatch
            | ErrorKind::Gone
            | ErrorKind::TooLarge
            | ErrorKind::OutputUnfit
            | ErrorKind::NoAddresses => false,
        }
    }

    /// The reason to record for an attempt that ends with this error.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let code = match self.kind {
            ErrorKind::ImageNotFound => ReasonCode::ImageNotFound,
            ErrorKind::ImagePull => ReasonCode::ImagePull,
            ErrorKind::ImageBuild => ReasonCode::ImageBuild,
            ErrorKind::Start | ErrorKind::NoAddresses => ReasonCode::ContainerStart,
            ErrorKind::Mismatch | ErrorKind::Engine => ReasonCode::Internal,
            ErrorKind::Gone => ReasonCode::Unproved,
            ErrorKind::TooLarge | ErrorKind::Storage => ReasonCode::Storage,
            ErrorKind::OutputUnfit => ReasonCode::MissingOutput,
            ErrorKind::Unreachable => ReasonCode::EngineUnreachable,
        };
        Reason::new(code, self.message.clone())
    }
}
