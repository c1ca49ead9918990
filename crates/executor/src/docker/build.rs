//! Building images from a commit's tree, once for the same content.
//!
//! The image's tag is made from its repo and the key of its [`Context`]. Where the engine has the tag, nothing is built;
//! stages that want the same content at the same time wait for one build.
//!
//! Docker has two builders, and its API both. The classic one is used wherever it can build the Dockerfile: it runs
//! steps under the limits and in the network of the stage, and leaves no container behind (`forcerm`). BuildKit is
//! used for what only it knows, where the operator allows it: it has neither of these (see [`BuildKit`]). Both take
//! the context as the body of the request and need no session.
//!
//! [`BuildKit`]: super::dockerfile::BuildKit

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::query_parameters::RemoveImageOptionsBuilder;
use futures_util::{Stream, StreamExt};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tracing::warn;
use trainyard_core::id::RepoId;
use trainyard_core::image::{BUILT, ImageReference};
use trainyard_core::stage::PullPolicy;

use super::Engine;
use super::answers;
use super::connect;
use super::context::{Context, GivenUp, Recipe, Wanted};
use super::convert::Bounds;
use super::dockerfile::{self, Builder, DockerfileFault};
use super::errors::{LONG, Trouble, is_disk_full, within};
use super::image::{cause_of, not_allowed};
use super::labels;
use super::trace::Trace;
use crate::contract::{Error, ErrorKind, ImageRequest, PreparedImage};
use crate::pipe;
use trainyard_failpoint::{Effect as _, Flow as _, Point};

/// The repository of the tags of built images.
pub(super) const REPOSITORY: &str = BUILT;

/// The longest line of an answer that is read, in bytes. BuildKit cuts what a step prints into pieces of some KiB.
const LONGEST_LINE: usize = 4 << 20;

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
        let scope = match builder {
            Builder::Classic => None,
            Builder::BuildKit(_) => Some(self.cache_scope(request)),
        };
        let key = key(request.repo, &context.key, scope.as_deref());
        let tag = format!("{REPOSITORY}:{key}");
        if let Some(image) = self.images.look(&tag).await? {
            return Ok(image);
        }
        let build = self.builds.lock(&key);
        let _turn = build.lock().await;
        if let Some(image) = self.images.look(&tag).await? {
            return Ok(image);
        }
        let bases = self.prepare_bases(&images, &builder, progress).await?;
        let mut args = recipe.args.clone();
        let (bounds, with) = match scope {
            None => {
                let network = self.network(request.repo).await?;
                (Bounds::of(&request.limits, network).build_query(), "")
            }
            Some(scope) => {
                let query = self.buildkit_query(request, &scope)?;
                args.insert("BUILDKIT_CACHE_MOUNT_NS".to_owned(), scope);
                (query, " with BuildKit")
            }
        };
        progress(format!(
            "building {} in {}{with}",
            recipe.dockerfile, recipe.context
        ));
        let mut query = self.query(&context, &recipe, &tag, request.repo);
        query.push(("buildargs", serde_json::json!(args).to_string()));
        query.extend(bounds);
        self.run_build(context, &query, progress).await?;
        self.recheck_bases(&bases, &tag).await?;
        self.images.look(&tag).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::ImageBuild,
                "the build went through, but left no image; is its last stage empty?",
            )
        })
    }

    /// Reads a Dockerfile, and decides who builds it: the classic builder where it can.
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

    /// What every build is asked for.
    fn query(
        &self,
        context: &Context,
        recipe: &Recipe,
        tag: &str,
        repo: Option<RepoId>,
    ) -> Vec<(&'static str, String)> {
        let mut labels = HashMap::from([
            (labels::BUILD_INSTANCE, self.config.instance.to_string()),
            (labels::BUILD_CONTENT, context.key.clone()),
        ]);
        if let Some(repo) = repo {
            labels.insert(labels::BUILD_REPO, repo.to_string());
        }
        vec![
            ("t", tag.to_owned()),
            ("dockerfile", recipe.dockerfile.to_string()),
            ("target", recipe.target.clone().unwrap_or_default()),
            ("labels", serde_json::json!(labels).to_string()),
            ("rm", "true".to_owned()),
            ("forcerm", "true".to_owned()),
        ]
    }

    /// Who shares what a step of BuildKit leaves. A cache of `RUN --mount` outlives its build, and whoever writes to it
    /// has a say in what is built next, so each branch of a repo has its own: a stage with the branch's secrets may run
    /// what comes of it.
    fn cache_scope(&self, request: &ImageRequest) -> String {
        let Some(repo) = request.repo else {
            return "trainyard-exec".to_owned();
        };
        let mut hasher = Sha256::new();
        hasher.update(self.config.instance.0.as_bytes());
        hasher.update(repo.0.as_bytes());
        hasher.update([u8::from(request.branch.is_some())]);
        hasher.update(request.branch.as_deref().unwrap_or_default());
        format!("trainyard-{}", &hex::encode(hasher.finalize())[..32])
    }

    /// How BuildKit is asked for. Docker's API passes it no bounds but that of `/dev/shm`, and knows no network but
    /// Docker's own one and none at all.
    fn buildkit_query(
        &self,
        request: &ImageRequest,
        scope: &str,
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
            // BuildKit takes two steps for the same that differ in their caches only. The name of a host that a step
            // knows makes them differ.
            ("extrahosts", format!("{scope}:127.0.0.1")),
        ];
        query.extend(request.limits.shm.map(|shm| ("shmsize", shm.to_string())));
        Ok(query)
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
            (Err(trouble), _) => Err(not_built(&trouble)),
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

