//! API tokens. Only their hashes are stored; the token itself is shown once.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use trainyard_core::Timestamp;
use trainyard_core::id::TokenId;
use trainyard_failpoint::{Effect as _, Point};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::seal::random;
use crate::store::Store;

/// What every token begins with, so that people and scanners recognise one.
const PREFIX: &str = "trainyard_";

/// A token without the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// Its id.
    pub id: TokenId,
    /// What it was called when it was made; shown as the actor of what is done with it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was used last, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

impl Store {
    /// Makes a token; what is returned with it is shown once and cannot be had again.
    ///
    /// # Errors
    /// `Conflict` where a token of this name is in use.
    pub async fn create_token(&self, name: &str) -> Result<(TokenInfo, SecretString)> {
        let bytes: [u8; 32] = random().map_err(|source| Error::Storage {
            path: "/dev/urandom".into(),
            source,
        })?;
        let token = SecretString::from(format!("{PREFIX}{}", hex::encode(bytes)));
        let id = Uuid::now_v7();
        let row = sqlx::query!(
            "insert into token (id, name, digest, created_at) values ($1, $2, $3, clock_timestamp())
             on conflict (name) where revoked_at is null do nothing returning created_at",
            id,
            name,
            digest(token.expose_secret())
        )
        .fetch_optional(&self.core.pool)
        .at(Point::CreateToken)
        .await?
        .ok_or_else(|| {
            Error::conflict(format!(
                "a token named `{name}` is in use; revoke it first, or choose another name"
            ))
        })?;
        let info = TokenInfo {
            id: TokenId(id),
            name: name.to_owned(),
            created_at: row.created_at,
            last_used_at: None,
            revoked_at: None,
        };
        Ok((info, token))
    }

    /// All tokens, the newest first, those that were revoked included.
    ///
    /// # Errors
    /// Trouble with the database.
    pub async fn list_tokens(&self) -> Result<Vec<TokenInfo>> {
        let rows = sqlx::query!(
            "select id, name, created_at, last_used_at, revoked_at from token order by created_at desc"
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| TokenInfo {
                id: TokenId(row.id),
                name: row.name,
                created_at: row.created_at,
                last_used_at: row.last_used_at,
                revoked_at: row.revoked_at,
            })
            .collect())
    }

    /// Revokes the token in use under a name, or by its id.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn revoke_token(&self, name_or_id: &str) -> Result<()> {
        let id = name_or_id.parse::<Uuid>().ok();
        let done = sqlx::query!(
            "update token set revoked_at = clock_timestamp()
             where revoked_at is null and (name = $1 or id = $2)",
            name_or_id,
            id
        )
        .execute(&self.core.pool)
        .at(Point::RevokeToken)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::not_found(format!("token `{name_or_id}` in use")));
        }
        Ok(())
    }

    /// Whose token this is; `None` where it is not one, or was revoked.
    ///
    /// The lookup is by the hash of what was presented, so its time tells nothing about any token.
    ///
    /// # Errors
    /// Trouble with the database.
    pub async fn authenticate(&self, presented: &SecretString) -> Result<Option<TokenInfo>> {
        let row = sqlx::query!(
            r#"select id, name, created_at, last_used_at, revoked_at,
                -- In the future where the clock went back.
                coalesce(last_used_at not between clock_timestamp() - interval '1 minute' and clock_timestamp(),
                    true) as "stale!"
            from token where digest = $1 and revoked_at is null"#,
            digest(presented.expose_secret())
        )
        .fetch_optional(&self.core.reading)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.stale {
            sqlx::query!(
                "update token set last_used_at = clock_timestamp() where id = $1",
                row.id
            )
            .execute(&self.core.relaxed)
            .at(Point::UseToken)
            .await?;
        }
        Ok(Some(TokenInfo {
            id: TokenId(row.id),
            name: row.name,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
        }))
    }
}

fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
