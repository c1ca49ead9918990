//! Secrets: sealed values, by repo and name. They are written and used, never shown.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret, SecretString};
use trainyard_core::Timestamp;
use trainyard_core::id::RepoId;
use trainyard_core::name::SecretName;
use trainyard_failpoint::{Effect as _, Point};

use crate::error::{Error, Result};
use crate::store::{Core, Store};

/// The longest value, in bytes: what an environment variable may well be.
pub const SECRET_AT_MOST: usize = 64 * 1024;

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// When it was set last.
    pub updated_at: Timestamp,
}

impl Store {
    /// Sets a secret of a repo, over an earlier value.
    ///
    /// # Errors
    /// `NotFound` for an unknown repo, `Conflict` for a value that is empty or too long,
    /// `NoSecretKey`.
    pub async fn set_secret(
        &self,
        repo: RepoId,
        name: &SecretName,
        value: &SecretString,
    ) -> Result<()> {
        let plain = value.expose_secret().as_bytes();
        if plain.is_empty() || plain.len() > SECRET_AT_MOST {
            return Err(Error::conflict(format!(
                "the value of secret {name} must have 1 to {SECRET_AT_MOST} bytes"
            )));
        }
        let sealed = self
            .core
            .secret_key()?
            .seal(&context(repo, name.as_str()), plain)?;
        let done = sqlx::query!(
            "insert into secret (repo, name, sealed, updated_at)
             select id, $2, $3, clock_timestamp() from repo where id = $1
             on conflict (repo, name) do update set sealed = excluded.sealed, updated_at = excluded.updated_at",
            repo.0,
            name.as_str(),
            sealed
        )
        .execute(&self.core.pool).at(Point::SetSecret)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found("such repo"));
        }
        Ok(())
    }

    /// The secrets of a repo, without their values.
    ///
    /// # Errors
    /// Trouble with the database.
    pub async fn list_secrets(&self, repo: RepoId) -> Result<Vec<SecretInfo>> {
        let secrets = sqlx::query_as!(
            SecretInfo,
            "select name, updated_at from secret where repo = $1 order by name",
            repo.0
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(secrets)
    }

    /// Removes a secret of a repo.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn remove_secret(&self, repo: RepoId, name: &SecretName) -> Result<()> {
        let done = sqlx::query!(
            "delete from secret where repo = $1 and name = $2",
            repo.0,
            name.as_str()
        )
        .execute(&self.core.pool)
        .at(Point::RemoveSecret)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found(format!("secret {name}")));
        }
        Ok(())
    }

    /// The values of these secrets of a repo; what is not set is absent.
    ///
    /// # Errors
    /// `NoSecretKey`, `WrongSecretKey`, `Corrupt`.
    pub async fn secrets_for(
        &self,
        repo: RepoId,
        names: &BTreeSet<SecretName>,
    ) -> Result<BTreeMap<SecretName, SecretString>> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let wanted: Vec<String> = names.iter().map(ToString::to_string).collect();
        let rows = sqlx::query!(
            "select name, sealed from secret where repo = $1 and name = any($2)",
            repo.0,
            &wanted
        )
        .fetch_all(&self.core.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let value = open_text(&self.core, &context(repo, &row.name), &row.sealed)?;
                let name =
                    SecretName::new(row.name).map_err(|fault| Error::corrupt("a secret", fault))?;
                Ok((name, value))
            })
            .collect()
    }
}

/// Opens a sealed text.
pub(crate) fn open_text(core: &Core, context: &str, sealed: &[u8]) -> Result<SecretString> {
    let plain = core.secret_key()?.open(context, sealed)?;
    String::from_utf8(plain)
        .map(SecretString::from)
        .map_err(|_| Error::corrupt(context, "it is not text"))
}

fn context(repo: RepoId, name: &str) -> String {
    format!("secret/{repo}/{name}")
}
