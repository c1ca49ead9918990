//! Which daemon a command talks to, and as whom.

use std::convert::Infallible;
use std::path::PathBuf;

use clap::{Args, FromArgMatches};
use secrecy::{ExposeSecret, SecretString};
use trainyard_api::Client;
use trainyard_daemon::endpoint::{self, Given, Places};

use crate::failure::Failure;
use crate::output;

/// Where the daemon is. Without any of these, the one of `./.trainyard` where this user made that, or the newest of
/// this user.
///
/// The ids are long, since these arguments stand beside those of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Daemon")]
pub(crate) struct Connection {
    /// Its address, such as http://127.0.0.1:8080
    #[arg(
        id = "daemon_url",
        long = "url",
        global = true,
        env = "TRAINYARD_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    url: Option<String>,

    /// The token to show. Others on this machine can read command lines: prefer the variable
    #[arg(
        id = "daemon_token",
        long = "token",
        global = true,
        env = "TRAINYARD_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        value_parser = |text: &str| Ok::<_, Infallible>(SecretString::from(text))
    )]
    token: Option<SecretString>,

    /// Its data folder, to take address and token from
    #[arg(
        id = "daemon_data_dir",
        long = "data-dir",
        global = true,
        env = "TRAINYARD_DATA_DIR",
        hide_env_values = true,
        value_name = "FOLDER"
    )]
    data_dir: Option<PathBuf>,
}

impl Connection {
    /// For a command whose own `--data-dir` stands in the way of these arguments: they come from their
    /// variables.
    pub(crate) fn beside(data_dir: Option<PathBuf>) -> Result<Self, Failure> {
        let command = Self::augment_args(clap::Command::new("trainyard"));
        let mut connection = command
            .try_get_matches_from(["trainyard"])
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(Failure::CommandLine)?;
        connection.data_dir = data_dir.or(connection.data_dir);
        Ok(connection)
    }

    /// A client for that daemon.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let given = Given {
            url: self.url.clone(),
            token: self.token.clone(),
            data_dir: self.data_dir.clone(),
        };
        let found = endpoint::find(given, &Places::of_this_process())
            .map_err(|error| Failure::refused(error.to_string()))?;
        if let Some(ignored) = &found.ignored {
            output::note(&format!(
                "ignoring {}: it was not made by `trainyard dev` of this user (use --url, or --data-dir with its whole \
                 path)",
                ignored.display()
            ));
        }
        let token = found.token.unwrap_or_default();
        Ok(Client::new(&found.url, token.expose_secret())?)
    }
}
