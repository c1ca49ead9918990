//! Quarantine: a repo, DAG or run that fails is quarantined with its reason, and all others continue.
//!
//! 1. Errors of the database or the network have no subject and are never counted here.
//! 2. A failure that certainly is about its subject (a row that cannot be read) quarantines it at once. A failure
//!    that may be an accident (a panic) quarantines it the third time within an hour.
//! 3. The statements that pick the next work skip a quarantined subject, so it costs nothing and does not fill the
//!    log. Its containers are left alone.
//! 4. A user can release it, a commit that changes the DAG releases it, and cancelling a run ends it.

use serde_json::json;
use sqlx::PgConnection;
use trainyard_api::Quarantined;
use trainyard_core::id::{DagId, RepoId, RunId};
use trainyard_core::outcome::{Outcome, Reason, ReasonCode};
use trainyard_core::principal::{Act, AuditAction};
use trainyard_core::text::recorded;
use trainyard_failpoint::{AtPoint as _, Point};

use crate::access::audit::{self, Audited};
use crate::attempts::holding;
use crate::db::encoding::event::kind;
use crate::db::error::{Error, Result, answered};
use crate::db::topics::Topic;
use crate::store::{Core, Store};

/// How often a failure that may be an accident occurs before its subject is quarantined.
const FAILURES: i32 = 3;

/// Failures that are further apart than this, in seconds, are not counted together.
const TOGETHER: f64 = 3600.0;

/// The longest reason that is kept, in characters.
const REASON_LONGEST: usize = 2000;

/// The subject that is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Repo(RepoId),
    Dag(DagId),
    Run(RunId),
}

/// How certain it is that the fault is the subject's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Quarantines the subject at once.
    Certain,
    /// Counts towards quarantine.
    Suspect,
}

impl Store {
    /// Counts a failure of a subject, and quarantines the subject if that is enough. Returns whether it is in
    /// quarantine now. Failures of a subject that has been deleted are ignored.
    pub async fn record_trouble(
        &self,
        subject: Subject,
        place: &str,
        reason: &str,
        weight: Weight,
    ) -> Result<bool> {
        record(&self.core, subject, place, reason, weight).await
    }

    /// All subjects in quarantine, the newest first.
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>> {
        self.held_back(None).await
    }

    /// The quarantine that stops a run: its own, its DAG's or its repo's.
    pub async fn quarantine_of(&self, run: RunId) -> Result<Option<Quarantined>> {
        Ok(self.held_back(Some(run.0)).await?.pop())
    }

    async fn held_back(&self, run: Option<i64>) -> Result<Vec<Quarantined>> {
        let rows = sqlx::query!(
            r#"select q.id, q.run, q.dag, q.place, q.reason, q.failures, q.held_at as "held_at!",
                p.name as "repo_name?", d.name as "dag_name?"
            from quarantine q left join dag d on d.id = q.dag left join repo p on p.id = coalesce(q.repo, d.repo)
            where q.held_at is not null and ($1::bigint is null or q.run = $1)
            order by q.held_at desc, q.id desc"#,
            run
        )
        .fetch_all(&self.core.reading)
        .await?;
        let items = rows.into_iter().map(|row| {
            let repo = row.repo_name.unwrap_or_default();
            let (kind, name) = named(row.run, &repo, row.dag_name.as_deref());
            Quarantined {
                id: row.id,
                kind: kind.to_owned(),
                name,
                place: row.place,
                reason: row.reason,
                failures: row.failures.unsigned_abs(),
                held_at: row.held_at,
            }
        });
        Ok(items.collect())
    }

    /// How many subjects are in quarantine.
    pub async fn quarantined_count(&self) -> Result<u64> {
        let row = sqlx::query!(
            r#"select count(*) as "count!" from quarantine where held_at is not null"#
        )
        .fetch_one(&self.core.pool)
        .await?;
        Ok(row.count.unsigned_abs())
    }

