//! Repos: their remotes, with which credentials they are fetched, and when they are polled next.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use trainyard_core::id::RepoId;
use trainyard_core::name::RepoName;
use trainyard_core::principal::{Act, AuditAction};
use trainyard_failpoint::{AtPoint as _, Point};
use uuid::Uuid;

use crate::access::audit::{self, Audited};
use crate::access::secrets::open_text;
use crate::care::quarantine::{Subject, Weight};
use crate::db::encoding;
use crate::db::error::{Error, Result};
use crate::store::{Core, Store};

/// The shortest time between two polls of a remote. Callers refuse less; what is recorded is never shorter.
pub const SHORTEST_POLL: Duration = Duration::from_secs(1);

/// How often a change of an address is looked for whose wake was lost.
const ADDRESS_TICK: Duration = Duration::from_secs(15);

/// A repo to be followed.
#[derive(Debug, Clone)]
pub struct NewRepo {
    pub name: RepoName,
    /// The URL to fetch from. Must not contain a password: that belongs into `credentials`.
    pub url: String,
    /// The branch that schedules come from; `None` follows the remote's default branch.
    pub followed_branch: Option<String>,
    /// The time between two polls.
    pub poll_every: Duration,
    /// The secret that signs webhook deliveries; `None` refuses deliveries.
    pub webhook_secret: Option<SecretString>,
    pub credentials: Option<RepoCredentials>,
}

/// A change of a repo; a field that is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct RepoChange {
    /// The URL to fetch from. Must not contain a password: that belongs into `credentials`.
    pub url: Option<String>,
    /// The branch that schedules come from; `Some(None)` follows the remote's default branch.
    pub followed_branch: Option<Option<String>>,
    /// The time between two polls.
    pub poll_every: Option<Duration>,
    /// The secret that signs webhook deliveries.
    pub webhook_secret: Option<SecretString>,
    /// The credentials to fetch with; `Some(None)` fetches without.
    pub credentials: Option<Option<RepoCredentials>>,
}

impl NewRepo {
    /// For the audit log: its address and branch, and which secrets it has.
    fn audited(&self) -> Value {
        json!({
            "url": self.url,
            "branch": self.followed_branch,
            "webhook_secret": self.webhook_secret.is_some(),
            "credentials": self.credentials.as_ref().map(RepoCredentials::word),
        })
    }
}

impl RepoChange {
    /// For the audit log: what is changed, and of secrets only that they are.
    fn audited(&self) -> Value {
        let mut detail = serde_json::Map::new();
        let mut note = |key: &str, value: Option<Value>| {
            detail.extend(value.map(|value| (key.to_owned(), value)));
        };
        note("url", self.url.as_ref().map(|url| json!(url)));
        note(
            "branch",
            self.followed_branch.as_ref().map(|branch| json!(branch)),
        );
        note(
            "poll_every_seconds",
            self.poll_every.map(|every| json!(every.as_secs())),
        );
        note(
            "webhook_secret",
            self.webhook_secret.as_ref().map(|_| json!(true)),
        );
        let word =
            |given: &Option<RepoCredentials>| json!(given.as_ref().map(RepoCredentials::word));
        note("credentials", self.credentials.as_ref().map(word));
        Value::Object(detail)
    }
}

/// The credentials that a repo is fetched with.
#[derive(Debug, Clone)]
pub enum RepoCredentials {
    /// Over http.
    Login {
        username: String,
        password: SecretString,
    },
    /// Over ssh.
    SshKey {
        key: SecretString,
        /// The hosts that the key may be used with, in the format of a `known_hosts` file.
        known_hosts: String,
    },
}

impl RepoCredentials {
    /// Their kind, for the audit log.
    const fn word(&self) -> &'static str {
        match self {
            Self::Login { .. } => "login",
            Self::SshKey { .. } => "ssh_key",
        }
    }
}

/// The number of a repo's address: each change of its URL or its credentials counts it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressNumber(pub(crate) i64);

impl AddressNumber {
    /// The number of a new repo.
    pub const FIRST: Self = Self(1);
}

/// The URL of a repo, and the credentials to fetch it with.
#[derive(Debug, Clone)]
pub struct RepoRemote {
    pub url: String,
    pub credentials: Option<RepoCredentials>,
    pub address: AddressNumber,
}

/// The result of a change of a repo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoChanged {
    Recorded,
    /// Its address is another one than the change was decided for. Nothing was changed: decide again.
    Stale,
}

