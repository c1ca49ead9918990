//! Converts types of the store to wire types.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Offset, TimeZone};
use chrono_tz::Tz;
use serde_json::{Number, Value};
use trainyard_api::{
    Artifact, Attempt, Branch, Cause, ConcurrencyRule, Dag, DagDetail, Delivery, Fault, GateBounds,
    History, LastRun, Metric, Param, PushRule, Reason, Repo, Run, RunDetail, RunEvent, Schedule,
    Stage, StageOutline, Tick,
};
use trainyard_core::Timestamp;
use trainyard_core::cause::{Again, CauseKind, RetryAt};
use trainyard_core::cron::Cron;
use trainyard_core::gate::GateRule;
use trainyard_core::name::{ParamName, PoolName};
use trainyard_core::param::{ParamKind, ParamSpec, ParamValue};
use trainyard_core::stage::{ImageSource, StageIndex};
use trainyard_core::trigger::Pattern;
use trainyard_core::why::{Queue, why};
use trainyard_core::{dag as core_dag, outcome};
use trainyard_store as store;

pub(super) fn reason(reason: outcome::Reason) -> Reason {
    Reason {
        code: reason.code.as_str().to_owned(),
        message: reason.message,
    }
}

pub(super) fn repo(repo: store::RepoSummary) -> Repo {
    Repo {
        name: repo.name,
        url: repo.url,
        branch: repo.current_branch.or(repo.followed_branch),
        poll_every_seconds: repo.poll_every.as_secs(),
        takes_webhooks: repo.has_webhook_secret,
        has_credentials: repo.has_credentials,
        created_at: repo.created_at,
        last_sync_at: repo.last_sync_at,
        last_error: repo.last_error,
        failing_since: repo.failing_since,
        branch_missing: repo.branch_missing,
        dags: repo.dags,
        faults: repo.faults,
    }
}

pub(super) fn delivery(delivery: store::DeliveryView) -> Delivery {
    Delivery {
        id: delivery.delivery_id,
        provider: delivery.provider,
        event: delivery.event,
        branch: delivery.branch,
        commit: delivery.after,
        actor: delivery.actor,
        received_at: delivery.received_at,
        processed_at: delivery.processed_at,
        result: delivery.result,
    }
}

pub(super) fn history(history: store::History) -> History {
    History {
        dags: history.dags,
        runs: history.runs,
        unfinished_runs: history.unfinished_runs,
        artifacts: history.artifacts,
        artifact_bytes: history.artifact_bytes,
        log_bytes: history.log_bytes,
        secrets: history.secrets,
    }
}

pub(super) fn branch(branch: store::BranchView) -> Branch {
    Branch {
        name: branch.name,
        commit: branch.sha,
        moved_at: branch.moved_at,
    }
}

pub(super) fn fault(fault: store::FaultView) -> Fault {
    Fault {
        repo: fault.repo,
        branch: fault.branches.first().cloned().unwrap_or_default(),
        branches: fault.branches,
        commit: fault.commit,
        path: fault.path,
        diagnostics: fault.diagnostics,
    }
}

pub(super) fn dag(dag: store::DagSummary) -> Dag {
    Dag {
        dag: format!("{}/{}", dag.repo, dag.name),
        repo: dag.repo,
        name: dag.name,
        path: dag.path,
        paused: dag.paused,
        commit: dag.commit,
        has_faults: dag.has_faults,
        later_format: dag.later_format,
        sync_failing_since: dag.sync_failing_since,
        next_tick: dag.next_tick,
        last_run: dag.last_run.map(|run| LastRun {
            id: run.id.0,
            state: run.state.as_str().to_owned(),
            created_at: run.created_at,
            finished_at: run.finished_at,
        }),
        active_runs: dag.active_runs,
    }
}

