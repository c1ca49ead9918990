//! DAGs: list, show, start by hand, pause and remove them; and their next ticks.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use trainyard_api::{
    Dag, DagDetail, ErrorBody, History, Listing, Paused, RunStarted, Tick, Trigger,
};
use trainyard_core::cause::{Cause, CauseKind};
use trainyard_core::cron::Cron;
use trainyard_core::id::{DagId, DagVersionId, RunId};
use trainyard_core::measure::counted;
use trainyard_core::outcome::RunState;
use trainyard_core::param::{GivenValue, ParamValue, resolve};
use trainyard_core::principal::Act;
use trainyard_core::schedule::Upcoming;
use trainyard_dagfile::Diagnostic;
use trainyard_forge::DagFileText;
use trainyard_store::{NewRun, PinnedDag, Recorded, RunSummary};
use utoipa::IntoParams;

use super::convert::short;
use super::{convert, names};
use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::{Object, Path, Query};
use crate::mirrored;
use crate::state::WebState;
use crate::sync;
use crate::work::Desk;

/// How long reading the DAG files of a commit may take.
const READ_AT_MOST: std::time::Duration = std::time::Duration::from_secs(30);

/// The most ticks in one answer.
const TICKS_AT_MOST: u32 = 1_000;

/// How long searching them may take; the answer has those that were found by then.
const TICKS_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// The remotes of how many repos are read for a DAG name without a repo.
const READ_TOGETHER: usize = 16;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfRepo {
    repo: Option<String>,
}

#[utoipa::path(get, path = "/dags", params(OfRepo), responses((status = 200, body = Listing<Dag>)))]
pub(crate) async fn list(
    State(state): State<WebState>,
    Query(query): Query<OfRepo>,
) -> Result<Json<Listing<Dag>>, ApiError> {
    let repo = match query.repo {
        Some(repo) => Some(names::repo(&state, &repo).await?),
        None => None,
    };
    let dags = state.store().list_dags(repo).await?;
    Ok(Json(Listing::whole(
        dags.into_iter().map(convert::dag).collect(),
    )))
}

#[utoipa::path(
    get, path = "/dags/{repo}/{dag}", params(("repo" = String, Path), ("dag" = String, Path)),
    responses((status = 200, body = DagDetail), (status = 404, body = ErrorBody))
)]
pub(crate) async fn show(
    State(state): State<WebState>,
    Path((repo, dag)): Path<(String, String)>,
) -> Result<Json<DagDetail>, ApiError> {
    let id = find(&state, &repo, &dag).await?;
    Ok(Json(convert::dag_detail(
        state.store().dag_detail(id).await?,
        &state.settings().capacity.pools_total,
    )))
}

#[utoipa::path(
    post, path = "/dags/{repo}/{dag}/runs", request_body = Trigger,
    params(("repo" = String, Path), ("dag" = String, Path)),
    responses((status = 201, body = RunStarted), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody))
)]
pub(crate) async fn trigger(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path((repo, dag)): Path<(String, String)>,
    Object(trigger): Object<Trigger>,
) -> Result<(StatusCode, Json<RunStarted>), ApiError> {
    let id = find_fresh(&state, &repo, &dag).await?;
    let asked = match &trigger.reference {
        None => Asked::of_current(&state, id).await?,
        Some(reference) => Asked::at(&state, id, reference).await?,
    };
    let given = trigger
        .params
        .into_iter()
        .map(|(name, value)| Ok((name, given(value)?)));
    let given = given.collect::<Result<BTreeMap<String, GivenValue>, ApiError>>()?;
    let params = resolve(&asked.dag.declared().params, &given).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        ApiError::invalid(faults.join("\n"))
    })?;
    let new = NewRun {
        dag: id,
        version: asked.version,
        cause: Cause {
            kind: CauseKind::Manual {
                reference: trigger.reference,
                request: trigger.request,
            },
            actor: Some(act.by.name.clone()),
            commit: asked.commit,
            summary: asked.summary,
            branch: asked.branch,
        },
        params,
        logical_time: None,
    };
    let mut started = started(&state, state.store().start_run(&act, &new).await?).await?;
    if !started.existed {
        started.notes = asked.notes;
    }
    Ok((StatusCode::CREATED, Json(started)))
}

