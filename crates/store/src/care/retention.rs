//! Retention: old runs, logs, deliveries and versions are deleted in small batches.
//!
//! A run is deleted when it is old and not among the newest of its DAG; of a DAG that the followed branch does not
//! have, when it is old. Content of the artifact store is deleted
//! separately, once no artifact refers to it ([`Store::sweep_blobs`]).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use trainyard_core::Timestamp;
use trainyard_core::principal::{Act, AuditAction};
use trainyard_failpoint::{AtPoint as _, Point};
use uuid::Uuid;

use crate::access::audit::{self, Audited};
use crate::db::error::Result;
use crate::store::Store;

/// How long rows are kept that nothing uses: DAG versions, faults, branches that are gone. Each commit has a version of
/// each DAG file, changed or not; git keeps their texts.
const UNUSED_FOR: Duration = Duration::from_secs(3600);

/// How many rows one transaction deletes: few enough that other transactions do not wait for it.
const BATCH: i64 = 50;

/// How many entries of the audit log are kept at most: a program that changes something every second fills them in 11
/// days, and at most some hundred MiB of the database.
const AUDIT_AT_MOST: i64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// A run is kept for at least this long after it ended.
    pub runs_for: Duration,
    /// This many of the newest runs of each DAG are always kept, as long as the followed branch has the DAG.
    pub runs_of_each_dag: u32,
    /// A log is kept for this long after its run ended.
    pub logs_for: Duration,
    /// Processed webhook deliveries are kept for this long.
    pub deliveries_for: Duration,
    /// An image that was built for stages is kept for this long after a run last used it.
    pub images_for: Duration,
    /// An entry of the audit log is kept for this long, if it is among the newest million.
    pub audit_for: Duration,
}

impl Default for Retention {
    /// 90 days and the newest 20 runs of each DAG; logs and deliveries 30 days; images 7 days; the audit log a year.
    fn default() -> Self {
        const DAY: u64 = 24 * 3600;
        Self {
            runs_for: Duration::from_secs(90 * DAY),
            runs_of_each_dag: 20,
            logs_for: Duration::from_secs(30 * DAY),
            deliveries_for: Duration::from_secs(30 * DAY),
            images_for: Duration::from_secs(7 * DAY),
            audit_for: Duration::from_secs(365 * DAY),
        }
    }
}

/// Which images retention keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptImages {
    pub since: Timestamp,
    /// Images that a run has used since then or may still use, as its attempts name them.
    pub used: BTreeSet<String>,
}

/// How much was deleted, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Runs, with everything that belongs to them.
    pub runs: u64,
    /// Logs of attempts whose runs are kept.
    pub logs: u64,
    pub deliveries: u64,
    /// DAG versions that no run and no schedule uses and that are not current.
    pub dag_versions: u64,
    /// Daemons that have been gone for long.
    pub daemons: u64,
    /// Faults of DAG files at commits that are no longer the head of a branch.
    pub faults: u64,
    /// Entries of the audit log.
    pub audit_entries: u64,
}

/// Runs to delete, each with its cause at the same index.
pub(crate) struct OldRuns {
    pub(crate) runs: Vec<i64>,
    causes: Vec<Uuid>,
}

