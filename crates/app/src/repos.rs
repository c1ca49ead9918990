//! Repos.

use std::time::Duration;

use secrecy::SecretString;
use tracing::warn;
use trainyard_api::{ChangeRepo, Delivery, History, Listing, NewRepo, Repo, RepoDetail, RepoSaved};
use trainyard_core::id::RepoId;
use trainyard_core::measure::in_words;
use trainyard_core::name::RepoName;
use trainyard_core::principal::Act;
use trainyard_forge::RemoteUrl;
use trainyard_store::{
    AddressNumber, NewRepo as StoredRepo, RepoChange, RepoChanged, SHORTEST_POLL,
};

use crate::credentials::{self, GivenCredentials};
use crate::names;
use crate::sync::{self, SyncWait};
use crate::{App, AppError, Result};

/// How long a request waits for a sync.
const SYNC_AT_MOST: Duration = Duration::from_secs(100);

/// How often a change is decided for whose repo gets another address meanwhile.
const DECIDED_AT_MOST: usize = 5;

/// The most deliveries in one answer.
const DELIVERIES_AT_MOST: u32 = 1_000;

/// The shortest allowed webhook secret, in characters.
const SECRET_SHORTEST: usize = 16;

impl App {
    pub async fn list_repos(&self) -> Result<Listing<Repo>> {
        let repos = self.store().list_repos().await?;
        Ok(Listing::whole(
            repos.into_iter().map(|repo| repo.shown).collect(),
        ))
    }

    pub async fn add_repo(&self, act: &Act, new: NewRepo) -> Result<RepoSaved> {
        let name = RepoName::new(new.name).map_err(|fault| AppError::invalid(fault.to_string()))?;
        let rules = self.git().mirrors().rules();
        let url = RemoteUrl::parse(&new.url, rules)?;
        let given = GivenCredentials {
            username: new.username,
            password: new.password,
            ssh_key: new.ssh_key,
            known_hosts: new.known_hosts,
        };
        let credentials = given.checked(&url, rules)?;
        let (secret, made) = match new.webhook_secret {
            Some(secret) => (checked_secret(secret)?, None),
            None => {
                let made = make_secret();
                (made.clone(), Some(made))
            }
        };
        let poll_every = new
            .poll_every_seconds
            .map_or(Ok(self.settings().poll_every), poll_every)?;
        let stored = StoredRepo {
            name: name.clone(),
            url: url.as_str().to_owned(),
            followed_branch: match new.branch {
                Some(branch) => Some(branch),
                None => checked_out_branch(&url).await,
            },
            poll_every,
            webhook_secret: Some(SecretString::from(secret)),
            credentials,
        };
        let id = self.store().add_repo(act, &stored).await?;
        saved(self, id, made).await
    }

    /// Changes a repo; fields that are left out stay as they are.
    pub async fn change_repo(&self, act: &Act, repo: &str, asked: ChangeRepo) -> Result<RepoSaved> {
        let id = names::repo(self, repo).await?;
        let made = asked.new_webhook_secret.then(make_secret);
        for _ in 0..DECIDED_AT_MOST {
            let (decided_for, change, notes) = decide(self, id, &asked, made.as_deref()).await?;
            let changed = self.store().change_repo(act, id, decided_for, &change);
            match changed.await? {
                RepoChanged::Recorded => {
                    let mut saved = saved(self, id, made).await?;
                    saved.notes = notes;
                    return Ok(saved);
                }
                RepoChanged::Stale => {}
            }
        }
        Err(AppError::conflict(format!(
            "the address or the credentials of `{repo}` were changed by others at the same time, again and again"
        ))
        .help("`trainyard repo show` shows what they are now; try again"))
    }

    pub async fn repo(&self, repo: &str) -> Result<RepoDetail> {
        let store = self.store();
        let id = names::repo(self, repo).await?;
        let repo = store.repo_summary(id).await?.shown;
        Ok(RepoDetail {
            webhook_url: webhook_url(self, &repo.name),
            repo,
            branches: store.list_branches(id).await?,
            dag_list: store.list_dags(Some(id)).await?,
            fault_list: store.list_faults(Some(id)).await?,
        })
    }

    pub async fn remove_repo(&self, act: &Act, repo: &str) -> Result<()> {
        let id = names::repo(self, repo).await?;
        self.store().remove_repo(act, id).await?;
        // In a task of the daemon: the mirror is removed also if the client hangs up. If the daemon ends first, the pruner
        // removes it.
        let git = self.git().clone();
        tokio::spawn(async move {
            if let Err(error) = git.remove(id).await {
                warn!(repo = %id, %error, "the mirror of a removed repo was not removed; the pruner tries again");
            }
        });
        Ok(())
    }

    /// The history that is removed along with a repo.
    pub async fn repo_history(&self, repo: &str) -> Result<History> {
        let id = names::repo(self, repo).await?;
        Ok(self.store().repo_history(id).await?)
    }

    /// The newest webhook deliveries for a repo. Deliveries with a wrong signature are rejected and not stored.
    pub async fn list_deliveries(
        &self,
        repo: &str,
        limit: Option<u32>,
    ) -> Result<Listing<Delivery>> {
        let id = names::repo(self, repo).await?;
        let limit = limit.unwrap_or(50).clamp(1, DELIVERIES_AT_MOST);
        let mut deliveries = self.store().list_deliveries(id, limit + 1).await?;
        let more = deliveries.len() > limit as usize;
        deliveries.truncate(limit as usize);
        Ok(Listing {
            items: deliveries,
            more,
        })
    }

