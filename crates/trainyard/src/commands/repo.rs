//! `trainyard repo`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use std::time::Duration;
use trainyard_api::{ChangeRepo, Client, NewRepo};
use trainyard_daemon::config::Span;

use crate::connection::Group;
use crate::failure::{Done, Failure, Problem};
use crate::output::{self, OutputArgs};
use crate::{input, view};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Add(Add),
    /// List the repos
    List(OutputArgs),
    /// Show a repo: its branches, DAGs, and DAG files with faults
    Show(RepoArgs),
    /// Fetch a repo now, and wait until that is done
    Sync(RepoArgs),
    Set(Set),
    /// List the webhook deliveries of a repo, with their results
    ///
    /// Deliveries with a wrong signature or an unreadable body are not stored; the daemon's log has them.
    Deliveries {
        #[command(flatten)]
        one: RepoArgs,

        /// How many of the newest to list
        #[arg(long, default_value_t = 50, value_name = "COUNT")]
        limit: u32,
    },
    /// Remove a repo. Its DAGs, runs, logs, artifacts and secrets are deleted
    ///
    /// Shows how much that is, and asks for confirmation.
    Remove {
        /// The repo's name
        name: String,

        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
}

/// Follow a repo
///
/// Prints the address for the forge's webhooks and, if the daemon generated it, the secret that signs them; the
/// secret is shown only once. Webhooks are optional: the daemon also finds pushes by polling. Then waits for the
/// first sync with the remote; if that fails, the repo stays, and the exit code is 3.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The repo's name
    name: String,

    /// The address to fetch from: https://, ssh:// (or git@host:path), or file:// if the daemon allows it
    url: String,

    /// The branch whose schedules count; the remote's default branch without it
    #[arg(long)]
    branch: Option<String>,

    /// How often to poll for pushes: `30s`, `5m`, or a number of seconds, at least 5; the daemon's default without it
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    poll_every: Option<u64>,

    /// The secret that signs webhooks: `-` reads it from standard input, `generate` makes one
    #[arg(
        long,
        value_name = "SECRET",
        default_value = "generate",
        hide_default_value = true
    )]
    webhook_secret: String,

    #[command(flatten)]
    credentials: CredentialArgs,

    /// Do not wait for the sync
    #[arg(long)]
    no_wait: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// Change a repo: settings that are not given stay as they are
///
/// Then waits for a sync with the change; if that fails, the change stays, and the exit code is 3.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The repo's name
    name: String,

    /// The new address to fetch from. A change of the host needs new credentials or --no-credentials
    url: Option<String>,

    /// The branch whose schedules count
    #[arg(long)]
    branch: Option<String>,

    /// Follow the remote's default branch
    #[arg(long, conflicts_with = "branch")]
    default_branch: bool,

    /// How often to poll for pushes: `30s`, `5m`, or a number of seconds, at least 5
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    poll_every: Option<u64>,

    /// The secret that signs webhooks: `-` reads it from standard input, `generate` makes one
    #[arg(long, value_name = "SECRET")]
    webhook_secret: Option<String>,

    #[command(flatten)]
    credentials: CredentialArgs,

    /// Fetch without credentials
    #[arg(long, conflicts_with_all = ["username", "password_stdin", "ssh_key", "known_hosts"])]
    no_credentials: bool,

    /// Do not wait for the sync
    #[arg(long)]
    no_wait: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// The credentials to fetch with.
#[derive(Debug, Args)]
pub(crate) struct CredentialArgs {
    /// The user to fetch as
    #[arg(long, value_name = "USER")]
    username: Option<String>,

    /// Read the password or token to fetch with from standard input, or ask for it
    #[arg(long)]
    password_stdin: bool,

    /// The private key to fetch with over ssh: a read-only deploy key without a passphrase
    #[arg(long, value_name = "FILE", conflicts_with_all = ["username", "password_stdin"])]
    ssh_key: Option<PathBuf>,

