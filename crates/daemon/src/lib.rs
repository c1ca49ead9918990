//! The daemon process: configuration, the data folder, a private Postgres for `dev`, start and stop.
//!
//! [`config`] merges the settings of the operator, [`DataDir`] locks the folder against a second daemon,
//! [`PrivateCluster`] is Postgres if none is given, [`endpoint`] lets the command line find a running daemon,
//! [`doctor`] checks whether a daemon could start.

mod admin_token;
pub mod config;
pub mod crypto;
pub mod data_dir;
pub mod descriptors;
pub mod doctor;
pub mod endpoint;
pub mod exec;
mod executor;
pub mod known_folders;
mod loops;
pub mod postgres;
mod private_file;
mod remotes;
pub mod secret_key;
mod serve;
pub mod shutdown;
pub mod telemetry;

pub use config::{Config, ConfigError, DaemonArgs, DevArgs};
pub use data_dir::DataDir;
pub use postgres::PrivateCluster;
pub use remotes::GIT_WORKER;
pub use serve::{ServeError, daemon, dev};
/// The git process: runs the hidden command [`GIT_WORKER`].
pub use trainyard_forge::git::serve_one_request as git_worker;
