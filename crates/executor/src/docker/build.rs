//! Building images from a commit's tree, once for the same content.
//!
//! The image's tag is made from its repo and the key of its [`Context`]. Where the engine has the tag, nothing is built;
//! stages that want the same content at the same time wait for one build. The classic builder is
//! used through the engine's API: it is there from 20.10 on, needs no session, and leaves no
//! container behind (`forcerm`).

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bollard::Docker as Client;
use bollard::models::BuildInfo;
use bollard::query_parameters::{BuildImageOptionsBuilder, RemoveImageOptionsBuilder};
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tracing::warn;
use trainyard_core::id::RepoId;
use trainyard_core::image::{BUILT, ImageReference};
use trainyard_core::stage::PullPolicy;

use super::Engine;
use super::context::{Context, GivenUp, Recipe, Wanted};
use super::convert::Bounds;
use super::dockerfile::{self, DockerfileFault};
use super::errors::{LONG, Trouble, is_disk_full, within};
use super::image::{cause_of, not_allowed};
use super::labels;
use crate::contract::{Error, ErrorKind, ImageRequest, PreparedImage};
use crate::pipe;
use trainyard_failpoint::{Effect as _, Flow as _, Point};

/// The repository of the tags of built images.
pub(super) const REPOSITORY: &str = BUILT;

/// Lines of output that a failure carries.
const LAST_LINES: usize = 20;

/// Builds under way, by key: the same content is built once.
#[derive(Debug, Default)]
pub(super) struct Builds(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Builds {
    fn lock(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut builds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        builds.retain(|_, build| build.strong_count() > 0);
        if let Some(build) = builds.get(key).and_then(Weak::upgrade) {
            return build;
        }
        let build = Arc::new(tokio::sync::Mutex::new(()));
        builds.insert(key.to_owned(), Arc::downgrade(&build));
        build
    }
}

impl Engine {
    /// Builds an image, or finds the one that was built from the same content.
    pub(super) async fn build(
        &self,
        recipe: Recipe,
        request: &ImageRequest,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        // Until this call ends, or is given up.
        let wanted = Wanted::default();
        let scanning = {
            let (recipe, given_up) = (recipe.clone(), wanted.given_up());
            tokio::task::spawn_blocking(move || {
                let context = Context::scan(recipe.clone(), given_up.clone())?;
                let text = dockerfile_of(&recipe, &given_up)?;
                let images = dockerfile::read(&text, &recipe.args)
                    .map_err(|fault| unfit(&recipe.dockerfile.to_string(), &fault))?;
                Ok((context, images))
            })
        };
        let (context, images) = scanning
            .await
            .unwrap_or_else(|error| Err(Error::new(ErrorKind::Engine, error.to_string())))?;
        let key = key(request.repo, &context.key);
        let tag = format!("{REPOSITORY}:{key}");
        if let Some(image) = self.images.look(&tag).await? {
            return Ok(image);
        }
        let build = self.builds.lock(&key);
        let _turn = build.lock().await;
        if let Some(image) = self.images.look(&tag).await? {
            return Ok(image);
        }
        let bases = self.prepare_bases(&images, progress).await?;
        let network = self.network(request.repo).await?;
        let bounds = Bounds::of(&request.limits, network);
        progress(format!(
            "building {} in {}",
            recipe.dockerfile, recipe.context
        ));
        let built = self.run_build(context, &recipe, &tag, request.repo, &bounds, progress);
        built.await?;
        self.recheck_bases(&bases, &tag).await?;
        self.images.look(&tag).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::ImageBuild,
                "the build went through, but left no image; is its last stage empty?",
            )
        })
    }

    async fn run_build(
        &self,
        context: Context,
        recipe: &Recipe,
        tag: &str,
        repo: Option<RepoId>,
        bounds: &Bounds,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), Error> {
        let mut labels = HashMap::from([
            (
                labels::BUILD_INSTANCE.to_owned(),
                self.config.instance.to_string(),
            ),
            (labels::BUILD_CONTENT.to_owned(), context.key.clone()),
        ]);
        if let Some(repo) = repo {
            labels.insert(labels::BUILD_REPO.to_owned(), repo.to_string());
        }
        let args: HashMap<String, String> = recipe.args.clone().into_iter().collect();
        let mut options = BuildImageOptionsBuilder::default();
        if let Some(network) = bounds.network() {
            options = options.networkmode(network);
        }
        let options = options
            .dockerfile(recipe.dockerfile.as_str())
            .t(tag)
            .buildargs(&args)
            .target(recipe.target.as_deref().unwrap_or_default())
            .labels(&labels)
            .rm(true)
            .forcerm(true)
            .build();
        let (mut writer, body, _) = pipe::outgoing();
        let writing = tokio::task::spawn_blocking(move || {
            let result = context.write(&mut writer);
            writer.finish(result)
        });
        let mut output = Output::new(progress);
        let body = bollard::body_try_stream(body);
        let client = with_query(&self.client, bounds.query());
        let build = client
            .build_image(options, None, Some(body))
            .at(Point::BuildImage);
        let built = follow(build, self.config.build_idle, &mut output).await;
        let written = writing
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        match (built, written) {
            (Ok(()), _) => Ok(()),
            (Err(_), Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::new(
                ErrorKind::Storage,
                format!("the source tree could not be read from the daemon's disk: {error}"),
            )),
            (Err(trouble), _) => Err(not_built(&trouble, &output)),
        }
    }
}

