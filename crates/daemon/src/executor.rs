//! The executor that the configuration names.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use trainyard_core::id::InstanceId;
use trainyard_executor::docker::{DEFAULT_HOST, Docker, DockerConfig};
use trainyard_executor::fake::Fake;
use trainyard_executor::process::{Process, ProcessConfig};
use trainyard_executor::{AnyExecutor, Error};

use crate::config::{Config, ExecutorKind};

/// What programs inherit of the daemon's environment where they run as its processes.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Reaches a Docker engine.
///
/// # Errors
/// It does not answer, or is too old.
pub(crate) async fn docker(
    host: Option<String>,
    instance: InstanceId,
    network: Option<String>,
    pull_idle: Option<Duration>,
) -> Result<Docker, Error> {
    let usual = DockerConfig::new(instance);
    let config = DockerConfig {
        host,
        network,
        pull_idle: pull_idle.unwrap_or(usual.pull_idle),
        ..usual
    };
    Docker::connect(config).await
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
            let engine = &config.docker;
            let (host, network) = (engine.host.clone(), engine.network.clone());
            let docker = docker(host, instance, network, Some(engine.pull_idle.0)).await?;
            Ok(AnyExecutor::Docker(docker))
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
