//! Making images ready by reference: looking for them, fetching them, and saying why not.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::Docker as Client;
use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use trainyard_core::image::{ImageReference, RegistryFault, is_id};
use trainyard_core::stage::PullPolicy;
use trainyard_failpoint::{Effect as _, Flow as _, Point};

use super::connect::DockerConfig;
use super::create::image_gone;
use super::errors::{SHORT, Trouble, is_disk_full, within};
use crate::contract::{Error, ErrorKind, PreparedImage};
use crate::spec::AttemptSpec;

/// Images remembered at most; more than a daemon uses at a time.
const REMEMBERED: usize = 4096;

/// How long what a look said is taken to hold: stages of one run that begin together ask once. Between
/// any look and the use of the image it can go all the same, and the use tells.
const HOLDS: Duration = Duration::from_secs(1);

/// What is known of images that were made ready.
#[derive(Debug)]
pub(super) struct Images {
    known: Mutex<Known>,
    /// Whoever made an image decides how long its description is.
    answers: Client,
}

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
    /// What it runs in builds that start from it.
    on_build: Vec<String>,
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
            on_build: config
                .and_then(|config| config.on_build.clone())
                .unwrap_or_default(),
        }
    }
}

impl Images {
    pub(super) fn asking(answers: Client) -> Self {
        Self {
            known: Mutex::default(),
            answers,
        }
    }

    /// Whether the image is known to run as root.
    pub(super) fn runs_as_root(&self, id: &str) -> bool {
        let known = self.known();
        known.facts.get(id).is_some_and(|facts| facts.as_root)
    }

