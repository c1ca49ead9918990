//! Starting runs: the one function that every cause goes through, whatever its origin.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sqlx::PgConnection;
use trainyard_core::Timestamp;
use trainyard_core::again::Earlier;
use trainyard_core::cause::{Again, Cause, CauseKey, CauseKind, RetryAt};
use trainyard_core::event::Event;
use trainyard_core::id::{DagId, DagVersionId, RunId};
use trainyard_core::name::ParamName;
use trainyard_core::param::ParamValue;
use trainyard_core::principal::{Act, AuditAction};
use trainyard_core::run::{Run, RunFacts};
use trainyard_core::transition::Step;
use trainyard_failpoint::Point;
use uuid::Uuid;

use crate::access::audit::{self, Audited};
use crate::db::encoding;
use crate::db::encoding::cause::CauseDoc;
use crate::db::encoding::event::place;
use crate::db::encoding::param::values_doc;
use crate::db::error::{Error, Result, repeated};
use crate::runs::advance::{Advanced, whole_micros};
use crate::runs::draft::Draft;
use crate::runs::metrics::MetricColumns;
use crate::runs::overlap::{judge_in, lock_dag};
use crate::runs::room::Room;
use crate::runs::rows::{NewStageRow, RunRow, StageRow, docs};
use crate::runs::state::{CachedRun, load_runs};
use crate::runs::step::take_step;
use crate::store::{Core, Store};
use crate::triggers::dags::{PinnedDag, pinned};

/// A run to be started.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub dag: DagId,
    /// The version that it pins; of this DAG.
    pub version: DagVersionId,
    /// Its cause. A retry names the earlier run whose results it reuses.
    pub cause: Cause,
    /// Its parameters, checked against that version.
    pub params: BTreeMap<ParamName, ParamValue>,
    /// Its logical time; `None` takes the schedule's tick, the retried run's, or now.
    pub logical_time: Option<Timestamp>,
}

/// The result of recording a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// A run was started for it.
    Started(RunId),
    /// The cause was recorded before, with this run.
    Duplicate(RunId),
    /// No run is started for it, now or when it is reported again, because its DAG is paused.
    Paused,
    /// No run is started for it, and it is not recorded, because its repo has too many unfinished runs.
    /// The text says how many, and what to do.
    Full(String),
}

impl Store {
    /// Records a cause and starts a run for it, once: the same key again returns the same run.
    /// Starts the run even if its DAG is paused.
    ///
    /// # Errors
    /// `NotFound` for an unknown version or an unknown run to retry; `Conflict` where that run has not ended, leaves
    /// nothing to do, or its results may not be reused; `Corrupt`.
    pub async fn start_run(&self, act: &Act, new: &NewRun) -> Result<Recorded> {
        let (recorded, committed) = repeated(|| async {
            let mut transaction = self.core.begin().await?;
            let (mut draft, mut room) = (Draft::default(), self.core.room());
            let recorded = start_run_in(
                &self.core,
                &mut transaction,
                &mut draft,
                new,
                false,
                &mut room,
            )
            .await?;
            if let Recorded::Started(run) = recorded {
                let pinned = pinned(&self.core, &mut transaction, new.version).await?;
                audit_start(&mut transaction, act, new, &pinned, run).await?;
            }
            Ok((recorded, draft.commit(transaction, Point::StartRun).await?))
        })
        .await?;
        committed.settle(&self.core).await;
        Ok(recorded)
    }
}

/// Records who started a run by hand.
async fn audit_start(
    connection: &mut PgConnection,
    act: &Act,
    new: &NewRun,
    pinned: &PinnedDag,
    run: RunId,
) -> Result<()> {
    let dag = pinned.full_name();
    let (action, subject) = match &new.cause.kind {
        CauseKind::Retry { of, .. } => (AuditAction::RunRetry, of.to_string()),
        CauseKind::Manual { .. } | CauseKind::Push { .. } | CauseKind::Schedule { .. } => {
            (AuditAction::DagTrigger, dag.clone())
        }
    };
    let audited = Audited {
        action,
        subject: Some(&subject),
        repo: Some(pinned.repo_name.as_str()),
        detail: json!({"run": run.0, "dag": dag, "commit": new.cause.commit}),
    };
    audit::record(connection, act, audited).await
}

