//! The bare loop: the same containers created, started, waited for and removed over the Docker API,
//! and nothing else.

use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, RemoveContainerOptions, StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use futures_util::stream;
use trainyard_tests::engine::IMAGE;

/// Runs `count` containers of `true`, `at_once` at the same time. Returns how long that took.
pub(crate) fn containers(count: usize, at_once: usize) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let docker = Docker::connect_with_local_defaults().unwrap();
        let begun = Instant::now();
        stream::iter(0..count)
            .for_each_concurrent(at_once, |_| one(&docker))
            .await;
        begun.elapsed()
    })
}

async fn one(docker: &Docker) {
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        cmd: Some(vec!["true".to_owned()]),
        host_config: Some(HostConfig::default()),
        ..ContainerCreateBody::default()
    };
    let id = docker
        .create_container(None::<CreateContainerOptions>, body)
        .await
        .unwrap()
        .id;
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
