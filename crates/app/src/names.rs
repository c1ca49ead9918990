//! Resolves names that users write, and suggests a similar name where there is no match.

use trainyard_core::dag::nearest;
use trainyard_core::id::{DagId, RepoId};
use trainyard_core::text::shortened;
use trainyard_core::trigger::branch_fault;
use trainyard_store::Error as StoreError;

use crate::{App, AppError, Result};

/// The repo of this name.
pub(crate) async fn repo(app: &App, name: &str) -> Result<RepoId> {
    match app.store().resolve_repo(name).await {
        Err(error @ StoreError::NotFound { .. }) => {
            let repos = app.store().list_repos().await?;
            let known = repos.iter().map(|repo| repo.shown.name.as_str());
            let help = meant(name, known)
                .unwrap_or_else(|| "`trainyard repo list` lists the repos".to_owned());
            Err(AppError::from(error).help(help))
        }
        found => Ok(found?),
    }
}

/// The DAG of this name: `REPO/NAME`, or `NAME` where only one repo has it.
pub(crate) async fn dag(app: &App, text: &str) -> Result<DagId> {
    match app.store().resolve_dag(text).await {
        Err(error @ StoreError::NotFound { .. }) => {
            let dags = app.store().dag_names().await?;
            let known: Vec<String> = dags
                .into_iter()
                .map(|(repo, name)| match text.contains('/') {
                    true => format!("{repo}/{name}"),
                    false => name,
                })
                .collect();
            let help = meant(text, known.iter().map(String::as_str))
                .unwrap_or_else(|| "`trainyard dag list` lists the DAGs".to_owned());
            Err(AppError::from(error).help(help))
        }
        // The name is ambiguous, which the caller can mend: not a conflict with the present app.
        Err(error @ StoreError::Conflict { .. }) => Err(AppError::invalid(error.to_string())),
        found => Ok(found?),
    }
}

/// Refuses a name that no branch has, such as `refs/heads/main`.
pub(crate) fn branch(name: &str) -> Result<()> {
    branch_fault(name).map_or(Ok(()), |fault| {
        let message = format!(
            "`{}` is not the name of a branch: it {fault}",
            shortened(name)
        );
        Err(AppError::invalid(message))
    })
}

/// `did you mean …?`, where a known name is similar.
pub(crate) fn meant<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(written, known).map(|name| format!("did you mean `{name}`?"))
}
