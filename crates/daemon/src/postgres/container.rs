//! Postgres as a labelled container, for machines without Postgres programs.
//!
//! Its port is open on the loopback address only. Its password is random and lies in the data folder. Its data is in
//! a volume with the container's name, which outlives the container. The daemon stops it in order. As with a private
//! cluster, run a Postgres of your own for upgrades to another major version.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tracing::info;
use trainyard_core::id::InstanceId;
use trainyard_executor::docker::{Companion, Docker, DockerConfig};
use uuid::Uuid;

use super::error::ClusterError;
use crate::data_dir::DataDir;
use crate::secret_key;

/// The default image.
pub const DEFAULT_IMAGE: &str = "postgres:17";

/// The cluster's one user.
const USER: &str = "trainyard";

/// The mount point of the volume in the container. Not the image's own, which differs between its versions.
const MOUNTED_AT: &str = "/trainyard-postgres";

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct PostgresContainer {
    docker: Docker,
    name: String,
    url: SecretString,
}

impl PostgresContainer {
    /// Starts the data folder's container, and creates it at the first call.
    ///
    /// # Errors
    /// Docker does not answer or is on another machine, the image cannot be pulled, or Postgres does not start in it.
    pub async fn start(
        data: &DataDir,
        image: &str,
        docker_host: Option<String>,
    ) -> Result<Self, ClusterError> {
        let config = DockerConfig {
            host: docker_host,
            // The instance id labels only attempts and built images; the database that has it does not exist yet.
            ..DockerConfig::new(InstanceId(Uuid::nil()))
        };
        if !config.host().starts_with("unix://") {
            return Err(ClusterError::RemoteEngine {
                host: config.host().to_owned(),
            });
        }
        let docker = Docker::connect(config).await?;
        let key_file = key_file(data.path());
        if let Some(folder) = key_file.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(ClusterError::file(folder))?;
        }
        let key = secret_key::read_or_create(&key_file)?;
        let password = SecretString::from(hex::encode(key.key.expose_secret()));
        let companion = companion(data.path(), image, &password);
        let port = docker
            .start_companion(&companion, &|line| info!("{line}"))
            .await?;
        let url = format!(
            "postgres://{USER}:{}@127.0.0.1:{port}/postgres",
            password.expose_secret()
        );
        info!(container = %companion.name, port, "Postgres runs in a container");
        Ok(Self {
            docker,
            name: companion.name,
            url: SecretString::from(url),
        })
    }

    /// Stops it. Its volume stays.
    ///
    /// # Errors
    /// Docker fails to stop it.
    pub async fn stop(self) -> Result<(), ClusterError> {
        Ok(self.docker.stop_companion(&self.name, STOP).await?)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where to connect, with the password.
    #[must_use]
    pub fn url(&self) -> &SecretString {
        &self.url
    }
}

/// The file with the password. Its presence means that the data folder uses a container.
pub(super) fn key_file(data: &Path) -> PathBuf {
    data.join("postgres/container.key")
}

fn companion(data: &Path, image: &str, password: &SecretString) -> Companion {
    let plain = |text: &str| SecretString::from(text);
    let env = [
        ("POSTGRES_USER", plain(USER)),
        ("POSTGRES_PASSWORD", password.clone()),
        ("POSTGRES_DB", plain("postgres")),
        ("PGDATA", plain(&format!("{MOUNTED_AT}/cluster"))),
    ];
    let health = ["pg_isready", "--host=127.0.0.1", "--username", USER];
    Companion {
        name: name(data),
        purpose: format!("Postgres of {}", data.display()),
        image: image.to_owned(),
        env: env.map(|(name, value)| (name.to_owned(), value)).into(),
        mounted_at: MOUNTED_AT.to_owned(),
        port: 5432,
        health: health.map(str::to_owned).into(),
    }
}

/// The container's name: unique for each data folder, and the same at each start.
fn name(data: &Path) -> String {
    let digest = Sha256::digest(data.as_os_str().as_encoded_bytes());
    format!("trainyard-postgres-{}", &hex::encode(digest)[..12])
}
