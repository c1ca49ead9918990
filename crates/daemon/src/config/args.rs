//! The arguments of the two commands that start a daemon.

use std::path::PathBuf;

use clap::Args;

use super::keys::Settings;

/// Arguments of `trainyard daemon`.
#[derive(Debug, Clone, Default, Args)]
pub struct DaemonArgs {
    /// The configuration file; deploy/config.example.toml has every key
    #[arg(long, env = "TRAINYARD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Flags and variables.
    #[command(flatten)]
    pub settings: Settings,
}

/// Arguments of `trainyard dev`.
#[derive(Debug, Clone, Default, Args)]
pub struct DevArgs {
    /// A configuration file, as for `daemon`
    #[arg(long, env = "TRAINYARD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Follow this repository, too. May be repeated
    #[arg(long = "repo", value_name = "PATH_OR_URL")]
    pub repos: Vec<String>,

    /// Folder with the Postgres programs (initdb, pg_ctl, postgres) for its own Postgres.
    /// Default: the newest found in /usr/lib/postgresql and $PATH
    #[arg(long, env = "TRAINYARD_PG_BIN", value_name = "FOLDER")]
    pub pg_bin: Option<PathBuf>,

    /// Run its own Postgres as a container of this image, instead of with programs of this machine.
    /// Default where there are none: postgres:17
    #[arg(
        long,
        env = "TRAINYARD_PG_IMAGE",
        value_name = "IMAGE",
        conflicts_with = "pg_bin"
    )]
    pub pg_image: Option<String>,

    /// Flags and variables.
    #[command(flatten)]
    pub settings: Settings,
}