async fn follow(
    answer: impl Stream<Item = Result<bytes::Bytes, bollard::errors::Error>>,
    idle: Duration,
    output: &mut Output<'_>,
) -> Result<(), Trouble> {
    let mut answer = std::pin::pin!(answer);
    let mut line = Vec::new();
    loop {
        let piece = match tokio::time::timeout(idle, answer.next()).await {
            Ok(None) => break,
            Ok(Some(piece)) => piece?,
            Err(_) => {
                let seconds = idle.as_secs();
                return Err(Trouble::InStream(format!(
                    "nothing was printed for {seconds} s"
                )));
            }
        };
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.len() > LONGEST_LINE {
                return Err(Trouble::Odd("a line of the answer is too long".to_owned()));
            }
            if part.ends_with(b"\n") {
                output.take(&line)?;
                line.clear();
            }
        }
    }
    output.take(&line)?;
    output.end();
    Ok(())
}

/// A line of a builder's answer.
#[derive(Debug, Deserialize)]
struct Line {
    id: Option<String>,
    stream: Option<String>,
    status: Option<String>,
    #[serde(rename = "progressDetail")]
    progress: Option<ProgressDetail>,
    #[serde(rename = "errorDetail")]
    error: Option<ErrorDetail>,
    aux: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct ProgressDetail {
    current: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct ErrorDetail {
    message: Option<String>,
}

/// What a build prints, passed on line by line.
struct Output<'a> {
    progress: &'a (dyn Fn(String) + Send + Sync),
    trace: Trace,
}

impl<'a> Output<'a> {
    fn new(progress: &'a (dyn Fn(String) + Send + Sync)) -> Self {
        Self {
            progress,
            trace: Trace::default(),
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Trouble> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| Trouble::Odd(format!("the answer makes no sense: {error}")))?;
        if let Some(message) = line.error.and_then(|error| error.message) {
            self.end();
            return Err(Trouble::InStream(message));
        }
        if line.id.as_deref() == Some("moby.buildkit.trace") {
            let trace = line.aux.as_ref().and_then(serde_json::Value::as_str);
            let trace = STANDARD.decode(trace.unwrap_or_default());
            let said = self.trace.read(&trace.unwrap_or_default());
            self.pass_on(&said);
            return Ok(());
        }
        let is_moving = line.progress.is_some_and(|detail| detail.current.is_some());
        let text = line.stream.or(line.status.filter(|_| !is_moving));
        self.pass_on(&text.unwrap_or_default());
        Ok(())
    }

    /// Passes on what BuildKit began to say.
    fn end(&mut self) {
        let rest = self.trace.rest();
        self.pass_on(&rest);
    }

