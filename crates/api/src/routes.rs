//! The client's methods: one per route, in the order of the table in the crate's head.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;

use crate::client::{Download, LONGEST_SYNC, part};
use crate::{
    Artifact, AuditEntry, AuditSelection, CancelRuns, ChangeRepo, Client, ClientError, DaemonInfo,
    DaemonSummary, Dag, DagDetail, Delivery, GcReport, GcRequest, History, Listing, LogPage,
    Metric, MetricSelection, NewRepo, NewToken, Paused, Quarantined, Readiness, Repo, RepoDetail,
    RepoSaved, RetryRequest, Run, RunDetail, RunEvent, RunSelection, RunStarted, RunsCancelled,
    Secret, SecretValue, Tick, Token, TokenMade, TokenScope, Trigger, Violation,
};

impl Client {
    /// The daemon.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all methods.
    pub async fn daemon(&self) -> Result<DaemonInfo, ClientError> {
        self.get("/daemon", &[]).await
    }

    /// Whether the daemon can do its work, and which problems keep it from that.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn readiness(&self) -> Result<Readiness, ClientError> {
        self.ready().await
    }

    /// Followed repos.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn repos(&self) -> Result<Listing<Repo>, ClientError> {
        self.get("/repos", &[]).await
    }

    /// Follows a repo.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn add_repo(&self, new: &NewRepo) -> Result<RepoSaved, ClientError> {
        self.send(Method::POST, "/repos", new).await
    }

    /// One repo.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn repo(&self, name: &str) -> Result<RepoDetail, ClientError> {
        self.get(&format!("/repos/{}", part(name)), &[]).await
    }

    /// Changes a repo.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn change_repo(
        &self,
        name: &str,
        change: &ChangeRepo,
    ) -> Result<RepoSaved, ClientError> {
        self.send(Method::PATCH, &format!("/repos/{}", part(name)), change)
            .await
    }

    /// The history that is removed along with a repo.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn repo_history(&self, name: &str) -> Result<History, ClientError> {
        self.get(&format!("/repos/{}/history", part(name)), &[])
            .await
    }

    /// The newest webhook deliveries for a repo, the newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn deliveries(
        &self,
        name: &str,
        limit: u32,
    ) -> Result<Listing<Delivery>, ClientError> {
        let query = [("limit", Some(limit.to_string()))];
        self.get(&format!("/repos/{}/deliveries", part(name)), &query)
            .await
    }

    /// Removes a repo and its history.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove_repo(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&format!("/repos/{}", part(name))).await
    }

    /// Fetches a repo now, and waits until that is done.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn sync_repo(&self, name: &str) -> Result<Repo, ClientError> {
        let path = format!("/repos/{}/sync", part(name));
        let request = self.request(Method::POST, &path).timeout(LONGEST_SYNC);
        self.decode(self.answer(request.json(&())).await?).await
    }

    /// The secrets of a repo.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn secrets(&self, repo: &str) -> Result<Listing<Secret>, ClientError> {
        self.get(&format!("/repos/{}/secrets", part(repo)), &[])
            .await
    }

    /// Sets a secret.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_secret(
        &self,
        repo: &str,
        name: &str,
        value: &SecretValue,
    ) -> Result<(), ClientError> {
        let path = format!("/repos/{}/secrets/{}", part(repo), part(name));
        self.answer(self.request(Method::PUT, &path).json(value))
            .await
            .map(drop)
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove_secret(&self, repo: &str, name: &str) -> Result<(), ClientError> {
        self.delete(&format!("/repos/{}/secrets/{}", part(repo), part(name)))
            .await
    }

    /// DAGs, of one repo or of all.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn dags(&self, repo: Option<&str>) -> Result<Listing<Dag>, ClientError> {
        self.get("/dags", &[("repo", repo.map(ToOwned::to_owned))])
            .await
    }

    /// One DAG, by `REPO/NAME` or `NAME`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn dag(&self, dag: &str) -> Result<DagDetail, ClientError> {
        self.get(&dag_path(dag), &[]).await
    }

    /// The history that is removed along with a DAG.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn dag_history(&self, dag: &str) -> Result<History, ClientError> {
        self.get(&format!("{}/history", dag_path(dag)), &[]).await
    }

    /// Removes a DAG that the followed branch does not have, and its history.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove_dag(&self, dag: &str) -> Result<(), ClientError> {
        self.delete(&dag_path(dag)).await
    }

    /// Starts a DAG by hand.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn trigger(&self, dag: &str, trigger: &Trigger) -> Result<RunStarted, ClientError> {
        self.send(Method::POST, &format!("{}/runs", dag_path(dag)), trigger)
            .await
    }

    /// Pauses or resumes a DAG's triggers.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn pause(&self, dag: &str, paused: bool) -> Result<Dag, ClientError> {
        self.send(
            Method::PUT,
            &format!("{}/paused", dag_path(dag)),
            &Paused { paused },
        )
        .await
    }

    /// A DAG's next ticks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ticks(&self, dag: &str, count: u32) -> Result<Listing<Tick>, ClientError> {
        self.get(
            &format!("{}/ticks", dag_path(dag)),
            &[("count", Some(count.to_string()))],
        )
        .await
    }

    /// Runs, the newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn runs(&self, which: &RunSelection) -> Result<Listing<Run>, ClientError> {
        let states = (!which.states.is_empty()).then(|| which.states.join(","));
        let query = [
            ("dag", which.dag.clone()),
            ("repo", which.repo.clone()),
            ("branch", which.branch.clone()),
            ("commit", which.commit.clone()),
            ("state", states),
            ("since", which.since.map(|at| at.to_rfc3339())),
            ("before", which.before.map(|id| id.to_string())),
            ("limit", which.limit.map(|limit| limit.to_string())),
        ];
        self.get("/runs", &query).await
    }

    /// One run.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn run(&self, id: i64) -> Result<RunDetail, ClientError> {
        self.get(&format!("/runs/{id}"), &[]).await
    }

    /// Cancels a run; a second call also stops its clean-up stages.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cancel(&self, id: i64) -> Result<Run, ClientError> {
        self.send(Method::POST, &format!("/runs/{id}/cancel"), &())
            .await
    }

    /// Cancels the newest runs of a repo that have not ended; a second call also stops their clean-up stages.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cancel_runs(
        &self,
        repo: &str,
        which: &CancelRuns,
    ) -> Result<RunsCancelled, ClientError> {
        self.send(
            Method::POST,
            &format!("/repos/{}/cancel", part(repo)),
            which,
        )
        .await
    }

    /// Marks stages of a run as lost when their container can no longer be reached: stages that were asked to stop at
    /// least a minute ago, or whose daemon is gone.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn abandon(&self, id: i64) -> Result<Run, ClientError> {
        self.send(Method::POST, &format!("/runs/{id}/abandon"), &())
            .await
    }

    /// Retries an earlier run.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn retry(&self, id: i64, retry: &RetryRequest) -> Result<RunStarted, ClientError> {
        self.send(Method::POST, &format!("/runs/{id}/retry"), retry)
            .await
    }

    /// The events of a run after a known one (0 for all); waits up to `wait` for one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn events(
        &self,
        id: i64,
        after: i64,
        wait: Duration,
    ) -> Result<Listing<RunEvent>, ClientError> {
        let query = [
            ("after", Some(after.to_string())),
            ("wait_seconds", Some(wait.as_secs().to_string())),
        ];
        self.get(&format!("/runs/{id}/events"), &query).await
    }

    /// A page of a stage's log from `offset` on; waits up to `wait` for text.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn log(
        &self,
        id: i64,
        stage: &str,
        attempt: Option<u32>,
        offset: u64,
        wait: Duration,
    ) -> Result<LogPage, ClientError> {
        let query = [
            ("attempt", attempt.map(|number| number.to_string())),
            ("offset", Some(offset.to_string())),
            ("wait_seconds", Some(wait.as_secs().to_string())),
        ];
        self.get(&format!("/runs/{id}/stages/{}/log", part(stage)), &query)
            .await
    }

    /// The artifacts of a run.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn artifacts(&self, id: i64) -> Result<Listing<Artifact>, ClientError> {
        self.get(&format!("/runs/{id}/artifacts"), &[]).await
    }

    /// The content of an artifact.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn download(
        &self,
        id: i64,
        stage: &str,
        output: &str,
    ) -> Result<Download, ClientError> {
        let path = format!("/runs/{id}/artifacts/{}/{}", part(stage), part(output));
        let response = self.answer(self.unbounded(Method::GET, &path)).await?;
        let client = self.clone();
        let pieces = response
            .bytes_stream()
            .map(move |piece| piece.map_err(|error| client.unreachable(&error)));
        Ok(Box::pin(pieces))
    }

    /// Metrics, of the newest runs first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn metrics(
        &self,
        selection: &MetricSelection,
    ) -> Result<Listing<Metric>, ClientError> {
        let query = [
            ("run", selection.run.map(|id| id.to_string())),
            ("dag", selection.dag.clone()),
            ("stage", selection.stage.clone()),
            ("name", selection.name.clone()),
            ("limit", selection.limit.map(|limit| limit.to_string())),
        ];
        self.get("/metrics", &query).await
    }

    /// The daemons on the database, live ones first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn daemons(&self) -> Result<Listing<DaemonSummary>, ClientError> {
        self.get("/daemons", &[]).await
    }

    /// Violated invariants of the database. Reads all rows.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn violations(&self) -> Result<Listing<Violation>, ClientError> {
        self.get("/violations", &[]).await
    }

    /// The audit log, the newest entries first. Needs a token that may change things.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn audit(&self, which: &AuditSelection) -> Result<Listing<AuditEntry>, ClientError> {
        let actions = (!which.actions.is_empty()).then(|| which.actions.join(","));
        let query = [
            ("repo", which.repo.clone()),
            ("by", which.by.clone()),
            ("action", actions),
            ("since", which.since.map(|at| at.to_rfc3339())),
            ("until", which.until.map(|at| at.to_rfc3339())),
            ("before", which.before.map(|id| id.to_string())),
            ("limit", which.limit.map(|limit| limit.to_string())),
        ];
        self.get("/audit", &query).await
    }

    /// The quarantined repos, DAGs and runs, the newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn quarantine(&self) -> Result<Listing<Quarantined>, ClientError> {
        self.get("/quarantine", &[]).await
    }

    /// Releases a quarantined repo, DAG or run.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn release_from_quarantine(&self, id: i64) -> Result<(), ClientError> {
        self.delete(&format!("/quarantine/{id}")).await
    }

    /// Tokens.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn tokens(&self) -> Result<Listing<Token>, ClientError> {
        self.get("/tokens", &[]).await
    }

    /// Creates a token.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_token(
        &self,
        name: &str,
        scope: TokenScope,
    ) -> Result<TokenMade, ClientError> {
        self.send(
            Method::POST,
            "/tokens",
            &NewToken {
                name: name.to_owned(),
                scope,
            },
        )
        .await
    }

    /// Revokes a token, by name or id.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke_token(&self, token: &str) -> Result<(), ClientError> {
        self.delete(&format!("/tokens/{}", part(token))).await
    }

    /// Removes everything that retention does not keep.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn gc(&self, dry_run: bool) -> Result<GcReport, ClientError> {
        self.send(Method::POST, "/gc", &GcRequest { dry_run }).await
    }
}

/// `REPO/NAME` as a path; `NAME` alone leaves the repo to the daemon.
fn dag_path(dag: &str) -> String {
    let (repo, name) = dag.split_once('/').unwrap_or(("-", dag));
    format!("/dags/{}/{}", part(repo), part(name))
}
