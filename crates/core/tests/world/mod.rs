//! A simulated world around one run: its clock, its history, and everything that may happen to it.
//!
//! It works like the store: facts are applied one by one, those that fit are recorded, then the run is planned until
//! nothing follows, and the decisions are recorded as well.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseResult};
use trainyard_core::Timestamp;
use trainyard_core::again::Earlier;
use trainyard_core::cause::Again;
use trainyard_core::dag::Dag;
use trainyard_core::event::{AttemptEnd, Effect, Ending, Event};
use trainyard_core::id::RunId;
use trainyard_core::name::StageName;
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::plan::plan;
use trainyard_core::run::{AttemptRef, AttemptState, CancelledBy, Run, RunPhase};
use trainyard_core::stage::StageIndex;
use trainyard_core::transition::{apply, step};

use crate::generate::draft::{noon, run_of};
use crate::generate::{auc, dags};

/// One run, and the facts around it.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) dag: Rc<Dag>,
    pub(crate) run: Run,
    pub(crate) now: Timestamp,
    /// When the last plan asked to be called again.
    pub(crate) wake_at: Option<Timestamp>,
    /// Everything that was accepted, and when.
    pub(crate) history: Vec<(Timestamp, Event)>,
}

/// The effect of one report of facts.
pub(crate) struct Recorded<'a> {
    /// The run before it.
    pub(crate) before: &'a Run,
    /// The world after it.
    pub(crate) world: &'a World,
    /// Facts that fitted.
    pub(crate) accepted: Vec<Event>,
    /// Facts that did not, each with the run as it was before and after.
    pub(crate) refused: Vec<(Event, Run, Run)>,
    /// The decisions.
    pub(crate) effects: Vec<Effect>,
}

/// Something that happens, or that is reported to have happened.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// The concurrency rule lets it start.
    Start,
    /// The concurrency rule ends it unstarted.
    Skip,
    /// A person cancels it.
    Cancel,
    /// A newer run cancels it.
    Supersede,
    /// A daemon claims one of the queued attempts.
    Claim(Index),
    /// A daemon gives one of the claimed attempts back.
    Release(Index),
    /// The container of one of the claimed attempts runs.
    Run(Index),
    /// One of the held attempts ends.
    Finish(Index, How),
    /// The same, and in the same moment a person cancels.
    FinishAndCancel(Index, How),
    /// One of the held attempts has run for as long as it may.
    TimeOut(Index),
    /// An operator abandons one of the held attempts, with or without a daemon that supervises it.
    Abandon(Index, bool),
    /// A fact that was reported before is reported again.
    Echo(Index),
    /// A fact is reported of an attempt that may be in any state, or unknown.
    Stale(Index, u32, How),
    /// Time passes.
    Wait(u16),
    /// Time passes until the run wants to be planned.
    WaitForWake,
    /// The daemon dies: what it knew is read back from the history.
    Crash,
}

/// How an attempt ends.
#[derive(Debug, Clone)]
pub(crate) struct How {
    kind: u8,
    auc: Option<f64>,
    /// Its container ended long before that was noticed.
    long_ago: bool,
}

impl How {
    /// With exit code 0 and a good metric.
    pub(crate) const WELL: Self = Self {
        kind: 0,
        auc: Some(0.9),
        long_ago: false,
    };

    pub(crate) fn end(&self, now: Timestamp) -> AttemptEnd {
        let reason = |code| Reason::new(code, "it is so");
        let exited = |code, out_of_memory| Ending::Exited {
            code,
            out_of_memory,
        };
        let ending = match self.kind {
            0..=4 => exited(0, false),
            5..=6 => exited(1, false),
            7 => exited(137, true),
            8 => Ending::Rejected(reason(ReasonCode::MissingOutput)),
            9 => Ending::Errored(reason(ReasonCode::ImageNotFound)),
            10..=11 => Ending::Lost(reason(ReasonCode::Unproved)),
            _ => Ending::Withdrawn,
        };
        let ago = Duration::from_secs(if self.long_ago { 3_600 } else { 0 });
        AttemptEnd {
            ending,
            ended_at: now - ago,
            ran_for: None,
            metrics: self.auc.map(|value| (auc(), value)).into_iter().collect(),
        }
    }
}