impl Pruned {
    /// Whether there was nothing to delete.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Store {
    /// The images that the rule keeps; all other images that were built for stages may be removed.
    pub async fn kept_images(&self, rule: &Retention) -> Result<KeptImages> {
        let since = sqlx::query_scalar!(
            r#"select clock_timestamp() - make_interval(secs => $1) as "since!""#,
            rule.images_for.as_secs_f64()
        )
        .fetch_one(&self.core.pool)
        .await?;
        let used = sqlx::query_scalar!(
            r#"select distinct a.image as "image!" from run r join attempt a on a.run = r.id
            where a.image is not null and (r.phase <> 'finished' or r.finished_at >= $1)"#,
            since
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(KeptImages {
            since,
            used: used.into_iter().collect(),
        })
    }

    /// Deletes what the rule does not keep; `dry_run` only counts.
    ///
    /// # Errors
    /// A database error. Everything deleted until then stays deleted.
    pub async fn prune(&self, rule: &Retention, dry_run: bool) -> Result<Pruned> {
        let old = self.old_runs(rule).await?;
        // Logs and versions that are deleted with these runs are not counted a second time.
        let gone: &[i64] = if dry_run { &old.runs } else { &[] };
        let runs = self.prune_runs(&old, dry_run).await?;
        if !dry_run {
            self.prune_dags(rule).await?;
            self.prune_refs(rule).await?;
        }
        Ok(Pruned {
            runs,
            logs: self.prune_logs(rule, dry_run, gone).await?,
            deliveries: self.prune_deliveries(rule, dry_run).await?,
            dag_versions: self.prune_versions(rule, dry_run, gone).await?,
            daemons: self.prune_daemons(rule, dry_run).await?,
            faults: self.prune_faults(rule, dry_run).await?,
            audit_entries: self.prune_audit(rule, dry_run).await?,
        })
    }

    /// The runs that the rule does not keep.
    pub(crate) async fn old_runs(&self, rule: &Retention) -> Result<OldRuns> {
        let old = sqlx::query!(
            r#"select r.id, r.cause from run r
            where r.finished_at < clock_timestamp() - make_interval(secs => $1)
                and (exists (select from dag where id = r.dag and current_version is null) or r.id < coalesce((
                    select id from run newer where newer.dag = r.dag order by id desc offset $2::bigint - 1 limit 1
                ), 0))
            order by r.id"#,
            rule.runs_for.as_secs_f64(),
            i64::from(rule.runs_of_each_dag.max(1))
        )
        .fetch_all(&self.core.pool)
        .await?;
        let (runs, causes) = old.into_iter().map(|row| (row.id, row.cause)).unzip();
        Ok(OldRuns { runs, causes })
    }

    async fn prune_runs(&self, old: &OldRuns, dry_run: bool) -> Result<u64> {
        if dry_run {
            return Ok(old.runs.len() as u64);
        }
        let mut pruned = 0;
        let batch = usize::try_from(BATCH).unwrap_or(1);
        for (runs, causes) in old.runs.chunks(batch).zip(old.causes.chunks(batch)) {
            let mut transaction = self.core.begin().await?;
            sqlx::query!("delete from run_event where run = any($1)", runs)
                .execute(&mut *transaction)
                .await?;
            let done = sqlx::query!("delete from run where id = any($1)", runs)
                .execute(&mut *transaction)
                .await?;
            sqlx::query!("delete from cause where id = any($1)", causes)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().at(Point::PruneRuns).await?;
            pruned += done.rows_affected();
        }
        Ok(pruned)
    }

    async fn prune_logs(&self, rule: &Retention, dry_run: bool, gone: &[i64]) -> Result<u64> {
        let mut pruned = 0;
        loop {
            let old: Vec<_> = sqlx::query_scalar!(
                "select l.attempt from run r
                 join attempt a on a.run = r.id join attempt_log l on l.attempt = a.id
                 where r.finished_at < clock_timestamp() - make_interval(secs => $1) and l.pruned_at is null
                    and r.id <> all($4)
                 order by r.finished_at limit case when $3 then null else $2::bigint end",
                rule.logs_for.as_secs_f64(),
                BATCH,
                dry_run,
                gone
            )
            .fetch_all(&self.core.pool)
            .await?;
            pruned += old.len() as u64;
            if dry_run || old.is_empty() {
                return Ok(pruned);
            }
            sqlx::query!(
                "with marked as (
                    update attempt_log l set pruned_at = clock_timestamp(), dropped = length,
                        dropped_lines = dropped_lines + coalesce(
                            (select sum(lines) from log_chunk where attempt = l.attempt), 0)
                    where attempt = any($1)
                )
                delete from log_chunk where attempt = any($1)",
                &old
            )
            .execute(&self.core.pool)
            .at(Point::PruneLogs)
            .await?;
        }
    }

