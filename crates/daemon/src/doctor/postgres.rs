//! Checks the database: reachable and new enough, or the programs for a private Postgres.

use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::Check;
use crate::config::{Config, Database};
use crate::postgres::binaries::OLDEST;
use crate::postgres::{ClusterError, DEFAULT_IMAGE, is_in_a_container, programs_for};

const POSTGRES: &str = "Postgres";

/// How long an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn check(config: &Config) -> Check {
    match &config.database {
        Database::Url(url) => elsewhere(url, &config.database.shown()).await,
        Database::Private {
            image: Some(image), ..
        } => in_a_container(image),
        Database::Private { .. } if is_in_a_container(&config.data_dir) => {
            in_a_container(DEFAULT_IMAGE)
        }
        Database::Private { binaries, .. } => {
            match programs_for(&config.data_dir, binaries.as_deref()) {
                Ok(found) => Check::ok(
                    POSTGRES,
                    format!(
                        "Postgres {} in {}, for a database of its own",
                        found.major,
                        found.folder.display()
                    ),
                ),
                Err(ClusterError::NotInstalled { given: None }) => in_a_container(DEFAULT_IMAGE),
                Err(error) => Check::failed(
                    POSTGRES,
                    error.to_string(),
                    "install Postgres (Debian: `apt install postgresql`), or give --database-url",
                ),
            }
        }
    }
}

/// Whether the container can start depends on Docker, which has a check of its own.
fn in_a_container(image: &str) -> Check {
    Check::ok(
        POSTGRES,
        format!("a container of {image}, for a database of its own"),
    )
}

async fn elsewhere(url: &SecretString, shown: &str) -> Check {
    let failed = |why: String| {
        Check::failed(
            POSTGRES,
            format!("{shown}: {why}"),
            "check that it runs there, that the database exists, and that user and password are right",
        )
    };
    let options = match PgConnectOptions::from_str(url.expose_secret()) {
        // The error could quote the URL.
        Err(_) => return failed("invalid Postgres address".to_owned()),
        Ok(options) => options
            .application_name("trainyard doctor")
            .disable_statement_logging(),
    };
    let connection =
        match tokio::time::timeout(PATIENCE, PgConnection::connect_with(&options)).await {
            Err(_) => return failed(format!("no answer within {} s", PATIENCE.as_secs())),
            Ok(Err(error)) => return failed(error.to_string()),
            Ok(Ok(connection)) => connection,
        };
    let major = connection.server_version_num().unwrap_or_default() / 10_000;
    // The check has changed nothing. If closing in order fails, Postgres closes the connection by itself.
    let _ = connection.close().await;
    if major < OLDEST {
        return Check::failed(
            POSTGRES,
            format!("{shown} is Postgres {major}"),
            format!("upgrade it to Postgres {OLDEST} or newer"),
        );
    }
    Check::ok(POSTGRES, format!("Postgres {major} at {shown}"))
}
