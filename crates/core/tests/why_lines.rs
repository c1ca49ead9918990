//! The lines that people read when they ask why a stage does not run, or runs, or ended as it did.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use trainyard_core::cause::Again;
use trainyard_core::event::{AttemptEnd, Ending, Event};
use trainyard_core::expression::{Condition, Template};
use trainyard_core::id::RunId;
use trainyard_core::name::OutputName;
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::overlap::Overlap;
use trainyard_core::run::{CancelledBy, Run};
use trainyard_core::stage::{DeclaredOutput, Keep, RelativePath, Stage};
use trainyard_core::why::{Holder, Pause, PoolUse, Queue, why, why_not_started};

use crate::generate::draft::{after, dag_of, index, named, noon, run_of};
use crate::generate::gpu;
use crate::world::{How, World, started};

/// A run with its surroundings.
struct Scene {
    world: World,
    queue: Queue,
}

fn scene(stages: Vec<Stage>) -> Scene {
    let dag = dag_of(stages, |draft| draft.concurrency.limit = Some(1));
    Scene {
        world: World::new(Rc::new(dag), 42),
        queue: Queue {
            now: noon(),
            slots: 4,
            slots_used: 0,
            repo_used: 0,
            stages_of_a_repo: None,
            pools: BTreeMap::new(),
            ahead: Vec::new(),
            paused: Vec::new(),
            unattended: BTreeMap::new(),
        },
    }
}

impl Scene {
    fn record(&mut self, event: Event) -> &mut Self {
        self.world
            .record(&[event], &mut |recorded| {
                assert!(recorded.refused.is_empty());
                Ok(())
            })
            .expect("the planner decides by its rules");
        self
    }

    /// Lets the planner read the time.
    fn plan_again(&mut self) {
        self.world
            .record(&[], &mut |_| Ok(()))
            .expect("the planner decides by its rules");
    }

    fn start(mut self) -> Self {
        self.record(Event::RunStarted);
        self
    }

    fn wait(&mut self, seconds: u64) -> &mut Self {
        self.world.now += Duration::from_secs(seconds);
        self.queue.now = self.world.now;
        self
    }

    fn last(&self, stage: &str) -> trainyard_core::run::AttemptRef {
        let index = index(&self.world.dag, stage);
        self.world.run.last_attempt(index).expect("an attempt").0
    }

    fn claim(&mut self, stage: &str) -> &mut Self {
        self.record(Event::AttemptClaimed(self.last(stage)))
    }

    fn run(&mut self, stage: &str) -> &mut Self {
        let attempt = self.claim(stage).last(stage);
        self.record(started(attempt))
    }

    fn end(&mut self, stage: &str, ending: Ending) -> &mut Self {
        let attempt = self.run(stage).last(stage);
        let end = AttemptEnd {
            ending,
            ended_at: self.world.now,
            ran_for: None,
            metrics: BTreeMap::new(),
        };
        self.record(Event::AttemptFinished { attempt, end })
    }

    #[track_caller]
    fn says(&self, stage: &str, expected: &str) {
        let dag = &self.world.dag;
        let line = why(dag, &self.world.run, index(dag, stage), &self.queue);
        assert_eq!(line, expected);
    }
}

fn exited(code: i32) -> Ending {
    Ending::Exited {
        code,
        out_of_memory: false,
    }
}

fn pooled(name: &str, slots: u32) -> Stage {
    let mut stage = named(name);
    stage.program_mut().pools = BTreeMap::from([(gpu(), slots)]);
    stage
}

fn retried(name: &str) -> Stage {
    let mut stage = named(name);
    stage.program_mut().retry.attempts = 3;
    stage
}

#[test]
fn a_run_waits_for_the_runs_before_it() {
    let mut scene = scene(vec![named("train")]);
    scene.says("train", "the run is about to start");
    scene.queue.ahead = vec![RunId(41)];
    scene.says(
        "train",
        "run 41 of the same DAG has to end first (concurrency limit 1)",
    );
    scene.queue.ahead = (37..42).map(RunId).collect();
    scene.says(
        "train",
        "runs 37, 38, 39 and 2 more of the same DAG have to end first (concurrency limit 1)",
    );
}

#[test]
fn a_run_that_has_the_run_before_it_cancelled_says_so() {
    let mut scene = scene(vec![named("train")]);
    let dag = dag_of(vec![named("train")], |draft| {
        draft.concurrency.limit = Some(1);
        draft.concurrency.overlap = Overlap::CancelRunning;
    });
    scene.world.dag = Rc::new(dag);
    scene.queue.ahead = vec![RunId(41)];
    scene.says(
        "train",
        "run 41 of the same DAG is being cancelled for this run (concurrency limit 1)",
    );
}