/// A repo that is due for a sync.
#[derive(Debug, Clone)]
pub struct RepoToSync {
    pub id: RepoId,
    pub name: RepoName,
    /// The URL to fetch from.
    pub url: String,
    pub address: AddressNumber,
    /// The branch that schedules come from; `None` follows the remote's default branch.
    pub followed_branch: Option<String>,
    /// The branch that its schedules come from now; `None` before the first sync.
    pub current_branch: Option<String>,
    pub credentials: Option<RepoCredentials>,
    /// Whether it was ever synced: the first sync only records the branches and starts no runs.
    pub synced_before: bool,
    /// How many syncs were requested by hand until now: a sync from now on answers them.
    pub asked: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum CredentialsDoc {
    Login {
        username: String,
        password: String,
    },
    SshKey {
        ssh_key: String,
        known_hosts: String,
    },
}

impl Store {
    /// Follows a repo; it is due for its first sync at once.
    ///
    /// # Errors
    /// `Conflict` where the name is taken or the URL contains a password,
    /// `NoSecretKey` where there is something to seal.
    pub async fn add_repo(&self, act: &Act, new: &NewRepo) -> Result<RepoId> {
        if holds_password(&new.url) {
            return Err(url_with_password());
        }
        let id = RepoId(Uuid::now_v7());
        let mut transaction = self.core.begin().await?;
        let done = sqlx::query!(
            "insert into repo (id, name, url, address_number, followed_branch, poll_seconds, webhook_secret, credentials,
                created_at, next_sync_at)
             values ($1, $2, $3, $8, $4, $5, $6, $7, clock_timestamp(), clock_timestamp())
             on conflict (name) do nothing",
            id.0,
            new.name.as_str(),
            new.url,
            new.followed_branch.as_deref(),
            poll_seconds(new.poll_every),
            seal_webhook_secret(&self.core, id, new.webhook_secret.as_ref())?,
            seal_credentials(&self.core, id, new.credentials.as_ref())?,
            AddressNumber::FIRST.0
        )
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::conflict(format!(
                "there is a repo named `{}` already; remove it first, or choose another name",
                new.name
            )));
        }
        let audited = Audited {
            action: AuditAction::RepoAdd,
            subject: Some(new.name.as_str()),
            repo: Some(new.name.as_str()),
            detail: new.audited(),
        };
        audit::record(&mut transaction, act, audited).await?;
        transaction.commit().at(Point::AddRepo).await?;
        self.core.wakes.sync.wake();
        Ok(id)
    }

    /// The id of the repo with this name.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn resolve_repo(&self, name: &str) -> Result<RepoId> {
        let row = sqlx::query!("select id from repo where name = $1", name)
            .fetch_optional(&self.core.pool)
            .await?
            .ok_or_else(|| Error::not_found(format!("repo `{name}`")))?;
        Ok(RepoId(row.id))
    }

    /// Changes a repo, and makes it due for a sync. Another URL or other credentials release it from
    /// quarantine, and end the sync of the earlier ones without effect. At another URL, the first sync only records the
    /// branches, as for a new repo: the differences there were not pushed.
    ///
    /// `decided_for` is the address that the change was decided for: credentials that stay, and those that are
    /// completed, were given for that one, and must not be sent to another.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where the URL contains a password; `NoSecretKey` where there is something to seal.
    pub async fn change_repo(
        &self,
        act: &Act,
        repo: RepoId,
        decided_for: AddressNumber,
        change: &RepoChange,
    ) -> Result<RepoChanged> {
        if change.url.as_deref().is_some_and(holds_password) {
            return Err(url_with_password());
        }
        let credentials = change.credentials.as_ref();
        let mut transaction = self.core.begin().await?;
        let row = sqlx::query!(
            r#"with changed as (
             update repo set url = coalesce($2, url),
                address_number = address_number + (coalesce($2, url) <> url or $7)::int,
                address_changed_at = case when coalesce($2, url) = url then address_changed_at
                    else clock_timestamp() end,
                last_sync_at = case when coalesce($2, url) = url then last_sync_at end,
                followed_branch = case when $3 then $4 else followed_branch end,
                poll_seconds = coalesce($5, poll_seconds), webhook_secret = coalesce($6, webhook_secret),
                credentials = case when $7 then $8 else credentials end,
                -- A sync that is going on does not know of the change: another one follows it.
                syncs_asked = syncs_asked + 1, next_sync_at = clock_timestamp()
             where id = $1 and address_number = $9
             returning id
            ),
            released as (
                delete from quarantine where repo in (select id from changed) and ($2::text is not null or $7)
            )
            select exists (select from changed) as "is_changed!", (select name from repo where id = $1) as name"#,
            repo.0,
            change.url.as_deref(),
            change.followed_branch.is_some(),
            change.followed_branch.as_ref().and_then(Option::as_deref),
            change.poll_every.map(poll_seconds),
            seal_webhook_secret(&self.core, repo, change.webhook_secret.as_ref())?,
            credentials.is_some(),
            seal_credentials(&self.core, repo, credentials.and_then(Option::as_ref))?,
            decided_for.0
        )
        .fetch_one(&mut *transaction)
        .await?;
        let name = row.name.ok_or_else(|| Error::not_found("such repo"))?;
        if !row.is_changed {
            return Ok(RepoChanged::Stale);
        }
        let audited = Audited {
            action: AuditAction::RepoSet,
            subject: Some(&name),
            repo: Some(&name),
            detail: change.audited(),
        };
        audit::record(&mut transaction, act, audited).await?;
        transaction.commit().at(Point::ChangeRepo).await?;
        self.core.wakes.sync.wake();
        Ok(RepoChanged::Recorded)
    }

    /// Whether this is the address of a repo still. One that was removed has none.
    pub async fn is_at(&self, repo: RepoId, address: AddressNumber) -> Result<bool> {
        let row = sqlx::query!(
            r#"select exists (select from repo where id = $1 and address_number = $2) as "is_at!""#,
            repo.0,
            address.0
        )
        .fetch_one(&self.core.pool)
        .await?;
        Ok(row.is_at)
    }

    /// Waits until a repo gets another address, or is removed. Dropping the future loses nothing.
    pub async fn address_changed(&self, repo: RepoId, address: AddressNumber) {
        let mut wake = self.wakes().sync.subscribe();
        loop {
            // Without an answer nothing is known: what goes on meanwhile compares the address as it records.
            if let Ok(false) = self.is_at(repo, address).await {
                return;
            }
            // Where the wake of another daemon is lost, the tick finds the change.
            let _ = tokio::time::timeout(ADDRESS_TICK, wake.woken()).await;
        }
    }

    /// Those of these repos that are not there any more.
    pub async fn removed_repos(&self, repos: &[RepoId]) -> Result<Vec<RepoId>> {
        let ids: Vec<Uuid> = repos.iter().map(|repo| repo.0).collect();
        let rows = sqlx::query!(
            r#"select id as "id!" from unnest($1::uuid[]) as given (id)
             where not exists (select from repo where repo.id = given.id)"#,
            &ids
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(rows.into_iter().map(|row| RepoId(row.id)).collect())
    }

    /// The repos that are due for a sync, the longest due first.
    ///
    /// # Errors
    /// `NoSecretKey`, `WrongSecretKey`.
    pub async fn repos_to_sync(&self) -> Result<Vec<RepoToSync>> {
        let rows = sqlx::query!(
            "select id, name, url, address_number, followed_branch, current_branch, credentials, last_sync_at, syncs_asked
             from repo
             where (next_sync_at <= clock_timestamp()
                    -- Further off than ever: the clock went back.
                    or next_sync_at > clock_timestamp() + make_interval(secs => poll_seconds))
                and not exists (select from quarantine q where q.repo = repo.id and q.held_at is not null)
             order by next_sync_at"
        )
        .fetch_all(&self.core.pool)
        .await?;
        let mut repos = Vec::with_capacity(rows.len());
        for row in rows {
            let id = RepoId(row.id);
            let read = || -> Result<RepoToSync> {
                Ok(RepoToSync {
                    id,
                    name: RepoName::new(row.name)
                        .map_err(|fault| Error::corrupt(format!("repo {id}"), fault))?,
                    url: row.url,
                    address: AddressNumber(row.address_number),
                    followed_branch: row.followed_branch,
                    current_branch: row.current_branch,
                    credentials: row
                        .credentials
                        .map(|sealed| open_credentials(&self.core, id, &sealed))
                        .transpose()?,
                    synced_before: row.last_sync_at.is_some(),
                    asked: row.syncs_asked,
                })
            };
            match read() {
                Ok(repo) => repos.push(repo),
                Err(error) => {
                    let reason = error.to_string();
                    self.record_trouble(Subject::Repo(id), "sync", &reason, Weight::Certain)
                        .await?;
                }
            }
        }
        Ok(repos)
    }

    /// How long until the next repo is due; zero where one is due now, `None` without repos.
    pub async fn next_sync(&self) -> Result<Option<Duration>> {
        let row = sqlx::query!(
            "select extract(epoch from min(next_sync_at) - clock_timestamp())::double precision as seconds from repo
             where not exists (select from quarantine q where q.repo = repo.id and q.held_at is not null)"
        )
        .fetch_one(&self.core.pool)
        .await?;
        Ok(row
            .seconds
            .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }

    /// Where each branch of a repo was last seen.
    pub async fn refs(&self, repo: RepoId) -> Result<BTreeMap<String, String>> {
        let rows = sqlx::query!(
            r#"select branch, sha as "sha!" from repo_ref where repo = $1 and sha is not null"#,
            repo.0
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.branch, row.sha)).collect())
    }

    /// The secret that signs deliveries for the repo with this name; `None` where the repo does not exist or takes no
    /// deliveries: both cases get the same answer.
    ///
    /// # Errors
    /// `NoSecretKey`, `WrongSecretKey`.
    pub async fn webhook_secret(&self, repo: &str) -> Result<Option<(RepoId, SecretString)>> {
        let row = sqlx::query!("select id, webhook_secret from repo where name = $1", repo)
            .fetch_optional(&self.core.reading)
            .await?;
        let Some((id, sealed)) = row.and_then(|row| Some((RepoId(row.id), row.webhook_secret?)))
        else {
            return Ok(None);
        };
        Ok(Some((
            id,
            open_text(&self.core, &webhook_context(id), &sealed)?,
        )))
    }

    /// The URL and the credentials that a repo is fetched with.
    ///
    /// # Errors
    /// `NotFound`, `NoSecretKey`, `WrongSecretKey`.
    pub async fn repo_remote(&self, repo: RepoId) -> Result<RepoRemote> {
        let row = sqlx::query!(
            "select url, address_number, credentials from repo where id = $1",
            repo.0
        )
        .fetch_optional(&self.core.pool)
        .await?
        .ok_or_else(|| Error::not_found("such repo"))?;
        let credentials = row
            .credentials
            .map(|sealed| open_credentials(&self.core, repo, &sealed))
            .transpose()?;
        Ok(RepoRemote {
            url: row.url,
            credentials,
            address: AddressNumber(row.address_number),
        })
    }
}

