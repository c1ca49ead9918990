//! Repos and their secrets.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dag::{Dag, Fault};
use chrono::{DateTime, Utc};

/// A followed repo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Repo {
    /// Its name.
    pub name: String,
    /// Where it is fetched from.
    pub url: String,
    /// The branch that is followed.
    pub branch: Option<String>,
    /// The time between two polls of the remote.
    pub poll_every_seconds: u64,
    /// Whether webhook deliveries are accepted.
    pub takes_webhooks: bool,
    /// Whether it is fetched with credentials.
    pub has_credentials: bool,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it was last synced without an error.
    pub last_sync_at: Option<DateTime<Utc>>,
    /// The error of the last sync.
    pub last_error: Option<String>,
    /// Since when its syncs have failed; none where the last one succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<DateTime<Utc>>,
    /// Whether the followed branch was missing at the remote when it was last synced.
    #[serde(default, skip_serializing_if = "is_false")]
    pub branch_missing: bool,
    /// How many DAGs its followed branch has.
    pub dags: u32,
    /// How many DAG files have faults at heads of its branches.
    pub faults: u32,
}

/// A repo to be followed.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRepo {
    /// Its name here.
    pub name: String,
    /// Where it is fetched from.
    pub url: String,
    /// The branch to follow; the remote's default branch without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The time between two polls of the remote; the daemon's default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_every_seconds: Option<u64>,
    /// The secret that webhook deliveries are signed with; the daemon generates one without it. Write-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
    /// The user name to fetch with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password or token to fetch with. Write-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The private key to fetch with over ssh. Write-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key: Option<String>,
    /// The host keys of the servers that the key may be used with, in the format of `known_hosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
}

impl std::fmt::Debug for NewRepo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewRepo")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("branch", &self.branch)
            .finish_non_exhaustive()
    }
}

/// A change to a repo. Fields that are left out stay as they are.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeRepo {
    /// Where it is fetched from. A change of the host needs new credentials or `no_credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The branch to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Follow the remote's default branch.
    #[serde(default, skip_serializing_if = "is_false")]
    pub default_branch: bool,
    /// The time between two polls of the remote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_every_seconds: Option<u64>,
    /// The new secret that webhook deliveries are signed with. Write-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
    /// Make a new webhook secret.
    #[serde(default, skip_serializing_if = "is_false")]
    pub new_webhook_secret: bool,
    /// The user name to fetch with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password or token to fetch with. Write-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The private key to fetch with over ssh. Write-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key: Option<String>,
    /// The host keys of the servers that the key may be used with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
    /// Fetch without credentials.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_credentials: bool,
}

impl std::fmt::Debug for ChangeRepo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangeRepo")
            .field("url", &self.url)
            .field("branch", &self.branch)
            .finish_non_exhaustive()
    }
}

/// A repo that was just added or changed.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct RepoSaved {
    /// As listings show it.
    pub repo: Repo,
    /// Where the forge sends webhooks.
    pub webhook_url: String,
    /// The webhook secret, where it was made here. It is not shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
    /// Notes for the caller: that the remote could not be asked for the branch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl std::fmt::Debug for RepoSaved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RepoSaved")
            .field("repo", &self.repo)
            .finish_non_exhaustive()
    }
}

/// A repo in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RepoDetail {
    /// As listings show it.
    #[serde(flatten)]
    pub repo: Repo,
    /// Where the forge sends webhooks.
    pub webhook_url: String,
    /// Its branches.
    pub branches: Vec<Branch>,
    /// The DAGs of its followed branch.
    pub dag_list: Vec<Dag>,
    /// DAG files with faults at heads of its branches.
    pub fault_list: Vec<Fault>,
}

/// The history that is removed along with a repo or a DAG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// DAGs.
    pub dags: u64,
    /// Runs.
    pub runs: u64,
    /// Runs that have not ended. The removal is refused until they have.
    #[serde(default)]
    pub unfinished_runs: u64,
    /// Artifacts of these runs.
    pub artifacts: u64,
    /// The bytes of these artifacts, counted as if no two shared their content.
    pub artifact_bytes: u64,
    /// The bytes of their logs.
    pub log_bytes: u64,
    /// Secrets.
    pub secrets: u64,
}

/// A webhook delivery whose signature was right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// The forge's id of it.
    pub id: String,
    /// The forge: `github`.
    pub provider: String,
    /// The forge's word for the event.
    pub event: String,
    /// The branch that was pushed to; none for other events.
    pub branch: Option<String>,
    /// The branch's new commit; none where the branch was deleted.
    pub commit: Option<String>,
    /// Who pushed.
    pub actor: Option<String>,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// When it was processed; none while it waits for a sync.
    pub processed_at: Option<DateTime<Utc>>,
    /// The result, in words.
    pub result: Option<String>,
}

/// A branch as of the last sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Branch {
    /// Its name.
    pub name: String,
    /// Its commit.
    pub commit: String,
    /// When it moved there.
    pub moved_at: DateTime<Utc>,
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Secret {
    /// The repo whose stages may name it.
    pub repo: String,
    /// Its name.
    pub name: String,
    /// Patterns of the branches whose runs may use it, as in a push trigger; empty is the followed branch.
    #[serde(default)]
    pub branches: Vec<String>,
    /// When it was set.
    pub updated_at: DateTime<Utc>,
}

/// A secret's value. Write-only.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretValue {
    /// The value.
    pub value: String,
    /// Patterns of the branches whose runs may use it, as in a push trigger; an empty list is the followed branch.
    /// Without this field an existing secret keeps its patterns, and a new one belongs to the followed branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<String>>,
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}