    fn pass_on(&self, text: &str) {
        let lines = text.lines().map(str::trim_end);
        lines
            .filter(|line| !line.is_empty())
            .for_each(|line| (self.progress)(line.to_owned()));
    }
}

/// What an image is known by: its content, the repo that it belongs to, and whose caches it was built with.
fn key(repo: Option<RepoId>, content: &str, scope: Option<&str>) -> String {
    let mut hasher = Sha256::new();
    hasher.update(content.as_bytes());
    if let Some(repo) = repo {
        hasher.update(repo.0.as_bytes());
    }
    hasher.update(scope.unwrap_or_default());
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

impl Engine {
    /// Makes the images that a build takes from outside ready, and reads what they bring into it. Docker
    /// finds them here then, and asks no registry itself.
    async fn prepare_bases(
        &self,
        images: &dockerfile::Images,
        builder: &Builder,
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
            let copied = dockerfile::read_triggers(&triggers, base, builder).map_err(|fault| {
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

/// Why there is no image. What the build printed is in the log already.
fn not_built(trouble: &Trouble) -> Error {
    let text = shortened(trouble.text());
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
        .any(|words| lower.contains(words))
        || (!is_of_step(&lower)
            && [
                "failed to do request",
                "failed to resolve source",
                "failed to copy:",
            ]
            .iter()
            .any(|words| lower.contains(words)));
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
    if !is_of_step(&lower) && lower.contains("unknown flag:") {
        message.push_str(". The BuildKit of a newer Docker may know it");
    }
    Error::new(ErrorKind::ImageBuild, message)
}

/// Whether BuildKit says how a command of a step ended, and so repeats the command.
fn is_of_step(lower: &str) -> bool {
    lower.starts_with("process \"") || lower.starts_with("executor failed running")
}

/// What went wrong, without the parts of BuildKit that passed it on.
fn shortened(text: &str) -> &str {
    const PASSED_ON: [&str; 5] = [
        "failed to create LLB definition:",
        "failed to solve with frontend dockerfile.v0:",
        "failed to solve:",
        "failed to build LLB:",
        "rpc error: code = Unknown desc =",
    ];
    let mut text = text.trim();
    while let Some(rest) = PASSED_ON.iter().find_map(|words| text.strip_prefix(words)) {
        text = rest.trim_start();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Error {
        not_built(&Trouble::InStream(text.to_owned()))
    }

    #[test]
    fn why_buildkit_failed_is_told_without_who_passed_it_on() {
        let text = "failed to solve with frontend dockerfile.v0: failed to build LLB: executor failed running \
                    [/bin/sh -c x]: exit code: 7";
        assert_eq!(
            told(text).message,
            "the image could not be built: executor failed running [/bin/sh -c x]: exit code: 7"
        );
    }

    #[test]
    fn an_option_that_this_buildkit_does_not_know_is_told_as_such() {
        let error = told("dockerfile parse error on line 2: unknown flag: parents");
        assert!(
            error
                .message
                .ends_with("The BuildKit of a newer Docker may know it")
        );
    }

    #[test]
    fn class_14_what_a_registry_answered_to_buildkit_is_not_shown() {
        let error = told("failed to solve: failed to do request: Head \"http://x\": secret");
        assert_eq!(error.kind, ErrorKind::ImagePull);
        assert!(!error.message.contains("secret"), "{error}");
        let of_step =
            told("process \"/bin/sh -c echo failed to do request\" did not complete: exit code: 1");
        assert_eq!(of_step.kind, ErrorKind::ImageBuild);
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_read_line_by_line() {
        let trace = STANDARD.encode(b"\x1a\x09\x0a\x01a\x22\x04out\n");
        let answer = format!(
            "{{\"id\":\"moby.buildkit.trace\",\"aux\":\"{trace}\"}}\r\n{{\"stream\":\"Step 1\\n\"}}\n{{\"id\":\
             \"moby.image.id\",\"aux\":{{\"ID\":\"x\"}}}}\n{{\"errorDetail\":{{\"message\":\"no\"}}}}\n"
        );
        let pieces: Vec<_> = answer
            .as_bytes()
            .chunks(7)
            .map(|piece| Ok(bytes::Bytes::copy_from_slice(piece)))
            .collect();
        let said = Mutex::new(Vec::new());
        let say = |line: String| said.lock().unwrap().push(line);
        let mut output = Output::new(&say);
        let pieces = futures_util::stream::iter(pieces);
        let end = follow(pieces, Duration::from_secs(60), &mut output).await;
        assert_eq!(end, Err(Trouble::InStream("no".to_owned())));
        assert_eq!(*said.lock().unwrap(), ["out", "Step 1"]);
    }
}
