//! Watches a Docker engine through the calls that are made to it: the breaker with its clock, and its effects.
//!
//! [`Watched`] wraps an executor, passes every call on unchanged, and reports whether it was answered. It refuses no
//! calls: an open breaker only keeps new attempts from being claimed, through the daemon's health.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::id::DaemonId;
use trainyard_core::stage::RelativePath;
use trainyard_executor::{
    AttemptSpec, Attempts, BlobSink, Containers, Error, ErrorKind, Exit, Handle, ImageRequest,
    Listed, LogCursor, LogStream, PreparedImage, Proof, StageFolder, Status,
};
use trainyard_store::fleet::figures::{BREAKER_STATE, BREAKER_TRIPS};
use trainyard_store::{Store, TroubleKind};

use crate::clock;
use crate::health::breaker::{Breaker, Change, Phase, Subject};

/// The state of one Docker engine. Clones share it.
#[derive(Debug, Clone)]
pub struct EngineWatch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    daemon: DaemonId,
    engine: Option<String>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    breaker: Breaker,
    listed: Instant,
}

impl EngineWatch {
    /// A watch over Docker that `daemon` uses; `engine` is its id, for the log.
    #[must_use]
    pub fn new(store: Store, daemon: DaemonId, engine: Option<String>) -> Self {
        let known = Known {
            breaker: Breaker::default(),
            listed: Instant::now(),
        };
        Self {
            shared: Arc::new(Shared {
                store,
                daemon,
                engine,
                known: Mutex::new(known),
            }),
        }
    }

    /// The time since its containers were last listed completely.
    #[must_use]
    pub fn lag(&self) -> Duration {
        self.known().listed.elapsed()
    }

    /// Whether a trial call to Docker is due; make it through a [`Watched`].
    #[must_use]
    pub fn take_trial(&self) -> bool {
        let trial = self.known().breaker.take_trial(Instant::now());
        self.show();
        trial
    }

    fn report<T>(&self, subject: Subject, result: &Result<T, Error>) {
        let change = {
            let mut known = self.known();
            match result {
                Err(error) if error.kind == ErrorKind::Unreachable => {
                    known.breaker.failed(subject, Instant::now())
                }
                Ok(_) | Err(_) => known.breaker.answered(subject),
            }
        };
        let Some(change) = change else { return };
        let shared = &self.shared;
        let (daemon, engine) = (shared.daemon, shared.engine.as_deref().unwrap_or("-"));
        let what = match change {
            Change::Opened => {
                BREAKER_TRIPS.add(1);
                let error = result.as_ref().err().map(ToString::to_string);
                warn!(daemon.id = %daemon, engine.id = engine, error, "Docker does not answer; nothing new is started until it does");
                Some("Docker does not answer".to_owned())
            }
            Change::Closed => {
                info!(daemon.id = %daemon, engine.id = engine, "Docker answers again");
                None
            }
        };
        let condition = shared.store.condition();
        condition.note(TroubleKind::Engine, what, clock::now());
        self.show();
        shared.store.wakes().dispatch.wake();
    }

    fn show(&self) {
        BREAKER_STATE.set(match self.known().breaker.phase() {
            Phase::Closed => 0.0,
            Phase::Trial => 1.0,
            Phase::Open => 2.0,
        });
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        let known = &self.shared.known;
        known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An executor whose calls are reported to a watch.
#[derive(Debug, Clone)]
pub struct Watched<E> {
    executor: E,
    watch: EngineWatch,
}

impl<E> Watched<E> {
    /// `executor`, reporting to `watch`.
    #[must_use]
    pub fn new(executor: E, watch: EngineWatch) -> Self {
        Self { executor, watch }
    }

    async fn reported<T>(
        &self,
        subject: Subject,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let result = call.await;
        self.watch.report(subject, &result);
        result
    }
}

impl<E: Containers> Containers for Watched<E> {
    fn kind(&self) -> &'static str {
        self.executor.kind()
    }

    async fn create(&self, spec: &AttemptSpec) -> Result<Handle, Error> {
        self.reported(Subject::Engine, self.executor.create(spec))
            .await
    }

    async fn start(&self, handle: &Handle) -> Result<(), Error> {
        self.reported(about(handle), self.executor.start(handle))
            .await
    }

    async fn inspect(&self, handle: &Handle) -> Result<Option<Status>, Error> {
        self.reported(about(handle), self.executor.inspect(handle))
            .await
    }

    async fn wait(&self, handle: &Handle) -> Result<Status, Error> {
        self.reported(about(handle), self.executor.wait(handle))
            .await
    }

    async fn logs(&self, handle: &Handle, after: Option<LogCursor>) -> Result<LogStream, Error> {
        // Opening a log proves nothing: an error shows with the first frame.
        self.executor.logs(handle, after).await
    }

    async fn written(&self, handle: &Handle) -> Result<Option<u64>, Error> {
        // A slow count of files does not mean that Docker is away.
        self.executor.written(handle).await
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        self.reported(about(handle), self.executor.stop(handle, grace))
            .await
    }

    async fn remove(&self, handle: &Handle) -> Result<(), Error> {
        self.reported(about(handle), self.executor.remove(handle))
            .await
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        let listed = self.reported(Subject::Engine, self.executor.list()).await;
        if listed.is_ok() {
            self.watch.known().listed = Instant::now();
        }
        listed
    }

    async fn ping(&self) -> Result<(), Error> {
        self.reported(Subject::Engine, self.executor.ping()).await
    }
}

impl<E: Attempts> Attempts for Watched<E> {
    async fn prepare(
        &self,
        request: &ImageRequest,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        self.reported(Subject::Engine, self.executor.prepare(request, progress))
            .await
    }

    fn starts_once(&self) -> bool {
        self.executor.starts_once()
    }

    async fn prove(&self, handle: &Handle, seen: &Exit) -> Result<Proof, Error> {
        self.reported(about(handle), self.executor.prove(handle, seen))
            .await
    }

    async fn collect(
        &self,
        handle: &Handle,
        output: &RelativePath,
        to: &Arc<dyn BlobSink>,
        limit: u64,
    ) -> Result<Option<ArtifactContent>, Error> {
        self.reported(
            about(handle),
            self.executor.collect(handle, output, to, limit),
        )
        .await
    }

    async fn files(&self, handle: &Handle, folder: StageFolder) -> Result<Vec<String>, Error> {
        self.executor.files(handle, folder).await
    }
}

fn about(handle: &Handle) -> Subject {
    Subject::Container(handle.attempt)
}