    async fn prune_deliveries(&self, rule: &Retention, dry_run: bool) -> Result<u64> {
        let seconds = rule.deliveries_for.as_secs_f64();
        if dry_run {
            let row = sqlx::query!(
                r#"select count(*) as "count!" from delivery
                where processed_at is not null and received_at < clock_timestamp() - make_interval(secs => $1)"#,
                seconds
            )
            .fetch_one(&self.core.pool)
            .await?;
            return Ok(row.count.unsigned_abs());
        }
        let mut pruned = 0;
        loop {
            let done = sqlx::query!(
                "delete from delivery where id in (
                    select id from delivery
                    where processed_at is not null and received_at < clock_timestamp() - make_interval(secs => $1)
                    limit $2)",
                seconds,
                BATCH
            )
            .execute(&self.core.pool).at(Point::PruneDeliveries)
            .await?
            .rows_affected();
            pruned += done;
            if done < BATCH.unsigned_abs() {
                return Ok(pruned);
            }
        }
    }

    async fn prune_versions(&self, rule: &Retention, dry_run: bool, gone: &[i64]) -> Result<u64> {
        let mut pruned = 0;
        loop {
            let old: Vec<_> = sqlx::query_scalar!(
                "select v.id from dag_version v
                 where v.created_at < clock_timestamp() - make_interval(secs => $1)
                    and not exists (select from run where dag_version = v.id and id <> all($4))
                    and not exists (select from schedule where dag_version = v.id)
                    and not exists (select from dag where id = v.dag and current_version = v.id)
                 limit case when $3 then null else $2::bigint end",
                rule.runs_for.min(UNUSED_FOR).as_secs_f64(),
                BATCH,
                dry_run,
                gone
            )
            .fetch_all(&self.core.pool)
            .await?;
            if dry_run || old.is_empty() {
                return Ok(pruned + old.len() as u64);
            }
            // A run or a branch may use one of them by now: its foreign key says so, and it is kept.
            let mut deleted = 0;
            for version in old {
                let done = sqlx::query!("delete from dag_version where id = $1", version)
                    .execute(&self.core.pool)
                    .at(Point::PruneVersions)
                    .await;
                match done {
                    Ok(done) => deleted += done.rows_affected(),
                    Err(error) if is_still_used(&error) => {}
                    Err(error) => return Err(error.into()),
                }
                self.core
                    .dags
                    .remove(trainyard_core::id::DagVersionId(version));
            }
            pruned += deleted;
            if deleted == 0 {
                return Ok(pruned);
            }
        }
    }

    async fn prune_daemons(&self, rule: &Retention, dry_run: bool) -> Result<u64> {
        let gone = sqlx::query!(
            "select id from daemon d
             where lease_until < clock_timestamp() - make_interval(secs => $1)
                and not exists (select from attempt where owner = d.id and state in ('claimed', 'running'))",
            rule.runs_for.as_secs_f64()
        )
        .fetch_all(&self.core.pool)
        .await?;
        let gone: Vec<_> = gone.into_iter().map(|row| row.id).collect();
        if !dry_run {
            sqlx::query!("delete from daemon where id = any($1)", &gone)
                .execute(&self.core.pool)
                .at(Point::PruneDaemons)
                .await?;
        }
        Ok(gone.len() as u64)
    }

    /// Deletes DAGs that the followed branch does not have and that have no runs any more. A push that they match
    /// records them again.
    async fn prune_dags(&self, rule: &Retention) -> Result<()> {
        loop {
            let old = sqlx::query_scalar!(
                "select id from dag d
                 where current_version is null and not paused
                    and created_at < clock_timestamp() - make_interval(secs => $1)
                    and not exists (select from run where dag = d.id)
                    and not exists (select from quarantine where dag = d.id)
                 limit $2",
                rule.runs_for.as_secs_f64(),
                BATCH
            )
            .fetch_all(&self.core.pool)
            .await?;
            let mut deleted = 0;
            for dag in old {
                let done = sqlx::query!(
                    "delete from dag where id = $1 and current_version is null",
                    dag
                )
                .execute(&self.core.pool)
                .at(Point::PruneDags)
                .await;
                match done {
                    Ok(done) => deleted += done.rows_affected(),
                    // A run was started meanwhile.
                    Err(error) if is_still_used(&error) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if deleted == 0 {
                return Ok(());
            }
        }
    }

    /// Deletes causes that were refused a run, and branches that are gone. As long as there is a cause of a branch, its
    /// row stays: the next generation must have another key.
    async fn prune_refs(&self, rule: &Retention) -> Result<()> {
        sqlx::query!(
            "delete from cause c
             where refused is not null and recorded_at < clock_timestamp() - make_interval(secs => $1)
                and not exists (select from run where cause = c.id)",
            rule.runs_for.as_secs_f64()
        )
        .execute(&self.core.pool)
        .at(Point::PruneCauses)
        .await?;
        sqlx::query!(
            "delete from repo_ref r
             where sha is null and moved_at < clock_timestamp() - make_interval(secs => $1)
                and not exists (
                    select from cause c join dag d on d.id = c.dag where d.repo = r.repo and c.branch = r.branch
                )",
            rule.runs_for.min(UNUSED_FOR).as_secs_f64()
        )
        .execute(&self.core.pool)
        .at(Point::PruneRefs)
        .await?;
        Ok(())
    }

    async fn prune_faults(&self, rule: &Retention, dry_run: bool) -> Result<u64> {
        let seconds = rule.runs_for.min(UNUSED_FOR).as_secs_f64();
        let old = sqlx::query!(
            r#"select repo, commit, path from dag_fault f
            where found_at < clock_timestamp() - make_interval(secs => $1)
                and not exists (select from repo_ref where repo = f.repo and sha = f.commit)"#,
            seconds
        )
        .fetch_all(&self.core.pool)
        .await?;
        if !dry_run {
            for fault in &old {
                sqlx::query!(
                    "delete from dag_fault where repo = $1 and commit = $2 and path = $3",
                    fault.repo,
                    fault.commit,
                    fault.path
                )
                .execute(&self.core.pool)
                .at(Point::PruneFaults)
                .await?;
            }
        }
        Ok(old.len() as u64)
    }

    async fn prune_audit(&self, rule: &Retention, dry_run: bool) -> Result<u64> {
        let mut pruned = 0;
        loop {
            let old: Vec<i64> = sqlx::query_scalar!(
                "select id from audit where at < clock_timestamp() - make_interval(secs => $1)
                    or id <= (select max(id) from audit) - $2
                 limit case when $3 then null else $4::bigint end",
                rule.audit_for.as_secs_f64(),
                AUDIT_AT_MOST,
                dry_run,
                BATCH
            )
            .fetch_all(&self.core.pool)
            .await?;
            pruned += old.len() as u64;
            if dry_run || old.is_empty() {
                return Ok(pruned);
            }
            sqlx::query!("delete from audit where id = any($1)", &old)
                .execute(&self.core.pool)
                .at(Point::PruneAudit)
                .await?;
        }
    }

    /// Records that a principal asked for garbage to be removed, before that begins: it takes many transactions.
    pub async fn request_gc(&self, act: &Act) -> Result<()> {
        let mut transaction = self.core.begin().await?;
        let audited = Audited {
            action: AuditAction::Gc,
            subject: None,
            repo: None,
            detail: json!({}),
        };
        audit::record(&mut transaction, act, audited).await?;
        transaction.commit().at(Point::RequestGc).await?;
        Ok(())
    }
}

fn is_still_used(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.kind() == sqlx::error::ErrorKind::ForeignKeyViolation)
}