/// The version of a DAG that a request is about.
pub(super) struct Asked {
    pub(super) version: DagVersionId,
    pub(super) dag: std::sync::Arc<trainyard_core::dag::Dag>,
    pub(super) commit: String,
    pub(super) summary: String,
    pub(super) branch: Option<String>,
    /// A note for the caller about the commit.
    pub(super) notes: Vec<String>,
}

impl Asked {
    /// The version at the head of the followed branch, as the remote has it now. A branch that the remote no longer has
    /// has no newest commit: a run of its last one would be of code that was renamed or removed.
    async fn of_current(state: &WebState, dag: DagId) -> Result<Self, ApiError> {
        let store = state.store();
        let repo = store.dag_detail(dag).await?.summary.repo_id;
        let last_seen = sync::before_start(state, repo).await?;
        let pinned = store.current_version(dag).await?;
        let followed = store.repo_detail(repo).await?.summary;
        if let (true, None, Some(problem)) =
            (followed.branch_missing, &last_seen, &followed.last_error)
        {
            let name = &followed.name;
            let error = ApiError::conflict(format!("{name} has no branch to follow: {problem}"));
            return Err(error.help(format!(
                "`trainyard repo set {name} --branch BRANCH` follows another branch; `--ref REF` starts a run of another \
                 branch, a tag or a commit"
            )));
        }
        let branch = followed.current_branch;
        let head = match &branch {
            Some(branch) => store.refs(repo).await?.remove(branch),
            None => None,
        };
        let commit = short(&pinned.commit);
        let last_seen = last_seen.map(|seen| seen.note(commit, branch.as_deref()));
        let newer = head.filter(|head| *head != pinned.commit).map(|head| {
            format!(
                "the DAG has faults at commit {}, the newest of its branch: commit {commit} is the last one without; \
                 `trainyard dag show` shows them",
                short(&head)
            )
        });
        let summary = summary_of(state, &pinned).await;
        Ok(Self {
            notes: last_seen.into_iter().chain(newer).collect(),
            version: pinned.version,
            dag: pinned.dag.clone(),
            commit: pinned.commit.clone(),
            summary,
            branch,
        })
    }

    /// The version at a branch, tag or commit.
    pub(super) async fn at(
        state: &WebState,
        dag: DagId,
        reference: &str,
    ) -> Result<Self, ApiError> {
        let detail = state.store().dag_detail(dag).await?.summary;
        let git = state.git();
        let repo = detail.repo_id;
        let (commit, info, last_seen) = mirrored::find(state, repo, reference).await?;
        let files = git.dag_files(repo, commit.clone()).await?;
        let found = find_among(files, detail.name.clone(), detail.path.clone()).await?;
        let faults = match found {
            Found::Dag { path, text, dag } => {
                let (_, version) = state
                    .store()
                    .record_dag_version(repo, commit.as_str(), &path, &text, &dag)
                    .await?;
                let branches = state.store().refs(repo).await?;
                // A branch of this name that was recorded meanwhile points to another commit. This commit must not
                // get its secrets.
                let branch = mirrored::branch(&branches, reference)
                    .filter(|(_, head)| *head == commit.as_str())
                    .map(|(name, _)| name.to_owned());
                let notes =
                    last_seen.map(|seen| seen.note(short(commit.as_str()), branch.as_deref()));
                return Ok(Self {
                    notes: notes.into_iter().collect(),
                    version,
                    dag: std::sync::Arc::new(*dag),
                    commit: commit.to_string(),
                    summary: info.summary,
                    branch,
                });
            }
            Found::Faults(faults) => faults,
        };
        if faults.is_empty() {
            Err(ApiError::not_found(format!(
                "commit {commit} has no DAG `{}`",
                detail.name
            )))
        } else {
            let first = &faults[0];
            Err(ApiError::invalid(format!(
                "{}:{}:{} at commit {commit}: {} ({} in all)",
                detail.path,
                first.line,
                first.column,
                first.message,
                counted(faults.len() as u64, "fault")
            )))
        }
    }
}