pub(crate) fn hows() -> impl Strategy<Value = How> {
    (
        0_u8..13,
        prop::option::weighted(0.8, 0.0..1.0),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(kind, auc, long_ago)| How {
            kind,
            auc,
            long_ago,
        })
}

/// A DAG, and what happens to one run of it. Most runs start at once.
pub(crate) fn stories() -> impl Strategy<Value = (Dag, Vec<Happening>)> {
    (
        dags(),
        prop::bool::weighted(0.9),
        prop::collection::vec(happenings(), 0..80),
    )
        .prop_map(|(dag, starts, mut happenings)| {
            if starts {
                happenings.insert(0, Happening::Start);
            }
            (dag, happenings)
        })
}

fn happenings() -> impl Strategy<Value = Happening> {
    let index = any::<Index>;
    prop_oneof![
        1 => Just(Happening::Start),
        1 => Just(Happening::Skip),
        2 => Just(Happening::Cancel),
        1 => Just(Happening::Supersede),
        24 => index().prop_map(Happening::Claim),
        3 => index().prop_map(Happening::Release),
        22 => index().prop_map(Happening::Run),
        24 => (index(), hows()).prop_map(|(which, how)| Happening::Finish(which, how)),
        1 => (index(), hows()).prop_map(|(which, how)| Happening::FinishAndCancel(which, how)),
        4 => index().prop_map(Happening::TimeOut),
        2 => (index(), any::<bool>()).prop_map(|(which, unattended)| Happening::Abandon(which, unattended)),
        5 => index().prop_map(Happening::Echo),
        5 => (index(), 0_u32..7, hows()).prop_map(|(stage, n, how)| Happening::Stale(stage, n, how)),
        8 => (0_u16..120).prop_map(Happening::Wait),
        8 => Just(Happening::WaitForWake),
        3 => Just(Happening::Crash),
    ]
}

/// How many cases a property is tried on: the suite stays quick, and the seeds differ every time.
/// `PROPTEST_CASES` asks for more.
pub(crate) fn cases(cases: u32) -> Config {
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config
}

