//! Several runs of one DAG that share capacity: the concurrency rule and `admit`, together with all
//! that may happen to each run.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use trainyard_core::Timestamp;
use trainyard_core::admit::{Capacity, Waiting, admit};
use trainyard_core::dag::Dag;
use trainyard_core::event::Event;
use trainyard_core::id::{RepoId, RunId};
use trainyard_core::outcome::Outcome;
use trainyard_core::overlap::{Concurrency, Overlap, Verdict, judge};
use trainyard_core::run::{AttemptRef, AttemptState, CancelledBy, RunPhase};

use crate::generate::draft::{dag_of, noon};
use crate::generate::{dags, gpu};
use crate::world::{How, World, attempts_at_most, cases, held_by, hows, started};

/// All are of one repo; `admission` tests how repos share.
const REPO: RepoId = RepoId(uuid::Uuid::nil());
const SLOTS: usize = 3;
const GPUS: u32 = 2;

struct Fleet {
    dag: Rc<Dag>,
    worlds: Vec<World>,
    now: Timestamp,
    /// Runs in the order in which they started.
    started: Vec<RunId>,
}

#[derive(Debug, Clone)]
enum Happening {
    NewRun,
    Judge,
    Admit,
    Run(Index),
    Finish(Index, How),
    Release(Index),
    Cancel(Index),
    Wait(u16),
    Crash(Index),
}

fn happenings() -> impl Strategy<Value = Happening> {
    let index = any::<Index>;
    prop_oneof![
        4 => Just(Happening::NewRun),
        8 => Just(Happening::Judge),
        12 => Just(Happening::Admit),
        8 => index().prop_map(Happening::Run),
        12 => (index(), hows()).prop_map(|(which, how)| Happening::Finish(which, how)),
        2 => index().prop_map(Happening::Release),
        1 => index().prop_map(Happening::Cancel),
        4 => (0_u16..200).prop_map(Happening::Wait),
        1 => index().prop_map(Happening::Crash),
    ]
}

fn stories() -> impl Strategy<Value = (Dag, Vec<Happening>)> {
    let rule = (
        prop::option::weighted(0.8, 1_u32..=3),
        prop::sample::select(Overlap::ALL.to_vec()),
    )
        .prop_map(|(limit, overlap)| Concurrency {
            limit,
            overlap,
            group: None,
        });
    (dags(), rule, prop::collection::vec(happenings(), 0..60)).prop_map(
        |(dag, concurrency, happenings)| {
            let stages = dag.stages().to_vec();
            let timeout = dag.declared().timeout;
            let dag = dag_of(stages, |draft| {
                draft.concurrency = concurrency;
                draft.timeout = timeout;
            });
            (dag, happenings)
        },
    )
}

impl Fleet {
    fn new(dag: Dag) -> Self {
        Self {
            dag: Rc::new(dag),
            worlds: Vec::new(),
            now: noon(),
            started: Vec::new(),
        }
    }

    fn record(&mut self, run: usize, event: Event) -> Result<(), TestCaseError> {
        let world = &mut self.worlds[run];
        world.now = self.now;
        world.record(&[event], &mut |_| Ok(()))
    }

    fn attempts(&self, of: fn(&World) -> Vec<AttemptRef>) -> Vec<(usize, AttemptRef)> {
        self.worlds
            .iter()
            .enumerate()
            .flat_map(|(run, world)| of(world).into_iter().map(move |attempt| (run, attempt)))
            .collect()
    }