#[test]
fn a_run_waits_for_the_runs_of_its_group() {
    let mut scene = scene(vec![named("train")]);
    let dag = dag_of(vec![named("train")], |draft| {
        draft.concurrency.limit = Some(1);
        draft.concurrency.group = Template::parse("${{ cause.branch }}").ok();
    });
    scene.world.dag = Rc::new(dag);
    scene.queue.ahead = vec![RunId(41)];
    scene.says(
        "train",
        "run 41 of the same DAG and group `main` has to end first (concurrency limit 1)",
    );
}

#[test]
fn a_stage_that_could_go_waits_while_no_daemon_starts_anything() {
    let mut scene = scene(vec![named("train")]).start();
    scene.queue.paused = vec![
        Pause {
            what: "Docker does not answer".to_owned(),
            since: noon(),
        },
        Pause {
            what: "a disk is full".to_owned(),
            since: noon(),
        },
    ];
    scene.says(
        "train",
        "waits: Docker does not answer since 12:00:00 UTC, a disk is full since 12:00:00 UTC",
    );
    scene.queue.paused.clear();
    scene.says("train", "is about to be started");
}

#[test]
fn a_stage_waits_for_what_it_needs_and_says_how_far_that_is() {
    let mut scene = scene(vec![
        retried("train"),
        named("lint"),
        after("test", &["lint"]),
        after("serve", &["train", "test"]),
    ])
    .start();
    scene.says(
        "serve",
        "waits for train (queued for capacity), test (waiting itself)",
    );
    scene.end("lint", exited(0)).claim("train");
    scene.says(
        "serve",
        "waits for train (being prepared), test (queued for capacity)",
    );
    scene.end("test", exited(0));
    let train = scene.last("train");
    scene.wait(190).record(started(train));
    scene.says(
        "serve",
        "waits for train (running since 12:03:10 UTC, attempt 1)",
    );
    let end = scene.world.finished(train, &How::WELL);
    scene.record(end);
    scene.says("serve", "is about to be started");
}

#[test]
fn a_stage_waits_for_another_one_that_backs_off() {
    let mut scene = scene(vec![retried("train"), after("serve", &["train"])]).start();
    scene.end("train", exited(3));
    scene.says("serve", "waits for train (backs off until 12:00:10 UTC)");
    scene.says(
        "train",
        "backs off until 12:00:10 UTC after attempt 1 failed: exit code 3",
    );
}

#[test]
fn a_lost_attempt_is_explained_in_words() {
    let mut train = retried("train");
    train.program_mut().retry.lost = 2;
    let mut scene = scene(vec![train]).start();
    let lost = Reason::new(ReasonCode::Unproved, "its container vanished");
    scene.end("train", Ending::Lost(lost));
    scene.says(
        "train",
        "backs off until 12:00:10 UTC after attempt 1 was lost: its container vanished",
    );
}

#[test]
fn an_attempt_waits_for_a_free_slot_or_for_a_daemon() {
    let mut scene = scene(vec![named("train")]).start();
    scene.says("train", "is about to be started");
    scene.queue.slots_used = 4;
    scene.says("train", "waits for a free slot: 4 of 4 in use");
    (scene.queue.slots, scene.queue.slots_used) = (0, 0);
    scene.says("train", "waits for a daemon: none is running");
}

#[test]
fn an_attempt_waits_for_another_of_its_repo_where_there_is_a_bound() {
    let mut scene = scene(vec![named("train")]).start();
    (scene.queue.slots_used, scene.queue.repo_used) = (3, 2);
    scene.says("train", "is about to be started");
    scene.queue.stages_of_a_repo = Some(2);
    scene.says(
        "train",
        "waits for another stage of its repo to end: 2 of at most 2 run (stages_of_a_repo)",
    );
    scene.queue.slots_used = 4;
    scene.says("train", "waits for a free slot: 4 of 4 in use");
}

#[test]
fn an_attempt_waits_for_a_pool_and_says_who_holds_it() {
    let mut scene = scene(vec![
        pooled("train", 1),
        pooled("big", 2),
        pooled("huge", 3),
    ])
    .start();
    scene.says(
        "train",
        "waits for pool gpu, which this daemon's configuration does not define",
    );
    let holder = |run, stage: &str| Holder {
        run: RunId(run),
        stage: stage.parse().expect("a name"),
        slots: 1,
    };
    let mut pool = PoolUse {
        slots: 2,
        holders: vec![holder(41, "train")],
    };
    scene.queue.pools = BTreeMap::from([(gpu(), pool.clone())]);
    scene.says("train", "is about to be started");
    scene.says(
        "big",
        "waits for 2 slots of pool gpu: 1 of 2 slots taken by run 41 (train)",
    );
    scene.says("huge", "waits for 3 slots of pool gpu, which has only 2");
    pool.holders.push(holder(40, "tune"));
    scene.queue.pools = BTreeMap::from([(gpu(), pool)]);
    scene.says(
        "train",
        "waits for pool gpu: 2 of 2 slots taken by run 41 (train), run 40 (tune)",
    );
    scene.queue.pools = BTreeMap::from([(gpu(), PoolUse::default())]);
    scene.says("train", "waits for 1 slot of pool gpu, which has only 0");
}