/// One DAG as the files of a commit define it.
enum Found {
    Dag {
        path: String,
        text: String,
        dag: Box<trainyard_core::dag::Dag>,
    },
    /// The diagnostics of its last known file; none where that file is gone.
    Faults(Vec<Diagnostic>),
}

/// Searches the files of a commit for a DAG: a hostile commit can make reading slow.
async fn find_among(
    files: Vec<DagFileText>,
    name: String,
    was_at: String,
) -> Result<Found, ApiError> {
    static DESK: Desk = Desk::new(2, READ_AT_MOST);
    let reading = DESK.work(move |until| {
        let mut faults = Vec::new();
        for file in files {
            if until.is_over() {
                return None;
            }
            let Ok(text) = file.text else { continue };
            let parsed = trainyard_dagfile::parse(&file.path, &text);
            match parsed.dag {
                Some(dag) if dag.name().as_str() == name => {
                    return Some(Found::Dag {
                        path: file.path,
                        text,
                        dag: Box::new(dag),
                    });
                }
                None if file.path == was_at => faults = parsed.diagnostics,
                _ => {}
            }
        }
        Some(Found::Faults(faults))
    });
    let found = reading.await.flatten();
    found.ok_or_else(|| ApiError::invalid("its DAG files take too long to read"))
}

/// The first line of a commit; empty where the mirror does not have it (yet).
async fn summary_of(state: &WebState, pinned: &PinnedDag) -> String {
    let Ok(commit) = trainyard_forge::CommitSha::new(&pinned.commit) else {
        return String::new();
    };
    let info = state.git().commit(pinned.repo, commit).await;
    info.map(|info| info.summary).unwrap_or_default()
}

/// The answer to a request for a run.
pub(super) async fn started(state: &WebState, recorded: Recorded) -> Result<RunStarted, ApiError> {
    let (run, existed) = match recorded {
        Recorded::Started(run) => (run, false),
        Recorded::Duplicate(run) => (run, true),
        Recorded::Paused => return Err(ApiError::conflict("the DAG is paused")),
        Recorded::Full(why) => return Err(ApiError::conflict(why)),
    };
    // The run exists already: a failure to read its state does not fail the request.
    let standing = standing(state, run).await.ok();
    let (summary, why) = standing.unzip();
    Ok(RunStarted {
        id: run.0,
        existed,
        state: summary.as_ref().map(|run| run.state.as_str().to_owned()),
        why: why.flatten(),
        branch: summary.as_ref().and_then(|run| run.branch.clone()),
        commit: summary.map(|run| run.commit),
        notes: Vec::new(),
    })
}

/// The state of a run, and the reason where it has not started or was skipped.
async fn standing(state: &WebState, run: RunId) -> Result<(RunSummary, Option<String>), ApiError> {
    let summary = state.store().run_summary(run).await?;
    let why = match summary.state {
        RunState::Queued => {
            let detail = state.store().run_detail(run).await?;
            let capacity = &state.settings().capacity;
            let queue = state.store().queue(&detail, capacity).await?;
            convert::why_not_started(&detail, &queue)
        }
        RunState::Running | RunState::Ended(_) => {
            summary.reason.as_ref().map(|reason| reason.message.clone())
        }
    };
    Ok((summary, why))
}

fn given(value: Value) -> Result<GivenValue, ApiError> {
    match value {
        // Text is parsed as the parameter's type, so that the command line needs no JSON quoting.
        Value::String(text) => Ok(GivenValue::Text(text)),
        Value::Bool(truth) => Ok(GivenValue::Typed(ParamValue::Boolean(truth))),
        Value::Number(number) => {
            let integer = number.as_i64().map(ParamValue::Integer);
            let value = integer.or_else(|| number.as_f64().map(ParamValue::Number));
            value
                .map(GivenValue::Typed)
                .ok_or_else(|| ApiError::invalid("a number is too large"))
        }
        other => Err(ApiError::invalid(format!("a parameter cannot be {other}"))),
    }
}