    fn happen(&mut self, happening: &Happening) -> Result<(), TestCaseError> {
        match happening {
            Happening::NewRun => {
                let id = i64::try_from(self.worlds.len()).unwrap_or(0) + 1;
                self.worlds.push(World::new(Rc::clone(&self.dag), id));
            }
            Happening::Judge => self.judge()?,
            Happening::Admit => self.admit()?,
            Happening::Run(which) => {
                if let Some((run, attempt)) = pick(which, &self.attempts(World::claimed)) {
                    self.record(run, started(attempt))?;
                }
            }
            Happening::Finish(which, how) => {
                if let Some((run, attempt)) = pick(which, &self.attempts(World::held)) {
                    let end = self.worlds[run].finished(attempt, how);
                    self.record(run, end)?;
                }
            }
            Happening::Release(which) => {
                if let Some((run, attempt)) = pick(which, &self.attempts(World::claimed)) {
                    self.record(run, Event::AttemptReleased(attempt))?;
                }
            }
            Happening::Cancel(which) => {
                let runs: Vec<usize> = (0..self.worlds.len()).collect();
                if let Some(run) = pick(which, &runs) {
                    let by = CancelledBy::Actor("alice".to_owned());
                    self.record(run, Event::CancelRequested { by })?;
                }
            }
            Happening::Wait(seconds) => self.wait(Duration::from_secs((*seconds).into()))?,
            Happening::Crash(which) => {
                let runs: Vec<usize> = (0..self.worlds.len()).collect();
                if let Some(run) = pick(which, &runs) {
                    self.worlds[run].run = self.worlds[run].replayed();
                }
            }
        }
        self.check()
    }

    fn wait(&mut self, duration: Duration) -> Result<(), TestCaseError> {
        self.now += duration;
        for world in &mut self.worlds {
            world.now = self.now;
            world.record(&[], &mut |_| Ok(()))?;
        }
        Ok(())
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let ids = |keep: &dyn Fn(&World) -> bool| -> Vec<RunId> {
            let kept = self.worlds.iter().filter(|world| keep(world));
            kept.map(|world| world.run.facts.id).collect()
        };
        let running = |world: &World| matches!(world.run.phase, RunPhase::Running { .. });
        let cancelled = |world: &World| world.run.cancel.is_some();
        judge(
            &self.dag.declared().concurrency,
            &ids(&running),
            &ids(&|world| running(world) && cancelled(world)),
            &ids(&|world| world.run.phase == RunPhase::Queued && !cancelled(world)),
        )
    }

    fn judge(&mut self) -> Result<(), TestCaseError> {
        let place = |run: RunId| usize::try_from(run.0 - 1).unwrap_or(0);
        for verdict in self.verdicts() {
            match verdict {
                Verdict::Start(run) => {
                    self.started.push(run);
                    self.record(place(run), Event::RunStarted)?;
                }
                Verdict::Skip { run, because_of } => {
                    prop_assert!(run != because_of);
                    self.record(place(run), Event::RunSkipped { because_of })?;
                }
                Verdict::Cancel { run, newer } => {
                    prop_assert!(run < newer);
                    let by = CancelledBy::Newer(newer);
                    self.record(place(run), Event::CancelRequested { by })?;
                }
            }
            self.check()?;
        }
        // A run that ended at once may have made room for the next; other than that, nothing.
        let limit = self.dag.declared().concurrency.limit;
        let room = limit.is_none_or(|limit| self.active() < limit as usize);
        if !room {
            prop_assert_eq!(self.verdicts(), vec![]);
        }
        Ok(())
    }

    fn active(&self) -> usize {
        let running = |world: &&World| matches!(world.run.phase, RunPhase::Running { .. });
        self.worlds.iter().filter(running).count()
    }

    fn admit(&mut self) -> Result<(), TestCaseError> {
        let queued = self.attempts(World::queued);
        let waiting: Vec<Waiting> = queued
            .iter()
            .map(|(run, attempt)| self.waiting(*run, *attempt))
            .collect();
        for place in admit(&waiting, self.capacity()) {
            let (run, attempt) = queued[place];
            self.record(run, Event::AttemptClaimed(attempt))?;
        }
        let left: Vec<Waiting> = self
            .attempts(World::queued)
            .iter()
            .map(|(run, attempt)| self.waiting(*run, *attempt))
            .collect();
        prop_assert_eq!(admit(&left, self.capacity()), Vec::<usize>::new());
        Ok(())
    }

    fn waiting(&self, run: usize, attempt: AttemptRef) -> Waiting {
        let world = &self.worlds[run];
        let since = match world.run.attempt(attempt).map(|attempt| &attempt.state) {
            Some(AttemptState::Queued { since }) => *since,
            _ => self.now,
        };
        Waiting {
            repo: REPO,
            run: world.run.facts.id,
            since,
            pools: self.dag.stage(attempt.stage).program().pools.clone(),
        }
    }