/// Plays a story, and checks after each report.
pub(crate) fn play(
    (dag, happenings): (Dag, Vec<Happening>),
    mut check: impl FnMut(&Recorded<'_>) -> TestCaseResult,
) -> Result<World, TestCaseError> {
    let mut world = World::new(Rc::new(dag), 42);
    for happening in &happenings {
        world.happen(happening, &mut check)?;
    }
    Ok(world)
}

impl World {
    pub(crate) fn new(dag: Rc<Dag>, id: i64) -> Self {
        Self {
            run: run_of(&dag, id),
            dag,
            now: noon(),
            wake_at: None,
            history: Vec::new(),
        }
    }

    /// The run as one to retry, at its own commit.
    pub(crate) fn to_retry<'a>(&'a self, again: &'a Again) -> Earlier<'a> {
        static NONE: BTreeSet<StageName> = BTreeSet::new();
        Earlier {
            dag: &self.dag,
            run: &self.run,
            again,
            rebuilt: &NONE,
        }
    }

    pub(crate) fn happen(
        &mut self,
        happening: &Happening,
        check: &mut impl FnMut(&Recorded<'_>) -> TestCaseResult,
    ) -> TestCaseResult {
        let person = || Event::CancelRequested {
            by: CancelledBy::Actor("alice".to_owned()),
        };
        let mut events = Vec::new();
        match happening {
            Happening::Start => events.push(Event::RunStarted),
            Happening::Skip => events.push(Event::RunSkipped {
                because_of: RunId(41),
            }),
            Happening::Cancel => events.push(person()),
            Happening::Supersede => events.push(Event::CancelRequested {
                by: CancelledBy::Newer(RunId(43)),
            }),
            Happening::Claim(which) => {
                events.extend(pick(which, &self.queued()).map(Event::AttemptClaimed));
            }
            Happening::Release(which) => {
                events.extend(pick(which, &self.claimed()).map(Event::AttemptReleased));
            }
            Happening::Run(which) => {
                events.extend(pick(which, &self.claimed()).map(started));
            }
            Happening::Finish(which, how) => {
                events.extend(pick(which, &self.held()).map(|attempt| self.finished(attempt, how)));
            }
            Happening::FinishAndCancel(which, how) => {
                events.extend(pick(which, &self.held()).map(|attempt| self.finished(attempt, how)));
                events.push(person());
            }
            Happening::TimeOut(which) => {
                events.extend(pick(which, &self.held()).map(Event::TimeoutPassed));
            }
            Happening::Abandon(which, unattended) => {
                events.extend(
                    pick(which, &self.held()).map(|attempt| abandoned(attempt, *unattended)),
                );
            }
            Happening::Echo(which) => {
                let recorded: Vec<&Event> = self.history.iter().map(|(_, event)| event).collect();
                events.extend(pick(which, &recorded).cloned());
            }
            Happening::Stale(stage, number, how) => {
                // One more than there are.
                let stage = StageIndex(stage.index(self.dag.stages().len() + 1));
                let attempt = AttemptRef {
                    stage,
                    number: *number,
                };
                events.push(match number % 6 {
                    0 => Event::AttemptClaimed(attempt),
                    1 => self.finished(attempt, how),
                    2 => started(attempt),
                    3 => Event::TimeoutPassed(attempt),
                    4 => abandoned(attempt, true),
                    _ => Event::AttemptReleased(attempt),
                });
            }
            Happening::Wait(seconds) => self.now += Duration::from_secs((*seconds).into()),
            Happening::WaitForWake => {
                if let Some(wake_at) = self.wake_at {
                    self.now = self.now.max(wake_at);
                }
            }
            Happening::Crash => self.run = self.replayed(),
        }
        self.record(&events, check)
    }

    /// Applies facts, decides, and records what was accepted.
    pub(crate) fn record(
        &mut self,
        events: &[Event],
        check: &mut impl FnMut(&Recorded<'_>) -> TestCaseResult,
    ) -> TestCaseResult {
        let before = self.run.clone();
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for event in events {
            let then = self.run.clone();
            match apply(&self.dag, &mut self.run, event, self.now) {
                Ok(()) => {
                    self.history.push((self.now, event.clone()));
                    accepted.push(event.clone());
                }
                Err(_) => refused.push((event.clone(), then, self.run.clone())),
            }
        }
        let mut at_once = before.clone();
        let applied = step(&self.dag, &mut at_once, events, self.now).applied;
        prop_assert_eq!(&applied, &accepted);
        let step = step(&self.dag, &mut self.run, &[], self.now);
        prop_assert_eq!(&at_once, &self.run);
        prop_assert_eq!(&step.refused, &[], "the planner decided what may not be");
        for effect in &step.effects {
            self.history
                .push((self.now, Event::Planned(effect.clone())));
        }
        self.wake_at = step.wake_at;
        check(&Recorded {
            before: &before,
            world: self,
            accepted,
            refused,
            effects: step.effects,
        })
    }

    /// The run as its history gives it.
    pub(crate) fn replayed(&self) -> Run {
        let mut run = run_of(&self.dag, self.run.facts.id.0);
        for (at, event) in &self.history {
            apply(&self.dag, &mut run, event, *at).expect("history is what was accepted");
        }
        run
    }

    /// The result of planning now.
    pub(crate) fn planned(&self) -> trainyard_core::plan::Plan {
        plan(&self.dag, &self.run, self.now)
    }

    pub(crate) fn finished(&self, attempt: AttemptRef, how: &How) -> Event {
        Event::AttemptFinished {
            attempt,
            end: how.end(self.now),
        }
    }

    fn attempts(&self, keep: fn(&AttemptState) -> bool) -> Vec<AttemptRef> {
        let last = |stage| self.run.last_attempt(stage);
        self.dag
            .indices()
            .filter_map(last)
            .filter(|(_, attempt)| keep(&attempt.state))
            .map(|(reference, _)| reference)
            .collect()
    }

    pub(crate) fn queued(&self) -> Vec<AttemptRef> {
        self.attempts(|state| matches!(state, AttemptState::Queued { .. }))
    }

    pub(crate) fn claimed(&self) -> Vec<AttemptRef> {
        self.attempts(|state| matches!(state, AttemptState::Claimed { .. }))
    }

    pub(crate) fn held(&self) -> Vec<AttemptRef> {
        self.attempts(|state| {
            matches!(
                state,
                AttemptState::Claimed { .. } | AttemptState::Running { .. }
            )
        })
    }

    /// Lets everything happen that can until the run has ended: queued attempts are claimed, claimed ones run,
    /// running ones end, and where nothing else moves, time does.
    ///
    /// Returns how many rounds that took, or `None` if it did not end in `at_most`.
    pub(crate) fn settle(
        &mut self,
        hows: &[How],
        at_most: usize,
    ) -> Result<Option<usize>, TestCaseError> {
        let check = &mut |_: &Recorded<'_>| Ok(());
        let mut hows = hows.iter().cycle();
        for round in 0..at_most {
            if self.run.is_finished() {
                return Ok(Some(round));
            }
            if self.run.phase == RunPhase::Queued {
                self.record(&[Event::RunStarted], check)?;
            }
            let queued = self.queued();
            let held = self.held();
            if queued.is_empty() && held.is_empty() && !self.run.is_finished() {
                let wake_at = self.wake_at;
                prop_assert!(wake_at.is_some(), "nothing can move {:#?}", self.run);
                self.now = self.now.max(wake_at.unwrap_or(self.now));
                self.record(&[], check)?;
            }
            for attempt in queued {
                self.record(&[Event::AttemptClaimed(attempt)], check)?;
            }
            for attempt in held {
                let how = hows.next().unwrap_or(&How::WELL);
                let end = self.finished(attempt, how);
                self.record(&[started(attempt), end], check)?;
            }
        }
        Ok(self.run.is_finished().then_some(at_most))
    }
}

/// Alice abandons the attempt.
pub(crate) fn abandoned(attempt: AttemptRef, unattended: bool) -> Event {
    Event::AttemptAbandoned {
        attempt,
        by: "alice".to_owned(),
        patience: Duration::from_secs(60),
        unattended,
    }
}

/// The attempt's container runs.
pub(crate) fn started(attempt: AttemptRef) -> Event {
    Event::AttemptStarted {
        attempt,
        image: Some("sha256:1".to_owned()),
    }
}

fn pick<T: Clone>(which: &Index, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| which.get(from).clone())
}

/// How many attempts a run may come to.
pub(crate) fn attempts_at_most(dag: &Dag) -> usize {
    let of =
        |stage: &trainyard_core::stage::Stage| stage.program().retry.attempts_at_most() as usize;
    dag.stages().iter().map(of).sum()
}

/// How many of each pool's slots, and how many attempts, these worlds hold.
pub(crate) fn held_by<'a>(
    worlds: impl IntoIterator<Item = &'a World>,
) -> (usize, BTreeMap<trainyard_core::name::PoolName, u32>) {
    let mut pools = BTreeMap::new();
    let mut slots = 0;
    for world in worlds {
        for attempt in world.held() {
            slots += 1;
            for (pool, count) in &world.dag.stage(attempt.stage).program().pools {
                *pools.entry(pool.clone()).or_default() += count;
            }
        }
    }
    (slots, pools)
}