    /// The keys of the ssh host, as `ssh-keyscan HOST` prints them; the key is used with no other host
    #[arg(long, value_name = "FILE", conflicts_with_all = ["username", "password_stdin"])]
    known_hosts: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RepoArgs {
    /// The repo's name
    name: String,

    #[command(flatten)]
    output: OutputArgs,
}

impl Group<Verb> {
    pub(crate) async fn call(self) -> Done {
        let client = self.connection.client()?;
        match self.verb {
            Verb::Add(add) => {
                let (output, no_wait) = (add.output, add.no_wait);
                let added = client.add_repo(&add.into_request()?).await?;
                output.show(&added, || view::repo::saved(&added, "follows"))?;
                wait_for_sync(&client, &added.repo.name, no_wait, output).await
            }
            Verb::Set(set) => {
                let (name, output, no_wait) = (set.name.clone(), set.output, set.no_wait);
                let saved = client.change_repo(&name, &set.into_request()?).await?;
                output.show(&saved, || view::repo::saved(&saved, "changed"))?;
                wait_for_sync(&client, &name, no_wait, output).await
            }
            Verb::Deliveries {
                one: RepoArgs { name, output },
                limit,
            } => {
                let deliveries = client.deliveries(&name, limit).await?;
                output.show(&deliveries, || {
                    view::repo::deliveries(&deliveries.items, output.screen())
                })
            }
            Verb::List(output) => {
                let repos = client.repos().await?;
                output.show(&repos, || view::repo::list(&repos.items, output.screen()))
            }
            Verb::Show(one) => {
                let repo = client.repo(&one.name).await?;
                let output = one.output;
                output.show(&repo, || view::repo::show(&repo, output.screen()))
            }
            Verb::Sync(one) => {
                let repo = client.sync_repo(&one.name).await?;
                one.output
                    .show(&repo, || view::repo::synced(&repo, one.output.zone()))?;
                match repo.last_error {
                    None => Ok(()),
                    Some(problem) => {
                        let message = format!("{} cannot be synced: {problem}", repo.name);
                        Err(Failure::refused(message))
                    }
                }
            }
            Verb::Remove { name, yes } => {
                let history = client.repo_history(&name).await?;
                let cancel = format!("trainyard run cancel --repo {name}");
                input::agree(yes, &format!("removes repo {name}"), &history, &cancel)?;
                client.remove_repo(&name).await?;
                let history = view::repo::history(&history);
                output::text(&format!("removed repo {name}: {history}"))
            }
        }
    }
}

/// Waits for a sync of the repo that begins after this call.
async fn wait_for_sync(client: &Client, name: &str, no_wait: bool, output: OutputArgs) -> Done {
    if no_wait {
        return Ok(());
    }
    let repo = client.sync_repo(name).await?;
    match &repo.last_error {
        Some(problem) if repo.failing_since.is_some() => {
            let problem = Problem::new(format!("{name} cannot be synced: {problem}"));
            Err(Failure::Refused(problem.help(format!(
                "the repo is kept and retried; `trainyard repo set {name}` changes its address or credentials, \
                 `trainyard repo remove {name}` removes it"
            ))))
        }
        Some(problem) if repo.branch_missing => {
            let problem = Problem::new(format!("{name} has no branch to follow: {problem}"));
            Err(Failure::Refused(problem.help(format!(
                "the repo is kept; `trainyard repo set {name} --branch BRANCH` follows another branch"
            ))))
        }
        _ if output.is_json() => Ok(()),
        _ => output::text(&view::repo::found(&repo)),
    }
}

impl Add {
    fn into_request(self) -> Result<NewRepo, Failure> {
        let secret = webhook_secret(&self.webhook_secret, &self.credentials)?;
        let (password, ssh_key, known_hosts) = self.credentials.read()?;
        Ok(NewRepo {
            name: self.name,
            url: self.url,
            branch: self.branch,
            poll_every_seconds: self.poll_every,
            webhook_secret: secret,
            username: self.credentials.username,
            password,
            ssh_key,
            known_hosts,
        })
    }
}

impl Set {
    fn into_request(self) -> Result<ChangeRepo, Failure> {
        let given = self.webhook_secret.as_deref();
        let secret = match given {
            Some(given) => webhook_secret(given, &self.credentials)?,
            None => None,
        };
        let (password, ssh_key, known_hosts) = self.credentials.read()?;
        Ok(ChangeRepo {
            url: self.url,
            branch: self.branch,
            default_branch: self.default_branch,
            poll_every_seconds: self.poll_every,
            new_webhook_secret: given.is_some() && secret.is_none(),
            webhook_secret: secret,
            username: self.credentials.username,
            password,
            ssh_key,
            known_hosts,
            no_credentials: self.no_credentials,
        })
    }
}

/// A duration in whole seconds; a plain number is in seconds.
fn seconds(text: &str) -> Result<u64, &'static str> {
    let time = match (text.parse(), text.parse()) {
        (Ok(seconds), _) => Duration::from_secs(seconds),
        (Err(_), Ok(Span(time))) => time,
        (Err(_), Err(_)) => {
            return Err(
                "expected a duration such as `30s`, `5m` or `1h30m`, or a number of seconds",
            );
        }
    };
    if time < SHORTEST_POLL || time.subsec_nanos() > 0 {
        return Err("expected whole seconds, at least 5");
    }
    Ok(time.as_secs())
}

/// The shortest time between two polls of a remote, which daemons keep to.
const SHORTEST_POLL: Duration = Duration::from_secs(5);

/// Password, ssh key and known hosts.
type Read = (Option<String>, Option<String>, Option<String>);

impl CredentialArgs {
    fn read(&self) -> Result<Read, Failure> {
        let password = match self.password_stdin {
            true => Some(input::secret("the password")?.expose_secret().to_owned()),
            false => None,
        };
        let file = |path: &Option<PathBuf>| path.as_deref().map(input::small_file).transpose();
        Ok((password, file(&self.ssh_key)?, file(&self.known_hosts)?))
    }
}

/// The given webhook secret; `None` asks the daemon to generate one.
fn webhook_secret(given: &str, credentials: &CredentialArgs) -> Result<Option<String>, Failure> {
    match given {
        "-" if credentials.password_stdin => {
            let problem = Problem::new("only one secret can come from standard input");
            let help = "`--webhook-secret generate` makes one";
            Err(Failure::Usage(problem.help(help)))
        }
        "generate" => Ok(None),
        "-" => {
            let secret = input::secret("the webhook secret")?;
            Ok(Some(secret.expose_secret().to_owned()))
        }
        _ => Ok(Some(given.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_interval_has_a_unit_or_is_in_seconds() {
        let read = ["90", "90s", "1m30s", "5m", "1h"].map(|text| seconds(text).unwrap());
        assert_eq!(read, [90, 90, 90, 300, 3600]);
        for wrong in ["", "soon", "1500ms", "-5", "5x"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
