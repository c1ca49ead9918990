//! `Docker`: attempts as containers of a Docker engine, reached over its API.
//!
//! A container is created with a name and labels made from its attempt, started once, waited for,
//! inspected, and kept until its results are safe: an exited container is the tombstone of its
//! attempt. Docker is the only truth; nothing here has to survive a restart of the daemon. The facts
//! that this executor remembers (containers it created just now, images it inspected) only save calls.
//!
//! For a stage without files the calls are: inspect the image, create, start, wait together with
//! the log, inspect, remove. Each call has its own deadline; pulls, builds and copies have
//! one on their progress.
//!
//! It never queries registries by itself, takes no credentials for them, and does not watch Docker's
//! events (they are a ring of 256 that skips slow readers).

mod answers;
mod arguments;
mod build;
mod capabilities;
pub(crate) mod collect;
mod companion;
mod connect;
mod context;
mod convert;
mod create;
mod departed;
pub(crate) mod dockerfile;
pub(crate) mod dockerignore;
mod errors;
mod fixes;
mod gc;
mod image;
mod init;
mod labels;
mod layout;
mod logs;
mod networks;
mod proof;
mod status;
mod trace;
mod unstarted;
mod written;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::{ListContainersOptionsBuilder, StopContainerOptionsBuilder};
use tracing::warn;
use trainyard_core::Timestamp;
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::render::RenderedImage;
use trainyard_core::stage::RelativePath;
use trainyard_failpoint::{AtPoint as _, Point};

pub use self::capabilities::Capabilities;
pub use self::companion::Companion;
pub use self::connect::{DEFAULT_HOST, DockerConfig, EngineInfo, OLDEST_API};
pub use self::fixes::Unfixed;
pub use self::networks::Subnets;

use self::build::Builds;
use self::context::Recipe;
use self::departed::Departed;
use self::errors::{SHORT, within};
use self::image::Images;
use self::init::InitVolume;
use self::networks::Networks;
use self::proof::Ends;
use crate::blob::BlobSink;
use crate::contract::{
    Attempts, BuildImage, Containers, Exit, Handle, ImageRequest, Listed, LogCursor, LogStream,
    PreparedImage, Proof, StageFolder, Status,
};
use crate::error::{Error, ErrorKind};
use crate::spec::AttemptSpec;

/// Runs attempts as Docker containers. Clones share one client.
#[derive(Debug, Clone)]
pub struct Docker {
    engine: Arc<Engine>,
}

#[derive(Debug)]
struct Engine {
    client: bollard::Docker,
    /// A client for answers whose length a stage decides.
    answers: bollard::Docker,
    config: DockerConfig,
    fresh: Fresh,
    departed: Departed,
    images: Images,
    builds: Builds,
    networks: Networks,
    init: InitVolume,
    ends: Arc<Ends>,
}

/// Containers that this process created and has not started.
#[derive(Debug, Default)]
struct Fresh(Mutex<HashSet<String>>);

impl Fresh {
    fn add(&self, container: &str) {
        let mut fresh = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.insert(container.to_owned());
    }

    fn take(&self, container: &str) -> bool {
        let mut fresh = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.remove(container)
    }
}

impl Docker {
    /// Connects to a Docker engine and agrees on the version of its API.
    ///
    /// # Errors
    /// `Unreachable`; `Engine` where Docker is too old or the address is invalid.
    pub async fn connect(config: DockerConfig) -> Result<Self, Error> {
        let client = connect::client(&config).await?;
        let (answers, _) = connect::bounded(&config, answers::DESCRIPTION)?;
        let init = InitVolume::named(&config.init_volume);
        let engine = Engine {
            client,
            answers: answers.clone(),
            config,
            fresh: Fresh::default(),
            departed: Departed::default(),
            images: Images::asking(answers),
            builds: Builds::default(),
            networks: Networks::default(),
            init,
            ends: Arc::default(),
        };
        Ok(Self {
            engine: Arc::new(engine),
        })
    }

    /// Docker's description of itself.
    ///
    /// # Errors
    /// A Docker error.
    pub async fn info(&self) -> Result<EngineInfo, Error> {
        connect::info(&self.engine.client, self.engine.config.buildkit).await
    }

    /// Images that this installation built, oldest first.
    ///
    /// # Errors
    /// A Docker error.
    pub async fn build_images(&self) -> Result<Vec<BuildImage>, Error> {
        self.engine.build_images().await
    }
}

