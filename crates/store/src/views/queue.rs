//! Why a run still waits: slots, pools, and runs ahead of it.

use std::collections::BTreeMap;
use std::time::Duration;

use trainyard_core::id::{DagId, RunId};
use trainyard_core::name::{PoolName, StageName};
use trainyard_core::why::{Holder, Pause, PoolUse, Queue};

use crate::attempts::abandon::unattended;
use crate::attempts::claim::{ClaimCapacity, pools};
use crate::db::error::Result;
use crate::store::Store;

/// How long after its lease expired another daemon has usually adopted a daemon's attempts.
const GONE_AFTER: Duration = Duration::from_secs(30);

impl Store {
    /// The capacity that other runs hold, as far as it can block this one. The configuration
    /// says how many slots and pools there are.
    pub async fn queue(&self, run: RunId, dag: DagId, capacity: &ClaimCapacity) -> Result<Queue> {
        let held = sqlx::query!(
            r#"select a.run, a.pools, s.name,
                a.repo = (select d.repo from dag d where d.id = $1) as "is_of_the_repo!"
             from attempt a join stage_run s on s.run = a.run and s.position = a.stage
             where a.state in ('claimed', 'running') order by a.run, a.stage"#,
            dag.0
        )
        .fetch_all(&self.core.reading)
        .await?;
        let mut uses: BTreeMap<PoolName, PoolUse> = capacity
            .pools_total
            .iter()
            .map(|(name, slots)| {
                (
                    name.clone(),
                    PoolUse {
                        slots: *slots,
                        holders: Vec::new(),
                    },
                )
            })
            .collect();
        let slots_used = u32::try_from(held.len()).unwrap_or(u32::MAX);
        let of_the_repo = held.iter().filter(|row| row.is_of_the_repo).count();
        for row in held {
            // Another run's row that cannot be read does not matter here.
            let (Ok(stage), Ok(taken)) = (StageName::new(row.name), pools(row.pools)) else {
                continue;
            };
            for (pool, taken) in taken {
                if let Some(pool) = uses.get_mut(&pool) {
                    let (run, stage) = (RunId(row.run), stage.clone());
                    pool.holders.push(Holder {
                        run,
                        stage,
                        slots: taken,
                    });
                }
            }
        }
        let ahead = sqlx::query!(
            r#"select id, clock_timestamp() as "now!" from run
             where dag = $1 and phase <> 'finished' and (id < $2 or phase = 'running') and id <> $2
                and concurrency_group is not distinct from (select concurrency_group from run where id = $2)
             order by id limit 100"#,
            dag.0,
            run.0
        )
        .fetch_all(&self.core.reading)
        .await?;
        let now = match ahead.first() {
            Some(row) => row.now,
            None => {
                let row = sqlx::query!(r#"select clock_timestamp() as "now!""#);
                row.fetch_one(&self.core.reading).await?.now
            }
        };
        let ahead = ahead.into_iter().map(|row| RunId(row.id)).collect();
        let paused = self.claims_paused_by().await?;
        let paused = paused.into_iter().map(|trouble| Pause {
            what: trouble.what,
            since: trouble.since,
        });
        let gone = unattended(&self.core.reading, run, GONE_AFTER).await?;
        Ok(Queue {
            now,
            unattended: gone
                .into_iter()
                .map(|claim| (claim.reference, claim.since))
                .collect(),
            paused: paused.collect(),
            slots: capacity.slots_total,
            slots_used,
            repo_used: u32::try_from(of_the_repo).unwrap_or(u32::MAX),
            stages_of_a_repo: capacity.stages_of_a_repo,
            pools: uses,
            ahead,
        })
    }
}
