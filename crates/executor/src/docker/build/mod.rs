//! Builds images from a commit's tree, once for the same content.
//!
//! The image's tag is made from the key of its [`Context`] and its [`BuildScope`]. Where Docker has the tag, nothing
//! is built; stages that want the same content at the same time wait for one build.
//!
//! Docker has two builders behind one API. The classic one is used wherever it can build the Dockerfile: it runs
//! steps under the limits and in the network of the stage, and leaves no container behind (`forcerm`). BuildKit is
//! used for features that only it knows, where the operator allows it: it has neither of these (see [`BuildKit`]).
//! Both take the context as the body of the request and need no session.
//!
//! [`BuildKit`]: super::dockerfile::BuildKit

mod bases;
mod failure;
mod growth;
mod output;
mod scope;

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use trainyard_core::image::BUILT;
use trainyard_failpoint::{Flow as _, Point};

use self::failure::not_built;
use self::growth::BuildMark;
use self::output::{Output, follow};
use self::scope::BuildScope;
use super::Engine;
use super::answers;
use super::connect;
use super::context::{Context, GivenUp, Recipe, Wanted};
use super::convert::Bounds;
use super::dockerfile::{self, Builder, DockerfileFault};
use super::labels;
use crate::contract::{ImageRequest, PreparedImage};
use crate::error::{Error, ErrorKind};
use crate::pipe;

/// The repository of the tags of built images.
pub(super) const REPOSITORY: &str = BUILT;

/// How often a build is tried that the removal of other images disturbs.
const TRIES: u32 = 4;

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
        // Until this call ends, or is dropped.
        let wanted = Wanted::default();
        let scanning = {
            let (recipe, given_up) = (recipe.clone(), wanted.given_up());
            blocking(move || {
                let context = Context::scan(recipe.clone(), given_up.clone())?;
                Ok((context, dockerfile_of(&recipe, &given_up)?))
            })
        };
        let (mut context, text) = scanning.await?;
        let text: Arc<[u8]> = text.into();
        let (images, builder) = self.read_dockerfile(&recipe, &text).await?;
        if matches!(builder, Builder::BuildKit(_)) {
            context.dockerfile = Some(dockerfile::without_frontend(&text));
        }
        let scope = self.scope(request);
        let tag = scope.tag(&context.key);
        if let Some(image) = self.images.inspect(&tag).await? {
            return Ok(image);
        }
        let build = self.builds.lock(&tag);
        let _turn = build.lock().await;
        if let Some(image) = self.images.inspect(&tag).await? {
            return Ok(image);
        }
        let bases = self.prepare_bases(&images, &builder, progress).await?;
        let mut args = recipe.args.clone();
        let mark = BuildMark::of(&tag);
        let (of_builder, with) = match builder {
            Builder::Classic => {
                let network = self.network(request.repo).await?;
                let mut query = Bounds::of(&request.limits, network).build_query();
                query.push(("extrahosts", mark.host()));
                query.push(self.own_steps(&scope).await?);
                (query, "")
            }
            Builder::BuildKit(_) => {
                let query = self.buildkit_query(request, &scope)?;
                args.insert("BUILDKIT_CACHE_MOUNT_NS".to_owned(), scope.0.clone());
                (query, " with BuildKit")
            }
        };
        progress(format!(
            "building {} in {}{with}",
            recipe.dockerfile, recipe.context
        ));
        let mut query = self.query(&context, &recipe, &tag, &scope);
        query.push(("buildargs", serde_json::json!(args).to_string()));
        query.extend(of_builder);
        // A failure of Docker itself, and not of the Dockerfile: the next try may well succeed at once.
        let mut tries = 1;
        loop {
            // Dropping the call cancels the build.
            let built = tokio::select! {
                built = self.run_build(context.clone(), &query, progress) => built,
                error = self.until_too_large(&mark, &bases) => Err(error),
            };
            let Err(error) = built else {
                break;
            };
            if tries == TRIES || error.kind != ErrorKind::Engine {
                return Err(error);
            }
            tries += 1;
            progress(format!("{}; building again", error.message));
        }
        self.recheck_bases(&bases, &tag).await?;
        self.recheck_size(&tag, &bases).await?;
        self.images.inspect(&tag).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::ImageBuild,
                "the build succeeded, but left no image; is its last stage empty?",
            )
        })
    }

    /// Reads a Dockerfile, and decides which builder builds it: the classic one where it can.
    async fn read_dockerfile(
        &self,
        recipe: &Recipe,
        text: &Arc<[u8]>,
    ) -> Result<(dockerfile::Images, Builder), Error> {
        let read = async |builder: &Builder| {
            let (recipe, text, builder) = (recipe.clone(), Arc::clone(text), builder.clone());
            let target = recipe.target;
            blocking(move || {
                Ok(dockerfile::read(
                    &text,
                    &recipe.args,
                    target.as_deref(),
                    &builder,
                ))
            })
            .await
        };
        let unfit = |fault: &DockerfileFault| {
            let message = format!("{}:{fault}", recipe.dockerfile);
            Error::new(ErrorKind::ImageBuild, message)
        };
        match read(&Builder::Classic).await? {
            Ok(images) => return Ok((images, Builder::Classic)),
            Err(fault) if !fault.needs_buildkit => return Err(unfit(&fault)),
            Err(mut fault) if !self.config.buildkit => {
                fault.message.push_str(
                    ", which is not allowed here. The operator can allow it with docker.buildkit = true in the \
                     daemon's configuration",
                );
                return Err(unfit(&fault));
            }
            Err(_) => {}
        }
        let builder = Builder::BuildKit(connect::buildkit(&self.client).await?);
        match read(&builder).await? {
            Ok(images) => Ok((images, builder)),
            Err(fault) => Err(unfit(&fault)),
        }
    }

    /// The parameters of every build.
    fn query(
        &self,
        context: &Context,
        recipe: &Recipe,
        tag: &str,
        scope: &BuildScope,
    ) -> Vec<(&'static str, String)> {
        let labels = HashMap::from([
            (labels::BUILD_INSTANCE, self.config.instance.to_string()),
            (labels::BUILD_CONTENT, context.key.clone()),
            (labels::BUILD_SCOPE, scope.0.clone()),
        ]);
        vec![
            ("t", tag.to_owned()),
            ("dockerfile", recipe.dockerfile.to_string()),
            ("target", recipe.target.clone().unwrap_or_default()),
            ("labels", serde_json::json!(labels).to_string()),
            ("rm", "true".to_owned()),
            ("forcerm", "true".to_owned()),
        ]
    }

    async fn run_build(
        &self,
        context: Context,
        query: &[(&'static str, String)],
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), Error> {
        let (mut writer, body, _) = pipe::outgoing();
        let writing = tokio::task::spawn_blocking(move || {
            let result = context.write(&mut writer);
            writer.finish(result)
        });
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let query: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        let version = self.client.client_version();
        let path = format!("/v{version}/build?{}", query.join("&"));
        let answer = answers::post_archive(self.config.host(), &path, body).at(Point::BuildImage);
        let mut output = Output::new(progress);
        let built = follow(answer, self.config.build_idle, &mut output).await;
        let written = writing
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        match (built, written) {
            (Ok(()), _) => Ok(()),
            (Err(_), Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::new(
                ErrorKind::Storage,
                format!("the source tree could not be read from the daemon's disk: {error}"),
            )),
            (Err(call_error), _) => Err(not_built(&call_error)),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(ErrorKind::Engine, error.to_string())))
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