/// Starts a run within the caller's transaction. With `respects_pause`, the cause is recorded as refused where the
/// DAG is paused. `draft` and `room` belong to its transaction.
pub(crate) async fn start_run_in(
    core: &Core,
    connection: &mut PgConnection,
    draft: &mut Draft,
    new: &NewRun,
    respects_pause: bool,
    room: &mut Room,
) -> Result<Recorded> {
    let pinned = pinned(core, connection, new.version).await?;
    let key = CauseKey::of(&new.cause.kind, pinned.repo, new.dag);
    if let Some(lack) = room.lacks(connection, &pinned).await? {
        let before = recorded_before(connection, key.as_ref()).await?;
        return Ok(before.unwrap_or(Recorded::Full(lack)));
    }
    let limited = pinned.dag.declared().concurrency.limit.is_some();
    if limited {
        // This comes before any lock on a run, as in the code that applies the concurrency rule.
        lock_dag(connection, new.dag).await?;
    }
    let paused = respects_pause
        && sqlx::query!("select paused from dag where id = $1", new.dag.0)
            .fetch_one(&mut *connection)
            .await?
            .paused;
    let Some(cause) = insert_cause(connection, new, key.as_ref(), paused).await? else {
        let before = recorded_before(connection, key.as_ref()).await?;
        return Ok(before.unwrap_or(Recorded::Paused));
    };
    if paused {
        return Ok(Recorded::Paused);
    }
    let (mut run, earlier) = new_run(core, connection, new, &pinned, &cause).await?;
    // Due in any case until the concurrency rule has been applied.
    let (mut step, mut wake_at) = (Step::default(), limited.then_some(cause.now));
    if !limited {
        step = take_step(&pinned, &mut run, &[Event::RunStarted], cause.now)?;
        wake_at = step.wake_at.map(whole_micros);
        draft.add_due(wake_at, None);
    }
    insert_run(connection, new, &cause, &pinned, &run, wake_at).await?;
    draft.add_new(&run, &pinned, &step, cause.now);
    draft.write(connection).await?;
    if let Some(earlier) = earlier {
        copy_results(connection, &pinned, &run, &earlier).await?;
    }
    room.take(&pinned);
    let id = run.facts.id;
    let known = CachedRun {
        version: 0,
        run: run.into(),
        pinned,
    };
    draft.add_answer(id, known, Advanced::default());
    if limited {
        judge_in(core, connection, draft, new.dag).await?;
    }
    Ok(Recorded::Started(id))
}

struct NewCause {
    id: Uuid,
    now: Timestamp,
}

/// Inserts the cause; `None` where its key exists. Waits for a transaction
/// that inserts the same key at the same time.
async fn insert_cause(
    connection: &mut PgConnection,
    new: &NewRun,
    key: Option<&CauseKey>,
    paused: bool,
) -> Result<Option<NewCause>> {
    let cause = &new.cause;
    let row = sqlx::query!(
        r#"with recorded as materialized (
            insert into cause (id, key, dag, kind, detail, actor, commit, summary, branch, recorded_at, refused)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp(), $10)
            on conflict (key) do nothing
            returning id
        )
        select id, clock_timestamp() as "now!" from recorded"#,
        Uuid::now_v7(),
        key.map(CauseKey::as_str),
        new.dag.0,
        cause.kind.word(),
        encoding::write(&CauseDoc::from(&cause.kind)),
        cause.actor.as_deref(),
        cause.commit,
        cause.summary,
        cause.branch.as_deref(),
        paused.then_some("paused")
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| NewCause {
        id: row.id,
        now: row.now,
    }))
}

/// What was recorded for this key; `None` where it is new.
async fn recorded_before(
    connection: &mut PgConnection,
    key: Option<&CauseKey>,
) -> Result<Option<Recorded>> {
    let row = sqlx::query!(
        "select r.id as \"run?\" from cause c left join run r on r.cause = c.id where c.key = $1",
        key.map(CauseKey::as_str)
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| match row.run {
        Some(run) => Recorded::Duplicate(RunId(run)),
        None => Recorded::Paused,
    }))
}

