//! Pulls an image by reference, and explains why it could not be pulled.

use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use trainyard_core::image::ImageReference;
use trainyard_failpoint::{Flow as _, Point};

use crate::docker::answers::PROGRESS;
use crate::docker::connect::{self, DockerConfig};
use crate::docker::errors::{CallError, is_disk_full};
use crate::error::{Error, ErrorKind};

pub(super) async fn pull(
    config: &DockerConfig,
    image: &ImageReference,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(), Error> {
    let reference = &image.to_string();
    let (client, exceeded) = connect::bounded(config, PROGRESS)?;
    let options = CreateImageOptionsBuilder::default().from_image(&image.exact());
    let mut stream = std::pin::pin!(
        client
            .create_image(Some(options.build()), None, None)
            .at(Point::PullImage)
    );
    loop {
        match tokio::time::timeout(config.pull_idle, stream.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(info))) => {
                if let Some(line) = line(&info) {
                    progress(line);
                }
            }
            // It looks as if Docker did not answer. But a stranger caused it, so it must not count as that.
            Ok(Some(Err(_))) if exceeded.is_so() => {
                return Err(Error::new(
                    ErrorKind::ImagePull,
                    format!(
                        "image `{reference}` could not be pulled from its registry: it answered with a text that \
                         is too long"
                    ),
                ));
            }
            Ok(Some(Err(error))) => return Err(not_pulled(reference, &CallError::from(error))),
            Err(_) => {
                let idle = config.pull_idle.as_secs();
                return Err(Error::new(
                    ErrorKind::ImagePull,
                    format!("pulling image `{reference}` made no progress for {idle} s"),
                ));
            }
        }
    }
}

/// A line for people; `None` for progress in bytes.
fn line(info: &CreateImageInfo) -> Option<String> {
    let moving = info
        .progress_detail
        .as_ref()
        .is_some_and(|detail| detail.current.is_some());
    let status = info.status.as_deref().filter(|_| !moving)?;
    Some(match info.id.as_deref() {
        Some(id) => format!("{id}: {status}"),
        None => status.to_owned(),
    })
}

/// Why an image could not be pulled, by the text of the registry or of Docker: neither has codes for it. Their texts
/// are not passed on: Docker's hold the body of the registry's answer, which may come from any service.
fn not_pulled(reference: &str, call_error: &CallError) -> Error {
    let text = call_error.text().trim();
    let lower = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let (kind, message) = if is_disk_full(&lower) {
        let message = format!("image `{reference}` does not fit on the Docker engine's disk");
        (ErrorKind::Storage, message)
    } else if call_error.status() == Some(400) || has(&["invalid reference format"]) {
        return not_a_reference(reference);
    } else if has(&["repository does not exist"]) {
        let message =
            format!("there is no image `{reference}`, or its registry requires a login for it");
        (ErrorKind::ImageNotFound, message)
    } else if has(&[
        "unauthorized",
        "authentication required",
        "no basic auth",
        "denied",
    ]) {
        let message = format!(
            "the registry of image `{reference}` does not allow pulling it without a login"
        );
        (ErrorKind::ImageNotFound, message)
    } else if has(&["toomanyrequests", "rate limit"]) {
        let message = format!("the registry rate-limited the pull of image `{reference}`");
        (ErrorKind::ImagePull, message)
    } else if call_error.status() == Some(404)
        || has(&["manifest unknown", "not found: manifest", "no such image"])
        || (has(&["manifest for"]) && has(&["not found"]))
    {
        let message = format!("there is no image `{reference}` in its registry");
        (ErrorKind::ImageNotFound, message)
    } else if matches!(call_error, CallError::Silent(_)) {
        return call_error.clone().into_error("pull an image");
    } else {
        let cause = cause_of(&lower);
        let message = format!("image `{reference}` could not be pulled from its registry: {cause}");
        (ErrorKind::ImagePull, message)
    };
    Error::new(kind, message)
}

