//! Secrets: sealed values by repo and name, and the branches whose runs may have them.
//! A value can be set and used, never shown.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use trainyard_api::Secret;
use trainyard_core::id::RepoId;
use trainyard_core::name::SecretName;
use trainyard_core::principal::{Act, AuditAction};
use trainyard_core::secret::SecretBranches;
use trainyard_failpoint::{AtPoint as _, Point};

use crate::access::audit::{self, Audited};
use crate::db::error::{Error, Result};
use crate::store::{Core, Store};
use crate::triggers::repos::repo_name;

/// The longest value, in bytes: about as long as an environment variable may be.
pub const SECRET_AT_MOST: usize = 64 * 1024;

/// A secret as a stage receives it.
#[derive(Debug, Clone)]
pub struct StoredSecret {
    pub value: SecretString,
    /// Whose runs may have it.
    pub branches: SecretBranches,
}

/// Secrets of a repo, and the branch that it follows now.
#[derive(Debug, Clone, Default)]
pub struct StoredSecrets {
    /// The followed branch, where it is known.
    pub followed: Option<String>,
    pub by_name: BTreeMap<SecretName, StoredSecret>,
}

impl Store {
    /// Sets a secret of a repo and replaces an earlier value. Without `branches` an existing secret keeps its
    /// branches, and a new one belongs to the followed branch.
    ///
    /// # Errors
    /// `NotFound` for an unknown repo, `Conflict` for a value that is empty or too long, `NoSecretKey`.
    pub async fn set_secret(
        &self,
        act: &Act,
        repo: RepoId,
        name: &SecretName,
        value: &SecretString,
        branches: Option<&SecretBranches>,
    ) -> Result<()> {
        let branches: Option<Vec<String>> =
            branches.map(|branches| branches.patterns().map(str::to_owned).collect());
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
        let mut transaction = self.core.begin().await?;
        let of = repo_name(&mut transaction, repo).await?;
        sqlx::query!(
            "insert into secret (repo, name, sealed, updated_at, branches)
             values ($1, $2, $3, clock_timestamp(), coalesce($4::text[], '{}'::text[]))
             on conflict (repo, name) do update set sealed = excluded.sealed, updated_at = excluded.updated_at,
                branches = coalesce($4::text[], secret.branches)",
            repo.0,
            name.as_str(),
            sealed,
            branches.as_deref()
        )
        .execute(&mut *transaction)
        .await?;
        let audited = Audited {
            action: AuditAction::SecretSet,
            subject: Some(name.as_str()),
            repo: Some(&of),
            detail: match branches {
                Some(branches) => json!({"branches": branches}),
                None => json!({}),
            },
        };
        audit::record(&mut transaction, act, audited).await?;
        transaction.commit().at(Point::SetSecret).await?;
        Ok(())
    }

    /// The secrets of a repo, without their values.
    pub async fn list_secrets(&self, repo: RepoId) -> Result<Vec<Secret>> {
        let secrets = sqlx::query_as!(
            Secret,
            "select r.name as repo, s.name, s.branches, s.updated_at from secret s join repo r on r.id = s.repo
             where s.repo = $1 order by s.name",
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
    pub async fn remove_secret(&self, act: &Act, repo: RepoId, name: &SecretName) -> Result<()> {
        let mut transaction = self.core.begin().await?;
        let of = repo_name(&mut transaction, repo).await?;
        let done = sqlx::query!(
            "delete from secret where repo = $1 and name = $2",
            repo.0,
            name.as_str()
        )
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found(format!("secret {name}")));
        }
        let audited = Audited {
            action: AuditAction::SecretRemove,
            subject: Some(name.as_str()),
            repo: Some(&of),
            detail: json!({}),
        };
        audit::record(&mut transaction, act, audited).await?;
        transaction.commit().at(Point::RemoveSecret).await?;
        Ok(())
    }

    /// The named secrets of a repo, whichever branches may have them; secrets that are not set are absent.
    ///
    /// # Errors
    /// `NoSecretKey`, `WrongSecretKey`, `Corrupt`.
    pub async fn secrets_for(
        &self,
        repo: RepoId,
        names: &BTreeSet<SecretName>,
    ) -> Result<StoredSecrets> {
        if names.is_empty() {
            return Ok(StoredSecrets::default());
        }
        let wanted: Vec<String> = names.iter().map(ToString::to_string).collect();
        let rows = sqlx::query!(
            r#"select s.name, s.sealed, s.branches, coalesce(r.current_branch, r.followed_branch) as followed
               from secret s join repo r on r.id = s.repo
               where s.repo = $1 and s.name = any($2)"#,
            repo.0,
            &wanted
        )
        .fetch_all(&self.core.pool)
        .await?;
        let mut secrets = StoredSecrets::default();
        for row in rows {
            let value = open_text(&self.core, &context(repo, &row.name), &row.sealed)?;
            let branches = SecretBranches::new(row.branches)
                .map_err(|fault| Error::corrupt(format!("secret {}", row.name), fault))?;
            let name =
                SecretName::new(row.name).map_err(|fault| Error::corrupt("a secret", fault))?;
            secrets.followed = row.followed;
            secrets
                .by_name
                .insert(name, StoredSecret { value, branches });
        }
        Ok(secrets)
    }
}

pub(crate) fn open_text(core: &Core, context: &str, sealed: &[u8]) -> Result<SecretString> {
    let plain = core.secret_key()?.open(context, sealed)?;
    String::from_utf8(plain)
        .map(SecretString::from)
        .map_err(|_| Error::corrupt(context, "it is not text"))
}

fn context(repo: RepoId, name: &str) -> String {
    format!("secret/{repo}/{name}")
}
