//! The daemon around Docker: configuration, the data folder, a Postgres of its own for `dev`, and
//! what a process needs at its start and its end.
//!
//! Nothing here knows runs or DAGs. [`config`] says what the operator wants, [`DataDir`] holds the
//! folder against a second daemon, [`PrivateCluster`] is Postgres where none is given, [`endpoint`]
//! is how the command line finds a running daemon, [`doctor`] says what stands in the way of a start.

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
/// Git's process: what the hidden command [`GIT_WORKER`] does.
pub use trainyard_forge::git::serve_one_request as git_worker;
