//! Claims: waiting attempts get capacity and an owner, and attempts without a living owner get a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use trainyard_core::admit::{Capacity, Waiting, admit};
use trainyard_core::adopted::Adopted;
use trainyard_core::dag::Dag;
use trainyard_core::event::Event;
use trainyard_core::id::{AttemptId, DaemonId, Fence, RepoId, RunId};
use trainyard_core::name::PoolName;
use trainyard_core::outcome::{Outcome, Reason};
use trainyard_core::run::{AttemptRef, AttemptState, Run};
use trainyard_core::stage::{RunOn, StageIndex};
use trainyard_core::{Timestamp, transition::apply};
use uuid::Uuid;

use super::{AttemptRow, SLOTS, Store};
use crate::engine::short;
use crate::settings::Mutation;
use crate::world::Invariant;

/// How long after a claim its own daemon is given to attend to it, before it counts as forgotten.
const ATTEND_WITHIN: Duration = Duration::from_secs(60);

/// One claimed attempt with all that is needed to run it.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) attempt: AttemptId,
    pub(crate) fence: Fence,
    pub(crate) reference: AttemptRef,
    pub(crate) run: Arc<Run>,
    pub(crate) dag: Arc<Dag>,
    pub(crate) adopted: Option<Adopted>,
}

impl Store {
    /// Claims what there is capacity for.
    pub(crate) fn claim(&mut self, daemon: DaemonId) -> Vec<Claimed> {
        if !self.lives(daemon) {
            return Vec::new();
        }
        let (ids, waiting) = self.waiting();
        let before = self.held_by(daemon);
        let capacity = self.free(daemon);
        let granted = admit(&waiting, capacity);
        let claimed: Vec<Claimed> = granted
            .into_iter()
            .filter_map(|place| self.claim_one(daemon, ids[place]))
            .collect();
        if !claimed.is_empty() {
            self.undo.clear();
            self.check_capacity(daemon, before);
        }
        claimed
    }

    fn waiting(&self) -> (Vec<AttemptId>, Vec<Waiting>) {
        let queued = self.attempts.iter().filter_map(|(id, row)| {
            let Some(AttemptState::Queued { since }) = self.attempt_state(row) else {
                return None;
            };
            let waiting = Waiting {
                repo: self.repo_of(row.run),
                run: row.run,
                since: *since,
                pools: self.pools_of(row),
            };
            Some((*id, waiting))
        });
        queued.unzip()
    }

    fn free(&self, daemon: DaemonId) -> Capacity {
        let mut free = Capacity {
            slots: SLOTS.saturating_sub(self.held_by(daemon)),
            pools: self.pools.clone(),
            ..Capacity::default()
        };
        for row in self.held_rows() {
            *free.held.entry(row.run).or_default() += 1;
            *free.held_by_repo.entry(self.repo_of(row.run)).or_default() += 1;
            if self.world.has(Mutation::ForgetsPools) {
                continue;
            }
            for (pool, used) in self.pools_of(row) {
                if let Some(slots) = free.pools.get_mut(&pool) {
                    *slots = slots.saturating_sub(used);
                }
            }
        }
        free
    }

    fn held_rows(&self) -> impl Iterator<Item = &AttemptRow> {
        self.attempts
            .values()
            .filter(|row| row.owner.is_some() && !row.ended)
    }

    fn held_by(&self, daemon: DaemonId) -> u32 {
        let own = |row: &&AttemptRow| row.owner == Some(daemon);
        u32::try_from(self.held_rows().filter(own).count()).unwrap_or(u32::MAX)
    }

    /// Each DAG is of a repo of its own.
    fn repo_of(&self, run: RunId) -> RepoId {
        let place = self.runs.get(&run).map_or(0, |run| run.dag_place);
        RepoId(Uuid::from_u128(place as u128))
    }

    fn pools_of(&self, row: &AttemptRow) -> BTreeMap<PoolName, u32> {
        let run = self.runs.get(&row.run);
        run.map(|run| run.dag.stage(row.reference.stage).program().pools.clone())
            .unwrap_or_default()
    }

    fn check_capacity(&self, daemon: DaemonId, before: u32) {
        let held = self.held_by(daemon);
        self.world
            .demand(Invariant::Capacity, held <= SLOTS.max(before), || {
                format!("daemon {daemon} holds {held} attempts of {SLOTS}")
            });
        let mut used: BTreeMap<PoolName, u32> = BTreeMap::new();
        for row in self.held_rows() {
            for (pool, slots) in self.pools_of(row) {
                *used.entry(pool).or_default() += slots;
            }
        }
        for (pool, used) in used {
            let total = self.pools.get(&pool).copied().unwrap_or_default();
            self.world.demand(Invariant::Capacity, used <= total, || {
                format!("{used} slots of pool {pool} are taken, of {total}")
            });
        }
    }

    fn claim_one(&mut self, daemon: DaemonId, id: AttemptId) -> Option<Claimed> {
        let now = self.now();
        let row = self.attempts.get(&id)?;
        let (run, reference) = (row.run, row.reference);
        let run_row = self.runs.get_mut(&run)?;
        let event = Event::AttemptClaimed(reference);
        if apply(&run_row.dag, &mut run_row.run, &event, now).is_err() {
            self.world
                .violate(Invariant::CoreAgrees, "what is queued cannot be claimed");
            return None;
        }
        self.check_order(id, run, reference);
        Some(self.give(daemon, id, now, None))
    }

