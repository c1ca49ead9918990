//! `trainyard quarantine`

use clap::{Args, Subcommand};

use crate::connection::Connection;
use crate::failure::Done;
use crate::output::{self, OutputArgs};
use crate::view;

/// Quarantine: repos, DAGs and runs that are stopped after repeated failures, with the reason
///
/// A quarantined repo, DAG or run does nothing until it is released, a commit changes its DAG, or its run is
/// cancelled.
#[derive(Debug, Args)]
pub(crate) struct Command {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the quarantined repos, DAGs and runs, with reasons
    List(OutputArgs),
    /// Release a repo, DAG or run, once the cause of its failures is fixed
    Release {
        /// The number in the list
        id: i64,
    },
}

impl Command {
    pub(crate) async fn call(self) -> Done {
        let client = self.connection.client()?;
        match self.verb {
            Verb::List(output) => {
                let held = client.quarantine().await?;
                output.show(&held, || {
                    view::quarantine::list(&held.items, output.screen())
                })
            }
            Verb::Release { id } => {
                client.release_from_quarantine(id).await?;
                output::text(&format!("{id} is released"))
            }
        }
    }
}