/// The name of a repo, which is not removed before the end of the transaction.
///
/// # Errors
/// `NotFound`.
pub(crate) async fn repo_name(connection: &mut PgConnection, repo: RepoId) -> Result<String> {
    sqlx::query_scalar!("select name from repo where id = $1 for key share", repo.0)
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| Error::not_found("such repo"))
}

fn url_with_password() -> Error {
    Error::conflict("the URL holds a password, and URLs are shown; give it as credentials instead")
}

fn poll_seconds(poll_every: Duration) -> i32 {
    i32::try_from(poll_every.max(SHORTEST_POLL).as_secs()).unwrap_or(i32::MAX)
}

/// Whether a URL has the form `scheme://user:password@host`.
fn holds_password(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'))
}

fn webhook_context(repo: RepoId) -> String {
    format!("webhook/{repo}")
}

fn credentials_context(repo: RepoId) -> String {
    format!("credentials/{repo}")
}

fn seal_webhook_secret(
    core: &Core,
    repo: RepoId,
    secret: Option<&SecretString>,
) -> Result<Option<Vec<u8>>> {
    let Some(secret) = secret else {
        return Ok(None);
    };
    core.secret_key()?
        .seal(&webhook_context(repo), secret.expose_secret().as_bytes())
        .map(Some)
}

