//! The daemon that a command uses, and the token for it.

use std::convert::Infallible;
use std::path::PathBuf;

use clap::{Args, FromArgMatches, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use trainyard_api::Client;
use trainyard_daemon::endpoint::{self, DEV_DATA_DIR, Given, Places};

use crate::failure::Failure;
use crate::output;
use crate::variables::without_empty_variables;

/// Commands below a common word, such as those of `trainyard run`, which all talk to a daemon.
#[derive(Debug, Args)]
pub(crate) struct Group<V: Subcommand> {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) verb: V,
}

/// The daemon to use. Without any of these, it is the one of `./.trainyard` if this user made that, or the newest one
/// of this user.
///
/// The ids are long, since these arguments are combined with those of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Daemon")]
pub(crate) struct Connection {
    /// The daemon's address, such as http://127.0.0.1:8080
    #[arg(
        id = "daemon_url",
        long = "url",
        global = true,
        env = "TRAINYARD_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    url: Option<String>,

    /// The token to send. Other users of this machine can read command lines: prefer the variable
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

    /// The data folder that has its address and token
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
    /// For a command whose own `--data-dir` conflicts with these arguments: they are read from their variables.
    pub(crate) fn from_variables(data_dir: Option<PathBuf>) -> Result<Self, Failure> {
        let command = Self::augment_args(clap::Command::new("trainyard"));
        let mut connection = without_empty_variables(command)
            .try_get_matches_from(["trainyard"])
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(Failure::CommandLine)?;
        connection.data_dir = data_dir.or(connection.data_dir);
        Ok(connection)
    }

    /// A client for that daemon.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(self.client_and_why()?.0)
    }

    /// A client for that daemon, and the reason for that choice.
    pub(crate) fn client_and_why(&self) -> Result<(Client, String), Failure> {
        let given = Given {
            url: self.url.clone(),
            token: self.token.clone(),
            data_dir: self.data_dir.clone(),
        };
        let places = Places::of_this_process();
        let found =
            endpoint::find(given, &places).map_err(|error| Failure::refused(error.to_string()))?;
        if let Some(ignored) = &found.ignored {
            output::note(&format!(
                "ignoring {}: it was not made by `trainyard dev` of this user (use --url, or --data-dir with its whole \
                 path)",
                ignored.display()
            ));
        }
        if let (Some(stopped), Some(folder)) = (&found.stopped, &found.data_dir) {
            output::note(&format!(
                "the daemon that started last, of {}, does not run; this is from the one of {}",
                stopped.display(),
                folder.display()
            ));
        }
        let token = found.token.unwrap_or_default();
        let client = Client::new(&found.url, token.expose_secret())?;
        let because = match &found.data_dir {
            None => "--url or TRAINYARD_URL gives its address".to_owned(),
            Some(folder) if self.data_dir.is_some() => format!(
                "--data-dir or TRAINYARD_DATA_DIR gives its data folder, {}",
                folder.display()
            ),
            Some(folder) if *folder == places.working_dir.join(DEV_DATA_DIR) => {
                "its data folder, .trainyard, is in this folder".to_owned()
            }
            Some(folder) => {
                let which = match found.stopped {
                    None => "this user started it last",
                    Some(_) => "of this user's daemons that run, it started last",
                };
                format!("{which}; its data folder is {}", folder.display())
            }
        };
        Ok((client, because))
    }
}
