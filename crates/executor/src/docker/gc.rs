//! Giving back the disk that built images take.

use std::collections::{BTreeSet, HashMap};

use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptionsBuilder};
use chrono::DateTime;
use trainyard_core::Timestamp;
use trainyard_failpoint::{Effect as _, Point};

use super::Engine;
use super::errors::{LONG, within};
use super::init;
use super::labels;
use crate::contract::Error;

/// An image that was built for stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildImage {
    /// The engine's id.
    pub id: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was built.
    pub created: Timestamp,
    /// Bytes it takes, those that it shares with other images included.
    pub size: u64,
}

impl Engine {
    /// Images that this installation built, oldest first.
    pub(super) async fn build_images(&self) -> Result<Vec<BuildImage>, Error> {
        let label = format!("{}={}", labels::BUILD_INSTANCE, self.config.instance);
        let filters = HashMap::from([
            ("label".to_owned(), vec![label]),
            // What a build leaves on its way has the same labels and no tag.
            ("dangling".to_owned(), vec!["false".to_owned()]),
        ]);
        let options = ListImagesOptionsBuilder::default()
            .filters(&filters)
            .build();
        let listed = within(
            LONG,
            self.client.list_images(Some(options)).at(Point::ListImages),
        )
        .await
        .map_err(|trouble| trouble.into_error("list images"))?;
        let mut images: Vec<BuildImage> = listed
            .into_iter()
            .map(|image| BuildImage {
                id: image.id,
                tags: image.repo_tags,
                created: DateTime::from_timestamp(image.created, 0).unwrap_or_default(),
                size: u64::try_from(image.size).unwrap_or_default(),
            })
            .collect();
        images.sort_by_key(|image| image.created);
        Ok(images)
    }

    /// Removes those built before `before` that are not `wanted` and that no container uses; returns
    /// what was removed.
    pub(super) async fn remove_build_images(
        &self,
        before: Timestamp,
        wanted: &BTreeSet<String>,
    ) -> Result<Vec<BuildImage>, Error> {
        init::remove_old(&self.client, &self.config.init_volume, before).await?;
        self.remove_idle_networks().await?;
        let mut removed = Vec::new();
        for image in self.build_images().await? {
            if image.created >= before || wanted.contains(&image.id) {
                continue;
            }
            let mut gone = true;
            for tag in &image.tags {
                let options = RemoveImageOptionsBuilder::default().build();
                match within(
                    LONG,
                    self.client
                        .remove_image(tag, Some(options), None)
                        .at(Point::RemoveImage),
                )
                .await
                {
                    Ok(_) => {}
                    Err(trouble) => match trouble.status() {
                        Some(404) => {}
                        // A container uses it.
                        Some(409) => gone = false,
                        _ => return Err(trouble.into_error("remove an image")),
                    },
                }
            }
            if gone {
                removed.push(image);
            }
        }
        Ok(removed)
    }
}
