//! `admit`: shares capacity among the attempts of all runs that wait for it.
//!
//! Fair between repos, and within a repo between its runs: the next grant goes to the repo that holds the fewest
//! slots, there to the run that holds the fewest, then to the attempt that has waited longest. So a repo that starts
//! a hundred runs at once gets no more than a repo that starts one. `admit` stops no running attempt: a repo that
//! holds all slots keeps them until its stages end, unless the operator set a limit for each repo.
//!
//! An attempt whose pool is full does not block other attempts that can start. An attempt that wants many slots of a
//! pool at once does not reserve them by waiting, so it may wait as long as attempts that want fewer keep coming.

use std::collections::BTreeMap;

use crate::Timestamp;
use crate::id::{RepoId, RunId};
use crate::name::PoolName;

/// An attempt that waits for capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The repo of its run.
    pub repo: RepoId,
    pub run: RunId,
    pub since: Timestamp,
    /// Slots that it takes from pools.
    pub pools: BTreeMap<PoolName, u32>,
}

/// The capacity to share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capacity {
    /// How many more attempts may run at the same time.
    pub slots: u32,
    /// Free slots of each pool that is configured.
    pub pools: BTreeMap<PoolName, u32>,
    /// How many attempts each run holds already.
    pub held: BTreeMap<RunId, u32>,
    /// How many attempts the runs of each repo hold already.
    pub held_by_repo: BTreeMap<RepoId, u32>,
    /// How many attempts of one repo may run at the same time; `None` sets no limit.
    pub stages_of_a_repo: Option<u32>,
}

/// Why an attempt does not get capacity now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// As many attempts as permitted are running.
    NoSlot,
    /// As many attempts of its repo as permitted are running.
    RepoFull,
    /// The pool has not enough free slots.
    PoolFull(PoolName),
    /// The pool is not configured on the daemon.
    UnknownPool(PoolName),
}

impl Capacity {
    /// Why this attempt could not start, even if it were the only one waiting.
    #[must_use]
    pub fn blocks(&self, waiting: &Waiting) -> Option<Blocked> {
        for (pool, wanted) in &waiting.pools {
            match self.pools.get(pool) {
                None => return Some(Blocked::UnknownPool(pool.clone())),
                Some(free) if free < wanted => return Some(Blocked::PoolFull(pool.clone())),
                Some(_) => {}
            }
        }
        if self.slots == 0 {
            return Some(Blocked::NoSlot);
        }
        self.is_full(waiting.repo).then_some(Blocked::RepoFull)
    }

    /// Whether a repo has as many attempts running as it may.
    #[must_use]
    pub fn is_full(&self, repo: RepoId) -> bool {
        let held = self.held_by_repo.get(&repo).copied().unwrap_or(0);
        self.stages_of_a_repo.is_some_and(|most| held >= most)
    }

    /// The slots that the repo and the run of an attempt hold: the smaller share goes first.
    fn share(&self, waiting: &Waiting) -> (u32, u32) {
        let repo = self.held_by_repo.get(&waiting.repo).copied();
        let run = self.held.get(&waiting.run).copied();
        (repo.unwrap_or(0), run.unwrap_or(0))
    }

    fn take(&mut self, waiting: &Waiting) {
        self.slots -= 1;
        *self.held.entry(waiting.run).or_default() += 1;
        *self.held_by_repo.entry(waiting.repo).or_default() += 1;
        for (pool, wanted) in &waiting.pools {
            if let Some(free) = self.pools.get_mut(pool) {
                *free -= wanted;
            }
        }
    }
}

