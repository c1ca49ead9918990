//! The scope that shares the results of builds: images, steps, caches.
//!
//! A step may print, fetch or make something else each time, and behave otherwise under the limits of another stage.
//! The first to run it influences what is built from it, and a stage with a branch's secrets may run that. So each
//! branch of a repo has a scope of its own, and so has each checkout whose files are run by hand.
//!
//! 1. BuildKit separates scopes by a name that each step and each cache knows.
//! 2. The classic builder has one cache for all of Docker, unless it gets a list of images to take steps from
//!    (`cachefrom`): then it takes none from others. The list has the scope's own images. A label marks an image as
//!    one of the scope, but a Dockerfile, a base image and a pulled image may have this label as well. So only images
//!    with a tag of [`REPOSITORY`] count: only the orchestrator sets such a tag, and the builder sets our labels
//!    after all others. The steps of a Dockerfile's earlier stages belong to no such image, and run in each build.

use sha2::{Digest, Sha256};

use super::super::Engine;
use super::super::labels;
use super::REPOSITORY;
use crate::contract::ImageRequest;
use crate::error::{Error, ErrorKind};

/// The images that steps are taken from at most, the newest first. Docker looks through all of them for each step.
const SOURCES: usize = 32;

/// A tag that no image has, as the tags of built images are made of hashes. With it Docker takes no steps; with an
/// empty list it would take them from any image.
const NONE: &str = "none";

/// The scope of a build: builds of one scope share their results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BuildScope(pub(super) String);

impl BuildScope {
    /// The tag of an image built from this content.
    pub(super) fn tag(&self, content: &str) -> String {
        let mut hasher = Sha256::new();
        hasher.update(content.as_bytes());
        hasher.update(&self.0);
        format!("{REPOSITORY}:{}", hex::encode(hasher.finalize()))
    }
}

impl Engine {
    pub(super) fn scope(&self, request: &ImageRequest) -> BuildScope {
        let mut hasher = Sha256::new();
        match request.repo {
            Some(repo) => {
                hasher.update(self.config.instance.0.as_bytes());
                hasher.update(repo.0.as_bytes());
                hasher.update([u8::from(request.branch.is_some())]);
                hasher.update(request.branch.as_deref().unwrap_or_default());
            }
            // Each run by hand has an instance of its own.
            None => {
                let checkout = self.config.checkout.as_deref();
                hasher.update(
                    checkout
                        .map(|path| path.as_os_str().as_encoded_bytes())
                        .unwrap_or_default(),
                );
            }
        }
        BuildScope(format!(
            "trainyard-{}",
            &hex::encode(hasher.finalize())[..32]
        ))
    }

    /// The parameters that restrict the classic builder to the steps of a scope.
    pub(super) async fn own_steps(
        &self,
        scope: &BuildScope,
    ) -> Result<(&'static str, String), Error> {
        let filters = serde_json::json!({
            "label": [format!("{}={}", labels::BUILD_SCOPE, scope.0)],
            "reference": [REPOSITORY],
            "dangling": ["false"],
        });
        let found = self.list_images(&filters).await?;
        let mut sources: Vec<String> = found
            .into_iter()
            .rev()
            .map(|image| image.id)
            .take(SOURCES)
            .collect();
        if sources.is_empty() {
            sources.push(format!("{REPOSITORY}:{NONE}"));
        }
        Ok(("cachefrom", serde_json::json!(sources).to_string()))
    }

    /// The parameters for BuildKit. Docker's API passes it no limits but that of `/dev/shm`, and no network but
    /// Docker's default one and none at all.
    pub(super) fn buildkit_query(
        &self,
        request: &ImageRequest,
        scope: &BuildScope,
    ) -> Result<Vec<(&'static str, String)>, Error> {
        let network = match self.config.network.as_deref() {
            _ if self.config.internal => "none",
            None | Some("bridge" | "default") => "default",
            Some("none") => "none",
            Some(name) => {
                let message = format!(
                    "the Dockerfile needs BuildKit, whose builds cannot be in the network `{name}` that \
                     docker.network names"
                );
                return Err(Error::new(ErrorKind::ImageBuild, message));
            }
        };
        let mut query = vec![
            ("version", "2".to_owned()),
            ("networkmode", network.to_owned()),
            // BuildKit takes two steps for the same that differ in their caches only. A host name that the step knows
            // makes them differ.
            ("extrahosts", format!("{}:127.0.0.1", scope.0)),
        ];
        query.extend(request.limits.shm.map(|shm| ("shmsize", shm.to_string())));
        Ok(query)
    }
}
