//! The client of Docker that supervisors are given: what the Docker executor does, call by call,
//! over a network that loses things. It adopts by name, asks before it starts what it did not create
//! itself, and takes an exit code 0 for one only with its completion marker.

mod answer;
mod follow;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trainyard_core::artifact::{ArtifactContent, ArtifactKind};
use trainyard_core::id::{AttemptId, Fence};
use trainyard_core::stage::RelativePath;
use trainyard_executor::{
    AttemptSpec, Attempts, BlobSink, Containers, Error, ErrorKind, Exit, Handle, ImageRequest,
    Listed, LogCursor, LogStream, PreparedImage, Proof, Status,
};

use self::answer::{Trouble, id_of, status};
use crate::behaviour::{Behaviour, Image};
use crate::engine::{Asker, Engine, Id, Life, Refusal};
use crate::held;
use crate::network::exchange;
use crate::process::{self, Peer, Process};
use crate::settings::Mutation;
use crate::world::{Invariant, World};

/// For calls that only look or change a row in Docker.
const SHORT: Duration = Duration::from_secs(10);

/// For create and start.
const LONG: Duration = Duration::from_secs(60);

/// The claim that a supervisor acts under.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) attempt: AttemptId,
    pub(crate) fence: Fence,
    pub(crate) run: u64,
    pub(crate) stage: String,
    pub(crate) number: u32,
    /// It knows that another daemon holds the attempt.
    pub(crate) fenced_off: AtomicBool,
}

/// A client in one daemon.
#[derive(Clone)]
pub(crate) struct Docker {
    engine: Arc<Engine>,
    process: Arc<Process>,
    /// Containers that this process created and has not started.
    fresh: Arc<Mutex<BTreeSet<Id>>>,
}

impl Docker {
    pub(crate) fn new(engine: Arc<Engine>, process: Arc<Process>) -> Self {
        Self {
            engine,
            process,
            fresh: Arc::default(),
        }
    }

    fn world(&self) -> &World {
        &self.engine.world
    }

    /// One call, which may fail before it did anything, or after.
    async fn ask<T: Send + 'static>(
        &self,
        deadline: Duration,
        effect: impl FnOnce(&Arc<Engine>, Asker) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Trouble> {
        let engine = Arc::clone(&self.engine);
        let fence = process::claim().map(|claim| claim.fence);
        let fails = self.world().strikes(|weather| weather.engine_error);
        let too_late = fails && self.world().draw(|random| random.chance(500));
        let said = exchange(
            self.world(),
            &self.process,
            Peer::Engine,
            deadline,
            move |waits| {
                if fails && !too_late {
                    return Err(Refusal::Broken);
                }
                let done = effect(&engine, Asker { fence, waits });
                if too_late { Err(Refusal::Broken) } else { done }
            },
        )
        .await?;
        said.map_err(Trouble::Said)
    }

    /// A call that changes something: not for those who were fenced off.
    fn acts(&self, what: &str) {
        if let Some(claim) = process::claim() {
            self.world().note(|| {
                let attempt = crate::engine::short(claim.attempt);
                format!(
                    "{} calls {what} for {attempt} ({})",
                    self.process.name, claim.fence.0
                )
            });
            let fenced_off = claim.fenced_off.load(Ordering::Relaxed);
            self.world().demand(Invariant::Fences, !fenced_off, || {
                let attempt = crate::engine::short(claim.attempt);
                format!("a supervisor that was fenced off from {attempt} calls {what}")
            });
        }
    }

    async fn look(&self, id: Id) -> Result<Option<Status>, Error> {
        let overlooked = self.world().strikes(|weather| weather.overlooked);
        let seen = self.ask(SHORT, move |engine, _| {
            let latch =
                engine.world.settings.latch && !engine.world.has(Mutation::TrustsExitCodeAlone);
            engine.see(id, |container, _| {
                if overlooked && container.overlooked_until.is_none() {
                    let until = tokio::time::Instant::now() + Duration::from_secs(1);
                    container.overlooked_until = Some(until);
                }
                let visible = container
                    .overlooked_until
                    .is_none_or(|until| until <= tokio::time::Instant::now());
                visible.then(|| status(container, latch))
            })
        });
        match seen.await {
            Ok(status) => Ok(status),
            Err(Trouble::Said(Refusal::NotFound)) => Ok(None),
            Err(trouble) => Err(trouble.into_error()),
        }
    }

