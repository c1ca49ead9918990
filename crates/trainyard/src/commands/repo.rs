//! `trainyard repo`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use trainyard_api::NewRepo;

use crate::connection::Connection;
use crate::failure::{Done, Failure, Problem};
use crate::output::{self, OutputArgs};
use crate::{input, view};

/// The git repositories that the daemon follows
#[derive(Debug, Args)]
pub(crate) struct Command {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(Add),
    /// List the repos
    List(OutputArgs),
    /// Show one: its branches, DAGs, and DAG files with faults
    Show(One),
    /// Fetch one now, and wait until that is done
    Sync(One),
    /// Follow one no more. Its runs, logs and secrets are deleted
    Remove {
        /// The repo's name
        name: String,
    },
}

/// Follow one
///
/// Prints where the forge is to send webhooks and, where the daemon made it, the secret that they are
/// to be signed with, once. Webhooks are a convenience: pushes are found without them, too.
#[derive(Debug, Args)]
struct Add {
    /// What to call it
    name: String,

    /// Where to fetch it from: https://, ssh:// (or git@host:path), or file:// where the daemon allows that
    url: String,

    /// The branch whose schedules count; the remote's default branch without it
    #[arg(long)]
    branch: Option<String>,

    /// How often to look for pushes, in seconds; the daemon's default without it
    #[arg(long, value_name = "SECONDS")]
    poll_every: Option<u64>,

    /// What webhooks are signed with: `-` reads it from standard input, `generate` makes one
    #[arg(
        long,
        value_name = "SECRET",
        default_value = "generate",
        hide_default_value = true
    )]
    webhook_secret: String,

    /// The user to fetch as
    #[arg(long, value_name = "USER")]
    username: Option<String>,

    /// Read the password or token to fetch with from standard input, or ask for it
    #[arg(long)]
    password_stdin: bool,

    /// The private key to fetch with over ssh: a deploy key that may only read, without a passphrase
    #[arg(long, value_name = "FILE", conflicts_with_all = ["username", "password_stdin"])]
    ssh_key: Option<PathBuf>,

    /// The keys of the ssh host, as `ssh-keyscan HOST` prints them; no other host gets to see the key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["username", "password_stdin"])]
    known_hosts: Option<PathBuf>,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct One {
    /// The repo's name
    name: String,

    #[command(flatten)]
    output: OutputArgs,
}

impl Command {
    pub(crate) async fn call(self) -> Done {
        let client = self.connection.client()?;
        match self.verb {
            Verb::Add(add) => {
                let output = add.output;
                let added = client.add_repo(&add.into_request()?).await?;
                output.show(&added, || view::repo::added(&added))
            }
            Verb::List(output) => {
                let repos = client.repos().await?;
                output.show(&repos, || view::repo::list(&repos.items, output::width()))
            }
            Verb::Show(one) => {
                let repo = client.repo(&one.name).await?;
                let output = one.output;
                output.show(&repo, || view::repo::show(&repo, output::width()))
            }
            Verb::Sync(one) => {
                let repo = client.sync_repo(&one.name).await?;
                one.output.show(&repo, || view::repo::synced(&repo))?;
                match repo.last_error {
                    None => Ok(()),
                    Some(problem) => {
                        let message = format!("{} cannot be synced: {problem}", repo.name);
                        Err(Failure::refused(message))
                    }
                }
            }
            Verb::Remove { name } => {
                client.remove_repo(&name).await?;
                output::text(&format!("follows {name} no more"))
            }
        }
    }
}

impl Add {
    fn into_request(self) -> Result<NewRepo, Failure> {
        if self.webhook_secret == "-" && self.password_stdin {
            let problem = Problem::new("only one secret can come from standard input");
            let help = "leave --webhook-secret out, and one is made";
            return Err(Failure::Usage(problem.help(help)));
        }
        let webhook_secret = match self.webhook_secret.as_str() {
            "generate" => None,
            "-" => Some(
                input::secret("the webhook secret")?
                    .expose_secret()
                    .to_owned(),
            ),
            _ => Some(self.webhook_secret),
        };
        let password = match self.password_stdin {
            true => Some(input::secret("the password")?.expose_secret().to_owned()),
            false => None,
        };
        let file = |path: Option<PathBuf>| path.as_deref().map(input::small_file).transpose();
        Ok(NewRepo {
            ssh_key: file(self.ssh_key)?,
            known_hosts: file(self.known_hosts)?,
            name: self.name,
            url: self.url,
            branch: self.branch,
            poll_every_seconds: self.poll_every,
            webhook_secret,
            username: self.username,
            password,
        })
    }
}