    /// Releases a subject; it is planned again at once.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn release_from_quarantine(&self, act: &Act, id: i64) -> Result<()> {
        let mut transaction = self.core.begin().await?;
        let released = sqlx::query!(
            r#"with released as (delete from quarantine where id = $1 and held_at is not null returning repo, dag, run),
            due_run as (
                update run set wake_at = now() from released
                where run.id = released.run and run.phase <> 'finished'
            ),
            history as (
                insert into run_event (run, at, kind)
                select run, now(), $2::text from released where run is not null
            ),
            due_repo as (update repo set next_sync_at = now() from released where repo.id = released.repo)
            select q.run, d.name as "dag?", p.name as "repo!" from released q left join run r on r.id = q.run
            left join dag d on d.id = coalesce(q.dag, r.dag) join repo p on p.id = coalesce(q.repo, d.repo)"#,
            id,
            kind::RUN_RELEASED
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| Error::not_found(format!("quarantine {id}")))?;
        let released_run = released.run.map(|run| Topic::Run(RunId(run)));
        let (kind, name) = named(released.run, &released.repo, released.dag.as_deref());
        let audited = Audited {
            action: AuditAction::QuarantineRelease,
            subject: Some(&name),
            repo: Some(&released.repo),
            detail: json!({"kind": kind}),
        };
        audit::record(&mut transaction, act, audited).await?;
        transaction
            .commit()
            .at(Point::ReleaseFromQuarantine)
            .await?;
        let wakes = &self.core.wakes;
        wakes.plan.wake();
        wakes.dispatch.wake();
        wakes.schedule.wake();
        wakes.sync.wake();
        if let Some(topic) = released_run {
            wakes.topics.changed(topic);
        }
        Ok(())
    }

    /// Ends a run in quarantine as errored, with the reason of the quarantine: the orchestrator cannot know any more
    /// which stages would have to run. Returns whether the run was in quarantine. Its containers are removed like
    /// those of any attempt that ended.
    pub async fn end_quarantined(&self, act: &Act, run: RunId) -> Result<bool> {
        let mut transaction = self.core.begin().await?;
        let held = sqlx::query!(
            "select q.reason, d.name as dag, p.name as repo from run r join quarantine q on q.run = r.id
             join dag d on d.id = r.dag join repo p on p.id = d.repo
             where r.id = $1 and r.phase <> 'finished' and q.held_at is not null for no key update of r",
            run.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(held) = held else {
            return Ok(false);
        };
        let by = &act.by.name;
        let message = format!("quarantined ({}), and ended by {by}", held.reason);
        let reason = Reason::new(ReasonCode::Internal, message);
        holding::end_unread(&mut transaction, run, Outcome::Errored, &reason).await?;
        sqlx::query!("delete from quarantine where run = $1", run.0)
            .execute(&mut *transaction)
            .await?;
        let audited = Audited {
            action: AuditAction::RunCancel,
            subject: Some(&run.to_string()),
            repo: Some(&held.repo),
            detail: json!({"dag": format!("{}/{}", held.repo, held.dag), "quarantined": true}),
        };
        audit::record(&mut transaction, act, audited).await?;
        transaction.commit().at(Point::EndQuarantined).await?;
        self.core.runs.remove(run);
        let wakes = &self.core.wakes;
        wakes.plan.wake();
        wakes.dispatch.wake();
        wakes.supervise.wake();
        wakes.topics.changed(Topic::Run(run));
        Ok(true)
    }
}

/// The kind and the name of a subject.
fn named(run: Option<i64>, repo: &str, dag: Option<&str>) -> (&'static str, String) {
    match (run, dag) {
        (Some(run), _) => ("run", run.to_string()),
        (None, Some(dag)) => ("dag", format!("{repo}/{dag}")),
        (None, None) => ("repo", repo.to_owned()),
    }
}

/// Counts a failure; see [`Store::record_trouble`].
pub(crate) async fn record(
    core: &Core,
    subject: Subject,
    place: &str,
    reason: &str,
    weight: Weight,
) -> Result<bool> {
    answered(async {
        let mut transaction = core.begin().await?;
        let held = record_in(&mut transaction, subject, place, reason, weight).await?;
        transaction.commit().at(Point::RecordFailure).await?;
        if let (true, Subject::Run(run)) = (held, subject) {
            core.wakes.topics.changed(Topic::Run(run));
        }
        Ok(held)
    })
    .await
}

/// Counts a failure within the caller's transaction.
pub(crate) async fn record_in(
    connection: &mut PgConnection,
    subject: Subject,
    place: &str,
    reason: &str,
    weight: Weight,
) -> Result<bool> {
    let (repo, dag, run) = match subject {
        Subject::Repo(repo) => (Some(repo.0), None, None),
        Subject::Dag(dag) => (None, Some(dag.0), None),
        Subject::Run(run) => (None, None, Some(run.0)),
    };
    // A panic's message may contain anything.
    let reason = recorded(reason.chars().take(REASON_LONGEST).collect::<String>());
    let enough = match weight {
        Weight::Certain => 1,
        Weight::Suspect => FAILURES,
    };
    let row = sqlx::query!(
        r#"insert into quarantine as q (repo, dag, run, place, reason, failures, first_at, last_at, held_at)
        select $1::uuid, $2::uuid, $3::bigint, $4, $5, 1, now(), now(), case when $6 <= 1 then now() end
        where exists (select from repo where id = $1 union all select from dag where id = $2
            union all select from run where id = $3 and phase <> 'finished')
        on conflict (subject) do update set
            place = excluded.place, reason = excluded.reason, last_at = now(),
            first_at = case when q.last_at < now() - make_interval(secs => $7) then now() else q.first_at end,
            failures = case when q.last_at < now() - make_interval(secs => $7) then 1 else q.failures + 1 end,
            held_at = coalesce(q.held_at, case when $6 <= 1 or (q.failures + 1 >= $6
                and q.last_at >= now() - make_interval(secs => $7)) then now() end)
        returning held_at is not null as "held!", held_at is not distinct from now() as "newly!", failures"#,
        repo,
        dag,
        run,
        place,
        reason,
        enough,
        TOGETHER
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else {
        return Ok(false);
    };
    if let (true, Some(run)) = (row.newly, run) {
        sqlx::query!(
            "insert into run_event (run, at, kind, detail)
            values ($1, now(), $2, jsonb_build_object('place', $3::text, 'message', $4::text))",
            run,
            kind::RUN_HELD_BACK,
            place,
            reason
        )
        .execute(connection)
        .await?;
    }
    if row.held {
        tracing::error!(?subject, place, reason, "quarantined");
    } else {
        tracing::warn!(?subject, place, reason, failures = row.failures, "failed");
    }
    Ok(row.held)
}
