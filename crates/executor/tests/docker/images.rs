//! Images by reference: present, missing, and unavailable.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trainyard_core::render::RenderedImage;
use trainyard_core::stage::PullPolicy;
use trainyard_executor::conformance::Candidate;
use trainyard_executor::{Attempts, Error, ErrorKind, ImageRequest, Limits, PreparedImage};

use crate::place::{IMAGE, RealDocker};

pub(crate) async fn prepare(image: &str, pull: PullPolicy) -> Result<PreparedImage, Error> {
    prepare_with(&RealDocker::new().await, image, pull).await
}

async fn prepare_with(
    containers: &RealDocker,
    image: &str,
    pull: PullPolicy,
) -> Result<PreparedImage, Error> {
    let request = ImageRequest {
        image: RenderedImage::Reference {
            image: image.parse().unwrap(),
            pull,
        },
        source: None,
        repo: None,
        branch: None,
        limits: Limits::default(),
    };
    let executor = containers.make().await;
    executor.prepare(&request, &|_| {}).await
}

#[tokio::test]
async fn an_image_that_is_there_is_ready_without_a_registry() {
    for pull in [PullPolicy::IfMissing, PullPolicy::Never] {
        let image = prepare(IMAGE, pull).await.unwrap();
        assert!(image.id.starts_with("sha256:"), "{image:?}");
        assert_eq!(
            image.shown, image.id,
            "it has no digest, since no registry has it"
        );
    }
}

#[tokio::test]
async fn a_missing_image_that_may_not_be_pulled_is_reported_as_such() {
    let error = prepare("trainyard-test/nowhere:1", PullPolicy::Never)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::ImageNotFound);
    assert!(
        error.message.contains("trainyard-test/nowhere:1"),
        "{error}"
    );
    assert!(error.message.contains("pull: never"), "{error}");
}

#[tokio::test]
async fn a_registry_that_cannot_be_reached_is_not_a_missing_image() {
    // Nothing listens on this port.
    let image = "localhost:1/team/image:1";
    let containers = RealDocker::with_registries("localhost:1").await;
    let error = prepare_with(&containers, image, PullPolicy::IfMissing).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ImagePull, "{error}");
    assert!(error.message.contains(image), "{error}");
    assert!(error.message.contains("refuses connections"), "{error}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn class_14_no_request_goes_to_the_host_s_own_networks_for_an_image() {
    let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    service.set_nonblocking(true).unwrap();
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0",
    ] {
        let image = format!("{host}:{port}/admin/page");
        let error = prepare(&image, PullPolicy::Always).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ImageNotFound, "{error}");
        assert!(error.message.contains("docker.registries"), "{error}");
    }
    let asked = service.accept().unwrap_err();
    assert_eq!(asked.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn class_14_what_a_service_answers_is_not_shown_even_where_it_may_be_asked() {
    let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    let answering = async {
        loop {
            let (mut connection, _) = service.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let body = "<html>canary-7f3a</html>";
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    };
    let registry = format!("127.0.0.1:{port}");
    let containers = RealDocker::with_registries(&registry).await;
    let image = format!("{registry}/admin/page");
    let error = tokio::select! {
        prepared = prepare_with(&containers, &image, PullPolicy::Always) => prepared.unwrap_err(),
        () = answering => unreachable!("it answers for ever"),
    };
    assert!(!error.message.contains("canary"), "{error}");
    assert!(error.message.contains("404"), "{error}");
}

#[tokio::test]
async fn class_17_a_registry_that_sends_a_huge_error_is_not_listened_to() {
    let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    let answering = async {
        let body = "<".repeat(16 << 20);
        loop {
            let (mut connection, _) = service.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let length = body.len();
            let head = format!(
                "HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = connection.write_all(head.as_bytes()).await;
            let _ = connection.write_all(body.as_bytes()).await;
        }
    };
    let registry = format!("127.0.0.1:{port}");
    let containers = RealDocker::with_registries(&registry).await;
    let image = format!("{registry}/team/image:1");
    let error = tokio::select! {
        prepared = prepare_with(&containers, &image, PullPolicy::Always) => prepared.unwrap_err(),
        () = answering => unreachable!("it answers for ever"),
    };
    assert_eq!(error.kind, ErrorKind::ImagePull, "{error}");
    assert!(error.message.contains("too long"), "{error}");
}

#[tokio::test]
async fn class_17_the_beginning_of_an_id_is_the_name_of_no_image() {
    let id = prepare(IMAGE, PullPolicy::Never).await.unwrap().id;
    let hex = id.strip_prefix("sha256:").unwrap();
    for name in [&hex[..2], &hex[..12], hex] {
        // A name that is not a valid reference is tried with a tag, and as a tag.
        let image = format!("{}:latest", &name[..name.len().min(63)]);
        let error = prepare(&image, PullPolicy::Never).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ImageNotFound, "{image}: {error}");
        // Docker itself finds an image by its name and the beginning of its id.
        let image = format!("trainyard-test/busybox:{}", &name[..name.len().min(12)]);
        let error = prepare(&image, PullPolicy::Never).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ImageNotFound, "{image}: {error}");
    }
}

#[tokio::test]
async fn a_stage_may_use_the_image_of_an_earlier_one_by_its_id() {
    let id = prepare(IMAGE, PullPolicy::Never).await.unwrap().id;
    let executor = RealDocker::new().await.make().await;
    let request = |image: &str| ImageRequest {
        image: RenderedImage::OfStage {
            image: image.to_owned(),
            pull: PullPolicy::Always,
        },
        source: None,
        repo: None,
        branch: None,
        limits: Limits::default(),
    };
    let found = executor.prepare(&request(&id), &|_| {}).await.unwrap();
    assert_eq!(found.id, id);
    let gone = format!("sha256:{}", "0".repeat(64));
    let error = executor
        .prepare(&request(&gone), &|_| {})
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::ImagePull, "{error}");
}
