//! `Fake`: an executor in memory that does what its [script] says.
//!
//! It replaces Docker in tests and benchmarks, passes the same conformance suite, and is not a mock: it has
//! containers with states, and time passes in them. Nothing sleeps unless the script says so, and no thread or task
//! is spawned: a container's state follows from when it was started. It is also the one executor that checks its
//! callers: a call that breaks the contract gets an error that says so, is recorded ([`Fake::misuse`]), and runs
//! nothing.
//!
//! Clones share one Docker engine. Handing a clone to a new daemon is a restart of the daemon: containers
//! go on. [`Fake::runs`] counts how often an attempt's program ran.
//!
//! Images need no preparation, with exceptions for tests: those named `fake/missing…` do not exist, those named
//! `fake/unreachable…` cannot be pulled, and a build can have a [script of its own](building).

pub mod building;
mod collect;
mod container;
pub mod script;
mod state;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream;
use tokio::time::Instant;
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::id::AttemptId;
use trainyard_core::render::RenderedImage;
use trainyard_core::stage::RelativePath;

use self::container::Life;
use self::script::Call;
use self::state::{State, gone, no_answer};
use crate::blob::BlobSink;
use crate::contract::{
    Attempts, Containers, Exit, Handle, ImageRequest, Listed, LogCursor, LogFrame, LogStream,
    PreparedImage, Proof, StageFolder, Status,
};
use crate::error::{Error, ErrorKind};
use crate::spec::AttemptSpec;

/// The scripted executor. Clones share one Docker engine.
#[derive(Clone, Default)]
pub struct Fake {
    engine: Arc<Engine>,
}

#[derive(Default)]
struct Engine {
    state: Mutex<State>,
    silent: AtomicBool,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}

impl Fake {
    /// A Docker engine without containers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How often the program of `attempt` ran; 0 for an unknown attempt.
    #[must_use]
    pub fn runs(&self, attempt: AttemptId) -> u32 {
        self.state().runs.get(&attempt).copied().unwrap_or_default()
    }

    /// How often any program ran.
    #[must_use]
    pub fn runs_in_all(&self) -> u64 {
        self.state().runs.values().copied().map(u64::from).sum()
    }

    /// The calls so far that broke the contract, in words.
    #[must_use]
    pub fn misuse(&self) -> Vec<String> {
        self.state().misuse.clone()
    }

    /// Whether calls get no answer from now on, as when Docker is down. Programs go on.
    pub fn set_silent(&self, silent: bool) {
        self.engine.silent.store(silent, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // State is only changed by code that does not panic half-way.
        self.engine
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn answering(&self) -> Result<(), Error> {
        if self.engine.silent.load(Ordering::Relaxed) {
            return Err(no_answer());
        }
        Ok(())
    }
}

/// Marks a wait as ended, also when it was dropped.
struct Waiting<'a>(&'a Fake, AttemptId);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(container) = self.0.state().containers.get_mut(&self.1) {
            container.waited_for = false;
        }
    }
}

impl Containers for Fake {
    fn kind(&self) -> &'static str {
        "fake"
    }

    async fn create(&self, spec: &AttemptSpec) -> Result<Handle, Error> {
        self.answering()?;
        self.state().create(spec)
    }

    async fn start(&self, handle: &Handle) -> Result<(), Error> {
        self.answering()?;
        self.state().start(handle.attempt)
    }

    async fn inspect(&self, handle: &Handle) -> Result<Option<Status>, Error> {
        self.answering()?;
        let mut state = self.state();
        let container = state.reach(Call::Inspect, handle.attempt)?;
        Ok(container.map(|container| container.status()))
    }

    async fn wait(&self, handle: &Handle) -> Result<Status, Error> {
        let attempt = handle.attempt;
        let mut waiting = None;
        loop {
            self.answering()?;
            let (changed, ends) = {
                let mut state = self.state();
                let container = state
                    .reach(Call::Wait, attempt)?
                    .ok_or_else(|| gone(attempt))?;
                let Life::Running { .. } = container.life else {
                    return Ok(container.status());
                };
                if waiting.is_none() && container.waited_for {
                    return Err(state.broken(format!(
                        "wait for attempt {attempt} while another caller waits for it"
                    )));
                }
                container.waited_for = true;
                (
                    container.changed.clone().notified_owned(),
                    container.ends_at(),
                )
            };
            waiting.get_or_insert_with(|| Waiting(self, attempt));
            tokio::select! {
                () = changed => {}
                () = at(ends) => {}
            }
        }
    }

    async fn logs(&self, handle: &Handle, after: Option<LogCursor>) -> Result<LogStream, Error> {
        self.answering()?;
        let attempt = handle.attempt;
        let mut state = self.state();
        state
            .reach(Call::Logs, attempt)?
            .ok_or_else(|| gone(attempt))?;
        let read = after.map_or(0, |cursor| {
            usize::try_from(cursor.major).unwrap_or_default()
        });
        let fake = self.clone();
        Ok(Box::pin(stream::unfold(read, move |read| {
            let fake = fake.clone();
            async move {
                fake.frame(attempt, read)
                    .await
                    .map(|frame| (Ok(frame), read + 1))
            }
        })))
    }

    async fn written(&self, handle: &Handle) -> Result<Option<u64>, Error> {
        self.answering()?;
        let mut state = self.state();
        let container = state.reach(Call::Inspect, handle.attempt)?;
        Ok(container.and_then(|container| container.program.written))
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        self.answering()?;
        let attempt = handle.attempt;
        let stubborn = {
            let mut state = self.state();
            let Some(container) = state.reach(Call::Stop, attempt)? else {
                return Ok(());
            };
            match container.life {
                Life::Created => {
                    state.containers.remove(&attempt);
                    return Ok(());
                }
                Life::Running { .. } if container.program.stubborn => true,
                Life::Running { .. } => {
                    container.kill(Instant::now(), 143);
                    false
                }
                Life::Exited { .. } | Life::Unknown | Life::Vanished => false,
            }
        };
        if stubborn {
            tokio::time::sleep(grace).await;
            if let Some(container) = self.state().reach(Call::Stop, attempt)?
                && matches!(container.life, Life::Running { .. })
            {
                container.kill(Instant::now(), 137);
            }
        }
        Ok(())
    }

    async fn remove(&self, handle: &Handle) -> Result<(), Error> {
        self.answering()?;
        self.state().remove(handle.attempt)
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        self.answering()?;
        let now = Instant::now();
        let mut state = self.state();
        state.containers.retain(|_, container| {
            container.settle(now);
            container.life != Life::Vanished
        });
        Ok(state
            .containers
            .iter()
            .map(|(attempt, container)| container.listed(*attempt))
            .collect())
    }

    async fn ping(&self) -> Result<(), Error> {
        self.answering()
    }
}

