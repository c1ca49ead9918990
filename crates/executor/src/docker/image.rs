//! Making images ready by reference: looking for them, fetching them, and saying why not.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::Docker as Client;
use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use trainyard_core::stage::PullPolicy;
use trainyard_failpoint::{Effect as _, Flow as _, Point};

use super::connect::DockerConfig;
use super::errors::{SHORT, Trouble, is_disk_full, within};
use crate::contract::{Error, ErrorKind, PreparedImage};
use crate::spec::AttemptSpec;

/// Images remembered at most; more than a daemon uses at a time.
const REMEMBERED: usize = 4096;

/// How long what a look said is taken to hold: stages of one run that begin together ask once. Between
/// any look and the use of the image it can go all the same, and the use tells.
const HOLDS: Duration = Duration::from_secs(1);

/// What is known of images that were made ready.
#[derive(Debug, Default)]
pub(super) struct Images(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What their configuration says, by id.
    facts: HashMap<String, Facts>,
    /// What a look of late said, by reference.
    of_late: HashMap<String, (Instant, PreparedImage)>,
}

/// What an image's configuration says of how it is run.
#[derive(Debug, Clone)]
struct Facts {
    as_root: bool,
    /// Its entry point and command, one behind the other.
    command: Vec<String>,
}

impl Facts {
    fn of(inspect: &ImageInspect) -> Self {
        let config = inspect.config.as_ref();
        let user = config
            .and_then(|config| config.user.as_deref())
            .unwrap_or_default();
        let name = user.split(':').next().unwrap_or_default();
        let lists = config.map(|config| [&config.entrypoint, &config.cmd]);
        let lists = lists.into_iter().flatten();
        Self {
            as_root: matches!(name, "" | "root" | "0"),
            command: lists.flatten().flatten().cloned().collect(),
        }
    }
}

impl Images {
    /// Whether the image is known to run as root.
    pub(super) fn runs_as_root(&self, id: &str) -> bool {
        let known = self.known();
        known.facts.get(id).is_some_and(|facts| facts.as_root)
    }

    /// What a stage's image runs by itself; empty where the stage says what to run, or nobody does.
    pub(super) async fn command(
        &self,
        client: &Client,
        spec: &AttemptSpec,
    ) -> Result<Vec<String>, Error> {
        if spec.command.is_some() {
            return Ok(Vec::new());
        }
        let known = |id: &str| {
            self.known()
                .facts
                .get(id)
                .map(|facts| facts.command.clone())
        };
        if let Some(command) = known(&spec.image) {
            return Ok(command);
        }
        self.look(client, &spec.image).await?;
        Ok(known(&spec.image).unwrap_or_default())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, reference: &str, image: &PreparedImage, inspect: &ImageInspect) {
        let mut known = self.known();
        if known.facts.len() >= REMEMBERED {
            known.facts.clear();
        }
        known.facts.insert(image.id.clone(), Facts::of(inspect));
        known.of_late.retain(|_, (at, _)| at.elapsed() < HOLDS);
        let of_late = (Instant::now(), image.clone());
        known.of_late.insert(reference.to_owned(), of_late);
    }

    /// An image turned out to be gone.
    pub(super) fn forget(&self, id: &str) {
        self.known().of_late.retain(|_, (_, image)| image.id != id);
    }

    /// What was seen of an image within the last moment.
    fn seen(&self, reference: &str) -> Option<PreparedImage> {
        let known = self.known();
        let (at, image) = known.of_late.get(reference)?;
        (at.elapsed() < HOLDS).then(|| image.clone())
    }

    /// Looks for an image; `None` where the engine has none.
    pub(super) async fn look(
        &self,
        client: &Client,
        reference: &str,
    ) -> Result<Option<PreparedImage>, Error> {
        match within(
            SHORT,
            client.inspect_image(reference).at(Point::InspectImage),
        )
        .await
        {
            Ok(inspect) => {
                let image = prepared(reference, &inspect);
                self.remember(reference, &image, &inspect);
                Ok(Some(image))
            }
            Err(trouble) => match trouble.status() {
                Some(404) => Ok(None),
                Some(400) => Err(not_a_reference(reference)),
                _ => Err(trouble.into_error("look for an image")),
            },
        }
    }

    /// Makes an image ready as the policy says.
    pub(super) async fn prepare(
        &self,
        client: &Client,
        config: &DockerConfig,
        reference: &str,
        policy: PullPolicy,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        match policy {
            PullPolicy::IfMissing => {
                if let Some(image) = self.seen(reference) {
                    return Ok(image);
                }
                if let Some(image) = self.look(client, reference).await? {
                    return Ok(image);
                }
            }
            PullPolicy::Always => {}
            PullPolicy::Never => {
                let found = self.look(client, reference).await?;
                return found.ok_or_else(|| {
                    Error::new(
                        ErrorKind::ImageNotFound,
                        format!(
                            "the Docker engine has no image `{reference}`, \
                             and `pull: never` forbids to fetch it"
                        ),
                    )
                });
            }
        }
        progress(format!("pulling {reference}"));
        pull(client, config, reference, progress).await?;
        self.look(client, reference).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::ImagePull,
                format!("image `{reference}` was fetched and is gone again"),
            )
        })
    }
}

