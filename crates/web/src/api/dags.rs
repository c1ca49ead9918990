//! DAGs: list, show, start by hand, pause and remove them; and their next ticks.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{Offset, TimeZone};
use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::Value;
use trainyard_api::{
    Dag, DagDetail, ErrorBody, History, Listing, Paused, Run, RunStarted, Tick, Trigger,
};
use trainyard_core::Timestamp;
use trainyard_core::cause::{Cause, CauseKind};
use trainyard_core::cron::Cron;
use trainyard_core::id::{DagId, DagVersionId, RunId};
use trainyard_core::measure::counted;
use trainyard_core::outcome::RunState;
use trainyard_core::param::{GivenValue, ParamValue, resolve};
use trainyard_core::principal::Act;
use trainyard_core::schedule::Upcoming;
use trainyard_core::text::short_commit;
use trainyard_dagfile::Diagnostic;
use trainyard_forge::DagFileText;
use trainyard_store::{NewRun, PinnedDag, Recorded};
use utoipa::IntoParams;

use super::names;
use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::{Object, Path, Query};
use crate::look;
use crate::mirrored;
use crate::state::WebState;
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
    Ok(Json(Listing::whole(state.store().list_dags(repo).await?)))
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
    let pools = &state.settings().capacity.pools_total;
    Ok(Json(state.store().dag_detail(id, pools).await?))
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
        let repo = store.dag_place(dag).await?.repo;
        let last_seen = look::before_start(state, repo).await?;
        let pinned = store.current_version(dag).await?;
        let followed = store.repo_summary(repo).await?;
        if let (true, None, Some(problem)) = (
            followed.shown.branch_missing,
            &last_seen,
            &followed.shown.last_error,
        ) {
            let name = &followed.shown.name;
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
        let commit = short_commit(&pinned.commit);
        let last_seen = last_seen.map(|seen| seen.note(commit, branch.as_deref()));
        let newer = head.filter(|head| *head != pinned.commit).map(|head| {
            format!(
                "the DAG has faults at commit {}, the newest of its branch: commit {commit} is the last one without; \
                 `trainyard dag show` shows them",
                short_commit(&head)
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
        let place = state.store().dag_place(dag).await?;
        let git = state.git();
        let repo = place.repo;
        let (commit, info, last_seen) = mirrored::find(state, repo, reference).await?;
        let files = git.dag_files(repo, commit.clone()).await?;
        let found = find_among(files, place.name.clone(), place.path.clone()).await?;
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
                let notes = last_seen
                    .map(|seen| seen.note(short_commit(commit.as_str()), branch.as_deref()));
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
                place.name
            )))
        } else {
            let first = &faults[0];
            Err(ApiError::invalid(format!(
                "{}:{}:{} at commit {commit}: {} ({} in all)",
                place.path,
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
        state: summary.as_ref().map(|run| run.state.clone()),
        why: why.flatten(),
        branch: summary.as_ref().and_then(|run| run.branch.clone()),
        commit: summary.map(|run| run.commit),
        notes: Vec::new(),
    })
}

/// The state of a run, and the reason where it has not started or was skipped.
async fn standing(state: &WebState, run: RunId) -> Result<(Run, Option<String>), ApiError> {
    let store = state.store();
    let summary = store.run_summary(run).await?;
    let why = match RunState::from_word(&summary.state) {
        Some(RunState::Queued) => {
            store
                .why_not_started(run, &state.settings().capacity)
                .await?
        }
        Some(RunState::Running | RunState::Ended(_)) | None => {
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
    Ok(Json(state.store().dag_history(id).await?))
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
    Ok(Json(state.store().dag_summary(id).await?))
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
            items.push(shown(&cron, timezone, tick));
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

/// A tick with its local time, and a note where a change of the clock moves or repeats it.
fn shown(cron: &Cron, timezone: Tz, at: Timestamp) -> Tick {
    let local = timezone.from_utc_datetime(&at.naive_utc());
    let day_before = timezone.from_utc_datetime(&(at - chrono::Duration::days(1)).naive_utc());
    let shift =
        local.offset().fix().local_minus_utc() - day_before.offset().fix().local_minus_utc();
    let note = (shift != 0).then(|| {
        let minutes = shift.abs() / 60;
        let way = if shift > 0 { "forward" } else { "back" };
        format!("the clock went {way} by {minutes} min since the day before")
    });
    Tick {
        at,
        local: local.format("%Y-%m-%d %H:%M %Z").to_string(),
        cron: cron.to_string(),
        timezone: timezone.name().to_owned(),
        note,
    }
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
        let reading = repos.into_iter().map(|repo| look::refresh(state, repo));
        futures_util::future::try_join_all(reading).await?;
    }
    find(state, repo, dag).await
}
