//! API tokens. Only their hashes are stored; the token itself is shown once.

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};
use trainyard_api::{Token, TokenMade, TokenScope};
use trainyard_core::id::{DaemonId, TokenId};
use trainyard_core::principal::{Act, AuditAction};
use trainyard_failpoint::{AtPoint as _, Point};
use uuid::Uuid;

use crate::access::audit::{self, Audited};
use crate::access::seal::random;
use crate::db::error::{Error, Result};
use crate::store::Store;

/// Every token begins with this, so that people and scanners recognise one.
const PREFIX: &str = "trainyard_";

/// The holder of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    pub id: TokenId,
    /// The name that it was given when it was made; shown as the actor of everything done with it.
    pub name: String,
    pub scope: TokenScope,
}

impl Store {
    /// Makes a token. The returned token is shown once and cannot be read again.
    ///
    /// # Errors
    /// `Conflict` where a token of this name is in use.
    pub async fn create_token(
        &self,
        act: &Act,
        name: &str,
        scope: TokenScope,
    ) -> Result<(TokenId, TokenMade)> {
        let bytes: [u8; 32] = random().map_err(|source| Error::Storage {
            path: "/dev/urandom".into(),
            source,
        })?;
        let secret = format!("{PREFIX}{}", hex::encode(bytes));
        let id = Uuid::now_v7();
        let mut transaction = self.core.begin().await?;
        let row = sqlx::query!(
            "insert into token (id, name, digest, scope, created_at) values ($1, $2, $3, $4, clock_timestamp())
             on conflict (name) where revoked_at is null do nothing returning created_at",
            id,
            name,
            digest(&secret),
            scope.as_str()
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| {
            Error::conflict(format!(
                "a token named `{name}` is in use; revoke it first, or choose another name"
            ))
        })?;
        let audited = Audited {
            action: AuditAction::TokenCreate,
            subject: Some(name),
            repo: None,
            detail: json!({"id": id, "scope": scope.as_str()}),
        };
        audit::record(&mut transaction, act, audited).await?;
        transaction.commit().at(Point::CreateToken).await?;
        let token = Token {
            id: id.to_string(),
            name: name.to_owned(),
            scope,
            created_at: row.created_at,
            last_used_at: None,
            revoked_at: None,
        };
        Ok((TokenId(id), TokenMade { token, secret }))
    }

    /// All tokens, the newest first, revoked ones included.
    pub async fn list_tokens(&self) -> Result<Vec<Token>> {
        let rows = sqlx::query!(
            "select id, name, scope, created_at, last_used_at, revoked_at from token order by created_at desc"
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                Some(Token {
                    id: row.id.to_string(),
                    name: row.name,
                    scope: TokenScope::from_word(&row.scope)?,
                    created_at: row.created_at,
                    last_used_at: row.last_used_at,
                    revoked_at: row.revoked_at,
                })
            })
            .collect())
    }

    /// Records that a daemon uses a token as its own. While that daemon lives, the token cannot be revoked, so that
    /// the command line on the daemon's machine is not locked out.
    pub async fn keep_token(&self, token: TokenId, daemon: DaemonId) -> Result<()> {
        sqlx::query!(
            "update token set kept_by = $2 where id = $1",
            token.0,
            daemon.0
        )
        .execute(&self.core.pool)
        .at(Point::KeepToken)
        .await?;
        Ok(())
    }

    /// Revokes the token in use with this name or id.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where a live daemon uses it as its own.
    pub async fn revoke_token(&self, act: &Act, name_or_id: &str) -> Result<()> {
        let id = name_or_id.parse::<Uuid>().ok();
        let mut transaction = self.core.begin().await?;
        let row = sqlx::query!(
            r#"with asked as (
                select token.id, token.name,
                    -- A lease that ran out: nobody answers there.
                    (select daemon.host from daemon where daemon.id = token.kept_by
                        and daemon.stopped_at is null and daemon.lease_until > clock_timestamp()) as kept_at
                from token where revoked_at is null and (name = $1 or id = $2)
            ), done as (
                update token set revoked_at = clock_timestamp()
                from asked where token.id = asked.id and asked.kept_at is null
            )
            select id, name, kept_at from asked order by kept_at nulls last"#,
            name_or_id,
            id
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| Error::not_found(format!("token `{name_or_id}` in use")))?;
        if let Some(host) = row.kept_at {
            return Err(Error::conflict(format!(
                "`{}` is the own token of the daemon at {host}, which its command line uses; to replace it, stop that \
                 daemon, remove the file `token` from its data folder, start it again, and revoke this one",
                row.name
            )));
        }
        let audited = Audited {
            action: AuditAction::TokenRevoke,
            subject: Some(&row.name),
            repo: None,
            detail: json!({"id": row.id}),
        };
        audit::record(&mut transaction, act, audited).await?;
        transaction.commit().at(Point::RevokeToken).await?;
        Ok(())
    }

    /// The token's row; `None` where this is not a valid token, or it was revoked.
    ///
    /// The lookup is by the hash of the presented token, so its duration reveals nothing about any token.
    pub async fn authenticate(&self, presented: &SecretString) -> Result<Option<TokenInfo>> {
        let row = sqlx::query!(
            r#"select id, name, scope,
                -- In the future where the clock went back.
                coalesce(last_used_at not between clock_timestamp() - interval '1 minute' and clock_timestamp(),
                    true) as "stale!"
            from token where digest = $1 and revoked_at is null"#,
            digest(presented.expose_secret())
        )
        .fetch_optional(&self.core.reading)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let Some(scope) = TokenScope::from_word(&row.scope) else {
            return Ok(None);
        };
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
            scope,
        }))
    }
}

fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