#[test]
fn what_is_under_way_says_since_when() {
    let mut scene = scene(vec![retried("train")]).start();
    scene.wait(60).claim("train");
    scene.says(
        "train",
        "its container has been in preparation since 12:01:00 UTC, attempt 1",
    );
    let train = scene.last("train");
    scene.wait(60).record(started(train));
    scene.says("train", "running since 12:02:00 UTC, attempt 1");
    scene.wait(24 * 60 * 60);
    scene.says("train", "running since 2026-11-23 12:02:00 UTC, attempt 1");
    let by = CancelledBy::Actor("alice".to_owned());
    scene.record(Event::CancelRequested { by });
    scene.says(
        "train",
        "has been stopping since 12:02:00 UTC: cancelled by alice",
    );
    scene.wait(60);
    scene.says(
        "train",
        "has been stopping since 12:02:00 UTC: cancelled by alice; if Docker never reports \
         its end, `trainyard run abandon` counts it as lost",
    );
}

#[test]
fn an_attempt_that_stops_may_still_be_copying_outputs_until_that_is_forced() {
    let mut stage = named("train");
    let output = DeclaredOutput {
        path: RelativePath::new("log").unwrap(),
        keep: Keep::Always,
    };
    stage.program_mut().outputs = BTreeMap::from([(OutputName::new("log").unwrap(), output)]);
    let mut scene = scene(vec![stage]).start();
    scene.run("train").wait(120);
    let by = CancelledBy::Actor("alice".to_owned());
    scene.record(Event::CancelRequested { by: by.clone() });
    scene.wait(60);
    scene.says(
        "train",
        "has been stopping since 12:02:00 UTC: cancelled by alice; its outputs with `keep: always` may still be \
         copied, which a second `trainyard run cancel` ends; if Docker never reports its end, `trainyard run abandon` \
         counts it as lost",
    );
    scene.record(Event::CancelRequested { by });
    scene.says(
        "train",
        "has been stopping since 12:02:00 UTC: cancelled by alice; if Docker never reports its end, `trainyard run \
         abandon` counts it as lost",
    );
}

#[test]
fn an_attempt_without_a_daemon_says_so() {
    let mut scene = scene(vec![named("train")]).start();
    scene.run("train");
    let train = scene.last("train");
    scene.queue.unattended = BTreeMap::from([(train, noon() + Duration::from_secs(90))]);
    scene.says(
        "train",
        "running since 12:00:00 UTC, attempt 1; its daemon has been gone since 12:01:30 UTC, and no other daemon has adopted it",
    );
}

#[test]
fn what_has_ended_says_how_and_why() {
    let mut quick = named("quick");
    quick.condition = Some(Condition::parse("cause.branch == 'dev'").expect("a condition"));
    let mut scene = scene(vec![
        retried("extract"),
        named("lint"),
        quick,
        after("train", &["extract"]),
    ])
    .start();
    scene.end("lint", exited(0));
    scene.says("lint", "succeeded at 12:00:00 UTC");
    scene.says(
        "quick",
        "skipped: its condition does not hold: cause.branch == 'dev'",
    );
    for wait in [10, 20, 0] {
        scene.end("extract", exited(3)).wait(wait).plan_again();
    }
    scene.says("extract", "failed: exit code 3 (3 attempts)");
    scene.says("train", "upstream_failed: extract failed");
}

#[test]
fn what_was_taken_over_says_from_which_run() {
    let mut scene = scene(vec![named("extract"), after("train", &["extract"])]).start();
    scene.end("extract", exited(0)).end("train", exited(1));
    let dag = &scene.world.dag;
    let facts = run_of(dag, 43).facts;
    let again = Run::again(
        dag,
        facts,
        &scene.world.to_retry(&Again::FromFailed),
        noon(),
    );
    scene.world.run = again;
    scene.says("extract", "succeeded: reused from run 42");
    // What it waits for as long as it is queued is what its other stages do.
    scene.queue.ahead = vec![RunId(42)];
    assert_eq!(
        why_not_started(&scene.world.dag, &scene.world.run, &scene.queue).as_deref(),
        Some("run 42 of the same DAG has to end first (concurrency limit 1)")
    );
}
