//! `trainyard dev`

use clap::Args;
use trainyard_daemon::DevArgs;

use crate::commands::daemon;
use crate::failure::Done;

/// Run everything on this machine, a private Postgres included
///
/// Ctrl-C stops it; running stages keep running, and the next start adopts them.
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