/// The history that is removed along with a DAG.
#[utoipa::path(
    get, path = "/dags/{repo}/{dag}/history", params(("repo" = String, Path), ("dag" = String, Path)),
    responses((status = 200, body = History), (status = 404, body = ErrorBody))
)]
pub(crate) async fn history(
    State(state): State<WebState>,
    Path((repo, dag)): Path<(String, String)>,
) -> Result<Json<History>, ApiError> {
    let id = find(&state, &repo, &dag).await?;
    Ok(Json(convert::history(state.store().dag_history(id).await?)))
}

/// Removes a DAG that the followed branch does not have.
#[utoipa::path(
    delete, path = "/dags/{repo}/{dag}", params(("repo" = String, Path), ("dag" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody))
)]
pub(crate) async fn remove(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path((repo, dag)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let id = find(&state, &repo, &dag).await?;
    state.store().remove_dag(&act, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    put, path = "/dags/{repo}/{dag}/paused", request_body = Paused,
    params(("repo" = String, Path), ("dag" = String, Path)),
    responses((status = 200, body = Dag), (status = 404, body = ErrorBody))
)]
pub(crate) async fn pause(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path((repo, dag)): Path<(String, String)>,
    Object(paused): Object<Paused>,
) -> Result<Json<Dag>, ApiError> {
    let id = find(&state, &repo, &dag).await?;
    state.store().pause_dag(&act, id, paused.paused).await?;
    Ok(Json(convert::dag(
        state.store().dag_detail(id).await?.summary,
    )))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Count {
    count: Option<u32>,
}

#[utoipa::path(
    get, path = "/dags/{repo}/{dag}/ticks", params(("repo" = String, Path), ("dag" = String, Path), Count),
    responses((status = 200, body = Listing<Tick>), (status = 404, body = ErrorBody))
)]
pub(crate) async fn ticks(
    State(state): State<WebState>,
    Path((repo, dag)): Path<(String, String)>,
    Query(query): Query<Count>,
) -> Result<Json<Listing<Tick>>, ApiError> {
    static DESK: Desk = Desk::new(1, TICKS_WITHIN);
    let count = query.count.unwrap_or(5).min(TICKS_AT_MOST) as usize;
    let id = find(&state, &repo, &dag).await?;
    let schedules = state.store().schedules(id).await?;
    let schedules = schedules.into_iter().filter_map(|schedule| {
        let timezone = schedule.timezone.parse().ok()?;
        Some((Cron::stored(&schedule.cron)?, timezone, schedule.next_tick))
    });
    let schedules = schedules.collect();
    let listing = DESK.work(move |until| {
        let mut upcoming = Upcoming::new(schedules);
        let mut items = Vec::new();
        while items.len() < count && !until.is_over() {
            let Some((cron, timezone, tick)) = upcoming.next() else {
                return Listing::whole(items);
            };
            items.push(convert::tick(&cron, timezone, tick));
        }
        Listing {
            more: items.len() < count,
            items,
        }
    });
    let listing = listing.await.ok_or_else(|| {
        let message = "too many requests for ticks are under way";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            .retry_after(TICKS_WITHIN)
    })?;
    Ok(Json(listing))
}

/// The DAG of a path; the repo `-` stands for the only one that has it.
async fn find(state: &WebState, repo: &str, dag: &str) -> Result<DagId, ApiError> {
    let text = if repo == "-" {
        dag.to_owned()
    } else {
        format!("{repo}/{dag}")
    };
    names::dag(state, &text).await
}

/// As [`find`], and reads the remotes first where no DAG of this name is known: its file may have been pushed just now.
async fn find_fresh(state: &WebState, repo: &str, dag: &str) -> Result<DagId, ApiError> {
    match find(state, repo, dag).await {
        Err(error) if error.is_not_found() => {}
        found => return found,
    }
    let repos = if repo == "-" {
        let repos = state.store().list_repos().await?;
        repos.iter().map(|repo| repo.id).collect()
    } else {
        vec![names::repo(state, repo).await?]
    };
    if repos.len() <= READ_TOGETHER {
        let reading = repos.into_iter().map(|repo| sync::refresh(state, repo));
        futures_util::future::try_join_all(reading).await?;
    }
    find(state, repo, dag).await
}
