//! Bounds how much a build adds to Docker's disk, as a stage's container is bounded.
//!
//! 1. A step of the classic builder runs in a container, which is measured while it runs, with the layers that the
//!    steps before it have left. Docker's API does not say which container belongs to which build. A host name that
//!    the build's containers are given does, and nothing in a Dockerfile can give it to another one.
//! 2. No API shows the steps of BuildKit, and a step of the classic builder may be over before it is measured. So the
//!    image is measured once it is built, and removed if it is too large.
//!
//! An image's layers count as far as none of its base images has them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveImageOptionsBuilder};
use tracing::{debug, warn};
use trainyard_core::image::ImageReference;
use trainyard_core::measure::in_units;
use trainyard_failpoint::{AtPoint as _, Point};

use super::super::Engine;
use super::super::errors::{LONG, SHORT, within};
use super::super::image::Extent;
use super::super::status;
use super::super::written::written;
use crate::error::{Error, ErrorKind};

/// The shortest time between two measurements of one build.
const EVERY: Duration = Duration::from_secs(10);

/// The share of the time in which it is measured: at most one part in this many.
const PART: u32 = 20;

/// One build of the classic builder, as its containers show it.
pub(super) struct BuildMark(String);

impl BuildMark {
    /// The mark of the build of an image with this tag.
    pub(super) fn of(tag: &str) -> Self {
        let unique = tag.rsplit(':').next().unwrap_or_default();
        Self(format!(
            "trainyard-build-{}",
            unique.get(..32).unwrap_or(unique)
        ))
    }

    /// The host name, as the parameter of the build and as in a container's description.
    pub(super) fn host(&self) -> String {
        format!("{}:127.0.0.1", self.0)
    }
}

impl Engine {
    /// Waits until the running step of a build has to be ended for what it and the steps before it have written.
    pub(super) async fn until_too_large(
        &self,
        mark: &BuildMark,
        bases: &[(ImageReference, String)],
    ) -> Error {
        let Some(limit) = self.config.build_layers else {
            return std::future::pending().await;
        };
        let mut pause = EVERY;
        loop {
            tokio::time::sleep(pause).await;
            let begun = Instant::now();
            match self.size_of_step(mark, bases).await {
                Ok(size) if size > limit => {
                    return too_large("its steps have written", size, limit);
                }
                Ok(_) => {}
                Err(error) => debug!(%error, "the size of a build is not known"),
            }
            pause = EVERY.max(begun.elapsed() * PART);
        }
    }

    /// What the running step of a build has written, with the layers of the steps before it; 0 where none runs.
    async fn size_of_step(
        &self,
        mark: &BuildMark,
        bases: &[(ImageReference, String)],
    ) -> Result<u64, Error> {
        let filters = HashMap::from([("status".to_owned(), vec!["running".to_owned()])]);
        let options = ListContainersOptionsBuilder::default().filters(&filters);
        let listed = self
            .client
            .list_containers(Some(options.build()))
            .at(Point::ListContainers);
        let listed = within(SHORT, listed)
            .await
            .map_err(|call_error| call_error.into_error("list containers"))?;
        for id in listed.into_iter().filter_map(|container| container.id) {
            let Some(found) = status::inspect(&self.client, &id).await? else {
                continue;
            };
            let hosts = found.host_config.and_then(|config| config.extra_hosts);
            if !hosts.iter().flatten().any(|host| *host == mark.host()) {
                continue;
            }
            let before = match found.image {
                Some(image) => self.added(&image, bases).await?,
                None => 0,
            };
            let own = written(&self.client, &id).await?;
            return Ok(before.saturating_add(own.unwrap_or_default()));
        }
        Ok(0)
    }

    /// Removes an image that was built and is too large.
    pub(super) async fn recheck_size(
        &self,
        built: &str,
        bases: &[(ImageReference, String)],
    ) -> Result<(), Error> {
        let Some(limit) = self.config.build_layers else {
            return Ok(());
        };
        let size = self.added(built, bases).await?;
        if size <= limit {
            return Ok(());
        }
        self.discard(built).await;
        Err(too_large("the layers of its steps take", size, limit))
    }

    /// Removes an image that was built and must not be used.
    pub(super) async fn discard(&self, built: &str) {
        self.images.forget_name(built);
        let options = RemoveImageOptionsBuilder::default().build();
        let removed = self
            .client
            .remove_image(built, Some(options), None)
            .at(Point::RemoveImage);
        if let Err(call_error) = within(LONG, removed).await {
            warn!(
                error = call_error.text(),
                image = built,
                "could not remove an image that must not be used"
            );
        }
    }

    /// How many bytes an image adds to its base images.
    async fn added(&self, image: &str, bases: &[(ImageReference, String)]) -> Result<u64, Error> {
        let Some(whole) = self.images.extent(image).await? else {
            return Ok(0);
        };
        let mut below = Vec::new();
        for (_, id) in bases {
            below.extend(self.images.extent(id).await?);
        }
        Ok(whole.beyond(&below))
    }
}

impl Extent {
    /// The bytes of this image that are in none of the images it may be built on.
    fn beyond(&self, bases: &[Self]) -> u64 {
        let is_below = |base: &&Self| self.layers.starts_with(&base.layers);
        let below = bases.iter().filter(is_below).map(|base| base.size).max();
        self.size.saturating_sub(below.unwrap_or_default())
    }
}

fn too_large(what: &str, size: u64, limit: u64) -> Error {
    let message = format!(
        "the image could not be built: {what} {} on Docker's disk, and may take {} (limits.layer)",
        in_units(size),
        in_units(limit)
    );
    Error::new(ErrorKind::ImageBuild, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_counts_as_far_as_its_base_images_do_not_have_it() {
        let extent = |size, layers: &[&str]| Extent {
            size,
            layers: layers.iter().map(|layer| (*layer).to_owned()).collect(),
        };
        let image = extent(100, &["a", "b", "c"]);
        let bases = [
            extent(20, &["a"]),
            extent(30, &["a", "b"]),
            extent(90, &["x"]),
        ];
        assert_eq!(image.beyond(&bases), 70);
        assert_eq!(image.beyond(&[]), 100, "from scratch");
        assert_eq!(image.beyond(std::slice::from_ref(&image)), 0);
    }
}