async fn follow(
    build: impl Stream<Item = Result<BuildInfo, bollard::errors::Error>>,
    idle: Duration,
    output: &mut Output<'_>,
) -> Result<(), Trouble> {
    let mut build = std::pin::pin!(build);
    loop {
        match tokio::time::timeout(idle, build.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(info))) => output.take(&info)?,
            Ok(Some(Err(error))) => return Err(Trouble::from(error)),
            Err(_) => {
                let seconds = idle.as_secs();
                return Err(Trouble::InStream(format!(
                    "nothing was printed for {seconds} s"
                )));
            }
        }
    }
}

/// What a build prints: passed on line by line, the last lines kept.
struct Output<'a> {
    progress: &'a (dyn Fn(String) + Send + Sync),
    last: VecDeque<String>,
}

impl<'a> Output<'a> {
    fn new(progress: &'a (dyn Fn(String) + Send + Sync)) -> Self {
        Self {
            progress,
            last: VecDeque::new(),
        }
    }

    fn take(&mut self, info: &BuildInfo) -> Result<(), Trouble> {
        if let Some(message) = info
            .error_detail
            .as_ref()
            .and_then(|detail| detail.message.clone())
        {
            return Err(Trouble::InStream(message));
        }
        let moving = info
            .progress_detail
            .as_ref()
            .is_some_and(|detail| detail.current.is_some());
        let text = info
            .stream
            .as_deref()
            .or(info.status.as_deref().filter(|_| !moving));
        for line in text.unwrap_or_default().lines() {
            let line = line.trim_end();
            if line.is_empty() {
                continue;
            }
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            self.last.push_back(line.to_owned());
            (self.progress)(line.to_owned());
        }
        Ok(())
    }
}

/// A client that adds to the query of its requests. bollard has sizes of builds as 32 bits, which end at
/// 2 GiB.
fn with_query(client: &Client, query: String) -> Client {
    client.clone().with_request_modifier(move |mut request| {
        let before = request.uri().to_string();
        let separator = if before.contains('?') { '&' } else { '?' };
        // Docker knows nothing at the address of an empty one: no limits, no build.
        *request.uri_mut() = format!("{before}{separator}{query}")
            .parse()
            .unwrap_or_default();
        request
    })
}

/// What an image is known by: its content, and the repo that it belongs to.
fn key(repo: Option<RepoId>, content: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(content.as_bytes());
    if let Some(repo) = repo {
        hasher.update(repo.0.as_bytes());
    }
    hex::encode(hasher.finalize())
}

/// The Dockerfile of a source tree. Blocking.
fn dockerfile_of(recipe: &Recipe, given_up: &GivenUp) -> Result<Vec<u8>, Error> {
    let unreadable = |error: io::Error| {
        Error::new(
            ErrorKind::Storage,
            format!("the source tree could not be read from the daemon's disk: {error}"),
        )
    };
    let unfit = |what: &str| {
        let message = format!("`{}` {what}", recipe.dockerfile);
        Err(Error::new(ErrorKind::ImageBuild, message))
    };
    let mut found = None;
    let mut archive = recipe.open(given_up).map_err(unreadable)?;
    for entry in archive.entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.into_owned();
        if recipe.within(&path).as_deref() != Some(Path::new(recipe.dockerfile.as_str())) {
            continue;
        }
        if !entry.header().entry_type().is_file() {
            return unfit("is not a file; links are not followed for a Dockerfile");
        }
        let mut text = Vec::new();
        let at_most = dockerfile::LARGEST as u64 + 1;
        entry
            .take(at_most)
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        if found.replace(text).is_some() {
            return unfit("is in the source tree twice");
        }
    }
    found.map_or_else(|| unfit("is not in the source tree"), Ok)
}