    async fn lay_out(&self, id: Id) -> Result<(), Error> {
        let put = self.ask(SHORT, move |engine, _| {
            engine.see(id, |container, _| container.laid_out = true)
        });
        put.await.map_err(Trouble::into_error)
    }

    async fn adopt(&self, spec: &AttemptSpec, trouble: Trouble) -> Result<Id, Error> {
        let attempt = spec.attempt;
        let found = self.ask(SHORT, move |engine, _| {
            let Some(id) = engine.by_name(attempt)? else {
                return Ok(None);
            };
            engine.see(id, |container, _| {
                Some((id, container.spec_hash.clone(), container.life.clone()))
            })
        });
        let Some((id, hash, life)) = found.await.map_err(Trouble::into_error)? else {
            return Err(trouble.into_error());
        };
        if hash != spec.hash() {
            return Err(Error::new(ErrorKind::Mismatch, "made from another spec"));
        }
        if self.world().has(Mutation::PurgesAndCreatesAgain) {
            self.remove_by_force(id).await?;
            let spec = spec.clone();
            let again = self.ask(LONG, move |engine, _| engine.create(&spec));
            let id = again.await.map_err(Trouble::into_error)?;
            self.lay_out(id).await?;
            return Ok(id);
        }
        if life == Life::Created {
            self.lay_out(id).await?;
        }
        Ok(id)
    }

    async fn remove_by_force(&self, id: Id) -> Result<(), Error> {
        held(&self.fresh).remove(&id);
        let removed = self.ask(LONG, move |engine, asker| engine.remove(id, true, asker));
        match removed.await {
            Ok(()) | Err(Trouble::Said(Refusal::NotFound)) => Ok(()),
            Err(trouble) => Err(trouble.into_error()),
        }
    }

    /// Removes a container unless it runs; whether it did.
    async fn remove_idle(&self, id: Id) -> Result<bool, Error> {
        let removed = self.ask(SHORT, move |engine, asker| engine.remove(id, false, asker));
        match removed.await {
            Ok(()) | Err(Trouble::Said(Refusal::NotFound)) => Ok(true),
            Err(Trouble::Said(Refusal::Conflict)) => Ok(false),
            Err(trouble) => Err(trouble.into_error()),
        }
    }
}

