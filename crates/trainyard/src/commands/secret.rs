//! `trainyard secret`

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;
use trainyard_api::{Listing, SecretValue};
use trainyard_core::secret::{MOST_ENCODED, SHORTEST_REDACTED, is_redacted_part};

use crate::connection::Group;
use crate::failure::Done;
use crate::output::{self, OutputArgs};
use crate::{input, view};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Set a secret; its value is read from standard input or from the terminal
    ///
    /// Only runs of the secret's branches get it, by the branch on which the commit was found: a run of another
    /// branch, of a tag or of a bare commit does not.
    Set {
        #[command(flatten)]
        one: SecretArgs,

        /// A branch whose runs get it, or a pattern as in a push trigger, such as release/*. May be repeated. Without
        /// it, a secret keeps its branches, and a new one belongs to the followed branch
        #[arg(long = "branch", value_name = "PATTERN")]
        branches: Vec<String>,
    },
    /// List the names of secrets. Values are never shown
    List {
        /// Only those of this repo
        #[arg(long)]
        repo: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Remove a secret
    Remove(SecretArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SecretArgs {
    /// The name of the secret and of its variable
    name: String,

    /// The repo whose stages may use it
    #[arg(long)]
    repo: String,
}

impl Group<Verb> {
    pub(crate) async fn call(self) -> Done {
        let client = self.connection.client()?;
        match self.verb {
            Verb::Set {
                one: SecretArgs { name, repo },
                branches,
            } => {
                let value = input::secret(&format!("the value of {name}"))?;
                let warnings = unredacted(value.expose_secret());
                let value = SecretValue {
                    value: value.expose_secret().to_owned(),
                    branches: (!branches.is_empty()).then_some(branches),
                };
                client.set_secret(&repo, &name, &value).await?;
                for warning in warnings {
                    output::note(&format!("{name}: {warning}"));
                }
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
                    view::secret::list(&secrets.items, output.screen())
                })
            }
            Verb::Remove(SecretArgs { name, repo }) => {
                client.remove_secret(&repo, &name).await?;
                output::text(&format!("{name} of {repo} is removed"))
            }
        }
    }
}

/// The parts of a value that are not redacted in logs, in sentences.
pub(crate) fn unredacted(value: &str) -> Vec<String> {
    let shortest = SHORTEST_REDACTED;
    let is_short = |line: &str| line.trim().len() < shortest;
    if value.lines().all(is_short) {
        return vec![format!(
            "shorter than {shortest} characters: it cannot be redacted, and logs show it if a stage prints it"
        )];
    }
    let mut warnings = Vec::new();
    if value
        .lines()
        .any(|line| !line.trim().is_empty() && is_short(line))
    {
        warnings.push(format!(
            "its lines of fewer than {shortest} characters cannot be redacted, and logs show them if a stage prints them"
        ));
    }
    let mut names = BTreeSet::new();
    if let Ok(json) = serde_json::from_str(value) {
        ordinary("", &json, &mut names);
    }
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        warnings.push(format!(
            "its JSON values of {} are short or ordinary words, and are not redacted if a stage prints them by themselves",
            names.join(", ")
        ));
    }
    let forms = if value.contains('\n') { 3 } else { 1 };
    if value.len() * forms > MOST_ENCODED {
        warnings.push(
            "it is so large that its base64 and hex forms are only partly redacted; its plain text is redacted"
                .to_owned(),
        );
    }
    warnings
}

/// The names of texts in JSON that are not redacted by themselves.
fn ordinary(name: &str, json: &serde_json::Value, names: &mut BTreeSet<String>) {
    match json {
        serde_json::Value::String(text) if !text.is_empty() && !is_redacted_part(name, text) => {
            names.insert(name.to_owned());
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|item| ordinary(name, item, names));
        }
        serde_json::Value::Object(fields) => fields
            .iter()
            .for_each(|(name, item)| ordinary(name, item, names)),
        serde_json::Value::String(_)
        | serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_) => {}
    }
}
