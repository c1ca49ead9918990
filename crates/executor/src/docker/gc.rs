//! Frees the disk space of built images.

use std::collections::BTreeSet;
use std::io::{self, BufReader};
use std::pin::pin;

use bollard::errors::Error as Bollard;
use bollard::query_parameters::RemoveImageOptionsBuilder;
use chrono::DateTime;
use futures_util::StreamExt as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use trainyard_core::Timestamp;
use trainyard_failpoint::{AtPoint as _, Flow as _, Point};

use super::Engine;
use super::answers;
use super::errors::{CallError, LONG, within};
use super::init;
use super::labels;
use crate::contract::BuildImage;
use crate::error::Error;
use crate::pipe;

/// The used part of an image's entry in Docker's list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedImage {
    id: String,
    #[serde(rename = "RepoTags")]
    tags: Option<Vec<String>>,
    created: i64,
    size: i64,
}

impl Engine {
    /// Images that this installation built, oldest first.
    pub(super) async fn build_images(&self) -> Result<Vec<BuildImage>, Error> {
        let filters = serde_json::json!({
            "label": [format!("{}={}", labels::BUILD_INSTANCE, self.config.instance)],
            // Intermediate images of a build have the same labels and no tag.
            "dangling": ["false"],
        });
        self.list_images(&filters).await
    }

    /// The images that match these filters of Docker's, oldest first. Labels are not kept: an image's author
    /// decides how many there are.
    pub(super) async fn list_images(&self, filters: &Value) -> Result<Vec<BuildImage>, Error> {
        let failed = |call_error: CallError| call_error.into_error("list images");
        let version = self.client.client_version();
        let filters = filters.to_string();
        let filters = utf8_percent_encode(&filters, NON_ALPHANUMERIC);
        let path = format!("/v{version}/images/json?filters={filters}");
        let (sender, reader) = pipe::incoming();
        let reading = tokio::task::spawn_blocking(move || {
            serde_json::from_reader::<_, Vec<ListedImage>>(BufReader::new(reader))
        });
        let receiving = async {
            let mut pieces = pin!(answers::get(self.config.host(), &path).at(Point::ListImages));
            while let Some(piece) = pieces.next().await {
                // If the reader found nonsense, it has closed the pipe, and returns the error itself.
                let _ = sender.send(Ok(piece?)).await;
            }
            drop(sender);
            Ok::<_, Bollard>(())
        };
        within(LONG, receiving).await.map_err(failed)?;
        let listed = reading.await.map_err(io::Error::other);
        let listed = listed.and_then(|listed| listed.map_err(io::Error::from));
        let listed = listed.map_err(|error| failed(CallError::Odd(error.to_string())))?;
        let mut images: Vec<BuildImage> = listed
            .into_iter()
            .map(|image| BuildImage {
                id: image.id,
                tags: image.tags.unwrap_or_default(),
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
                    Err(call_error) => match call_error.status() {
                        Some(404) => {}
                        // A container uses it.
                        Some(409) => gone = false,
                        _ => return Err(call_error.into_error("remove an image")),
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
