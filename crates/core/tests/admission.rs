//! `admit` on its own: what is granted fits, nothing that fits is left, and runs share fairly.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use trainyard_core::admit::{Blocked, Capacity, Waiting, admit};
use trainyard_core::id::RunId;
use trainyard_core::name::PoolName;

use crate::generate::draft::noon;
use crate::world::cases;

fn pool(name: &str) -> PoolName {
    PoolName::new(name).expect("a name")
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
    let waiting = (1_i64..5, 0_u64..20, pools).prop_map(|(run, second, pools)| Waiting {
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
        prop::collection::btree_map((1_i64..5).prop_map(RunId), 0_u32..4, 0..4),
    )
        .prop_map(|(slots, gpu, disk, held)| Capacity {
            slots,
            pools: BTreeMap::from([(pool("gpu"), gpu), (pool("disk"), disk)]),
            held,
        })
}

/// What is left once these were granted; `None` if they do not fit.
fn left(mut capacity: Capacity, granted: &[&Waiting]) -> Option<Capacity> {
    for waiting in granted {
        capacity.slots = capacity.slots.checked_sub(1)?;
        for (pool, slots) in &waiting.pools {
            let free = capacity.pools.get_mut(pool)?;
            *free = free.checked_sub(*slots)?;
        }
        *capacity.held.entry(waiting.run).or_default() += 1;
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
        // Without pools anything can go wherever there is a slot.
        let queue: Vec<Waiting> = queue
            .into_iter()
            .map(|waiting| Waiting { pools: BTreeMap::new(), ..waiting })
            .collect();
        let granted = admit(&queue, capacity.clone());
        let taken: Vec<&Waiting> = granted.iter().map(|place| &queue[*place]).collect();
        let held = left(capacity, &taken).map(|left| left.held).unwrap_or_default();
        let of = |run: RunId| held.get(&run).copied().unwrap_or(0);
        for (place, waiting) in queue.iter().enumerate() {
            if !granted.contains(&place) {
                for other in &taken {
                    prop_assert!(of(other.run) <= of(waiting.run) + 1);
                    let same = other.run == waiting.run;
                    prop_assert!(!same || other.since <= waiting.since, "overtaken within a run");
                }
            }
        }
    }

    #[test]
    fn what_is_blocked_is_told_with_its_reason(queue in queues(), capacity in capacities()) {
        for waiting in &queue {
            let fits = left(capacity.clone(), &[waiting]).is_some();
            match capacity.blocks(waiting) {
                None => prop_assert!(fits),
                Some(Blocked::NoSlot) => prop_assert_eq!(capacity.slots, 0),
                Some(Blocked::PoolFull(pool)) => prop_assert!(capacity.pools[&pool] < waiting.pools[&pool]),
                Some(Blocked::UnknownPool(pool)) => prop_assert!(!capacity.pools.contains_key(&pool)),
            }
        }
    }
}
