//! Building images from a commit's tree, once for the same content.
//!
//! The image's tag is the key of its [`Context`]. Where the engine has the tag, nothing is built;
//! stages that want the same content at the same time wait for one build. The classic builder is
//! used through the engine's API: it is there from 20.10 on, needs no session, and leaves no
//! container behind (`forcerm`).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bollard::models::BuildInfo;
use bollard::query_parameters::BuildImageOptionsBuilder;
use futures_util::{Stream, StreamExt};

use super::Engine;
use super::context::{Context, Recipe, Wanted};
use super::errors::{Trouble, is_disk_full};
use super::labels;
use crate::contract::{Error, ErrorKind, PreparedImage};
use crate::pipe;
use trainyard_failpoint::{Flow as _, Point};

/// The repository of the tags of built images.
pub(super) const REPOSITORY: &str = "trainyard/build";

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
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        // Until this call ends, or is given up.
        let wanted = Wanted::default();
        let scanning = {
            let (recipe, given_up) = (recipe.clone(), wanted.given_up());
            tokio::task::spawn_blocking(move || Context::scan(recipe, given_up))
        };
        let context = scanning
            .await
            .unwrap_or_else(|error| Err(Error::new(ErrorKind::Engine, error.to_string())))?;
        let tag = format!("{REPOSITORY}:{}", context.key);
        if let Some(image) = self.images.look(&self.client, &tag).await? {
            return Ok(image);
        }
        let build = self.builds.lock(&context.key);
        let _turn = build.lock().await;
        if let Some(image) = self.images.look(&self.client, &tag).await? {
            return Ok(image);
        }
        progress(format!(
            "building {} in {}",
            recipe.dockerfile, recipe.context
        ));
        self.run_build(context, &recipe, &tag, progress).await?;
        self.images.look(&self.client, &tag).await?.ok_or_else(|| {
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
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), Error> {
        let labels = HashMap::from([
            (
                labels::BUILD_INSTANCE.to_owned(),
                self.config.instance.to_string(),
            ),
            (labels::BUILD_CONTENT.to_owned(), context.key.clone()),
        ]);
        let args: HashMap<String, String> = recipe.args.clone().into_iter().collect();
        let options = BuildImageOptionsBuilder::default()
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
        let build = self
            .client
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

fn not_built(trouble: &Trouble, output: &Output<'_>) -> Error {
    let text = trouble.text().trim();
    let lower = text.to_lowercase();
    if is_disk_full(&lower) || matches!(trouble, Trouble::Silent(_)) {
        return trouble.clone().into_error("build an image");
    }
    let mut message = format!("the image could not be built: {text}");
    for line in &output.last {
        message.push_str("\n  ");
        message.push_str(line);
    }
    // A base image that cannot be fetched just now may be there later.
    let network = [
        "dial tcp",
        "i/o timeout",
        "connection refused",
        "toomanyrequests",
    ];
    let fetching = lower.starts_with("get ") || lower.starts_with("toomanyrequests");
    let kind = if fetching && network.iter().any(|word| lower.contains(word)) {
        ErrorKind::ImagePull
    } else {
        ErrorKind::ImageBuild
    };
    Error::new(kind, message)
}