    fn give(
        &mut self,
        daemon: DaemonId,
        id: AttemptId,
        now: Timestamp,
        adopted: Option<Adopted>,
    ) -> Claimed {
        let fence = self.next_fence(id);
        self.world.note(|| {
            let how = if adopted.is_some() {
                "adopts"
            } else {
                "claims"
            };
            format!(
                "daemon {} {how} {} with fence {}",
                daemon.0.as_u128(),
                short(id),
                fence.0
            )
        });
        let row = self
            .attempts
            .get_mut(&id)
            .expect("a row that was just read");
        row.owner = Some(daemon);
        row.fence = fence;
        row.claimed_at = Some(now);
        let run = &self.runs[&row.run];
        Claimed {
            attempt: id,
            fence,
            reference: row.reference,
            run: Arc::new(run.run.clone()),
            dag: Arc::clone(&run.dag),
            adopted,
        }
    }

    /// Whether a stage may run by how what it needs has ended, judged from scratch.
    fn check_order(&self, id: AttemptId, run: RunId, reference: AttemptRef) {
        let row = &self.runs[&run];
        let stage = row.dag.stage(reference.stage);
        let outcome = |need: &StageIndex| row.run.stages[need.0].outcome();
        let ends: Option<Vec<Outcome>> =
            row.dag.needs(reference.stage).iter().map(outcome).collect();
        let fits = |on: &RunOn| {
            ends.as_ref().is_some_and(|ends| match on {
                RunOn::Success => ends.iter().all(|end| *end == Outcome::Succeeded),
                RunOn::Failed => ends.iter().any(|end| end.is_failure()),
                RunOn::Always => true,
            })
        };
        self.world
            .demand(Invariant::Order, stage.run_on.iter().any(fits), || {
                format!("{} runs after {ends:?}, on {:?}", short(id), stage.run_on)
            });
        let stage_run = &row.run.stages[reference.stage.0];
        let live = stage_run
            .attempts
            .iter()
            .filter(|attempt| attempt.outcome().is_none());
        let live = live.count();
        let made = stage_run.attempts.len();
        let most = stage.program().retry.attempts_at_most() as usize;
        self.world
            .demand(Invariant::RetryRule, live == 1 && made <= most, || {
                format!(
                    "stage {} has {live} live attempts, {made} in all, of {most}",
                    stage.name
                )
            });
    }

    /// Adopts attempts that no daemon supervises.
    pub(crate) fn adopt(
        &mut self,
        daemon: DaemonId,
        attended: &BTreeSet<AttemptId>,
    ) -> Vec<Claimed> {
        let now = self.now();
        let forgotten = |id: &AttemptId, row: &AttemptRow| match row.owner {
            None => false,
            Some(owner) if owner == daemon => {
                let claimed_at = row.claimed_at.unwrap_or(now);
                !attended.contains(id) && claimed_at + ATTEND_WITHIN < now
            }
            Some(owner) => !self.lives(owner),
        };
        let ids: Vec<AttemptId> = self
            .attempts
            .iter()
            .filter(|(id, row)| !row.ended && forgotten(id, row))
            .map(|(id, _)| *id)
            .collect();
        if !ids.is_empty() {
            self.undo.clear();
        }
        ids.into_iter()
            .map(|id| {
                let row = &self.attempts[&id];
                let adopted = Adopted {
                    container: row.handle.clone(),
                    started_at: row.started_at,
                    running_for: row.started_at.map_or(Duration::MAX, |since| {
                        (now - since).to_std().unwrap_or_default()
                    }),
                    log_cursor: row.cursor,
                };
                self.give(daemon, id, now, Some(adopted))
            })
            .collect()
    }

    /// Renews a daemon's lease, and gives what it holds; none where it was declared gone.
    pub(crate) fn renew(
        &mut self,
        daemon: DaemonId,
        lease: Duration,
    ) -> Option<BTreeSet<AttemptId>> {
        let until = self.now() + lease;
        let row = self.daemons.get_mut(&daemon).filter(|row| !row.stopped)?;
        row.lease_until = until;
        let own = |row: &AttemptRow| row.owner == Some(daemon) && !row.ended;
        let held = self.attempts.iter().filter(|(_, row)| own(row));
        Some(held.map(|(id, _)| *id).collect())
    }

    /// The attempts that a daemon holds and has to stop.
    pub(crate) fn stop_requests(&self, daemon: DaemonId) -> Vec<(AttemptId, Reason, bool)> {
        let own = self
            .attempts
            .iter()
            .filter(|(_, row)| row.owner == Some(daemon) && !row.ended);
        own.filter_map(|(id, row)| {
            let run = &self.runs.get(&row.run)?.run;
            let (_, why) = run.attempt(row.reference)?.stop.clone()?;
            let is_forced = run.cancel.as_ref().is_some_and(|cancel| cancel.force);
            Some((*id, why, is_forced))
        })
        .collect()
    }
}