    /// Asks for a sync, and waits for the end of one that began after this call.
    pub async fn sync_repo(&self, repo: &str) -> Result<Repo> {
        let id = names::repo(self, repo).await?;
        match sync::sync(self, id, SYNC_AT_MOST).await? {
            SyncWait::Over(summary) => Ok(summary.shown),
            SyncWait::Quarantined(held) => Err(AppError::conflict(format!(
                "`{repo}` is quarantined and not synced: {}",
                held.reason
            ))
            .help(format!(
                "`trainyard quarantine release {}` releases it",
                held.id
            ))),
            SyncWait::Overdue => Err(AppError::conflict(format!(
                "the sync of `{repo}` has not ended in time; it continues"
            ))
            .help("`trainyard repo show` shows when it has ended")),
        }
    }
}

fn poll_every(seconds: u64) -> Result<Duration> {
    let every = Duration::from_secs(seconds);
    if every < SHORTEST_POLL {
        let least = in_words(SHORTEST_POLL);
        return Err(
            AppError::invalid(format!("repos are polled at most every {least}"))
                .help(format!("set the poll interval to {least} or more")),
        );
    }
    Ok(every)
}

/// What a request changes of a repo as it is now, the address that this holds for, and what to say of it.
async fn decide(
    app: &App,
    id: RepoId,
    asked: &ChangeRepo,
    made: Option<&str>,
) -> Result<(AddressNumber, RepoChange, Vec<String>)> {
    let now = app.store().repo_remote(id).await?;
    let rules = app.git().mirrors().rules();
    let url = match &asked.url {
        Some(url) => Some(RemoteUrl::parse(url, rules)?),
        None => None,
    };
    let mut notes = Vec::new();
    let followed_branch = match (asked.branch.clone(), asked.default_branch) {
        (Some(_), true) => return Err(either("branch", "default_branch")),
        (Some(branch), false) => {
            // At a new address, the first sync reports a missing branch.
            if url.is_none() {
                notes.extend(has_branch(app, id, &branch).await?);
            }
            Some(Some(branch))
        }
        (None, true) => {
            let at = match &url {
                Some(url) => url.clone(),
                None => RemoteUrl::parse(&now.url, rules)?,
            };
            Some(checked_out_branch(&at).await)
        }
        (None, false) => None,
    };
    let change = RepoChange {
        followed_branch,
        poll_every: asked.poll_every_seconds.map(poll_every).transpose()?,
        webhook_secret: match (asked.webhook_secret.clone(), made) {
            (Some(_), Some(_)) => return Err(either("webhook_secret", "new_webhook_secret")),
            (Some(secret), None) => Some(checked_secret(secret)?.into()),
            (None, made) => made.map(SecretString::from),
        },
        credentials: credentials::changed(asked, url.as_ref(), &now.url, now.credentials, rules)?,
        url: url.map(|url| url.as_str().to_owned()),
    };
    let is_nothing = matches!(
        change,
        RepoChange {
            url: None,
            followed_branch: None,
            poll_every: None,
            webhook_secret: None,
            credentials: None,
        }
    );
    if is_nothing {
        return Err(AppError::invalid("there is nothing to change")
            .help("give a new url, branch, poll interval, webhook secret or credentials"));
    }
    Ok((now.address, change, notes))
}

/// The branch that is checked out at an address on this machine's disk. The repo follows this branch for good:
/// otherwise, checking out another branch would give that branch the secrets of the followed one.
async fn checked_out_branch(url: &RemoteUrl) -> Option<String> {
    let url = url.clone();
    let reading = tokio::task::spawn_blocking(move || url.checked_out_branch());
    reading.await.ok().flatten()
}

/// Refuses a branch that the remote does not have. Returns a note for the caller where the remote cannot be asked.
async fn has_branch(app: &App, repo: RepoId, branch: &str) -> Result<Option<String>> {
    if let Some(last_seen) = sync::refresh(app, repo).await? {
        return Ok(Some(format!(
            "{}: could not check that it has branch `{branch}`",
            last_seen.why
        )));
    }
    let Repo {
        name, last_error, ..
    } = app.store().repo_summary(repo).await?.shown;
    let branches = app.store().list_branches(repo).await?;
    let mut known = branches.iter().map(|branch| branch.name.as_str());
    if known.clone().any(|known| known == branch) {
        return Ok(None);
    }
    let more = last_error.map(|more| format!("; {more}"));
    let help = names::meant(branch, known.by_ref())
        .unwrap_or_else(|| format!("`trainyard repo show {name}` lists its branches"));
    Err(AppError::not_found(format!(
        "the remote of `{name}` has no branch `{branch}`{}",
        more.unwrap_or_default()
    ))
    .help(help))
}

pub(crate) fn either(one: &str, other: &str) -> AppError {
    AppError::invalid(format!("`{one}` and `{other}` exclude each other"))
}

async fn saved(app: &App, id: RepoId, webhook_secret: Option<String>) -> Result<RepoSaved> {
    let repo = app.store().repo_summary(id).await?.shown;
    Ok(RepoSaved {
        webhook_url: webhook_url(app, &repo.name),
        repo,
        webhook_secret,
        notes: Vec::new(),
    })
}

fn checked_secret(secret: String) -> Result<String> {
    if secret.chars().count() < SECRET_SHORTEST {
        return Err(AppError::invalid(format!(
            "the webhook secret is shorter than {SECRET_SHORTEST} characters"
        ))
        .help("`--webhook-secret generate` makes one"));
    }
    Ok(secret)
}

fn webhook_url(app: &App, repo: &str) -> String {
    format!("{}/hooks/github/{repo}", app.settings().public_url)
}

/// Two random UUIDs: 244 random bits, in a text that is easy to paste.
fn make_secret() -> String {
    let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    format!("{}{}", a.simple(), b.simple())
}
