//! `trainyard dev`

use clap::Args;
use trainyard_daemon::DevArgs;

use crate::commands::daemon;
use crate::failure::Done;

/// Run everything on this machine, its own Postgres included
///
/// Ctrl-C stops it; stages that run go on, and the next start takes them over.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    #[command(flatten)]
    args: DevArgs,
}

impl Dev {
    pub(crate) async fn call(self: Box<Self>) -> Done {
        trainyard_daemon::dev(&self.args)
            .await
            .map_err(daemon::failure)
    }
}