async fn pull(
    client: &Client,
    config: &DockerConfig,
    reference: &str,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(), Error> {
    // Without a tag the engine would fetch all of them.
    let mut options = CreateImageOptionsBuilder::default().from_image(reference);
    if !has_tag(reference) {
        options = options.tag("latest");
    }
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
            Ok(Some(Err(error))) => return Err(not_pulled(reference, &Trouble::from(error))),
            Err(_) => {
                let idle = config.pull_idle.as_secs();
                return Err(Error::new(
                    ErrorKind::ImagePull,
                    format!("fetching image `{reference}` made no progress for {idle} s"),
                ));
            }
        }
    }
}

/// A line for people; the bytes that come in between are no news.
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

/// Why an image could not be fetched, told apart by what the registry or the engine said: neither
/// has codes for it.
pub(super) fn not_pulled(reference: &str, trouble: &Trouble) -> Error {
    let text = trouble.text().trim();
    let lower = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let (kind, message) = if is_disk_full(&lower) {
        let message =
            format!("image `{reference}` does not fit on the Docker engine's disk: {text}");
        (ErrorKind::Storage, message)
    } else if trouble.status() == Some(400) || has(&["invalid reference format"]) {
        return not_a_reference(reference);
    } else if has(&["repository does not exist"]) {
        let message = format!(
            "there is no image `{reference}`, or its registry wants a login for it: {text}"
        );
        (ErrorKind::ImageNotFound, message)
    } else if has(&[
        "unauthorized",
        "authentication required",
        "no basic auth",
        "denied",
    ]) {
        let message =
            format!("the registry of image `{reference}` does not give it without a login: {text}");
        (ErrorKind::ImageNotFound, message)
    } else if has(&["toomanyrequests", "rate limit"]) {
        let message = format!("the registry of image `{reference}` wants a pause: {text}");
        (ErrorKind::ImagePull, message)
    } else if trouble.status() == Some(404)
        || has(&["manifest unknown", "not found: manifest", "no such image"])
        || (has(&["manifest for"]) && has(&["not found"]))
    {
        (
            ErrorKind::ImageNotFound,
            format!("there is no image `{reference}`: {text}"),
        )
    } else if matches!(trouble, Trouble::Silent(_)) {
        return trouble.clone().into_error("fetch an image");
    } else {
        let message = format!("image `{reference}` could not be fetched from its registry: {text}");
        (ErrorKind::ImagePull, message)
    };
    Error::new(kind, message)
}

fn not_a_reference(reference: &str) -> Error {
    Error::new(
        ErrorKind::ImageNotFound,
        format!("`{reference}` is no image reference; write it as NAME:TAG or NAME@DIGEST"),
    )
}

fn has_tag(reference: &str) -> bool {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    last.contains(':') || last.contains('@')
}

fn prepared(reference: &str, inspect: &ImageInspect) -> PreparedImage {
    let id = inspect.id.clone().unwrap_or_else(|| reference.to_owned());
    let digests = inspect.repo_digests.as_deref().unwrap_or_default();
    let name = name_of(reference);
    let shown = digests
        .iter()
        .find(|digest| name_of(digest) == name)
        .or_else(|| digests.first())
        .cloned()
        .unwrap_or_else(|| id.clone());
    PreparedImage { id, shown }
}

/// A reference without its tag and digest.
fn name_of(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: Option<u16>, text: &str) -> ErrorKind {
        let message = text.to_owned();
        let trouble = match status {
            Some(status) => Trouble::Answered { status, message },
            None => Trouble::InStream(message),
        };
        let error = not_pulled("team/image:1", &trouble);
        assert!(error.message.contains("team/image:1"), "{error}");
        error.kind
    }

    #[test]
    fn reasons_for_a_failed_pull_are_told_apart() {
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
    fn a_port_is_no_tag() {
        assert!(!has_tag("registry:5000/team/image"));
        assert!(has_tag("registry:5000/team/image:1"));
        assert!(has_tag("image@sha256:00"));
        assert_eq!(
            name_of("registry:5000/team/image:1"),
            "registry:5000/team/image"
        );
        assert_eq!(
            name_of("registry:5000/team/image"),
            "registry:5000/team/image"
        );
    }

    #[test]
    fn an_image_is_shown_by_its_own_digest() {
        let inspect = ImageInspect {
            id: Some("sha256:id".to_owned()),
            repo_digests: Some(vec![
                "other@sha256:1".to_owned(),
                "team/image@sha256:2".to_owned(),
            ]),
            ..ImageInspect::default()
        };
        assert_eq!(
            prepared("team/image:1", &inspect).shown,
            "team/image@sha256:2"
        );
        let local = ImageInspect {
            id: Some("sha256:id".to_owned()),
            ..ImageInspect::default()
        };
        assert_eq!(prepared("team/image:1", &local).shown, "sha256:id");
    }
}
