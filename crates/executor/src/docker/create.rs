//! Creating an attempt's container exactly once, and starting it at most once.
//!
//! The name is made from the attempt, so Docker itself refuses a second container. Where the answer was lost, or the
//! name is taken, the orchestrator inspects the container that has the name: one of the same attempt and spec is
//! adopted, never removed and created again. If a crash came before all its files were laid out, they are laid out
//! again.

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use tracing::warn;

use super::Engine;
use super::arguments;
use super::convert::{self, UnderInit};
use super::errors::{CallError, LONG, SHORT, gone, within};
use super::init;
use super::labels::{FirstProcess, Identity};
use super::layout::Layout;
use super::status;
use super::unstarted::LaidOut;
use crate::contract::{Handle, Status};
use crate::error::{Error, ErrorKind};
use crate::spec::AttemptSpec;
use trainyard_failpoint::{AtPoint as _, Point};
use trainyard_init::Nonce;

impl Engine {
    pub(super) async fn create(&self, spec: &AttemptSpec) -> Result<Handle, Error> {
        if self.departed.holds(spec.attempt) {
            let message = "its container has already ended, been recorded and been removed, but the database has lost \
                           the record, as in a failover; it is not run again, since an attempt never runs twice";
            return Err(Error::new(ErrorKind::Gone, message));
        }
        let name = convert::name(spec.attempt);
        let mut first = FirstProcess::Program;
        let under_init = if self.config.init {
            let nonce = draw_nonce()?;
            first = FirstProcess::Init(nonce.clone());
            let default = self.images.command(spec).await?;
            let volume = self.init.ready(&self.client, &spec.image).await;
            let volume = volume.inspect_err(|_| self.images.forget(&spec.image))?;
            Some(UnderInit {
                volume,
                nonce,
                default,
            })
        } else {
            None
        };
        let network = self.network(spec.repo).await?;
        let body = convert::container(spec, &self.config, network, under_init)?;
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let created = within(
            LONG,
            self.client
                .create_container(Some(options), body)
                .at(Point::CreateContainer),
        )
        .await;
        let container = match created {
            Ok(created) => created.id,
            Err(call_error) if may_exist(&call_error) => {
                return self.adopt(spec, &name, call_error).await;
            }
            Err(call_error) => {
                if call_error.status() == Some(404) {
                    self.images.forget(&spec.image);
                }
                return Err(refused(call_error, spec));
            }
        };
        let handle = Handle {
            attempt: spec.attempt,
            container,
        };
        self.ends.knows(&handle.container, first.clone());
        let layout = Layout::of(spec, first);
        if let Err(error) = layout.put(&self.client, &handle.container).await {
            // It never ran, so it may be removed: the next try starts from nothing. Unless this caller was slow,
            // and another one has adopted and started it meanwhile.
            if let Err(problem) = self.remove_idle(&handle.container).await {
                warn!(attempt = %spec.attempt, error = %problem, "could not remove a container without its files");
            }
            return Err(error);
        }
        self.fresh.add(&handle.container);
        Ok(handle)
    }

    async fn adopt(
        &self,
        spec: &AttemptSpec,
        name: &str,
        call_error: CallError,
    ) -> Result<Handle, Error> {
        let Some(found) = status::inspect(&self.client, name).await? else {
            return Err(call_error.into_error_of_container("create a container"));
        };
        let handle = identify(&found, spec)?;
        let state = found.state.as_ref().map(status::status);
        let config = found.config.as_ref();
        let labels = config.and_then(|config| config.labels.clone());
        // The nonce that it was made with, not one drawn now.
        let first = FirstProcess::read(&labels.unwrap_or_default());
        self.ends.knows(&handle.container, first.clone());
        if state == Some(Status::Created) {
            let laid_out = match &first {
                FirstProcess::Init(nonce) => {
                    self.laid_out(&handle.container, &found, nonce).await?
                }
                FirstProcess::Program | FirstProcess::OlderInit => LaidOut::Partly,
            };
            if laid_out == LaidOut::Partly {
                let layout = Layout::of(spec, first);
                layout.put(&self.client, &handle.container).await?;
            }
        }
        Ok(handle)
    }

    /// Starts a container that was created and never started. A caller that created it just now knows that
    /// it was not started; otherwise Docker is asked first, since it would run an exited program again.
    pub(super) async fn start(&self, container: &str) -> Result<(), Error> {
        if !self.fresh.take(container) {
            match status::of(&self.client, container).await? {
                None => return Err(gone(container)),
                Some(Status::Created) => {}
                Some(Status::Running { .. } | Status::Exited { .. } | Status::Unknown) => {
                    return Ok(());
                }
            }
        }
        let start = || {
            let client = &self.client;
            let start = client
                .start_container(container, None)
                .at(Point::StartContainer);
            within(LONG, start)
        };
        let mut started = start().await;
        if let Err(call_error) = &started
            && self.mend_network(call_error).await?
        {
            started = start().await;
        }
        match started {
            Ok(()) => Ok(()),
            // Unless the image has a volume of its own there.
            Err(call_error)
                if self.config.init
                    && call_error.text().contains(init::PATH)
                    && !call_error.is_of_container() =>
            {
                Err(self.without_init(container, &call_error).await)
            }
            Err(call_error) => Err(not_started(call_error, container)),
        }
    }