impl Containers for Docker {
    fn kind(&self) -> &'static str {
        "docker"
    }

    async fn create(&self, spec: &AttemptSpec) -> Result<Handle, Error> {
        self.acts("create");
        let made = {
            let spec = spec.clone();
            self.ask(LONG, move |engine, _| engine.create(&spec)).await
        };
        let id = match made {
            Ok(id) => {
                if crate::engine::needs_files(spec)
                    && let Err(error) = self.lay_out(id).await
                {
                    // It never ran, unless another daemon has adopted the attempt meanwhile. The next try adopts
                    // the container if it is still there.
                    drop(self.remove_idle(id).await);
                    return Err(error);
                }
                held(&self.fresh).insert(id);
                id
            }
            Err(
                trouble @ (Trouble::Silent | Trouble::Said(Refusal::Conflict | Refusal::Broken)),
            ) => self.adopt(spec, trouble).await?,
            Err(trouble) => return Err(trouble.into_error()),
        };
        Ok(Handle {
            attempt: spec.attempt,
            container: id.to_string(),
        })
    }

    async fn start(&self, handle: &Handle) -> Result<(), Error> {
        self.acts("start");
        let id = id_of(handle)?;
        let fresh = held(&self.fresh).remove(&id);
        if !fresh {
            match self.look(id).await? {
                None => return Err(Trouble::Said(Refusal::NotFound).into_error()),
                Some(Status::Created) => {}
                Some(Status::Running { .. } | Status::Exited { .. } | Status::Unknown) => {
                    return Ok(());
                }
            }
        }
        let started = self.ask(LONG, move |engine, asker| engine.start(id, asker));
        started.await.map_err(Trouble::into_error)
    }

    async fn inspect(&self, handle: &Handle) -> Result<Option<Status>, Error> {
        self.look(id_of(handle)?).await
    }

    async fn wait(&self, handle: &Handle) -> Result<Status, Error> {
        let id = id_of(handle)?;
        follow::until_it_stops(&self.engine, &self.process, id).await?;
        let gone = || Trouble::Said(Refusal::NotFound).into_error();
        self.look(id).await?.ok_or_else(gone)
    }

    async fn logs(&self, handle: &Handle, after: Option<LogCursor>) -> Result<LogStream, Error> {
        let engine = Arc::clone(&self.engine);
        let process = Arc::clone(&self.process);
        Ok(follow::log(engine, process, id_of(handle)?, after))
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        self.acts("stop");
        let id = id_of(handle)?;
        match self.look(id).await? {
            None | Some(Status::Exited { .. } | Status::Unknown) => return Ok(()),
            Some(Status::Created) => {
                held(&self.fresh).remove(&id);
                if self.remove_idle(id).await? {
                    return Ok(());
                }
            }
            Some(Status::Running { .. }) => {}
        }
        let asked = self.ask(SHORT, move |engine, asker| engine.stop(id, grace, asker));
        match asked.await {
            Ok(()) => {}
            Err(Trouble::Said(Refusal::NotFound)) => return Ok(()),
            Err(trouble) => return Err(trouble.into_error()),
        }
        let ended = follow::until_it_stops(&self.engine, &self.process, id);
        match tokio::time::timeout(grace + SHORT, ended).await {
            Ok(Err(error)) if error.kind == ErrorKind::Gone => Ok(()),
            Ok(ended) => ended,
            Err(_) => Err(Trouble::Silent.into_error()),
        }
    }

    async fn remove(&self, handle: &Handle) -> Result<(), Error> {
        self.acts("remove");
        self.remove_by_force(id_of(handle)?).await
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        let latch = self.world().settings.latch;
        let overlooks = self.world().strikes(|weather| weather.overlooked);
        let all = self.ask(SHORT, move |engine, _| {
            engine.list(|id, container| Listed {
                handle: Handle {
                    attempt: container.attempt,
                    container: id.to_string(),
                },
                fence: container.fence,
                spec_hash: container.spec_hash.clone(),
                status: match status(container, latch) {
                    known @ (Status::Created | Status::Running { .. }) => known,
                    Status::Exited { .. } | Status::Unknown => Status::Unknown,
                },
            })
        });
        let mut all = all.await.map_err(Trouble::into_error)?;
        if overlooks {
            all.retain(|_| self.world().draw(|random| random.chance(500)));
        }
        Ok(all)
    }

    async fn ping(&self) -> Result<(), Error> {
        let asked = self.ask(SHORT, |_, _| Ok(()));
        asked.await.map_err(Trouble::into_error)
    }
}

impl Attempts for Docker {
    async fn prepare(
        &self,
        _request: &ImageRequest,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        let image = process::claim().map_or(Image::Ready, |claim| {
            Behaviour::at(self.world().seed, claim.run, &claim.stage, claim.number).image
        });
        if image == Image::Slow {
            progress("fetching the image".to_owned());
            tokio::time::sleep(Duration::from_secs(8)).await;
        }
        let ready = self.ask(SHORT, |engine, _| engine.list(|_, _| ()).map(drop));
        ready.await.map_err(Trouble::into_error)?;
        match image {
            Image::Ready | Image::Slow => Ok(PreparedImage {
                id: "sha256:1".to_owned(),
                shown: "image@sha256:1".to_owned(),
            }),
            Image::Missing => Err(Error::new(ErrorKind::ImageNotFound, "no such image")),
        }
    }

    fn starts_once(&self) -> bool {
        self.world().settings.latch
    }

    async fn prove(&self, _: &Handle, seen: &Exit) -> Result<Proof, Error> {
        Ok(Proof::by_engine(seen))
    }

    async fn collect(
        &self,
        handle: &Handle,
        output: &RelativePath,
        to: &Arc<dyn BlobSink>,
        _limit: u64,
    ) -> Result<Option<ArtifactContent>, Error> {
        let id = id_of(handle)?;
        let wants_metrics = output.as_str() == crate::dags::METRICS;
        let got = self.ask(SHORT, move |engine, _| {
            engine.see(id, |container, _| {
                if wants_metrics {
                    Some(container.behaviour.metrics.clone())
                } else {
                    let left = container.behaviour.leaves_outputs;
                    left.then(|| format!("made by {}", container.attempt))
                }
            })
        });
        let Some(content) = got.await.map_err(Trouble::into_error)? else {
            return Ok(None);
        };
        to.create()
            .and_then(|mut to| to.write_all(content.as_bytes()))
            .map_err(|error| Error::new(ErrorKind::Storage, error.to_string()))?;
        Ok(Some(ArtifactContent {
            kind: ArtifactKind::File,
            size: content.len() as u64,
            sha256: "00".repeat(32),
        }))
    }
}