pub(super) fn dag_detail(detail: store::DagDetail, pools: &BTreeMap<PoolName, u32>) -> DagDetail {
    let declared = detail
        .pinned
        .as_ref()
        .map(|pinned| pinned.dag.declared().clone());
    let undefined: BTreeSet<String> = declared
        .iter()
        .flat_map(|declared| &declared.stages)
        .flat_map(|stage| stage.program().pools.keys())
        .filter(|pool| !pools.contains_key(*pool))
        .map(ToString::to_string)
        .collect();
    let push = declared.as_ref().and_then(|dag| dag.triggers.push.as_ref());
    let push = push.map(|push| PushRule {
        branches: patterns(&push.branches),
        paths: patterns(&push.paths),
    });
    let concurrency = declared.as_ref().map(|dag| &dag.concurrency);
    let concurrency = concurrency.and_then(|rule| {
        Some(ConcurrencyRule {
            limit: rule.limit?,
            overlap: rule.overlap.as_str().to_owned(),
            group: rule.group.as_ref().map(|group| group.source().to_owned()),
        })
    });
    let timeout = declared.as_ref().and_then(|dag| dag.timeout);
    let (description, stages, params) = match declared {
        None => (None, Vec::new(), Vec::new()),
        Some(core_dag::DagDraft {
            description,
            stages,
            params,
            ..
        }) => {
            let stages = stages.iter().map(outline).collect();
            let params = params.into_iter().map(|(name, spec)| param(&name, spec));
            (description, stages, params.collect())
        }
    };
    DagDetail {
        summary: dag(detail.summary),
        description,
        stages,
        params,
        schedules: detail
            .schedules
            .into_iter()
            .map(|schedule| Schedule {
                cron: schedule.cron,
                timezone: schedule.timezone,
                missed: schedule.missed,
                params: schedule
                    .params
                    .into_iter()
                    .map(|(name, value)| (name.to_string(), param_value(value)))
                    .collect(),
                next_tick: schedule.next_tick,
            })
            .collect(),
        starts_on_push: push.is_some(),
        push,
        concurrency,
        timeout_seconds: timeout.map(|timeout| timeout.as_secs_f64()),
        faults: detail.faults.into_iter().map(fault).collect(),
        undefined_pools: undefined.into_iter().collect(),
        source: detail.source,
    }
}

fn patterns(patterns: &[Pattern]) -> Vec<String> {
    patterns
        .iter()
        .map(|pattern| pattern.as_str().to_owned())
        .collect()
}

fn param(name: &ParamName, spec: ParamSpec) -> Param {
    let (choices, minimum, maximum) = match &spec.kind {
        ParamKind::String { choices } => (choices.clone(), None, None),
        ParamKind::Integer { minimum, maximum } => (
            Vec::new(),
            minimum.map(Number::from),
            maximum.map(Number::from),
        ),
        ParamKind::Number { minimum, maximum } => (
            Vec::new(),
            minimum.and_then(Number::from_f64),
            maximum.and_then(Number::from_f64),
        ),
        ParamKind::Boolean => (Vec::new(), None, None),
    };
    Param {
        name: name.to_string(),
        kind: spec.kind.word().to_owned(),
        default: spec.default.map(param_value),
        choices,
        minimum,
        maximum,
        description: spec.description,
    }
}

fn outline(stage: &trainyard_core::stage::Stage) -> StageOutline {
    StageOutline {
        name: stage.name.to_string(),
        needs: stage.needs.iter().map(ToString::to_string).collect(),
        image: match &stage.program().image {
            ImageSource::Reference { image, .. } => image.source().to_owned(),
            ImageSource::Build(build) => format!("built from {}", build.context),
        },
        condition: stage
            .condition
            .as_ref()
            .map(|condition| condition.source().to_owned()),
        gate: stage.program().gate.iter().map(gate_bounds).collect(),
    }
}

fn gate_bounds(rule: &GateRule) -> GateBounds {
    GateBounds {
        metric: rule.metric.to_string(),
        min: rule.min,
        max: rule.max,
    }
}

fn param_value(value: ParamValue) -> Value {
    match value {
        ParamValue::String(text) => text.into(),
        ParamValue::Integer(number) => number.into(),
        ParamValue::Number(number) => number.into(),
        ParamValue::Boolean(truth) => truth.into(),
    }
}

pub(super) fn run(run: store::RunSummary) -> Run {
    let summary = match &run.cause {
        Some(cause) => cause_in_words(cause, run.actor.as_deref()),
        None => run.cause_kind.clone(),
    };
    Run {
        id: run.id.0,
        dag: format!("{}/{}", run.repo, run.dag),
        state: run.state.as_str().to_owned(),
        reason: run.reason.map(reason),
        cancelling: run.cancelling,
        cause: Cause {
            kind: run.cause_kind,
            summary,
            actor: run.actor,
        },
        branch: run.branch,
        commit: run.commit,
        commit_summary: run.summary,
        logical_time: run.logical_time,
        created_at: run.created_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
        stages_total: run.stages_total,
        stages_finished: run.stages_finished,
        stages_failed: run.stages_failed,
    }
}

