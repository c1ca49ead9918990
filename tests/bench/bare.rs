//! The bare loop: the same containers, with the same limits and restrictions, created, started, waited
//! for and removed over the Docker API, and nothing else. Two things that stages have can be left out, so that
//! their price can be seen: the init of Trainyard, whose volume an earlier run has left and which needs a file that
//! is put into each container, and a network of the repo's own in place of Docker's default one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
    NetworkCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptions, ListVolumesOptionsBuilder, RemoveContainerOptions,
    StartContainerOptions, UploadToContainerOptionsBuilder, WaitContainerOptions,
};
use futures_util::StreamExt;
use futures_util::stream;
use trainyard_tests::engine::IMAGE;

/// A nonce of the init's: anything of this length.
const NONCE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The settings that containers of the bare loop share with stages, beyond their limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Like {
    /// The init stands before the program.
    pub(crate) init: bool,
    /// They are on a network of their own.
    pub(crate) network: bool,
}

impl Like {
    /// The program alone, on Docker's default network.
    pub(crate) const PLAIN: Self = Self {
        init: false,
        network: false,
    };

    pub(crate) const STAGE: Self = Self {
        init: true,
        network: true,
    };
}

/// The network of the bare loop.
const NETWORK: &str = "trainyard-bench";

/// Runs `count` containers of `true`, `at_once` at the same time. Returns how long that took.
pub(crate) fn containers(count: usize, at_once: usize, like: Like) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let docker = Docker::connect_with_local_defaults().unwrap();
        let volume = if like.init {
            Some(init_volume(&docker).await)
        } else {
            None
        };
        if like.network {
            make_network(&docker).await;
        }
        let begun = Instant::now();
        stream::iter(0..count)
            .for_each_concurrent(at_once, |_| one(&docker, volume.as_deref(), like.network))
            .await;
        let taken = begun.elapsed();
        if like.network {
            docker.remove_network(NETWORK).await.unwrap();
        }
        taken
    })
}

async fn make_network(docker: &Docker) {
    // One that an interrupted bench has left.
    let _ = docker.remove_network(NETWORK).await;
    let request = NetworkCreateRequest {
        name: NETWORK.to_owned(),
        driver: Some("bridge".to_owned()),
        ..NetworkCreateRequest::default()
    };
    docker.create_network(request).await.unwrap();
}

async fn init_volume(docker: &Docker) -> String {
    let label = HashMap::from([("label", vec!["io.trainyard.init.volume"])]);
    let options = ListVolumesOptionsBuilder::default().filters(&label).build();
    let volumes = docker.list_volumes(Some(options)).await.unwrap().volumes;
    // Older versions leave theirs for a while.
    let newest = volumes.unwrap().into_iter();
    newest.max_by_key(|volume| volume.created_at).unwrap().name
}

async fn one(docker: &Docker, init: Option<&str>, in_network: bool) {
    let command: &[&str] = match init {
        None => &["true"],
        Some(_) => &[
            "/trainyard/init/init",
            "/trainyard/run/latch",
            "/trainyard/run/start",
            NONCE,
            "true",
        ],
    };
    let mut host = host_config();
    host.mounts = init.map(|volume| vec![read_only(volume)]);
    host.network_mode = in_network.then(|| NETWORK.to_owned());
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        entrypoint: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        working_dir: Some("/workspace".to_owned()),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    };
    let id = docker
        .create_container(None::<CreateContainerOptions>, body)
        .await
        .unwrap()
        .id;
    if init.is_some() {
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let files = bollard::body_full(start_file().into());
        docker
            .upload_to_container(&id, Some(options), files)
            .await
            .unwrap();
    }
    docker
        .start_container(&id, None::<StartContainerOptions>)
        .await
        .unwrap();
    let mut wait = docker.wait_container(&id, None::<WaitContainerOptions>);
    wait.next().await.unwrap().unwrap();
    docker
        .remove_container(&id, None::<RemoveContainerOptions>)
        .await
        .unwrap();
}

/// The settings that the init needs to run a program.
fn start_file() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let content = &NONCE.as_bytes()[..NONCE.len() / 2];
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o444);
    archive
        .append_data(&mut header, "trainyard/run/start", content)
        .unwrap();
    archive.into_inner().unwrap()
}

/// Trainyard's default settings, so that Docker has the same work to do.
fn host_config() -> HostConfig {
    const MEMORY: i64 = 4 << 30;
    HostConfig {
        nano_cpus: Some(i64::try_from(processors()).unwrap() * 1_000_000_000),
        memory: Some(MEMORY),
        memory_swap: Some(MEMORY),
        pids_limit: Some(4096),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), (64 << 20).to_string()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    }
}

fn read_only(volume: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some("/trainyard/init".to_owned()),
        read_only: Some(true),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().unwrap().get()
}
