//! Syncs that a request waits for.
//!
//! The watcher does them, in whichever daemon it runs, one at a time per repo. All requests that arrive during a sync
//! are answered by the next one.

use std::time::Duration;

use tokio::time::Instant;
use trainyard_api::Quarantined;
use trainyard_core::id::RepoId;
use trainyard_core::measure::in_words;
use trainyard_store::RepoSummary;

use crate::{App, AppError, Result};

/// The result of a sync.
#[derive(Debug)]
pub(crate) enum SyncWait {
    /// It has ended; the repo after it.
    Over(RepoSummary),
    /// The repo is quarantined and not synced.
    Quarantined(Quarantined),
    /// It has not ended in time.
    Overdue,
}

/// Asks for a sync of a repo, and waits up to `at_most` for the end of one that began after this call.
pub(crate) async fn sync(app: &App, repo: RepoId, at_most: Duration) -> Result<SyncWait> {
    let store = app.store();
    let name = store.repo_summary(repo).await?.shown.name;
    let held = store.quarantined().await?.into_iter();
    let mut held = held.filter(|held| held.kind == "repo" && held.name == name);
    if let Some(held) = held.next() {
        return Ok(SyncWait::Quarantined(held));
    }
    let mut wake = store.wakes().synced.subscribe();
    let request = store.request_sync(repo).await?;
    let end = Instant::now() + at_most;
    loop {
        if store.is_sync_answered(repo, request).await? {
            return Ok(SyncWait::Over(store.repo_summary(repo).await?));
        }
        if Instant::now() >= end {
            return Ok(SyncWait::Overdue);
        }
        tokio::select! {
            () = wake.woken() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = tokio::time::sleep_until(end) => {}
        }
    }
}

/// A repo as of its last sync, which may be older than its remote.
#[derive(Debug)]
pub(crate) struct LastSeen {
    pub(crate) why: String,
    /// The time since its last sync.
    pub(crate) ago: Option<Duration>,
}

impl LastSeen {
    pub(crate) async fn new(app: &App, repo: RepoId, why: &str) -> Result<Self> {
        let repo = app.store().repo_summary(repo).await?;
        Ok(Self {
            why: format!("cannot reach the remote ({why})"),
            ago: repo.last_sync_ago,
        })
    }

    pub(crate) async fn overdue(app: &App, repo: RepoId) -> Result<Self> {
        let at_most = in_words(app.settings().refresh_at_most);
        let why = format!("it has not answered within {at_most}");
        Self::new(app, repo, &why).await
    }

    /// A note for a run of this commit.
    pub(crate) fn note(&self, commit: &str, branch: Option<&str>) -> String {
        let of = branch.map(|branch| format!(" of branch {branch}"));
        let of = of.unwrap_or_default();
        let ago = self
            .ago
            .map(|ago| format!(", last seen {} ago", rough(ago)));
        let ago = ago.unwrap_or_default();
        format!("{}: commit {commit}{of}{ago}", self.why)
    }
}

/// [`refresh`] before a start. Of an address that was never read nothing is known: the recorded commits are those of the
/// earlier address, and are refused.
pub(crate) async fn before_start(app: &App, repo: RepoId) -> Result<Option<LastSeen>> {
    let Some(last_seen) = refresh(app, repo).await? else {
        return Ok(None);
    };
    let repo = app.store().repo_summary(repo).await?;
    match (repo.address_changed_at, repo.shown.last_sync_at) {
        (Some(changed_at), None) => Err(AppError::conflict(format!(
            "the address of repo {} was changed at {}, and its remote has not been read since; {}",
            repo.shown.name,
            changed_at.format("%Y-%m-%d %H:%M:%S UTC"),
            last_seen.why
        ))
        .help(format!(
            "`trainyard repo set {name} URL` changes the address; `trainyard repo sync {name}` reads the remote",
            name = repo.shown.name
        ))),
        _ => Ok(Some(last_seen)),
    }
}

/// Syncs a repo before a run is started. Returns `None` after a successful sync; otherwise the request continues with
/// the repo as it was last seen.
pub(crate) async fn refresh(app: &App, repo: RepoId) -> Result<Option<LastSeen>> {
    let at_most = app.settings().refresh_at_most;
    let why = match sync(app, repo, at_most).await? {
        SyncWait::Over(repo) => match (repo.shown.failing_since, repo.shown.last_error) {
            (Some(_), Some(problem)) => problem,
            _ => return Ok(None),
        },
        SyncWait::Quarantined(held) => format!(
            "the repo is quarantined; `trainyard quarantine release {}` releases it",
            held.id
        ),
        SyncWait::Overdue => return LastSeen::overdue(app, repo).await.map(Some),
    };
    LastSeen::new(app, repo, &why).await.map(Some)
}

/// A rounded duration: `40 seconds`, `12 minutes`, `3 hours`, `2 days`.
fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_what_was_last_seen_says_so_with_its_age() {
        let last_seen = |seconds| LastSeen {
            why: "cannot reach the remote (no route)".to_owned(),
            ago: Some(Duration::from_secs(seconds)),
        };
        for (seconds, ago) in [
            (1, "1 second"),
            (725, "12 minutes"),
            (10_900, "3 hours"),
            (172_800, "2 days"),
        ] {
            assert_eq!(
                last_seen(seconds).note("c0ffee", Some("main")),
                format!(
                    "cannot reach the remote (no route): commit c0ffee of branch main, last seen {ago} ago"
                )
            );
        }
        let never = LastSeen {
            ago: None,
            ..last_seen(0)
        };
        assert!(never.note("c0ffee", None).ends_with(": commit c0ffee"));
    }
}
