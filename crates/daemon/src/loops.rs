//! The loops of a daemon, made from its configuration.

use std::path::PathBuf;

use tokio::time::Instant;
use trainyard_core::id::DaemonId;
use trainyard_executor::{Containers, Limits};
use trainyard_forge::Git;
use trainyard_orchestrator::attempt::layers::Layers;
use trainyard_orchestrator::attempt::supervisor::Surroundings;
use trainyard_orchestrator::health::space::{Disk, DiskRole, SpaceReader};
use trainyard_orchestrator::loops::{LoopOptions, Loops};
use trainyard_store::{Blobs, ClaimCapacity, DaemonInfo, Store};

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::executor;
use crate::serve::{ServeError, retention, version};

/// This daemon among those on the database.
pub(crate) struct Registered {
    pub(crate) id: DaemonId,
    /// The machine's name, and the data folder there.
    pub(crate) host: String,
    leased_at: Instant,
}

pub(crate) async fn register(
    config: &Config,
    data: &DataDir,
    store: &Store,
) -> Result<Registered, ServeError> {
    // The holder of the lock of a data folder is the only daemon on it: earlier daemons are gone, and their attempts
    // can be adopted at once.
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = format!("{}:{}", host.to_string_lossy(), data.path().display());
    let info = DaemonInfo {
        host: host.clone(),
        pid: std::process::id(),
        version: version().to_owned(),
        alone_on_host: true,
    };
    // Measured from before the request: the lease may have begun at any moment after it.
    let leased_at = Instant::now();
    let id = store.register_daemon(&info, config.lease.0).await?;
    Ok(Registered {
        id,
        host,
        leased_at,
    })
}

/// Everything that makes things happen.
pub(crate) async fn engine(
    config: &Config,
    data: &DataDir,
    store: &Store,
    blobs: &Blobs,
    git: &Git,
    daemon: &Registered,
) -> Result<Loops, ServeError> {
    let instance = store.instance().await?;
    let executor = executor::configured(config, instance).await?;
    let engine_id = executor.engine_id().await?;
    let root = executor::local_root(&executor, config.docker.host.as_deref()).await?;
    let layers = match &root {
        Some(root) => {
            let reader = SpaceReader::default();
            Layers::on_disk(config.limits.layer.0, root.clone(), config.floor(), reader)
        }
        None => Layers::new(config.limits.layer.0),
    };
    let ceilings = executor::ceilings(config, &executor).await?;
    let stage = &config.stage;
    let most = &ceilings.limits;
    let options = LoopOptions {
        instance,
        daemon: daemon.id,
        surroundings: Surroundings {
            executor,
            limits: Limits {
                // The operator did not ask for the defaults: a smaller machine uses less.
                cpus: stage
                    .cpus
                    .map(|cpus| most.cpus.map_or(cpus, |most| cpus.min(most))),
                memory: Some(
                    most.memory
                        .map_or(stage.memory.0, |most| most.min(stage.memory.0)),
                ),
                shm: stage.shm.map(|size| size.0),
                pids: Some(stage.pids),
            },
            ceilings,
            grace: stage.grace.0,
            output_limit: config.limits.artifact.0,
            layers,
            // This is the only daemon of the data folder.
            scratch: blobs.incoming_of(&daemon.host).await?,
        },
        capacity: capacity(config),
        lease: config.lease.0,
        leased_at: daemon.leased_at,
        engine_id,
        sources: data.folder("sources")?,
        retention: retention(config),
        artifacts_of_a_run: config.limits.artifacts_of_a_run.0,
        places: places(config, data, root),
        floor: config.floor(),
    };
    Ok(Loops::new(
        store.clone(),
        blobs.clone(),
        git.clone(),
        options,
    ))
}

/// The capacity that the stages of this daemon share.
pub(crate) fn capacity(config: &Config) -> ClaimCapacity {
    ClaimCapacity {
        slots_total: config.parallelism,
        pools_total: config.pools.0.clone(),
        stages_of_a_repo: config.stages_of_a_repo,
    }
}

/// The folders whose disks are monitored.
fn places(config: &Config, data: &DataDir, engine: Option<PathBuf>) -> Vec<Disk> {
    let place = |role, path| Disk { role, path };
    let own = [
        place(DiskRole::Data, data.path().to_owned()),
        place(DiskRole::Artifacts, config.artifacts_dir.clone()),
    ];
    let engine = engine.map(|root| place(DiskRole::Engine, root));
    own.into_iter().chain(engine).collect()
}