    /// What a stage's image runs by itself; empty where the stage says what to run, or nobody does.
    pub(super) async fn command(&self, spec: &AttemptSpec) -> Result<Vec<String>, Error> {
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
        self.look(&spec.image).await?;
        Ok(known(&spec.image).unwrap_or_default())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// What a name stands for is to be looked up again.
    pub(super) fn forget_name(&self, reference: &str) {
        self.known().of_late.remove(reference);
    }

    /// What was seen of an image within the last moment.
    fn seen(&self, reference: &str) -> Option<PreparedImage> {
        let known = self.known();
        let (at, image) = known.of_late.get(reference)?;
        (at.elapsed() < HOLDS).then(|| image.clone())
    }

    /// Looks for an image by a reference or its id; `None` where the engine has none.
    pub(super) async fn look(&self, reference: &str) -> Result<Option<PreparedImage>, Error> {
        let name = Name::read(reference)?;
        match within(
            SHORT,
            self.answers
                .inspect_image(&name.sent())
                .at(Point::InspectImage),
        )
        .await
        {
            // The engine also finds images by what their ids begin with.
            Ok(inspect) if !name.is_of(&inspect) => Ok(None),
            Ok(inspect) => {
                let image = prepared(&name, &inspect);
                bounded(reference, &inspect)?;
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

    /// What an image runs in builds that start from it, as the last look at it said; `None` where that was
    /// long ago.
    pub(super) fn triggers(&self, id: &str) -> Option<Vec<String>> {
        let known = self.known();
        let facts = known.facts.get(id);
        facts.map(|facts| facts.on_build.clone())
    }

    /// Makes the image of an earlier stage ready, as that stage was recorded to have used it.
    pub(super) async fn prepare_used(
        &self,
        client: &Client,
        config: &DockerConfig,
        recorded: &str,
        policy: PullPolicy,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        if let Some(image) = self.look(recorded).await? {
            return Ok(image);
        }
        match ImageReference::parse(recorded) {
            Ok(reference) => {
                let prepared = self.prepare(client, config, &reference, policy, progress);
                prepared.await
            }
            Err(_) => Err(image_gone(recorded)),
        }
    }

    /// Makes an image ready as the policy says.
    pub(super) async fn prepare(
        &self,
        client: &Client,
        config: &DockerConfig,
        image: &ImageReference,
        policy: PullPolicy,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        let allowed = config.registries.allow(image);
        allowed.map_err(|fault| not_allowed(image, &fault))?;
        let reference = &*image.exact();
        let shown = image.to_string();
        match policy {
            PullPolicy::IfMissing => {
                if let Some(image) = self.seen(reference) {
                    return Ok(image);
                }
                if let Some(image) = self.look(reference).await? {
                    return Ok(image);
                }
            }
            PullPolicy::Always => {}
            PullPolicy::Never => {
                let found = self.look(reference).await?;
                return found.ok_or_else(|| {
                    Error::new(
                        ErrorKind::ImageNotFound,
                        format!(
                            "Docker has no image `{shown}`, and `pull: never` does not allow pulling it"
                        ),
                    )
                });
            }
        }
        reachable(config, image).await?;
        progress(format!("pulling {shown}"));
        pull(client, config, image, progress).await?;
        self.look(reference).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::ImagePull,
                format!("image `{shown}` was pulled, but disappeared before it could be used"),
            )
        })
    }
}

async fn pull(
    client: &Client,
    config: &DockerConfig,
    image: &ImageReference,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(), Error> {
    let reference = &image.to_string();
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
            Ok(Some(Err(error))) => return Err(not_pulled(reference, &Trouble::from(error))),
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

/// Why an image could not be fetched, told apart by what the registry or Docker said: neither has codes
/// for it. Their texts are not passed on: Docker's hold the body of the registry's answer, whatever
/// service that was.
pub(super) fn not_pulled(reference: &str, trouble: &Trouble) -> Error {
    let text = trouble.text().trim();
    let lower = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let (kind, message) = if is_disk_full(&lower) {
        let message = format!("image `{reference}` does not fit on the Docker engine's disk");
        (ErrorKind::Storage, message)
    } else if trouble.status() == Some(400) || has(&["invalid reference format"]) {
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
        let message =
            format!("the registry of image `{reference}` does not give it without a login");
        (ErrorKind::ImageNotFound, message)
    } else if has(&["toomanyrequests", "rate limit"]) {
        let message = format!("the registry rate-limited the pull of image `{reference}`");
        (ErrorKind::ImagePull, message)
    } else if trouble.status() == Some(404)
        || has(&["manifest unknown", "not found: manifest", "no such image"])
        || (has(&["manifest for"]) && has(&["not found"]))
    {
        let message = format!("there is no image `{reference}` in its registry");
        (ErrorKind::ImageNotFound, message)
    } else if matches!(trouble, Trouble::Silent(_)) {
        return trouble.clone().into_error("fetch an image");
    } else {
        let cause = cause_of(&lower);
        let message =
            format!("image `{reference}` could not be fetched from its registry: {cause}");
        (ErrorKind::ImagePull, message)
    };
    Error::new(kind, message)
}

/// Words of Docker's about a registry that did not answer well, and ours for them.
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
pub(super) fn cause_of(lower: &str) -> String {
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

/// The status of a registry's answer, as Docker's texts have it in lower case.
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

fn not_a_reference(reference: &str) -> Error {
    let fault = ImageReference::parse(reference).err();
    Error::new(
        ErrorKind::ImageNotFound,
        fault.map_or_else(
            || format!("invalid image reference `{reference}`: expected NAME:TAG or NAME@DIGEST"),
            |fault| fault.to_string(),
        ),
    )
}

pub(super) fn not_allowed(image: &ImageReference, fault: &RegistryFault) -> Error {
    let message = format!(
        "image `{image}` is not pulled: {fault}. The operator can allow registries with the key \
         docker.registries"
    );
    Error::new(ErrorKind::ImageNotFound, message)
}

/// How long the addresses of a registry are looked up.
const LOOKUP: Duration = Duration::from_secs(5);

/// Refuses a registry whose name leads into a private network. Docker looks the name up again: an
/// answer that changes in between is not noticed.
async fn reachable(config: &DockerConfig, image: &ImageReference) -> Result<(), Error> {
    if !config.registries.minds_addresses(image) || image.registry() == "docker.io" {
        return Ok(());
    }
    let registry = image.registry();
    let host = registry.split(':').next().unwrap_or(registry);
    let lookup = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, 443)));
    // What cannot be looked up here is Docker's to say.
    let Ok(Ok(addresses)) = lookup.await else {
        return Ok(());
    };
    let addresses = addresses.map(|address| address.ip());
    let allowed = config.registries.allow_addresses(image, addresses);
    allowed.map_err(|fault| not_allowed(image, &fault))
}

/// What an image is looked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Id(String),
    Reference(ImageReference),
}

impl Name {
    fn read(text: &str) -> Result<Self, Error> {
        if is_id(text) {
            return Ok(Self::Id(text.to_owned()));
        }
        ImageReference::parse(text)
            .map(Self::Reference)
            .map_err(|fault| Error::new(ErrorKind::ImageNotFound, fault.to_string()))
    }

    fn sent(&self) -> String {
        match self {
            Self::Id(id) => id.clone(),
            Self::Reference(reference) => reference.exact(),
        }
    }

    /// Whether an image that the engine found has this name, and not one that begins like it.
    fn is_of(&self, found: &ImageInspect) -> bool {
        let any_is = |names: &Option<Vec<String>>, wanted: &str| {
            let names = names.as_deref().unwrap_or_default();
            names
                .iter()
                .filter_map(|name| ImageReference::parse(name).ok())
                .any(|name| name.exact() == wanted)
        };
        match self {
            Self::Id(id) => found.id.as_ref() == Some(id),
            Self::Reference(reference) if reference.digest().is_some() => {
                any_is(&found.repo_digests, &reference.exact())
            }
            Self::Reference(reference) => any_is(&found.repo_tags, &reference.exact()),
        }
    }
}

