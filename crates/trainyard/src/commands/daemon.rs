//! `trainyard daemon`

use clap::{Args, Subcommand};
use trainyard_daemon::{DaemonArgs, ServeError};

use crate::connection::Connection;
use crate::failure::{Done, Failure, in_full};
use crate::output::OutputArgs;
use crate::view;

/// Run the daemon in production, with your own Postgres
///
/// SIGTERM stops it; running stages keep running, and the next start adopts them. Several daemons may
/// share one database: they divide the work, and adopt the stages of one that is lost.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Daemon {
    #[command(flatten)]
    args: DaemonArgs,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the daemons on the database: their states, attempts and roles
    ///
    /// STATE is `alive`; `degraded` if a problem keeps it from working fully; `silent` if its lease has expired;
    /// `stopped` after an orderly stop; `replaced` if it was killed or crashed and the next one on its host took its
    /// place.
    ///
    /// The attempts of each daemon are listed below the table, as RUN.STAGE: on a terminal as many as fit into a
    /// line, elsewhere all, but at most 1,000 per daemon. HOLDS counts all.
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Daemon {
    pub(crate) async fn call(self: Box<Self>) -> Done {
        match self.verb {
            None => trainyard_daemon::daemon(&self.args).await.map_err(failure),
            Some(Verb::List { output, connection }) => {
                let daemons = connection.client()?.daemons().await?;
                output.show(&daemons, || {
                    view::daemon::list(&daemons.items, output.screen())
                })
            }
        }
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
