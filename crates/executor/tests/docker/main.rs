//! Tests of `Docker` on a real Docker engine: the contract's promises, and the behavior of containers.
//!
//! They need a Docker engine at `DOCKER_HOST`, or at its usual address, and no registry: the image that
//! programs run in is made here, from the busybox of the host.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where something it relies on does"
)]

mod building;
mod departed;
mod hostile;
mod images;
mod init;
mod isolation;
mod layout;
mod logs;
mod networks;
mod place;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use trainyard_executor::conformance::{Candidate, Kit, check};
use trainyard_executor::docker::Docker;
use trainyard_executor::{Containers, ErrorKind, Exit, Proof, Status, conformance_tests};

use crate::place::{RealDocker, script};

conformance_tests!(Containers, RealDocker::new().await);
conformance_tests!(Attempts, RealDocker::new().await);

#[tokio::test]
async fn a_program_beyond_its_memory_is_distinguished_from_one_that_was_killed() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        // tail keeps a line without an end in memory.
        let mut spec = kit.spec_of(script("tail /dev/zero"));
        spec.limits.memory = Some(16 << 20);
        let handle = kit.start(&executor, &spec).await;
        let expected = |out_of_memory| Proof::Ended {
            exit: Exit {
                code: 137,
                out_of_memory,
            },
            asked: false,
        };
        assert_eq!(init::proof(&kit, &executor, &handle).await, expected(true));
        let killed = kit
            .start(&executor, &kit.spec_of(script("kill -KILL $$")))
            .await;
        assert_eq!(init::proof(&kit, &executor, &killed).await, expected(false));
        kit
    })
    .await;
}

#[tokio::test]
async fn a_container_removed_behind_our_back_is_gone() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let handle = kit
            .start(&executor, &kit.spec_of(script("sleep 600")))
            .await;
        let (ended, ()) = tokio::join!(executor.wait(&handle), async {
            kit.subject.remove_by_force(&handle.container).await;
        });
        assert_eq!(ended.unwrap_err().kind, ErrorKind::Gone);
        assert_eq!(executor.inspect(&handle).await, Ok(None));
        kit
    })
    .await;
}

#[tokio::test]
async fn without_an_init_a_missing_program_is_reported_at_the_start() {
    let containers = RealDocker::without_init().await;
    check(containers, |kit: Kit<RealDocker>| async move {
        let executor = kit.subject.make().await;
        let command = ["no-such-program", "-v"].map(str::to_owned).to_vec();
        let spec = kit.spec_of(trainyard_core::render::RenderedCommand::Exec(command));
        let handle = executor.create(&spec).await.unwrap();
        let error = executor.start(&handle).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Start);
        assert_eq!(error.message, "the image has no program `no-such-program`");
        assert_eq!(executor.inspect(&handle).await, Ok(Some(Status::Created)));
        kit
    })
    .await;
}

#[tokio::test]
async fn a_refusal_of_docker_is_reported_in_its_words() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let mut spec = kit.spec_of(script("true"));
        spec.limits.cpus = Some(100_000.0);
        let error = executor.create(&spec).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Start);
        assert!(error.message.contains("CPUs"), "{error}");
        kit
    })
    .await;
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_unreachable_and_named() {
    let mut config = place::config();
    config.host = Some("unix:///nowhere/docker.sock".to_owned());
    let error = Docker::connect(config).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.message.contains("/nowhere/docker.sock"), "{error}");
}

#[tokio::test]
async fn an_engine_that_is_too_old_is_refused_with_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let old = async {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            if connection.read(&mut request).await.unwrap() == 0 {
                continue;
            }
            let body = r#"{"Version":"18.09","ApiVersion":"1.39"}"#;
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let mut config = place::config();
    config.host = Some(format!("unix://{}", socket.display()));
    let error = tokio::select! {
        connected = Docker::connect(config) => connected.unwrap_err(),
        () = old => unreachable!("it answers for ever"),
    };
    assert_eq!(error.kind, ErrorKind::Engine);
    assert!(
        error.message.contains("1.39") && error.message.contains("1.41"),
        "{error}"
    );
    assert!(error.message.contains("20.10"), "{error}");
}

#[tokio::test]
async fn an_image_that_was_removed_before_the_container_was_created_is_reported() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let mut spec = kit.spec_of(script("true"));
        spec.image = format!("sha256:{}", "0".repeat(64));
        let error = executor.create(&spec).await.unwrap_err();
        assert_eq!(
            error.kind,
            ErrorKind::ImagePull,
            "it can be had again: {error}"
        );
        kit
    })
    .await;
}

#[tokio::test]
async fn the_engine_describes_itself() {
    let containers = RealDocker::new().await;
    let info = containers.make().await.info().await;
    let info = info.unwrap();
    assert!(info.api_version.starts_with("1."), "{info:?}");
    assert!(info.root_dir.starts_with('/'), "{info:?}");
    assert!(info.memory > 0 && info.cpus > 0, "{info:?}");
}
