//! `admit` on its own: what is granted fits, nothing that fits is left, and repos and runs share fairly.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use trainyard_core::admit::{Blocked, Capacity, Waiting, admit};
use trainyard_core::id::{RepoId, RunId};
use trainyard_core::name::PoolName;
use uuid::Uuid;

use crate::generate::draft::noon;
use crate::world::cases;

fn pool(name: &str) -> PoolName {
    PoolName::new(name).expect("a name")
}

/// Runs are of three repos in turn.
fn repo_of(run: RunId) -> RepoId {
    RepoId(Uuid::from_u128(u128::from(run.0.unsigned_abs() % 3)))
}

/// Without pools anything can go wherever there is a slot.
fn without_pools(queue: Vec<Waiting>) -> Vec<Waiting> {
    let without = |waiting| Waiting {
        pools: BTreeMap::new(),
        ..waiting
    };
    queue.into_iter().map(without).collect()
}

fn queues() -> impl Strategy<Value = Vec<Waiting>> {
    let pools = prop_oneof![
        3 => Just(BTreeMap::new()),
        2 => (1_u32..=3).prop_map(|slots| BTreeMap::from([(pool("gpu"), slots)])),
        1 => (1_u32..=2, 1_u32..=2).prop_map(|(gpu, disk)| {
            BTreeMap::from([(pool("gpu"), gpu), (pool("disk"), disk)])
        }),
        1 => Just(BTreeMap::from([(pool("unknown"), 1)])),
    ];
    let waiting = (1_i64..7, 0_u64..20, pools).prop_map(|(run, second, pools)| Waiting {
        repo: repo_of(RunId(run)),
        run: RunId(run),
        since: noon() + Duration::from_secs(second),
        pools,
    });
    prop::collection::vec(waiting, 0..30)
}

fn capacities() -> impl Strategy<Value = Capacity> {
    (
        0_u32..8,
        0_u32..5,
        0_u32..4,
        prop::collection::btree_map((1_i64..7).prop_map(RunId), 0_u32..4, 0..4),
        prop::option::weighted(0.3, 1_u32..6),
    )
        .prop_map(|(slots, gpu, disk, held, stages_of_a_repo)| {
            let mut held_by_repo = BTreeMap::new();
            for (run, held) in &held {
                *held_by_repo.entry(repo_of(*run)).or_default() += held;
            }
            Capacity {
                slots,
                pools: BTreeMap::from([(pool("gpu"), gpu), (pool("disk"), disk)]),
                held,
                held_by_repo,
                stages_of_a_repo,
            }
        })
}