/// The places in `waiting` of those that may start now, in the order in which they were granted.
#[must_use]
pub fn admit(waiting: &[Waiting], mut capacity: Capacity) -> Vec<usize> {
    let mut granted = Vec::new();
    let mut open: Vec<usize> = (0..waiting.len()).collect();
    open.sort_by_key(|place| (waiting[*place].since, *place));
    while capacity.slots > 0 {
        let next = open
            .iter()
            .enumerate()
            .filter(|(_, place)| capacity.blocks(&waiting[**place]).is_none())
            .min_by_key(|(at, place)| (capacity.share(&waiting[**place]), *at))
            .map(|(at, _)| at);
        let Some(at) = next else { break };
        let place = open.remove(at);
        capacity.take(&waiting[place]);
        granted.push(place);
    }
    granted
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn waiting(run: i64, second: i64, pool: Option<&str>) -> Waiting {
        Waiting {
            repo: RepoId(Uuid::nil()),
            run: RunId(run),
            since: Timestamp::from_timestamp(second, 0).unwrap(),
            pools: pool
                .map(|pool| (PoolName::new(pool).unwrap(), 1))
                .into_iter()
                .collect(),
        }
    }

    fn capacity(slots: u32, gpu: u32) -> Capacity {
        let pools = BTreeMap::from([(PoolName::new("gpu").unwrap(), gpu)]);
        Capacity {
            slots,
            pools,
            ..Capacity::default()
        }
    }

    fn of_repo(repo: u128, waiting: Waiting) -> Waiting {
        Waiting {
            repo: RepoId(Uuid::from_u128(repo)),
            ..waiting
        }
    }

    #[test]
    fn the_longest_waiting_goes_first() {
        let queue = [waiting(1, 5, None), waiting(2, 3, None)];
        assert_eq!(admit(&queue, capacity(1, 0)), [1]);
    }

    #[test]
    fn a_wide_run_does_not_starve_a_narrow_one() {
        let mut queue: Vec<Waiting> = (0..10).map(|_| waiting(1, 0, None)).collect();
        queue.push(waiting(2, 9, None));
        assert_eq!(admit(&queue, capacity(2, 0)), [0, 10]);
    }

    #[test]
    fn many_runs_of_one_repo_do_not_starve_the_only_run_of_another() {
        let mut queue: Vec<Waiting> = (0..100)
            .map(|run| of_repo(1, waiting(run, run, None)))
            .collect();
        queue.push(of_repo(2, waiting(100, 100, None)));
        assert_eq!(admit(&queue, capacity(3, 0)), [0, 100, 1]);
        let mut held = capacity(1, 0);
        held.held_by_repo.insert(queue[0].repo, 3);
        assert_eq!(admit(&queue, held), [100]);
    }

    #[test]
    fn a_repo_gets_no_more_than_its_bound_though_slots_are_free() {
        let queue: Vec<Waiting> = (0..5)
            .map(|run| of_repo(1, waiting(run, run, None)))
            .collect();
        let mut bounded = capacity(5, 0);
        bounded.stages_of_a_repo = Some(2);
        assert_eq!(admit(&queue, bounded.clone()), [0, 1]);
        bounded.held_by_repo.insert(queue[0].repo, 2);
        assert_eq!(bounded.blocks(&queue[0]), Some(Blocked::RepoFull));
    }

    #[test]
    fn a_full_pool_blocks_only_those_that_need_it() {
        let queue = [
            waiting(1, 0, Some("gpu")),
            waiting(1, 1, Some("gpu")),
            waiting(1, 2, None),
        ];
        assert_eq!(admit(&queue, capacity(3, 1)), [0, 2]);
    }

    #[test]
    fn an_unknown_pool_is_distinguished_from_a_full_one() {
        let full = capacity(1, 0);
        let gpu = PoolName::new("gpu").unwrap();
        assert_eq!(
            full.blocks(&waiting(1, 0, Some("gpu"))),
            Some(Blocked::PoolFull(gpu))
        );
        let tpu = PoolName::new("tpu").unwrap();
        assert_eq!(
            full.blocks(&waiting(1, 0, Some("tpu"))),
            Some(Blocked::UnknownPool(tpu))
        );
        assert_eq!(
            capacity(0, 1).blocks(&waiting(1, 0, None)),
            Some(Blocked::NoSlot)
        );
    }
}
