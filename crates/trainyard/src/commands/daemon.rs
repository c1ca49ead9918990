//! `trainyard daemon`

use clap::Args;
use trainyard_daemon::{DaemonArgs, ServeError};

use crate::failure::{Done, Failure, in_full};

/// Run the daemon in production, beside a Postgres of yours
///
/// SIGTERM stops it; stages that run go on, and the next start takes them over.
#[derive(Debug, Args)]
pub(crate) struct Daemon {
    #[command(flatten)]
    args: DaemonArgs,
}

impl Daemon {
    pub(crate) async fn call(self: Box<Self>) -> Done {
        trainyard_daemon::daemon(&self.args).await.map_err(failure)
    }
}

/// How a daemon that did not start ends the call.
pub(crate) fn failure(error: ServeError) -> Failure {
    let message = in_full(&error);
    if error.is_usage() {
        Failure::usage(message)
    } else {
        Failure::refused(message)
    }
}