/// The capacity that is left once these were granted; `None` if they do not fit.
fn left(mut capacity: Capacity, granted: &[&Waiting]) -> Option<Capacity> {
    for waiting in granted {
        capacity.slots = capacity.slots.checked_sub(1)?;
        for (pool, slots) in &waiting.pools {
            let free = capacity.pools.get_mut(pool)?;
            *free = free.checked_sub(*slots)?;
        }
        *capacity.held.entry(waiting.run).or_default() += 1;
        let of_repo = capacity.held_by_repo.entry(waiting.repo).or_default();
        *of_repo += 1;
        if capacity
            .stages_of_a_repo
            .is_some_and(|most| *of_repo > most)
        {
            return None;
        }
    }
    Some(capacity)
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn grants_fit_and_nothing_that_fits_is_left(queue in queues(), capacity in capacities()) {
        let granted = admit(&queue, capacity.clone());
        let mut once = granted.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), granted.len());
        let taken: Vec<&Waiting> = granted.iter().map(|place| &queue[*place]).collect();
        let Some(left) = left(capacity, &taken) else {
            return Err(TestCaseError::fail(format!("{granted:?} do not fit")));
        };
        for (place, waiting) in queue.iter().enumerate() {
            prop_assert!(granted.contains(&place) || left.blocks(waiting).is_some());
        }
    }

    #[test]
    fn no_run_gets_ahead_of_another_that_could_go(queue in queues(), capacity in capacities()) {
        let queue = without_pools(queue);
        let granted = admit(&queue, capacity.clone());
        let taken: Vec<&Waiting> = granted.iter().map(|place| &queue[*place]).collect();
        let held = left(capacity, &taken).map(|left| left.held).unwrap_or_default();
        let of = |run: RunId| held.get(&run).copied().unwrap_or(0);
        for (place, waiting) in queue.iter().enumerate() {
            if !granted.contains(&place) {
                for other in taken.iter().filter(|other| other.repo == waiting.repo) {
                    prop_assert!(of(other.run) <= of(waiting.run) + 1);
                    let same = other.run == waiting.run;
                    prop_assert!(!same || other.since <= waiting.since, "overtaken within a run");
                }
            }
        }
    }

    #[test]
    fn no_repo_gets_ahead_of_another_that_could_go(queue in queues(), capacity in capacities()) {
        let queue = without_pools(queue);
        let granted = admit(&queue, capacity.clone());
        let taken: Vec<&Waiting> = granted.iter().map(|place| &queue[*place]).collect();
        let left = left(capacity, &taken).unwrap_or_default();
        let of = |repo: RepoId| left.held_by_repo.get(&repo).copied().unwrap_or(0);
        for (place, waiting) in queue.iter().enumerate() {
            if granted.contains(&place) || left.is_full(waiting.repo) {
                continue;
            }
            for other in &taken {
                prop_assert!(of(other.repo) <= of(waiting.repo) + 1, "{:?}", left.held_by_repo);
            }
        }
    }

    #[test]
    fn slots_that_come_free_one_by_one_are_shared_evenly(
        runs in prop::collection::vec(30_i64..60, 2..4),
        slots in 1_u32..10,
        ends in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        // All runs of the first repo waited longer than those of the second, and there are enough of each.
        let mut queue = Vec::new();
        for (repo, runs) in runs.iter().enumerate() {
            queue.extend((0..*runs).map(|run| Waiting {
                repo: RepoId(Uuid::from_u128(repo as u128)),
                run: RunId(1_000 * i64::try_from(repo).unwrap_or(0) + run),
                since: noon() + Duration::from_secs(repo as u64),
                pools: BTreeMap::new(),
            }));
        }
        let mut held: Vec<Waiting> = Vec::new();
        // First all slots come free, then one after the other.
        for end in std::iter::once(None).chain(ends.iter().map(Some)) {
            if let Some(end) = end {
                held.swap_remove(end.index(held.len()));
            }
            let mut capacity = Capacity {
                slots: slots - u32::try_from(held.len()).unwrap_or(0),
                ..Capacity::default()
            };
            for waiting in &held {
                *capacity.held.entry(waiting.run).or_default() += 1;
                *capacity.held_by_repo.entry(waiting.repo).or_default() += 1;
            }
            let mut granted = admit(&queue, capacity);
            granted.sort_unstable();
            for place in granted.into_iter().rev() {
                held.push(queue.remove(place));
            }
            let mut of_repo = vec![0_u32; runs.len()];
            for waiting in &held {
                let place = usize::try_from(waiting.repo.0.as_u128()).unwrap_or(0);
                of_repo[place] += 1;
            }
            prop_assert_eq!(of_repo.iter().sum::<u32>(), slots);
            let (least, most) = (of_repo.iter().min(), of_repo.iter().max());
            prop_assert!(most.unwrap_or(&0) - least.unwrap_or(&0) <= 1, "{of_repo:?}");
        }
    }

    #[test]
    fn with_one_repo_the_run_that_holds_the_least_is_next_and_then_who_waited_longest(
        queue in queues(),
        mut capacity in capacities(),
    ) {
        let only = RepoId(Uuid::nil());
        let queue: Vec<Waiting> = queue.into_iter().map(|waiting| Waiting { repo: only, ..waiting }).collect();
        let held = capacity.held.values().sum();
        capacity.held_by_repo = BTreeMap::from([(only, held)]);
        capacity.stages_of_a_repo = None;
        let granted = admit(&queue, capacity.clone());
        for (done, place) in granted.iter().enumerate() {
            let before: Vec<&Waiting> = granted[..done].iter().map(|place| &queue[*place]).collect();
            let now = left(capacity.clone(), &before).unwrap_or_default();
            let rank = |place: usize| {
                let held = now.held.get(&queue[place].run).copied().unwrap_or(0);
                (held, queue[place].since, place)
            };
            let open = (0..queue.len()).filter(|place| !granted[..done].contains(place));
            let next = open
                .filter(|place| now.blocks(&queue[*place]).is_none())
                .min_by_key(|place| rank(*place));
            prop_assert_eq!(next, Some(*place));
        }
    }

    #[test]
    fn what_is_blocked_is_reported_with_its_reason(queue in queues(), capacity in capacities()) {
        for waiting in &queue {
            let fits = left(capacity.clone(), &[waiting]).is_some();
            match capacity.blocks(waiting) {
                None => prop_assert!(fits),
                Some(Blocked::NoSlot) => prop_assert_eq!(capacity.slots, 0),
                Some(Blocked::RepoFull) => prop_assert!(capacity.is_full(waiting.repo)),
                Some(Blocked::PoolFull(pool)) => prop_assert!(capacity.pools[&pool] < waiting.pools[&pool]),
                Some(Blocked::UnknownPool(pool)) => prop_assert!(!capacity.pools.contains_key(&pool)),
            }
        }
    }
}