fn cause_in_words(cause: &CauseKind, actor: Option<&str>) -> String {
    let by = actor.map(|name| format!(" by {name}")).unwrap_or_default();
    match cause {
        CauseKind::Schedule { schedule, .. } => format!("schedule {schedule}"),
        CauseKind::Push { branch, .. } => format!("push to {branch}{by}"),
        CauseKind::Manual {
            reference: None, ..
        } => format!("started{by}"),
        CauseKind::Manual {
            reference: Some(reference),
            ..
        } => {
            format!("started at {reference}{by}")
        }
        CauseKind::Retry { of, again, at, .. } => {
            let from = match (again, at) {
                (Again::All, _) | (Again::FromFailed, RetryAt::Reference { .. }) => String::new(),
                (Again::FromFailed, RetryAt::SameCommit { .. }) => ", from what failed".to_owned(),
                (Again::From(stage), _) => format!(", from {stage}"),
            };
            match at {
                RetryAt::SameCommit { branch_head: None } => format!("run {of} again{from}{by}"),
                RetryAt::SameCommit {
                    branch_head: Some(head),
                } => format!(
                    "run {of} again{from}{by}, at its old commit: the branch was at {}",
                    short(head)
                ),
                RetryAt::Reference { reference, .. } => {
                    format!("run {of} resumed at {reference}{from}{by}")
                }
            }
        }
    }
}

/// The beginning of a commit's hash, for people.
pub(super) fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

pub(super) fn run_detail(detail: store::RunDetail, queue: &Queue) -> RunDetail {
    let whys: Vec<String> = (0..detail.stages.len())
        .map(|place| why(&detail.pinned.dag, &detail.run, StageIndex(place), queue))
        .collect();
    let stages = detail
        .stages
        .into_iter()
        .zip(whys)
        .map(|(view, why)| stage(view, why))
        .collect();
    let concurrency = &detail.pinned.dag.declared().concurrency;
    RunDetail {
        group: concurrency.group_of(&detail.run.facts_of_cause()),
        summary: run(detail.summary),
        params: detail
            .params
            .into_iter()
            .map(|(name, value)| (name.to_string(), param_value(value)))
            .collect(),
        stages,
    }
}

/// The reason why a run has not started, in words.
pub(super) fn why_not_started(detail: &store::RunDetail, queue: &Queue) -> Option<String> {
    trainyard_core::why::why_not_started(&detail.pinned.dag, &detail.run, queue)
}

fn stage(view: store::StageView, why: String) -> Stage {
    let duration_seconds = view
        .started_at
        .zip(view.finished_at)
        .map(|(start, end)| seconds(start, end));
    Stage {
        name: view.name,
        needs: view.needs,
        state: view.state.to_owned(),
        reason: view.reason.map(reason),
        why,
        started_at: view.started_at,
        finished_at: view.finished_at,
        duration_seconds,
        image: view.image,
        reused_from: view.reused_from.map(|run| run.0),
        metrics: view.metrics,
        attempts: view.attempts.into_iter().map(attempt).collect(),
        artifacts: view.artifacts.into_iter().map(artifact).collect(),
    }
}

fn seconds(start: Timestamp, end: Timestamp) -> f64 {
    (end - start).as_seconds_f64().max(0.0)
}

fn attempt(view: store::AttemptView) -> Attempt {
    Attempt {
        number: view.number,
        id: view.id.to_string(),
        state: view.state.to_owned(),
        reason: view.reason.map(reason),
        queued_at: view.queued_at,
        started_at: view.started_at,
        finished_at: view.finished_at,
        executor: view.executor,
        host: view.host,
        container: view.handle,
        log_bytes: view.log_length,
        log_dropped_bytes: trainyard_api::text_bytes(view.log_dropped.0, view.log_dropped.1),
        log_dropped_lines: view.log_dropped.1,
        log_removed_at: view.log_pruned_at,
        notes: view.notes,
    }
}

pub(super) fn artifact(view: store::ArtifactView) -> Artifact {
    Artifact {
        run: view.run.0,
        stage: view.stage,
        output: view.output,
        kind: view.content.kind.as_str().to_owned(),
        sha256: view.content.sha256,
        size_bytes: view.content.size,
        created_at: view.created_at,
    }
}

pub(super) fn metric(point: store::MetricPoint) -> Metric {
    Metric {
        run: point.run.0,
        dag: format!("{}/{}", point.repo, point.dag),
        stage: point.stage,
        name: point.name,
        value: point.value,
        commit: point.commit,
        at: point.at,
    }
}

pub(super) fn event(event: store::RunEvent) -> RunEvent {
    RunEvent {
        id: event.id,
        at: event.at,
        kind: event.kind,
        stage: event.stage,
        attempt: event.attempt,
        detail: event.detail,
    }
}

/// A tick with its local time, and a note where a change of the clock moves or repeats it.
pub(super) fn tick(cron: &Cron, timezone: Tz, at: Timestamp) -> Tick {
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
