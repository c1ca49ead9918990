//! Making images ready by reference: looking for them, fetching them, and saying why not.

mod name;
mod pull;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::Docker as Client;
use bollard::models::ImageInspect;
use trainyard_core::image::{ImageReference, RegistryFault};
use trainyard_core::stage::PullPolicy;
use trainyard_failpoint::{Effect as _, Point};

pub(super) use self::pull::cause_of;

use self::name::{Name, bounded, prepared, too_large};
use self::pull::{not_a_reference, pull};
use super::answers::TOO_LONG;
use super::connect::DockerConfig;
use super::create::image_gone;
use super::errors::{SHORT, within};
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
    /// Its entry point and command, one behind the other.
    command: Vec<String>,
    /// What it runs in builds that start from it.
    on_build: Vec<String>,
}

impl Facts {
    fn of(inspect: &ImageInspect) -> Self {
        let config = inspect.config.as_ref();
        let lists = config.map(|config| [&config.entrypoint, &config.cmd]);
        let lists = lists.into_iter().flatten();
        Self {
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

    /// Looks for an image by a reference or its id; `None` where Docker has none.
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
            // Docker also finds images by what their ids begin with.
            Ok(inspect) if !name.is_of(&inspect) => Ok(None),
            Ok(inspect) => {
                let image = prepared(&name, &inspect);
                bounded(reference, &inspect)?;
                self.remember(reference, &image, &inspect);
                Ok(Some(image))
            }
            Err(trouble) if trouble.text().contains(TOO_LONG) => Err(too_large(reference)),
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
                let prepared = self.prepare(config, &reference, policy, progress);
                prepared.await
            }
            Err(_) => Err(image_gone(recorded)),
        }
    }

    /// Makes an image ready as the policy says.
    pub(super) async fn prepare(
        &self,
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
        pull(config, image, progress).await?;
        self.look(reference).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::ImagePull,
                format!("image `{shown}` was pulled, but disappeared before it could be used"),
            )
        })
    }
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