    fn capacity(&self) -> Capacity {
        let (slots, pools) = held_by(&self.worlds);
        let held = self.worlds.iter().map(|world| {
            let held = u32::try_from(world.held().len()).unwrap_or(u32::MAX);
            (world.run.facts.id, held)
        });
        Capacity {
            slots: u32::try_from(SLOTS - slots).unwrap_or(0),
            pools: BTreeMap::from([(gpu(), GPUS - pools.get(&gpu()).copied().unwrap_or(0))]),
            held: held.collect(),
            ..Capacity::default()
        }
    }

    /// The properties that hold at every moment.
    fn check(&self) -> Result<(), TestCaseError> {
        let (slots, pools) = held_by(&self.worlds);
        prop_assert!(slots <= SLOTS, "{} slots in use", slots);
        prop_assert!(
            pools.get(&gpu()).copied().unwrap_or(0) <= GPUS,
            "{:?}",
            pools
        );
        if let Some(limit) = self.dag.declared().concurrency.limit {
            prop_assert!(
                self.active() <= limit as usize,
                "{} runs are active",
                self.active()
            );
        }
        Ok(())
    }

    /// Lets everything happen that can, until all runs have ended, in at most so many rounds.
    fn settle(&mut self, hows: &[How], at_most: usize) -> Result<(), TestCaseError> {
        let mut hows = hows.iter().cycle();
        for _ in 0..at_most {
            self.judge()?;
            if self.worlds.iter().all(|world| world.run.is_finished()) {
                return Ok(());
            }
            self.admit()?;
            let held = self.attempts(World::held);
            if held.is_empty() {
                let next = self.worlds.iter().filter_map(|world| world.wake_at).min();
                let wait = next.map(|at| (at - self.now).to_std().unwrap_or_default());
                self.wait(wait.unwrap_or_default())?;
            }
            for (run, attempt) in held {
                self.record(run, started(attempt))?;
                let end = self.worlds[run].finished(attempt, hows.next().unwrap_or(&How::WELL));
                self.record(run, end)?;
            }
        }
        prop_assert!(false, "still going after {} rounds", at_most);
        Ok(())
    }
}

fn pick<T: Clone>(which: &Index, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| which.get(from).clone())
}

fn play((dag, happenings): (Dag, Vec<Happening>)) -> Result<Fleet, TestCaseError> {
    let mut fleet = Fleet::new(dag);
    for happening in &happenings {
        fleet.happen(happening)?;
    }
    Ok(fleet)
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn neither_capacity_nor_the_limit_of_active_runs_is_ever_exceeded(story in stories()) {
        play(story)?;
    }

    #[test]
    fn all_runs_end_whatever_they_compete_for(story in stories(), hows in prop::collection::vec(hows(), 1..20)) {
        let mut fleet = play(story)?;
        let at_most = fleet.worlds.len() * (3 * attempts_at_most(&fleet.dag) + 4) + 1;
        fleet.settle(&hows, at_most)?;
    }

    #[test]
    fn queued_runs_start_first_come_first_served(story in stories()) {
        let fleet = play(story)?;
        if fleet.dag.declared().concurrency.overlap == Overlap::Queue {
            prop_assert!(fleet.started.is_sorted(), "{:?}", fleet.started);
        }
    }

    #[test]
    fn the_newest_run_is_never_the_one_that_is_skipped_for_a_newer_one(story in stories()) {
        let mut fleet = play(story)?;
        if fleet.dag.declared().concurrency.overlap == Overlap::CancelRunning {
            fleet.settle(&[How::WELL], 10_000)?;
            if let Some(newest) = fleet.worlds.last() {
                let superseded = newest.run.cancel.as_ref().is_some_and(|cancel| {
                    matches!(cancel.by, CancelledBy::Newer(_))
                });
                prop_assert!(!superseded);
                let skipped_unstarted = newest.run.outcome() == Some(Outcome::Skipped)
                    && !fleet.started.contains(&newest.run.facts.id);
                prop_assert!(!skipped_unstarted);
            }
        }
    }
}
