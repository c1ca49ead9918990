//! `trainyard quarantine`

use clap::Subcommand;

use crate::connection::Group;
use crate::failure::Done;
use crate::output::{self, OutputArgs};
use crate::view;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the quarantined repos, DAGs and runs, with reasons
    List(OutputArgs),
    /// Release a repo, DAG or run, once the cause of its failures is fixed
    Release {
        /// The number in the list
        id: i64,
    },
}

impl Group<Verb> {
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
