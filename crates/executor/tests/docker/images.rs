//! Images by reference: there, not there, and not to be had.

use trainyard_core::render::RenderedImage;
use trainyard_core::stage::PullPolicy;
use trainyard_executor::conformance::Subject;
use trainyard_executor::{Error, ErrorKind, Executor, ImageRequest, PreparedImage};

use crate::place::{Containers, IMAGE};

pub(crate) async fn prepare(image: &str, pull: PullPolicy) -> Result<PreparedImage, Error> {
    let request = ImageRequest {
        image: RenderedImage::Reference {
            image: image.to_owned(),
            pull,
        },
        source: None,
    };
    Containers::new()
        .await
        .make()
        .await
        .prepare(&request, &|_| {})
        .await
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
async fn a_missing_image_that_may_not_be_fetched_is_told_so() {
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
    let error = prepare(image, PullPolicy::IfMissing).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ImagePull, "{error}");
    assert!(error.message.contains(image), "{error}");
    assert!(
        error
            .message
            .contains("could not be fetched from its registry"),
        "{error}"
    );
    assert!(error.is_transient());
}

#[tokio::test]
async fn what_is_no_reference_is_told_so() {
    let error = prepare("Not A Reference", PullPolicy::IfMissing)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::ImageNotFound, "{error}");
    assert!(error.message.contains("is no image reference"), "{error}");
}
