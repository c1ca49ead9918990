//! The private Postgres of `trainyard dev`: a cluster made with the programs of this machine, or a container if there
//! are none.
//!
//! The first start decides which of the two a data folder uses. This never changes, whatever is installed later,
//! since the data lies there.

pub mod binaries;
mod cluster;
mod container;
mod data_folder;
mod error;
mod parameters;
mod postmaster;
mod programs;

use std::path::Path;

use secrecy::SecretString;
use tracing::info;

pub use self::binaries::Binaries;
pub use self::cluster::{PrivateCluster, programs_for};
pub use self::container::{DEFAULT_IMAGE, PostgresContainer};
pub use self::error::ClusterError;

pub(crate) use self::data_folder::is_open_place;

use crate::data_dir::DataDir;

/// A running private Postgres. After a drop it keeps running, and the next start uses it.
#[derive(Debug)]
pub enum OwnPostgres {
    /// Made with the programs of this machine.
    Cluster(PrivateCluster),
    Container(PostgresContainer),
}

/// Options for the private Postgres.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnPostgresOptions {
    /// The folder of the programs; searched for without it.
    pub binaries: Option<std::path::PathBuf>,
    /// The image of a container, instead of programs.
    pub image: Option<String>,
    /// The Docker engine; its usual address without it.
    pub docker_host: Option<String>,
}

impl OwnPostgres {
    /// Starts the data folder's Postgres, or uses it if it still runs.
    ///
    /// # Errors
    /// It does not start; the error says what to do.
    pub async fn start(data: &DataDir, options: &OwnPostgresOptions) -> Result<Self, ClusterError> {
        if options.image.is_some() || is_in_a_container(data.path()) {
            return Self::container(data, options).await;
        }
        match PrivateCluster::start(data, options.binaries.as_deref()).await {
            Ok(cluster) => Ok(Self::Cluster(cluster)),
            Err(ClusterError::NotInstalled { given: None }) => {
                info!("there are no Postgres programs here; using a container");
                match Self::container(data, options).await {
                    Err(ClusterError::Engine(problem)) => {
                        Err(ClusterError::NeitherProgramsNorContainer(problem))
                    }
                    started => started,
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn container(data: &DataDir, options: &OwnPostgresOptions) -> Result<Self, ClusterError> {
        let image = options.image.as_deref().unwrap_or(DEFAULT_IMAGE);
        let host = options.docker_host.clone();
        PostgresContainer::start(data, image, host)
            .await
            .map(Self::Container)
    }

    /// Ends all connections and stops Postgres. Close the pool first.
    ///
    /// # Errors
    /// It does not stop in time.
    pub async fn stop(self) -> Result<(), ClusterError> {
        match self {
            Self::Cluster(cluster) => cluster.stop().await,
            Self::Container(container) => container.stop().await,
        }
    }

    /// Stops Postgres out of order and in moments, where the process is about to end; returns what became of it, in words.
    pub(crate) fn halt(&self) -> impl Fn() -> String + Send + Sync + use<> {
        let halt: Box<dyn Fn() -> String + Send + Sync> = match self {
            Self::Cluster(cluster) => Box::new(cluster.halt()),
            Self::Container(container) => {
                let name = container.name().to_owned();
                Box::new(move || {
                    format!(
                        "its Postgres goes on in container {name}: `docker stop {name}` stops it"
                    )
                })
            }
        };
        halt
    }

    #[must_use]
    pub fn url(&self) -> SecretString {
        match self {
            Self::Cluster(cluster) => SecretString::from(cluster.url()),
            Self::Container(container) => container.url().clone(),
        }
    }

    /// The address for other programs on this machine, to show to users; `None` if it contains a password.
    #[must_use]
    pub fn shown_url(&self) -> Option<&str> {
        match self {
            Self::Cluster(cluster) => Some(cluster.url()),
            Self::Container(_) => None,
        }
    }
}

/// Whether the data folder's Postgres is a container.
#[must_use]
pub fn is_in_a_container(data: &Path) -> bool {
    container::key_file(data).exists()
}
