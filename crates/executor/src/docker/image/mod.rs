//! Makes images ready by reference: finds them in Docker, pulls them, and reports why not.

mod name;
mod pull;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::Docker as Client;
use bollard::models::ImageInspect;
use trainyard_core::image::{ImageReference, RegistryFault};
use trainyard_core::stage::PullPolicy;
use trainyard_failpoint::{AtPoint as _, Point};

pub(super) use self::pull::cause_of;

use self::name::{Name, bounded, prepared, too_large};
use self::pull::{not_a_reference, pull};
use super::answers::TOO_LONG;
use super::connect::DockerConfig;
use super::create::image_gone;
use super::errors::{SHORT, within};
use crate::contract::PreparedImage;
use crate::error::{Error, ErrorKind};
use crate::spec::AttemptSpec;

/// Images remembered at most; more than a daemon uses at a time.
const REMEMBERED: usize = 4096;

/// How long an inspection is taken to hold: stages of one run that begin together inspect an image once. The image
/// can be removed between any inspection and its use all the same; the use fails then.
const HOLDS: Duration = Duration::from_secs(1);

/// A cache of images that were made ready.
#[derive(Debug)]
pub(super) struct Images {
    cache: Mutex<CachedImages>,
    /// A client with bounded answers, as an image's author decides how long its description is.
    answers: Client,
}

#[derive(Debug, Default)]
struct CachedImages {
    /// The relevant part of their configuration, by id.
    facts: HashMap<String, Facts>,
    /// Recent inspections, by reference.
    of_late: HashMap<String, (Instant, PreparedImage)>,
}

/// The part of an image's configuration that says how to run it.
#[derive(Debug, Clone)]
struct Facts {
    /// Its entry point and command, joined.
    command: Vec<String>,
    /// The triggers that it runs in builds that start from it.
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

/// What an image takes on Docker's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extent {
    /// With the layers that it shares with other images.
    pub(super) size: u64,
    /// The hashes of its layers, from the lowest on.
    pub(super) layers: Vec<String>,
}

impl Images {
    pub(super) fn asking(answers: Client) -> Self {
        Self {
            cache: Mutex::default(),
            answers,
        }
    }

    /// The command that a stage's image runs by itself; empty if the stage has a command, or the image has none.
    pub(super) async fn command(&self, spec: &AttemptSpec) -> Result<Vec<String>, Error> {
        if spec.command.is_some() {
            return Ok(Vec::new());
        }
        let known = |id: &str| {
            self.cache()
                .facts
                .get(id)
                .map(|facts| facts.command.clone())
        };
        if let Some(command) = known(&spec.image) {
            return Ok(command);
        }
        self.inspect(&spec.image).await?;
        Ok(known(&spec.image).unwrap_or_default())
    }

    fn cache(&self) -> MutexGuard<'_, CachedImages> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, reference: &str, image: &PreparedImage, inspect: &ImageInspect) {
        let mut cache = self.cache();
        if cache.facts.len() >= REMEMBERED {
            cache.facts.clear();
        }
        cache.facts.insert(image.id.clone(), Facts::of(inspect));
        cache.of_late.retain(|_, (at, _)| at.elapsed() < HOLDS);
        let of_late = (Instant::now(), image.clone());
        cache.of_late.insert(reference.to_owned(), of_late);
    }

    /// Forgets an image that no longer exists.
    pub(super) fn forget(&self, id: &str) {
        self.cache().of_late.retain(|_, (_, image)| image.id != id);
    }

    /// Forgets which image a name stands for, so that Docker is asked again.
    pub(super) fn forget_name(&self, reference: &str) {
        self.cache().of_late.remove(reference);
    }

    /// A recent inspection of an image.
    fn seen(&self, reference: &str) -> Option<PreparedImage> {
        let cache = self.cache();
        let (at, image) = cache.of_late.get(reference)?;
        (at.elapsed() < HOLDS).then(|| image.clone())
    }

    /// Inspects an image by a reference or its id; `None` where Docker has none.
    pub(super) async fn inspect(&self, reference: &str) -> Result<Option<PreparedImage>, Error> {
        let name = Name::read(reference)?;
        match within(
            SHORT,
            self.answers
                .inspect_image(&name.sent())
                .at(Point::InspectImage),
        )
        .await
        {
            // Docker also finds images by the beginnings of their ids.
            Ok(inspect) if !name.is_of(&inspect) => Ok(None),
            Ok(inspect) => {
                let image = prepared(&name, &inspect);
                bounded(reference, &inspect)?;
                self.remember(reference, &image, &inspect);
                Ok(Some(image))
            }
            Err(call_error) if call_error.text().contains(TOO_LONG) => Err(too_large(reference)),
            Err(call_error) => match call_error.status() {
                Some(404) => Ok(None),
                Some(400) => Err(not_a_reference(reference)),
                _ => Err(call_error.into_error("look for an image")),
            },
        }
    }

    /// What an image takes on Docker's disk; `None` where Docker has no such image.
    pub(super) async fn extent(&self, reference: &str) -> Result<Option<Extent>, Error> {
        let name = Name::read(reference)?.sent();
        let asked = self.answers.inspect_image(&name);
        match within(SHORT, asked.at(Point::InspectImage)).await {
            Ok(inspect) => Ok(Some(Extent {
                size: inspect
                    .size
                    .and_then(|size| u64::try_from(size).ok())
                    .unwrap_or_default(),
                layers: inspect
                    .root_fs
                    .and_then(|root| root.layers)
                    .unwrap_or_default(),
            })),
            Err(call_error) if call_error.status() == Some(404) => Ok(None),
            Err(call_error) => Err(call_error.into_error("measure an image")),
        }
    }

    /// The triggers that an image runs in builds that start from it, from its last inspection; `None` where that was
    /// long ago.
    pub(super) fn triggers(&self, id: &str) -> Option<Vec<String>> {
        let cache = self.cache();
        let facts = cache.facts.get(id);
        facts.map(|facts| facts.on_build.clone())
    }

    /// Makes the image of an earlier stage ready, as recorded when that stage used it.
    pub(super) async fn prepare_used(
        &self,
        config: &DockerConfig,
        recorded: &str,
        policy: PullPolicy,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        if let Some(image) = self.inspect(recorded).await? {
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
                if let Some(image) = self.inspect(reference).await? {
                    return Ok(image);
                }
            }
            PullPolicy::Always => {}
            PullPolicy::Never => {
                let found = self.inspect(reference).await?;
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
        self.inspect(reference).await?.ok_or_else(|| {
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

/// How long the lookup of a registry's addresses may take.
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
    // If the name cannot be resolved here, Docker reports that.
    let Ok(Ok(addresses)) = lookup.await else {
        return Ok(());
    };
    let addresses = addresses.map(|address| address.ip());
    let allowed = config.registries.allow_addresses(image, addresses);
    allowed.map_err(|fault| not_allowed(image, &fault))
}