/// The most that an image's labels and variables may take, in bytes. Docker copies them into each
/// container's description, and each listing of containers has the labels of all.
const CONFIGURED_AT_MOST: usize = 256 * 1024;

fn bounded(reference: &str, inspect: &ImageInspect) -> Result<(), Error> {
    let Some(config) = &inspect.config else {
        return Ok(());
    };
    let of_list =
        |list: &Option<Vec<String>>| list.iter().flatten().map(String::len).sum::<usize>();
    let labels = config.labels.iter().flatten();
    let size = labels
        .map(|(name, value)| name.len() + value.len())
        .sum::<usize>()
        + of_list(&config.env)
        + of_list(&config.cmd)
        + of_list(&config.entrypoint)
        + of_list(&config.on_build);
    if size <= CONFIGURED_AT_MOST {
        return Ok(());
    }
    let message = format!(
        "image `{reference}` cannot be used: its labels, variables and command take {size} bytes, and may \
         take {CONFIGURED_AT_MOST}"
    );
    Err(Error::new(ErrorKind::Start, message))
}

fn prepared(name: &Name, inspect: &ImageInspect) -> PreparedImage {
    let id = inspect.id.clone().unwrap_or_else(|| name.sent());
    let digests = inspect.repo_digests.as_deref().unwrap_or_default();
    let is_same = |digest: &str| match (name, ImageReference::parse(digest)) {
        (Name::Reference(wanted), Ok(digest)) => digest.name() == wanted.name(),
        _ => false,
    };
    let shown = digests
        .iter()
        .find(|digest| is_same(digest))
        .or_else(|| digests.first())
        .cloned()
        .unwrap_or_else(|| id.clone());
    PreparedImage { id, shown }
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
    fn class_14_what_a_registry_sent_is_not_repeated() {
        let said = "error parsing HTTP 404 response body: invalid character '<' looking for beginning of \
                    value: \"<html>internal admin page: canary-7f3a</html>\"";
        for status in [None, Some(500)] {
            let message = said.to_owned();
            let trouble = match status {
                Some(status) => Trouble::Answered { status, message },
                None => Trouble::InStream(message),
            };
            let error = not_pulled("10.0.0.1/admin:latest", &trouble);
            assert_eq!(
                error.message,
                "image `10.0.0.1/admin:latest` could not be fetched from its registry: its registry answered with \
                 HTTP status 404"
            );
        }
        let odd = Trouble::InStream("canary-7f3a".to_owned());
        let error = not_pulled("example.com/x:1", &odd);
        assert!(!error.message.contains("canary"), "{error}");
    }

    #[test]
    fn class_17_an_image_found_by_the_beginning_of_its_id_is_not_the_one_meant() {
        let found = ImageInspect {
            id: Some(format!("sha256:10be{}", "0".repeat(60))),
            repo_tags: Some(vec!["alpine:3".to_owned()]),
            repo_digests: Some(vec![format!("alpine@sha256:{}", "a".repeat(64))]),
            ..ImageInspect::default()
        };
        let is_of = |text: &str| Name::read(text).unwrap().is_of(&found);
        assert!(is_of("alpine:3") && is_of("docker.io/library/alpine:3"));
        assert!(is_of(&format!("alpine@sha256:{}", "a".repeat(64))));
        assert!(is_of(&format!("sha256:10be{}", "0".repeat(60))));
        for text in ["10be:latest", "alpine:10be", "alpine:3.1", "other:3"] {
            assert!(!is_of(text), "{text}");
        }
        for text in ["10be", "sha256:10be", "../version?x="] {
            assert_eq!(Name::read(text).unwrap_err().kind, ErrorKind::ImageNotFound);
        }
    }

    #[test]
    fn an_image_with_huge_labels_is_refused() {
        let labels = [("x".to_owned(), "y".repeat(CONFIGURED_AT_MOST))].into();
        let config = bollard::models::ImageConfig {
            labels: Some(labels),
            ..Default::default()
        };
        let inspect = ImageInspect {
            config: Some(config),
            ..ImageInspect::default()
        };
        assert!(bounded("x:1", &inspect).is_err());
        assert_eq!(bounded("x:1", &ImageInspect::default()), Ok(()));
    }

    #[test]
    fn an_image_is_shown_by_its_own_digest() {
        let digest = |name: &str, digit: &str| format!("{name}@sha256:{}", digit.repeat(64));
        let inspect = ImageInspect {
            id: Some("sha256:id".to_owned()),
            repo_digests: Some(vec![digest("other", "1"), digest("team/image", "2")]),
            ..ImageInspect::default()
        };
        let name = Name::read("team/image:1").unwrap();
        assert_eq!(prepared(&name, &inspect).shown, digest("team/image", "2"));
        let local = ImageInspect {
            id: Some("sha256:id".to_owned()),
            ..ImageInspect::default()
        };
        assert_eq!(prepared(&name, &local).shown, "sha256:id");
    }
}