impl Attempts for Fake {
    async fn prepare(
        &self,
        request: &ImageRequest,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        self.answering()?;
        let name = match &request.image {
            RenderedImage::Reference { image, .. } => image.to_string(),
            RenderedImage::OfStage { image, .. } => image.clone(),
            RenderedImage::Build {
                context,
                dockerfile,
                args,
                ..
            } => {
                progress(format!("pretending to build {dockerfile} in {context}"));
                building::build(args, progress).await?;
                format!("fake-build:{context}/{dockerfile}")
            }
        };
        if name.starts_with("fake/missing") {
            return Err(Error::new(
                ErrorKind::ImageNotFound,
                format!("there is no image `{name}`"),
            ));
        }
        if name.starts_with("fake/unreachable") {
            return Err(Error::new(
                ErrorKind::ImagePull,
                format!("image `{name}` could not be pulled: its registry does not answer"),
            ));
        }
        Ok(PreparedImage {
            id: name.clone(),
            shown: name,
        })
    }

    fn starts_once(&self) -> bool {
        true
    }

    async fn prove(&self, _: &Handle, seen: &Exit) -> Result<Proof, Error> {
        Ok(Proof::by_engine(seen))
    }

    async fn collect(
        &self,
        handle: &Handle,
        output: &RelativePath,
        to: &Arc<dyn BlobSink>,
        limit: u64,
    ) -> Result<Option<ArtifactContent>, Error> {
        self.answering()?;
        let attempt = handle.attempt;
        let program = {
            let mut state = self.state();
            let container = state
                .reach(Call::Collect, attempt)?
                .ok_or_else(|| gone(attempt))?;
            if !matches!(container.life, Life::Exited { .. }) {
                return Err(state.broken(format!("collect from attempt {attempt} before its end")));
            }
            Arc::clone(&container.program)
        };
        if !program.copy_time.is_zero() {
            tokio::time::sleep(program.copy_time).await;
        }
        collect::collect(&program, output, &**to, limit)
    }

    async fn files(&self, handle: &Handle, folder: StageFolder) -> Result<Vec<String>, Error> {
        let mut state = self.state();
        let container = state.reach(Call::Collect, handle.attempt)?;
        Ok(match (container, folder) {
            (Some(container), StageFolder::Outputs) => {
                container.program.outputs.keys().cloned().collect()
            }
            (Some(_) | None, StageFolder::Working) | (None, StageFolder::Outputs) => Vec::new(),
        })
    }
}

impl Fake {
    /// The log's frame number `read`, once it is there; `None` after the last.
    async fn frame(&self, attempt: AttemptId, read: usize) -> Option<LogFrame> {
        loop {
            let (changed, due) = {
                let mut state = self.state();
                let container = state.reach(Call::Inspect, attempt).ok().flatten()?;
                let due = match container.next_frame(read, Instant::now()) {
                    container::Next::Frame(frame) => return Some(frame),
                    container::Next::End => return None,
                    container::Next::Wait(due) => due,
                };
                (container.changed.clone().notified_owned(), due)
            };
            tokio::select! {
                () = changed => {}
                () = at(due) => {}
            }
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
