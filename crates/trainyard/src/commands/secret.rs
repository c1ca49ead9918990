//! `trainyard secret`

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use trainyard_api::{Listing, SecretValue};

use crate::connection::Connection;
use crate::failure::Done;
use crate::output::{self, OutputArgs};
use crate::{input, view};

/// Secrets, which stages that name them get as environment variables
#[derive(Debug, Args)]
pub(crate) struct Command {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Set one; its value comes from standard input, or is asked for
    Set(One),
    /// List their names. Values are never shown
    List {
        /// Only those of this repo
        #[arg(long)]
        repo: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Remove one
    Remove(One),
}

#[derive(Debug, Args)]
struct One {
    /// Its name, which is the variable's
    name: String,

    /// The repo whose stages may name it
    #[arg(long)]
    repo: String,
}

impl Command {
    pub(crate) async fn call(self) -> Done {
        let client = self.connection.client()?;
        match self.verb {
            Verb::Set(One { name, repo }) => {
                let value = input::secret(&format!("the value of {name}"))?;
                let value = SecretValue {
                    value: value.expose_secret().to_owned(),
                };
                client.set_secret(&repo, &name, &value).await?;
                output::text(&format!("{name} of {repo} is set"))
            }
            Verb::List { repo, output } => {
                let repos = match repo {
                    Some(repo) => vec![repo],
                    None => {
                        let repos = client.repos().await?.items;
                        repos.into_iter().map(|repo| repo.name).collect()
                    }
                };
                let mut secrets = Vec::new();
                for repo in repos {
                    secrets.extend(client.secrets(&repo).await?.items);
                }
                let secrets = Listing::whole(secrets);
                output.show(&secrets, || {
                    view::secret::list(&secrets.items, output::width())
                })
            }
            Verb::Remove(One { name, repo }) => {
                client.remove_secret(&repo, &name).await?;
                output::text(&format!("{name} of {repo} is removed"))
            }
        }
    }
}
