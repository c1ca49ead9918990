//! The executor that the configuration names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use trainyard_core::id::InstanceId;
use trainyard_executor::docker::{DEFAULT_HOST, Docker, DockerConfig};
use trainyard_executor::fake::Fake;
use trainyard_executor::process::{Process, ProcessConfig};
use trainyard_executor::{AnyExecutor, Ceilings, Error, Limits};

use crate::config::{Config, ExecutorKind};

/// What programs inherit of the daemon's environment where they run as its processes.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Reaches a Docker engine.
///
/// # Errors
/// It does not answer, or is too old.
pub(crate) async fn docker(host: Option<String>, instance: InstanceId) -> Result<Docker, Error> {
    let usual = DockerConfig::new(instance);
    Docker::connect(DockerConfig { host, ..usual }).await
}

/// The most that stages may ask for: what the operator says, else what the Docker engine's machine has.
///
/// # Errors
/// The engine does not answer.
pub(crate) async fn ceilings(config: &Config, executor: &AnyExecutor) -> Result<Ceilings, Error> {
    let stage = &config.stage;
    let machine = match executor {
        AnyExecutor::Docker(docker) => Some(docker.info().await?),
        AnyExecutor::Process(_) | AnyExecutor::Fake(_) => None,
    };
    let memory = machine.as_ref().map(|machine| machine.memory);
    let memory = stage.memory_at_most.map(|size| size.0).or(memory);
    let memory = memory.filter(|memory| *memory > 0);
    let cpus = machine.map(|machine| u32::try_from(machine.cpus).unwrap_or(u32::MAX));
    let cpus = cpus.filter(|cpus| *cpus > 0).map(f64::from);
    Ok(Ceilings {
        limits: Limits {
            cpus: stage.cpus_at_most.or(cpus),
            memory,
            shm: stage
                .shm_at_most
                .map(|size| size.0)
                .or(memory.map(|memory| memory / 2)),
            pids: Some(stage.pids_at_most),
        },
        timeout: Some(stage.timeout_at_most.0),
    })
}

/// Where a Docker engine keeps its images and containers, as far as that is a folder of this machine.
///
/// # Errors
/// The engine does not answer.
pub(crate) async fn local_root(
    executor: &AnyExecutor,
    host: Option<&str>,
) -> Result<Option<PathBuf>, Error> {
    let AnyExecutor::Docker(docker) = executor else {
        return Ok(None);
    };
    if !host.unwrap_or(DEFAULT_HOST).starts_with("unix:") {
        return Ok(None);
    }
    let root = PathBuf::from(docker.info().await?.root_dir);
    Ok(root.is_dir().then_some(root))
}

/// Makes the executor that the configuration names.
///
/// # Errors
/// The engine does not answer or is too old, or the data folder cannot be used.
pub(crate) async fn configured(
    config: &Config,
    instance: InstanceId,
    data: PathBuf,
) -> Result<AnyExecutor, Error> {
    match config.executor {
        ExecutorKind::Docker => {
            let docker = &config.docker;
            let config = DockerConfig {
                host: docker.host.clone(),
                network: docker.network.clone(),
                internal: docker.internal,
                subnets: docker.subnets,
                registries: docker.registries.clone(),
                pull_idle: docker.pull_idle.0,
                ..DockerConfig::new(instance)
            };
            Ok(AnyExecutor::Docker(Docker::connect(config).await?))
        }
        ExecutorKind::Process => {
            tracing::warn!("stages run as processes of this host, without any isolation");
            let env = INHERITED
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
                .collect::<BTreeMap<String, String>>();
            Ok(AnyExecutor::Process(Process::new(ProcessConfig {
                data_dir: data,
                env,
            })?))
        }
        ExecutorKind::Fake => {
            tracing::warn!("no stage runs: the executor is `fake`, for tests and measurements");
            Ok(AnyExecutor::Fake(Fake::new()))
        }
    }
}
