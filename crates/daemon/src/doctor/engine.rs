//! Checks the Docker engine: reachable, new enough, with space on its disk.

use std::path::Path;

use trainyard_core::id::InstanceId;
use trainyard_core::measure::in_units;
use trainyard_executor::docker::{Docker, DockerConfig, EngineInfo};
use trainyard_orchestrator::health::space::Floor;
use uuid::Uuid;

use super::{Check, machine};
use crate::config::Config;

const ENGINE: &str = "Docker engine";

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    // The check creates nothing, so the instance id is never used as a label.
    let mut docker = DockerConfig::new(InstanceId(Uuid::nil()));
    docker.host.clone_from(&config.docker.host);
    docker.buildkit = config.docker.buildkit;
    let host = docker.host().to_owned();
    let info = match Docker::connect(docker).await {
        Ok(engine) => engine.info().await,
        Err(error) => Err(error),
    };
    match info {
        Err(error) => vec![Check::failed(
            ENGINE,
            error.to_string(),
            "start Docker 20.10 or newer (Debian: `apt install docker.io`), or give its address with --docker-host",
        )],
        Ok(info) => std::iter::once(engine(&host, &info))
            .chain(fixes(&info, config.docker.require_fixes))
            .chain(disk(&host, &info, config.floor()))
            .collect(),
    }
}

fn engine(host: &str, info: &EngineInfo) -> Check {
    let detail = format!(
        "{info} at {host}, {} CPUs, {} of memory, cgroup v{}, {}",
        info.cpus,
        in_units(info.memory),
        info.cgroup_version,
        info.storage_driver
    );
    Check::ok(ENGINE, detail)
}

/// Security fixes that its versions may lack.
fn fixes(info: &EngineInfo, required: bool) -> impl Iterator<Item = Check> {
    const NAME: &str = "Docker fixes";
    info.unfixed.iter().map(move |unfixed| {
        let detail = unfixed.to_string();
        if required {
            Check::failed(
                NAME,
                detail,
                "update Docker, or remove docker.require_fixes",
            )
        } else if unfixed.from_distribution {
            Check::unknown(
                NAME,
                detail,
                "read its changelog (Debian: `apt changelog docker.io`, `apt changelog runc`)",
            )
        } else {
            Check::warning(
                NAME,
                detail,
                "update Docker: programs may be able to escape from their containers",
            )
        }
    })
}

/// Space for images and containers; unknown if Docker is on another machine.
fn disk(host: &str, info: &EngineInfo, floor: Floor) -> Option<Check> {
    let root = Path::new(&info.root_dir);
    (host.starts_with("unix:") && root.exists()).then(|| {
        machine::space(
            "Docker disk",
            root,
            floor,
            "remove unused images and containers: `docker system df`, `docker system prune`",
        )
    })
}