    /// Fills the volume of the init again, which was removed before this container was made: Docker then made an
    /// empty one. The error asks the caller to start again.
    async fn without_init(&self, container: &str, call_error: &CallError) -> Error {
        let found = match status::inspect(&self.client, container).await {
            Ok(Some(found)) => found,
            Ok(None) => return gone(container),
            Err(error) => return error,
        };
        let image = found.image.unwrap_or_default();
        match self.init.mend(&self.client, &image).await {
            Ok(()) => {
                let message = format!(
                    "the init volume was missing and has been restored; the container can be started again: {}",
                    call_error.text()
                );
                Error::new(ErrorKind::Engine, message)
            }
            Err(error) => error,
        }
    }

    pub(super) async fn remove(&self, handle: &Handle) -> Result<(), Error> {
        self.departed.add(handle.attempt);
        let container = handle.container.as_str();
        self.fresh.take(container);
        self.ends.forget(container);
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        match within(
            LONG,
            self.client
                .remove_container(container, Some(options))
                .at(Point::RemoveContainer),
        )
        .await
        {
            Ok(()) => Ok(()),
            Err(call_error) => match call_error.status() {
                Some(404) => Ok(()),
                // Another caller is removing it.
                Some(409) if call_error.text().contains("already in progress") => Ok(()),
                _ => Err(call_error.into_error("remove a container")),
            },
        }
    }

    /// Removes a container unless it runs; returns whether it did.
    pub(super) async fn remove_idle(&self, container: &str) -> Result<bool, Error> {
        let options = RemoveContainerOptionsBuilder::default().v(true).build();
        match within(
            SHORT,
            self.client
                .remove_container(container, Some(options))
                .at(Point::RemoveIdle),
        )
        .await
        {
            Ok(()) => Ok(true),
            Err(call_error) => match call_error.status() {
                Some(404) => Ok(true),
                Some(409) => Ok(false),
                _ => Err(call_error.into_error("remove a container")),
            },
        }
    }
}

fn draw_nonce() -> Result<Nonce, Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| {
        let message = format!("this machine's random number generator failed: {error}");
        Error::new(ErrorKind::Engine, message)
    })?;
    Ok(Nonce::new(random))
}

/// Whether a container may exist although its creation was not confirmed.
fn may_exist(call_error: &CallError) -> bool {
    match call_error {
        CallError::Answered { status, .. } => *status == 409 || *status >= 500,
        CallError::InStream(_) | CallError::Silent(_) | CallError::Odd(_) => true,
    }
}

fn identify(found: &ContainerInspectResponse, spec: &AttemptSpec) -> Result<Handle, Error> {
    let identity = found
        .config
        .as_ref()
        .and_then(|config| config.labels.as_ref())
        .and_then(Identity::read);
    let same = identity.is_some_and(|identity| {
        identity.attempt == spec.attempt && identity.spec_hash == spec.hash()
    });
    match (&found.id, same) {
        (Some(id), true) => Ok(Handle {
            attempt: spec.attempt,
            container: id.clone(),
        }),
        _ => Err(Error::new(
            ErrorKind::Mismatch,
            format!(
                "a container named {} exists that was made from another spec; it is left alone; see `docker inspect`",
                convert::name(spec.attempt)
            ),
        )),
    }
}

fn refused(call_error: CallError, spec: &AttemptSpec) -> Error {
    match call_error.status() {
        Some(404) => image_gone(&spec.image),
        Some(400..500) => Error::new(
            ErrorKind::Start,
            format!(
                "the Docker engine refuses what the stage asks for: {}",
                call_error.text()
            ),
        ),
        _ => call_error.into_error_of_container("create a container"),
    }
}

/// The error for an image that was removed since it was made ready: it can be made ready again.
pub(super) fn image_gone(image: &str) -> Error {
    let message = format!("image {image} was removed from the Docker engine after it was prepared");
    Error::new(ErrorKind::ImagePull, message)
}

fn not_started(call_error: CallError, container: &str) -> Error {
    let text = call_error.text();
    match call_error.status() {
        Some(404) if text.contains("No such container") => gone(container),
        Some(_) if arguments::is_refusal(text) => arguments::refused_by_kernel(),
        Some(400..500) => Error::new(ErrorKind::Start, in_words(text)),
        _ => call_error.into_error_of_container("start a container"),
    }
}

/// The runtime's message without its chain of wrappers.
fn in_words(text: &str) -> String {
    let quoted = text
        .split_once("exec: \"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(program, _)| program);
    match quoted {
        Some(program) if text.contains("permission denied") => {
            format!("`{program}` is in the image, but is not executable")
        }
        Some(program) if text.contains("not found") || text.contains("no such file") => {
            format!("the image has no program `{program}`")
        }
        Some(_) | None => format!("the Docker engine could not start the program: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_without_the_runtime_s_wrappers() {
        let text = "failed to create shim: OCI runtime create failed: container_linux.go:380: \
                    starting container process caused: exec: \"nosuch\": executable file not \
                    found in $PATH: unknown";
        assert_eq!(in_words(text), "the image has no program `nosuch`");
        let text = "OCI runtime create failed: exec: \"./run.sh\": permission denied: unknown";
        assert_eq!(
            in_words(text),
            "`./run.sh` is in the image, but is not executable"
        );
    }
}
