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
    /// The time between two looks at the remote.
    pub poll_every_seconds: u64,
    /// Whether webhook deliveries are taken.
    pub takes_webhooks: bool,
    /// Whether it is fetched with credentials.
    pub has_credentials: bool,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it was last synced without trouble.
    pub last_sync_at: Option<DateTime<Utc>>,
    /// What stood in the way of the last sync.
    pub last_error: Option<String>,
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
    /// The time between two looks at the remote; the daemon's default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_every_seconds: Option<u64>,
    /// What webhook deliveries are signed with; one is made without it. Write-only.
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
    /// The keys of the hosts that the key may be shown to, as a file of known hosts has them.
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

/// A repo that was just added.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct RepoAdded {
    /// As listings show it.
    pub repo: Repo,
    /// Where the forge sends webhooks.
    pub webhook_url: String,
    /// The webhook secret, where it was made here. It is not shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
}

impl std::fmt::Debug for RepoAdded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RepoAdded")
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

/// A branch as it was last seen.
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
    /// Patterns of the branches whose runs may have it, as in a push trigger; none is the followed branch.
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
    /// Patterns of the branches whose runs may have it, as in a push trigger: none of them is the followed branch.
    /// Without this field it keeps those that it has; a new secret belongs to the followed branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<String>>,
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue(…)")
    }
}