fn seal_credentials(
    core: &Core,
    repo: RepoId,
    credentials: Option<&RepoCredentials>,
) -> Result<Option<Vec<u8>>> {
    let Some(credentials) = credentials else {
        return Ok(None);
    };
    let doc = encoding::write(&match credentials {
        RepoCredentials::Login { username, password } => CredentialsDoc::Login {
            username: username.clone(),
            password: password.expose_secret().to_owned(),
        },
        RepoCredentials::SshKey { key, known_hosts } => CredentialsDoc::SshKey {
            ssh_key: key.expose_secret().to_owned(),
            known_hosts: known_hosts.clone(),
        },
    });
    core.secret_key()?
        .seal(&credentials_context(repo), doc.to_string().as_bytes())
        .map(Some)
}

fn open_credentials(core: &Core, repo: RepoId, sealed: &[u8]) -> Result<RepoCredentials> {
    let text = open_text(core, &credentials_context(repo), sealed)?;
    let doc: CredentialsDoc = serde_json::from_str(text.expose_secret()).map_err(|_| {
        Error::corrupt(
            format!("the credentials of repo {repo}"),
            "they are not as they were written",
        )
    })?;
    Ok(match doc {
        CredentialsDoc::Login { username, password } => RepoCredentials::Login {
            username,
            password: SecretString::from(password),
        },
        CredentialsDoc::SshKey {
            ssh_key,
            known_hosts,
        } => RepoCredentials::SshKey {
            key: SecretString::from(ssh_key),
            known_hosts,
        },
    })
}
