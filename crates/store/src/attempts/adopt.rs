//! Adoption: a daemon claims attempts whose owner's lease has expired, or that their owner no longer supervises.

use std::time::Duration;

use trainyard_core::id::{AttemptId, DaemonId, Fence, RunId};
use trainyard_core::outcome::Reason;
use trainyard_core::transition::TOLD_WITHIN;

use crate::attempts::assemble::{Claim, assemble};
use crate::attempts::claim::ClaimRequest;
use crate::attempts::holding;
use crate::db::encoding;
use crate::db::error::Result;
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

/// A request to stop an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRequest {
    pub attempt: AttemptId,
    pub fence: Fence,
    pub why: Reason,
    /// Whether its run is cancelled by force.
    pub is_forced: bool,
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
        let rows = holding::adopt(&self.core, request, attended, attend_within, spared).await?;
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
    pub async fn stop_requests(&self, daemon: DaemonId) -> Result<Vec<StopRequest>> {
        let rows = sqlx::query!(
            r#"select a.id, a.fence as "fence!", a.stop_code, a.stop_message, r.cancel_force
            from attempt a join run r on r.id = a.run
            where a.owner = $1 and a.state in ('claimed', 'running') and a.stop_requested_at is not null"#,
            daemon.0
        )
        .fetch_all(&self.core.pool)
        .await?;
        let requests = rows.into_iter().filter_map(|row| {
            let why = encoding::reason(row.stop_code, row.stop_message)?;
            Some(StopRequest {
                attempt: AttemptId(row.id),
                fence: Fence(row.fence),
                why,
                is_forced: row.cancel_force,
            })
        });
        Ok(requests.collect())
    }
}