/// The run's first state, and the earlier run whose results it reuses.
async fn new_run(
    core: &Core,
    connection: &mut PgConnection,
    new: &NewRun,
    pinned: &PinnedDag,
    cause: &NewCause,
) -> Result<(Run, Option<CachedRun>)> {
    let facts = |id, logical_time| RunFacts {
        id,
        repo: Some(pinned.repo_name.clone()),
        dag: pinned.dag.name().clone(),
        cause: new.cause.kind.word().to_owned(),
        commit: new.cause.commit.clone(),
        branch: new.cause.branch.clone(),
        logical_time: new.logical_time.unwrap_or(logical_time),
        params: new.params.clone(),
    };
    let (of, again, at) = match &new.cause.kind {
        CauseKind::Retry { of, again, at, .. } => (*of, again, at),
        CauseKind::Schedule { tick, .. } => {
            let facts = facts(next_number(connection).await?, *tick);
            return Ok((Run::new(&pinned.dag, facts), None));
        }
        CauseKind::Push { .. } | CauseKind::Manual { .. } => {
            let facts = facts(next_number(connection).await?, cause.now);
            return Ok((Run::new(&pinned.dag, facts), None));
        }
    };
    let known = load_runs(core, connection, &[of.0])
        .await?
        .remove(&of)
        .ok_or_else(|| Error::not_found(format!("run {of}")))??;
    if !known.run.is_finished() {
        return Err(Error::conflict(format!(
            "run {of} has not ended; wait for it, or cancel it first"
        )));
    }
    let none = BTreeSet::new();
    let rebuilt = match at {
        RetryAt::SameCommit { .. } if known.pinned.version != pinned.version => {
            return Err(Error::conflict(format!(
                "run {of} is of another version of its DAG"
            )));
        }
        RetryAt::SameCommit { .. } => &none,
        RetryAt::Reference { rebuilt, .. } => rebuilt,
    };
    if known.pinned.dag_id != pinned.dag_id {
        return Err(Error::conflict(format!("run {of} is of another DAG")));
    }
    may_reuse(connection, pinned, new, &known.run).await?;
    if let Again::From(stage) = again
        && pinned.dag.index_of(stage.as_str()).is_none()
    {
        return Err(Error::not_found(format!("stage `{stage}` in run {of}")));
    }
    let earlier = Earlier {
        dag: &known.pinned.dag,
        run: &known.run,
        again,
        rebuilt,
    };
    if !earlier.leaves_work(&pinned.dag) {
        return Err(Error::conflict(nothing_to_do(of, at)));
    }
    let facts = facts(next_number(connection).await?, known.run.facts.logical_time);
    let run = Run::again(&pinned.dag, facts, &earlier, cause.now);
    Ok((run, Some(known)))
}

