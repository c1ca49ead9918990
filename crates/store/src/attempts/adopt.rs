//! Adoption: a daemon claims attempts whose owner's lease has expired, or that their owner no longer supervises.

use std::time::Duration;

use trainyard_core::id::{AttemptId, DaemonId, Fence, RunId};
use trainyard_core::outcome::Reason;
use trainyard_core::transition::TOLD_WITHIN;
use trainyard_failpoint::{Effect as _, Point};

use crate::attempts::assemble::{Adopted, Claim, assemble};
use crate::attempts::claim::{ClaimRequest, ClaimedRow};
use crate::db::encoding;
use crate::db::error::Result;
use crate::runs::state::reference;
use crate::store::Store;

/// An attempt that waits for a daemon at its Docker engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    pub run: RunId,
    pub attempt: AttemptId,
    /// The Docker engine that it is at, as that names itself.
    pub engine: String,
    /// The daemon that is gone.
    pub owner: DaemonId,
}

impl Store {
    /// Adopts, with new fences, the unsupervised attempts of the request's executor and Docker engine:
    ///
    /// 1. those of daemons that stopped or whose lease expired, except the daemons that are `spared`: their lease
    ///    only seems to have expired;
    /// 2. the daemon's own that are not among `attended` although they were claimed longer ago than `attend_within`:
    ///    the answer to the claim was lost, or the daemon stopped supervising them.
    ///
    /// Their containers may exist, and may be running. Those of runs of a later format are left to newer daemons.
    ///
    /// A claim of the daemon's own that lies further than `attend_within` in the future was made before the
    /// clock went back. It is adopted as well: waiting until the clock has caught up would block the
    /// attempt, and adopting too early does no harm.
    pub async fn adoptable(
        &self,
        request: &ClaimRequest,
        attended: &[AttemptId],
        attend_within: Duration,
        spared: &[DaemonId],
    ) -> Result<Vec<Claim>> {
        let spared: Vec<_> = spared.iter().map(|daemon| daemon.0).collect();
        let attended: Vec<_> = attended.iter().map(|attempt| attempt.0).collect();
        let rows = sqlx::query!(
            r#"with picked as (
                select a.id, a.owner as before, d.host as before_host
                from attempt a left join daemon d on d.id = a.owner
                where a.state in ('claimed', 'running') and a.executor = $2
                    and not exists (select from quarantine q where q.run = a.run and q.held_at is not null)
                    and (select r.format from run r where r.id = a.run) <= $7
                    and (a.engine is null or a.engine is not distinct from $5)
                    and case when a.owner = $1
                        then a.id <> all($3) and a.claimed_at not between clock_timestamp() - make_interval(secs => $4)
                            and clock_timestamp() + make_interval(secs => $4)
                        else d.id is null or d.stopped_at is not null
                            or (d.lease_until < clock_timestamp() and d.id <> all($6)) end
                for update of a skip locked
            ),
            adopted as (
                update attempt a set owner = $1, fence = nextval('fence'), claimed_at = clock_timestamp()
                from picked where a.id = picked.id
                returning a.id, a.run, a.stage, a.number, a.fence, a.handle, a.spec_hash, a.started_at, a.claimed_at,
                    a.queued_at,
                    picked.before, picked.before_host
            ),
            history as (
                insert into run_event (run, at, kind, stage, attempt, detail)
                select run, claimed_at, 'attempt_adopted', stage, number, jsonb_build_object('daemon', $1::uuid,
                    'host', (select host from daemon where id = $1), 'from', before, 'from_host', before_host)
                from adopted
            )
            select a.id as "id!", a.run as "run!", a.stage as "stage!", a.number as "number!", a.fence as "fence!",
                a.handle, a.spec_hash, a.started_at, r.version as "version!",
                extract(epoch from clock_timestamp() - coalesce(a.started_at, a.queued_at))::float8
                    as "running_seconds!",
                l.cursor_major as "cursor_major?", l.cursor_minor as "cursor_minor?"
            from adopted a join run r on r.id = a.run left join attempt_log l on l.attempt = a.id"#,
            request.daemon.0,
            request.executor,
            &attended,
            attend_within.as_secs_f64(),
            request.engine,
            &spared,
            encoding::latest_format()
        )
        .fetch_all(&self.core.pool).at(Point::Adopt)
        .await?;
        let rows = rows
            .into_iter()
            .map(|row| ClaimedRow {
                attempt: AttemptId(row.id),
                fence: Fence(row.fence),
                run: RunId(row.run),
                run_version: row.version,
                reference: reference(row.stage, row.number),
                adopted: Some(Adopted {
                    handle: row.handle,
                    spec_hash: row.spec_hash,
                    started_at: row.started_at,
                    running_for: Duration::try_from_secs_f64(row.running_seconds)
                        .unwrap_or_default(),
                    log_cursor: row.cursor_major.zip(row.cursor_minor),
                }),
            })
            .collect();
        assemble(&self.core, rows).await
    }

    /// Attempts of daemons that have been gone for [`TOLD_WITHIN`], at Docker engines that `request` does not reach:
    /// the caller cannot adopt any of them. The oldest hundred.
    pub async fn left_behind(&self, request: &ClaimRequest) -> Result<Vec<LeftBehind>> {
        let rows = sqlx::query!(
            r#"select a.id, a.run, a.engine, d.id as owner
            from attempt a join daemon d on d.id = a.owner
            where a.state in ('claimed', 'running') and a.executor = $1
                and a.engine is not null and a.engine is distinct from $2
                and least(d.lease_until, d.stopped_at) < clock_timestamp() - make_interval(secs => $3)
            order by a.run, a.id limit 100"#,
            request.executor,
            request.engine,
            TOLD_WITHIN.as_secs_f64()
        )
        .fetch_all(&self.core.pool)
        .await?;
        let left = rows.into_iter().map(|row| LeftBehind {
            run: RunId(row.run),
            attempt: AttemptId(row.id),
            engine: row.engine.unwrap_or_default(),
            owner: DaemonId(row.owner),
        });
        Ok(left.collect())
    }

    /// The attempts of a daemon that were asked to stop and have not ended, and why.
    pub async fn stop_requests(&self, daemon: DaemonId) -> Result<Vec<(AttemptId, Fence, Reason)>> {
        let rows = sqlx::query!(
            r#"select id, fence as "fence!", stop_code, stop_message from attempt
            where owner = $1 and state in ('claimed', 'running') and stop_requested_at is not null"#,
            daemon.0
        )
        .fetch_all(&self.core.pool)
        .await?;
        let requests = rows.into_iter().filter_map(|row| {
            let reason = encoding::reason(row.stop_code, row.stop_message)?;
            Some((AttemptId(row.id), Fence(row.fence), reason))
        });
        Ok(requests.collect())
    }
}