fn unfit(dockerfile: &str, fault: &DockerfileFault) -> Error {
    Error::new(ErrorKind::ImageBuild, format!("{dockerfile}:{fault}"))
}

impl Engine {
    /// Makes the images that a build takes from outside ready, and reads what they bring into it. Docker
    /// finds them here then, and asks no registry itself.
    async fn prepare_bases(
        &self,
        images: &dockerfile::Images,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Vec<(ImageReference, String)>, Error> {
        let prepare = |image: ImageReference| async move {
            let policy = PullPolicy::IfMissing;
            let prepared = self.images.prepare(&self.config, &image, policy, progress);
            let id = prepared.await?.id;
            Ok::<_, Error>((image, id))
        };
        let mut ready = Vec::new();
        for base in &images.bases {
            // At this moment: what a look a moment ago said may have been of another image.
            self.images.forget_name(&base.image.exact());
            let (image, id) = prepare(base.image.clone()).await?;
            let triggers = self.images.triggers(&id).ok_or_else(|| {
                let message = format!("image `{image}` could not be looked at; it is tried again");
                Error::new(ErrorKind::Engine, message)
            })?;
            let copied = dockerfile::read_triggers(&triggers, base).map_err(|fault| {
                let message = format!(
                    "image `{image}` cannot be built from, for what its ONBUILD says: {}",
                    fault.message
                );
                Error::new(ErrorKind::ImageBuild, message)
            })?;
            ready.push((image, id));
            for image in copied {
                ready.push(prepare(image).await?);
            }
        }
        for image in &images.copied_from {
            ready.push(prepare(image.clone()).await?);
        }
        for image in &images.mentioned {
            let allowed = self.config.registries.allow(image);
            allowed.map_err(|fault| not_allowed(image, &fault))?;
        }
        Ok(ready)
    }

    /// Docker looked for the images of a build by their names while it went on: they have to be those that
    /// were read. What was built from others is not kept.
    async fn recheck_bases(
        &self,
        bases: &[(ImageReference, String)],
        built: &str,
    ) -> Result<(), Error> {
        for (image, id) in bases {
            let now = self.images.look(&image.exact()).await?;
            if now.as_ref().map(|now| &now.id) == Some(id) {
                continue;
            }
            let options = RemoveImageOptionsBuilder::default().build();
            let removed = self
                .client
                .remove_image(built, Some(options), None)
                .at(Point::RemoveImage);
            if let Err(trouble) = within(LONG, removed).await {
                warn!(
                    trouble = trouble.text(),
                    "an image of a moved base was left"
                );
            }
            let message = format!(
                "image `{image}` changed while an image was built from it; the build is made again"
            );
            return Err(Error::new(ErrorKind::ImagePull, message));
        }
        Ok(())
    }
}

fn not_built(trouble: &Trouble, output: &Output<'_>) -> Error {
    let text = trouble.text().trim();
    let lower = text.to_lowercase();
    // A base image that went meanwhile, and a registry that says something about it.
    let is_of_registry = lower.starts_with("get ")
        || lower.starts_with("head ")
        || [
            "error parsing http",
            "unexpected http",
            "http status",
            "toomanyrequests",
        ]
        .iter()
        .any(|words| lower.contains(words));
    if is_of_registry {
        let message = format!(
            "the image could not be built, as one that it needs could not be pulled: {}",
            cause_of(&lower)
        );
        return Error::new(ErrorKind::ImagePull, message);
    }
    if is_disk_full(&lower) || matches!(trouble, Trouble::Silent(_)) {
        return trouble.clone().into_error("build an image");
    }
    let mut message = format!("the image could not be built: {text}");
    for line in &output.last {
        message.push_str("\n  ");
        message.push_str(line);
    }
    Error::new(ErrorKind::ImageBuild, message)
}