/// The number of a run that is about to be recorded; a refused run takes none.
async fn next_number(connection: &mut PgConnection) -> Result<RunId> {
    let number = sqlx::query_scalar!(r#"select nextval('run_id_seq') as "number!""#)
        .fetch_one(connection)
        .await?;
    Ok(RunId(number))
}

fn nothing_to_do(of: RunId, at: &RetryAt) -> String {
    let changed = match at {
        RetryAt::SameCommit { .. } => "",
        RetryAt::Reference { .. } => ", and no definition of a stage has changed",
    };
    format!(
        "run {of} succeeded{changed}: nothing is left to run; name a stage to run again with `--from STAGE`, \
         or start a new run with `trainyard dag trigger`"
    )
}

/// Refuses results of a branch that is neither the run's own nor the followed one. Otherwise users who may push to
/// any branch could write what the stages of another branch read, with that branch's secrets. A run without a branch
/// gets no results of a branch: they were made with that branch's secrets, and the run's commit may be anybody's.
async fn may_reuse(
    connection: &mut PgConnection,
    pinned: &PinnedDag,
    new: &NewRun,
    earlier: &Run,
) -> Result<()> {
    let (to, from) = (&new.cause.branch, &earlier.facts.branch);
    if from == to {
        return Ok(());
    }
    let (place, rule, reference) = match to {
        Some(to) => {
            let followed = sqlx::query_scalar!(
                "select coalesce(current_branch, followed_branch) from repo where id = $1",
                pinned.repo.0
            )
            .fetch_one(connection)
            .await?;
            if followed.is_some() && *from == followed {
                return Ok(());
            }
            let rule = "only those of the same branch and of the followed one can";
            (format!("on branch `{to}`"), rule, to)
        }
        None => (
            "by a run of a tag or a bare commit".to_owned(),
            "it has no branch, and gets no results made with the secrets of one",
            &new.cause.commit,
        ),
    };
    let of = earlier.facts.id;
    let from = match from {
        Some(branch) => format!("branch `{branch}`"),
        None => "no branch".to_owned(),
    };
    Err(Error::conflict(format!(
        "run {of} is of {from}, and its results cannot be reused {place}: {rule}; start a new run with \
         `trainyard dag trigger {}/{} --ref {reference}`",
        pinned.repo_name,
        pinned.dag.name()
    )))
}

async fn insert_run(
    connection: &mut PgConnection,
    new: &NewRun,
    cause: &NewCause,
    pinned: &PinnedDag,
    run: &Run,
    wake_at: Option<Timestamp>,
) -> Result<()> {
    let row = RunRow::new(run, wake_at);
    let stages = pinned.dag.indices().map(|index| NewStageRow {
        row: StageRow::new(run, index),
        name: pinned.dag.stage(index).name.as_str(),
        reused_from: run.stages[index.0].reused_from.map(|run| run.0),
    });
    let concurrency = &pinned.dag.declared().concurrency;
    let group = concurrency.group_of(&run.facts_of_cause());
    sqlx::query!(
        "with run as (
            insert into run (id, dag, dag_version, cause, params, logical_time, phase, outcome, reason_code,
                reason_message, stages_total, stages_finished, stages_failed, created_at, started_at,
                finished_at, wake_at, concurrency_group, format)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                (select format from dag_version where id = $3))
        )
        insert into stage_run (run, position, name, state, until, outcome, reason_code, reason_message,
            finished_at, image, reused_from)
        select u.run, u.position, u.name, u.state, u.until, u.outcome, u.reason_code, u.reason_message,
            u.finished_at, u.image, u.reused_from
        from unnest($19::jsonb[]) as doc cross join jsonb_to_record(doc) as u (
            run bigint, position integer, name text, state text, until timestamptz, finished_at timestamptz,
            outcome text, reason_code text, reason_message text, image text, reused_from bigint)",
        run.facts.id.0,
        new.dag.0,
        new.version.0,
        cause.id,
        encoding::write(&values_doc(&run.facts.params)),
        run.facts.logical_time,
        row.phase,
        row.end.outcome,
        row.end.reason_code,
        row.end.reason_message,
        i32::try_from(run.stages.len()).unwrap_or(i32::MAX),
        row.stages_finished,
        row.stages_failed,
        cause.now,
        // A run whose stages were all skipped or reused ends when it starts.
        row.started_at.or(row.end.finished_at),
        row.end.finished_at,
        row.wake_at,
        group,
        docs(stages) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Copies the metrics and the references to artifacts of stages that are not run again.
async fn copy_results(
    connection: &mut PgConnection,
    pinned: &PinnedDag,
    run: &Run,
    earlier: &CachedRun,
) -> Result<()> {
    let mut metrics = MetricColumns::default();
    let (mut was, mut is) = (Vec::new(), Vec::new());
    for index in pinned.dag.indices() {
        let stage = &run.stages[index.0];
        let name = pinned.dag.stage(index).name.as_str();
        let Some(old) = earlier.pinned.dag.index_of(name) else {
            continue;
        };
        if stage.reused_from.is_none() {
            continue;
        }
        was.push(place(old));
        is.push(place(index));
        for (name, value) in &stage.metrics {
            metrics.add_one(run.facts.id, place(index), 0, name.as_str(), *value);
        }
    }
    metrics.write(connection).await?;
    sqlx::query!(
        "insert into artifact (run, stage, output, attempt, kind, sha256, size, created_at)
         select $1, place.is_at, a.output, a.attempt, a.kind, a.sha256, a.size, a.created_at
         from artifact a join unnest($3::integer[], $4::integer[]) as place (was_at, is_at) on place.was_at = a.stage
         where a.run = $2",
        run.facts.id.0,
        earlier.run.facts.id.0,
        &was,
        &is
    )
    .execute(connection)
    .await?;
    Ok(())
}
