//! Claims: waiting attempts get capacity and an owner, and attempts without a living owner get a new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use trainyard_core::Timestamp;
use trainyard_core::admit::{Capacity, Waiting, admit};
use trainyard_core::adopted::Adopted;
use trainyard_core::event::Event;
use trainyard_core::id::{AttemptId, DaemonId, RepoId, RunId};
use trainyard_core::name::PoolName;
use trainyard_core::outcome::Outcome;
use trainyard_core::run::{AttemptRef, AttemptState};
use trainyard_core::stage::{RunOn, StageIndex};
use trainyard_core::transition::apply;
use trainyard_store::{Claim, ClaimRequest, StopRequest};

use super::{AttemptRow, SLOTS, Store};
use crate::engine::short;
use crate::settings::Mutation;
use crate::world::Invariant;

impl Store {
    /// Claims what there is capacity for.
    pub(crate) fn claim(&mut self, request: &ClaimRequest) -> Vec<Claim> {
        let daemon = request.daemon;
        if !self.lives(daemon) {
            return Vec::new();
        }
        let (ids, waiting) = self.waiting();
        let before = self.held_by(daemon);
        let granted = admit(&waiting, self.free(request));
        let claimed: Vec<Claim> = granted
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

    fn free(&self, request: &ClaimRequest) -> Capacity {
        let capacity = &request.capacity;
        let held = self.held_by(request.daemon);
        let mut free = Capacity {
            slots: capacity.slots_total.saturating_sub(held),
            pools: capacity.pools_total.clone(),
            stages_of_a_repo: capacity.stages_of_a_repo,
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
        self.attempts.values().filter(|row| row.is_held())
    }

    fn held_by(&self, daemon: DaemonId) -> u32 {
        let own = |row: &&AttemptRow| row.owner == Some(daemon);
        u32::try_from(self.held_rows().filter(own).count()).unwrap_or(u32::MAX)
    }

    fn repo_of(&self, run: RunId) -> RepoId {
        self.runs[&run].pinned.repo
    }

    fn pools_of(&self, row: &AttemptRow) -> BTreeMap<PoolName, u32> {
        let dag = &self.runs[&row.run].pinned.dag;
        dag.stage(row.reference.stage).program().pools.clone()
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

    fn claim_one(&mut self, daemon: DaemonId, id: AttemptId) -> Option<Claim> {
        let now = self.now();
        let row = self.attempts.get(&id)?;
        let (run, reference) = (row.run, row.reference);
        let run_row = self.runs.get_mut(&run)?;
        let event = Event::AttemptClaimed(reference);
        if apply(&run_row.pinned.dag, &mut run_row.run, &event, now).is_err() {
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
    ) -> Claim {
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
        Claim {
            attempt: id,
            fence,
            reference: row.reference,
            run: Arc::new(run.run.clone()),
            pinned: Arc::clone(&run.pinned),
            inputs: BTreeMap::new(),
            adopted,
        }
    }

    /// Whether a stage may run by how what it needs has ended, judged from scratch.
    fn check_order(&self, id: AttemptId, run: RunId, reference: AttemptRef) {
        let row = &self.runs[&run];
        let dag = &row.pinned.dag;
        let stage = dag.stage(reference.stage);
        let outcome = |need: &StageIndex| row.run.stages[need.0].outcome();
        let ends: Option<Vec<Outcome>> = dag.needs(reference.stage).iter().map(outcome).collect();
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

    /// Adopts attempts that no daemon supervises; as the store's `adoptable`.
    pub(crate) fn adopt(
        &mut self,
        daemon: DaemonId,
        attended: &[AttemptId],
        attend_within: Duration,
        spared: &[DaemonId],
    ) -> Vec<Claim> {
        let now = self.now();
        let near = now - attend_within..=now + attend_within;
        let forgotten = |id: &AttemptId, row: &AttemptRow| match row.owner {
            Some(owner) if owner == daemon => {
                let is_new = row.claimed_at.is_some_and(|at| near.contains(&at));
                !attended.contains(id) && !is_new
            }
            Some(owner) => self.daemons.get(&owner).is_none_or(|row| {
                row.stopped || (row.lease_until < now && !spared.contains(&owner))
            }),
            None => false,
        };
        let ids: Vec<AttemptId> = self
            .attempts
            .iter()
            .filter(|(id, row)| row.is_held() && forgotten(id, row))
            .map(|(id, _)| *id)
            .collect();
        if !ids.is_empty() {
            self.undo.clear();
        }
        ids.into_iter()
            .map(|id| {
                let row = &self.attempts[&id];
                let since = row.started_at.unwrap_or(row.queued_at);
                let adopted = Adopted {
                    container: row.handle.clone(),
                    started_at: row.started_at,
                    running_for: (now - since).to_std().unwrap_or_default(),
                    log_cursor: row.cursor,
                };
                self.give(daemon, id, now, Some(adopted))
            })
            .collect()
    }

    /// The attempts that a daemon holds and has to stop.
    pub(crate) fn stop_requests(&self, daemon: DaemonId) -> Vec<StopRequest> {
        let own = self.attempts.iter();
        let own = own.filter(|(_, row)| row.owner == Some(daemon) && row.is_held());
        own.filter_map(|(id, row)| {
            let run = &self.runs.get(&row.run)?.run;
            let (_, why) = run.attempt(row.reference)?.stop.clone()?;
            Some(StopRequest {
                attempt: *id,
                fence: row.fence,
                why,
                is_forced: run.cancel.as_ref().is_some_and(|cancel| cancel.force),
            })
        })
        .collect()
    }
}
