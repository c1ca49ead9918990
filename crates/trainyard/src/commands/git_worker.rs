//! `trainyard git-worker`: the git process of the daemon.

use clap::Args;

use crate::failure::{Done, Failure};

/// Answer one request about a repository, from standard input; for the daemon
#[derive(Debug, Args)]
pub(crate) struct GitWorker {}

impl GitWorker {
    #[expect(clippy::unused_self, reason = "all commands are called alike")]
    pub(crate) fn call(self) -> Done {
        trainyard_daemon::git_worker()
            .map_err(|error| Failure::refused(format!("git's process failed: {error}")))
    }
}
