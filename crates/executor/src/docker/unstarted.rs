//! Finds out which files of a `created` container are laid out, and whether it was started all the same.
//!
//! A Docker engine that is killed while it starts a container may have run its program, and still reports `created`
//! afterwards. Laying out the files of such a container again would bring back the start file, and the program
//! would run a second time. So they are laid out again only where it is certain that nothing has run:
//!
//! 1. The container holds nothing but its working directory, which Docker makes with it. A start leaves the folder
//!    where the init is mounted, which no program can remove.
//! 2. The start file has the content that it has until all other files are there. It begins and ends the layout, the
//!    init removes it before the program runs, and no program knows its content.

use std::path::Path;

use bollard::models::ContainerInspectResponse;
use trainyard_failpoint::{AtPoint as _, Point};
use trainyard_init::Nonce;

use super::Engine;
use super::answers::TOO_LONG;
use super::errors::{LONG, within};
use super::init::{Found, START};
use crate::error::Error;

/// An upper bound on the size of the start file, in bytes.
const START_AT_MOST: usize = 1024;

/// The progress of a container's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaidOut {
    /// Nothing or a part is laid out: it was not started.
    Partly,
    /// All is laid out, or it was started: the init knows which.
    Wholly,
}

/// The start file while other files are still missing: the init runs nothing with it.
pub(super) fn unfinished(nonce: &Nonce) -> &str {
    let whole = nonce.start_half();
    &whole[..whole.len() / 2]
}

impl Engine {
    /// Checks a container that Docker reports as `created`.
    pub(super) async fn laid_out(
        &self,
        container: &str,
        found: &ContainerInspectResponse,
        nonce: &Nonce,
    ) -> Result<LaidOut, Error> {
        // This comes first: to read a file makes Docker mount the container's volumes, which leaves their folders.
        if self.is_untouched(container, found).await? {
            return Ok(LaidOut::Partly);
        }
        let start = self.fetch(container, START, START_AT_MOST).await?;
        Ok(
            if start == Found::File(unfinished(nonce).as_bytes().to_vec()) {
                LaidOut::Partly
            } else {
                LaidOut::Wholly
            },
        )
    }

    /// Whether nothing was ever put into a container or made in it, except its working directory.
    async fn is_untouched(
        &self,
        container: &str,
        found: &ContainerInspectResponse,
    ) -> Result<bool, Error> {
        let changes = self
            .answers
            .container_changes(container)
            .at(Point::ContainerChanges);
        let changes = match within(LONG, changes).await {
            Ok(changes) => changes.unwrap_or_default(),
            Err(call_error) if call_error.text().contains(TOO_LONG) => return Ok(false),
            Err(call_error) => {
                return Err(call_error.into_error("list what changed in a container"));
            }
        };
        let working_dir = found
            .config
            .as_ref()
            .and_then(|config| config.working_dir.as_deref())
            .unwrap_or("/");
        Ok(changes
            .iter()
            .all(|change| Path::new(working_dir).starts_with(&change.path)))
    }
}