/// Docker's texts about a registry that failed, and our own for them.
const CAUSES: [(&str, &str); 13] = [
    (
        "no such host",
        "the name of its registry cannot be resolved",
    ),
    (
        "server misbehaving",
        "the name of its registry cannot be resolved",
    ),
    ("connection refused", "its registry refuses connections"),
    ("no route to host", "its registry cannot be reached"),
    ("network is unreachable", "its registry cannot be reached"),
    ("connection reset", "its registry closed the connection"),
    ("i/o timeout", "its registry did not answer in time"),
    ("handshake timeout", "its registry did not answer in time"),
    ("client.timeout", "its registry did not answer in time"),
    ("deadline exceeded", "its registry did not answer in time"),
    (
        "x509",
        "Docker does not trust the certificate of its registry",
    ),
    (
        "gave http response to https",
        "its registry does not use TLS, and Docker is not configured to accept that",
    ),
    (
        "no matching manifest",
        "its registry has no variant of it for this platform",
    ),
];

/// The cause of a failed request to a registry in our own words, from Docker's in lower case.
pub(in crate::docker) fn cause_of(lower: &str) -> String {
    if let Some(status) = status_in(lower) {
        return format!("its registry answered with HTTP status {status}");
    }
    let known = CAUSES.iter().find(|(words, _)| lower.contains(words));
    known.map_or_else(
        || {
            "Docker reports an error that is not repeated here, as it can hold what the registry sent; \
             Docker's own log has it"
                .to_owned()
        },
        |(_, cause)| (*cause).to_owned(),
    )
}

/// The status of a registry's answer, from Docker's text in lower case.
fn status_in(lower: &str) -> Option<u16> {
    [
        "parsing http ",
        "http status: ",
        "status code ",
        "http status ",
    ]
    .iter()
    .find_map(|before| {
        let (_, after) = lower.split_once(before)?;
        after.get(..3)?.parse().ok()
    })
    .filter(|status| (100..600).contains(status))
}

pub(super) fn not_a_reference(reference: &str) -> Error {
    let fault = ImageReference::parse(reference).err();
    Error::new(
        ErrorKind::ImageNotFound,
        fault.map_or_else(
            || format!("invalid image reference `{reference}`: expected NAME:TAG or NAME@DIGEST"),
            |fault| fault.to_string(),
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: Option<u16>, text: &str) -> ErrorKind {
        let message = text.to_owned();
        let call_error = match status {
            Some(status) => CallError::Answered { status, message },
            None => CallError::InStream(message),
        };
        let error = not_pulled("team/image:1", &call_error);
        assert!(error.message.contains("team/image:1"), "{error}");
        error.kind
    }

    #[test]
    fn reasons_for_a_failed_pull_are_distinguished() {
        let missing = "manifest for team/image:1 not found: manifest unknown: manifest unknown";
        assert_eq!(kind(Some(404), missing), ErrorKind::ImageNotFound);
        let denied = "pull access denied for team/image, repository does not exist or may require \
                      'docker login': denied: requested access to the resource is denied";
        assert_eq!(kind(Some(404), denied), ErrorKind::ImageNotFound);
        let login = "Get https://registry.example/v2/: unauthorized: authentication required";
        assert_eq!(kind(Some(500), login), ErrorKind::ImageNotFound);
        let disorder = "received unexpected HTTP status: 503 Service Unavailable";
        assert_eq!(kind(Some(500), disorder), ErrorKind::ImagePull);
        let network = "Get \"https://registry.example/v2/\": dial tcp: lookup registry.example: \
                       no such host";
        assert_eq!(kind(Some(500), network), ErrorKind::ImagePull);
        let limit = "toomanyrequests: You have reached your pull rate limit";
        assert_eq!(kind(None, limit), ErrorKind::ImagePull);
        let disk = "write /var/lib/docker/tmp/x: no space left on device";
        assert_eq!(kind(None, disk), ErrorKind::Storage);
    }

    #[test]
    fn class_14_what_a_registry_sent_is_not_repeated() {
        let said = "error parsing HTTP 404 response body: invalid character '<' looking for beginning of \
                    value: \"<html>internal admin page: canary-7f3a</html>\"";
        for status in [None, Some(500)] {
            let message = said.to_owned();
            let call_error = match status {
                Some(status) => CallError::Answered { status, message },
                None => CallError::InStream(message),
            };
            let error = not_pulled("10.0.0.1/admin:latest", &call_error);
            assert_eq!(
                error.message,
                "image `10.0.0.1/admin:latest` could not be pulled from its registry: its registry answered with \
                 HTTP status 404"
            );
        }
        let odd = CallError::InStream("canary-7f3a".to_owned());
        let error = not_pulled("example.com/x:1", &odd);
        assert!(!error.message.contains("canary"), "{error}");
    }
}
