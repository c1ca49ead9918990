//! The executor that the configuration names.

use std::path::PathBuf;

use trainyard_core::id::InstanceId;
use trainyard_executor::docker::{DEFAULT_HOST, Docker, DockerConfig, EngineInfo};
use trainyard_executor::fake::Fake;
use trainyard_executor::{AnyExecutor, Ceilings, Error, ErrorKind, Limits};

use crate::config::{Config, ExecutorKind};

/// Reaches a Docker engine for a file that is run by hand.
///
/// # Errors
/// It does not answer, or is too old.
pub(crate) async fn docker(
    host: Option<String>,
    instance: InstanceId,
    checkout: PathBuf,
) -> Result<Docker, Error> {
    let usual = DockerConfig::new(instance);
    // Users who can run this command can use Docker directly anyway.
    let buildkit = true;
    Docker::connect(DockerConfig {
        host,
        checkout: Some(checkout),
        buildkit,
        ..usual
    })
    .await
}

/// The most that stages may ask for: as configured, or else all that the Docker engine's machine has.
///
/// # Errors
/// Docker does not answer.
pub(crate) async fn ceilings(config: &Config, executor: &AnyExecutor) -> Result<Ceilings, Error> {
    let stage = &config.stage;
    let machine = match executor {
        AnyExecutor::Docker(docker) => Some(docker.info().await?),
        AnyExecutor::Fake(_) => None,
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

/// The folder where a Docker engine keeps its images and containers, if it is on this machine.
///
/// # Errors
/// Docker does not answer.
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

/// Logs which security fixes a Docker engine lacks, or refuses to use it.
fn check_fixes(engine: &EngineInfo, required: bool) -> Result<(), Error> {
    if required && let Some(unfixed) = engine.unfixed.first() {
        let message = format!(
            "{unfixed}. docker.require_fixes = true refuses this Docker engine: update Docker, or remove the key"
        );
        return Err(Error::new(ErrorKind::Engine, message));
    }
    for unfixed in &engine.unfixed {
        if unfixed.from_distribution {
            tracing::info!("{unfixed}");
        } else {
            tracing::warn!(
                "{unfixed}: programs may be able to escape from their containers; update Docker"
            );
        }
    }
    Ok(())
}

/// Makes the executor that the configuration names.
///
/// # Errors
/// Docker does not answer, is too old, or lacks required fixes.
pub(crate) async fn configured(
    config: &Config,
    instance: InstanceId,
) -> Result<AnyExecutor, Error> {
    match config.executor {
        ExecutorKind::Docker => {
            let (docker, limits) = (&config.docker, &config.limits);
            let config = DockerConfig {
                host: docker.host.clone(),
                network: docker.network.clone(),
                internal: docker.internal,
                subnets: docker.subnets,
                registries: docker.registries.clone(),
                buildkit: docker.buildkit,
                build_layers: Some(limits.layer.0).filter(|bytes| *bytes > 0),
                capabilities: docker.capabilities.clone(),
                pull_idle: docker.pull_idle.0,
                ..DockerConfig::new(instance)
            };
            let executor = Docker::connect(config).await?;
            check_fixes(&executor.info().await?, docker.require_fixes)?;
            Ok(AnyExecutor::Docker(executor))
        }
        ExecutorKind::Fake => {
            tracing::warn!("no stage runs: the executor is `fake`, for tests and measurements");
            Ok(AnyExecutor::Fake(Fake::new()))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;
    use uuid::Uuid;

    use super::*;
    use crate::config::DevArgs;

    #[derive(Parser)]
    struct Dev {
        #[command(flatten)]
        args: DevArgs,
    }

    /// The result of a start on a Docker engine with this version of runc.
    async fn start(runc: &str, arguments: &[&str]) -> Result<(), Error> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let version = format!(
            r#"{{"Version":"28.2.2","ApiVersion":"1.41","Components":[{{"Name":"Engine","Version":"28.2.2"}},
                {{"Name":"runc","Version":"{runc}","Details":{{"GitCommit":"v{runc}-0-g4bccb38"}}}}]}}"#
        );
        let engine = async {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let count = connection.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..count]);
                let path = request.split(' ').nth(1).unwrap_or_default();
                let body = if path.ends_with("/version") {
                    &version
                } else {
                    "{}"
                };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
                     Connection: close\r\n\r\n{body}"
                );
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let host = format!("unix://{}", socket.display());
        let fixed = ["dev", "--docker-host", &host];
        let args = Dev::try_parse_from(fixed.iter().chain(arguments))
            .unwrap()
            .args;
        let config = Config::for_dev(&args).unwrap();
        let started = configured(&config, InstanceId(Uuid::nil()));
        tokio::select! {
            started = started => started.map(drop),
            () = engine => unreachable!("the fake Docker never stops"),
        }
    }

    #[tokio::test]
    async fn class_17_an_engine_without_fixes_is_refused_where_they_are_required() {
        let required = ["--docker-require-fixes"];
        let error = start("1.1.11", &required).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Engine);
        let expected = "runc 1.1.11 is older than the fixes of CVE-2024-21626 (1.1.12)";
        assert!(error.message.starts_with(expected), "{error}");
        assert!(error.message.contains("docker.require_fixes"), "{error}");
        // The version does not show whether a distribution has backported the fixes.
        assert!(start("1.1.5+ds1", &required).await.is_err());

        start("1.3.3", &required).await.unwrap();
        start("1.1.11", &[]).await.unwrap();
        start("1.1.5+ds1", &[]).await.unwrap();
    }
}