impl Containers for Docker {
    fn kind(&self) -> &'static str {
        "docker"
    }

    async fn engine_id(&self) -> Result<Option<String>, Error> {
        Ok(Some(self.info().await?.id))
    }

    async fn create(&self, spec: &AttemptSpec) -> Result<Handle, Error> {
        self.engine.create(spec).await
    }

    async fn start(&self, handle: &Handle) -> Result<(), Error> {
        self.engine.start(&handle.container).await
    }

    async fn inspect(&self, handle: &Handle) -> Result<Option<Status>, Error> {
        status::of(&self.engine.client, &handle.container).await
    }

    async fn wait(&self, handle: &Handle) -> Result<Status, Error> {
        let engine = &self.engine;
        let container = &handle.container;
        let status = status::wait(&engine.client, container, !engine.config.init).await?;
        if matches!(status, Status::Exited { .. }) {
            engine.ends.saw(container);
        }
        Ok(status)
    }

    async fn logs(&self, handle: &Handle, after: Option<LogCursor>) -> Result<LogStream, Error> {
        let engine = &self.engine;
        let ends = Arc::clone(&engine.ends);
        Ok(logs::open(&engine.client, &handle.container, after, ends))
    }

    async fn written(&self, handle: &Handle) -> Result<Option<u64>, Error> {
        written::written(&self.engine.client, &handle.container).await
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        let engine = &self.engine;
        let container = &handle.container;
        match status::of(&engine.client, container).await? {
            None | Some(Status::Exited { .. } | Status::Unknown) => return Ok(()),
            Some(Status::Created) => {
                engine.fresh.take(container);
                if engine.remove_idle(container).await? {
                    return Ok(());
                }
                // It was started meanwhile.
            }
            Some(Status::Running { .. }) => {}
        }
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let options = StopContainerOptionsBuilder::default()
            .t(i32::try_from(seconds).unwrap_or(i32::MAX))
            .build();
        let stopped = engine
            .client
            .stop_container(container, Some(options))
            .at(Point::StopContainer);
        match within(grace.saturating_add(SHORT), stopped).await {
            Ok(()) => Ok(()),
            Err(call_error) if call_error.status() == Some(404) => Ok(()),
            Err(call_error) => Err(call_error.into_error("stop a container")),
        }
    }

    async fn remove(&self, handle: &Handle) -> Result<(), Error> {
        self.engine.remove(handle).await
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        let engine = &self.engine;
        let label = format!("{}={}", labels::INSTANCE, engine.config.instance);
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let found = within(
            SHORT,
            engine
                .client
                .list_containers(Some(options))
                .at(Point::ListContainers),
        )
        .await
        .map_err(|call_error| call_error.into_error("list containers"))?;
        Ok(found
            .into_iter()
            .filter_map(|summary| {
                let id = summary.id.clone().unwrap_or_default();
                let listed = status::listed(summary);
                if listed.is_none() {
                    warn!(
                        container = id,
                        "a container has Trainyard's label, but was not created by Trainyard"
                    );
                }
                listed
            })
            .collect())
    }

    async fn ping(&self) -> Result<(), Error> {
        // Unlike the ping of the protocol, this needs the part of Docker that keeps containers. There is none
        // of this name, and it would not matter if there were.
        let looked = status::inspect(&self.engine.client, status::NO_CONTAINER).await;
        looked.map(drop)
    }

    async fn remove_networks(&self) -> Result<(), Error> {
        self.engine.networks.forget_all();
        self.engine.remove_idle_networks().await.map(drop)
    }
}

impl Attempts for Docker {
    async fn prepare(
        &self,
        request: &ImageRequest,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        let engine = &self.engine;
        match &request.image {
            RenderedImage::Reference { image, pull } => {
                engine
                    .images
                    .prepare(&engine.config, image, *pull, progress)
                    .await
            }
            RenderedImage::OfStage { image, pull } => {
                engine
                    .images
                    .prepare_used(&engine.config, image, *pull, progress)
                    .await
            }
            RenderedImage::Build {
                context,
                dockerfile,
                args,
                target,
            } => {
                let source = request.source.clone().ok_or_else(|| {
                    Error::new(
                        ErrorKind::ImageBuild,
                        "there is no source tree to build an image from: the run has no commit",
                    )
                })?;
                let recipe = Recipe {
                    source,
                    context: context.clone(),
                    dockerfile: dockerfile.clone(),
                    args: args.clone(),
                    target: target.clone(),
                };
                engine.build(recipe, request, progress).await
            }
        }
    }

    fn starts_once(&self) -> bool {
        self.engine.config.init
    }

    async fn prove(&self, handle: &Handle, seen: &Exit) -> Result<Proof, Error> {
        self.engine.prove(&handle.container, seen).await
    }

    async fn collect(
        &self,
        handle: &Handle,
        output: &RelativePath,
        to: &Arc<dyn BlobSink>,
        limit: u64,
    ) -> Result<Option<ArtifactContent>, Error> {
        collect::collect(&self.engine.client, &handle.container, output, to, limit).await
    }

    async fn files(&self, handle: &Handle, folder: StageFolder) -> Result<Vec<String>, Error> {
        collect::files(&self.engine.client, &handle.container, folder).await
    }

    async fn remove_unused_build_images(
        &self,
        before: Timestamp,
        wanted: &BTreeSet<String>,
    ) -> Result<Vec<BuildImage>, Error> {
        self.engine.remove_build_images(before, wanted).await
    }
}
