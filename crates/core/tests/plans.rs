//! Decisions of the planner, one by one, where an example says more than a property.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use trainyard_core::cause::Again;
use trainyard_core::dag::Dag;
use trainyard_core::event::{AttemptEnd, Ending, Event};
use trainyard_core::expression::Condition;
use trainyard_core::gate::GateRule;
use trainyard_core::id::RunId;
use trainyard_core::outcome::{Outcome, Reason, ReasonCode};
use trainyard_core::run::{AttemptRef, CancelledBy, Run, RunPhase, StageState};
use trainyard_core::stage::{RelativePath, RunOn, Stage};
use trainyard_core::transition::apply;

use crate::generate::auc;
use crate::generate::draft::{after, dag_of, index, named, run_of};
use crate::world::{How, World, abandoned, started};

fn world(stages: Vec<Stage>) -> World {
    let mut world = World::new(Rc::new(dag_of(stages, |_| {})), 42);
    record(&mut world, &[Event::RunStarted]);
    world
}

fn record(world: &mut World, events: &[Event]) {
    world
        .record(events, &mut |recorded| {
            assert!(
                recorded.refused.is_empty(),
                "refused: {:?}",
                recorded.refused
            );
            Ok(())
        })
        .expect("the planner decides by its rules");
}

fn last(world: &World, stage: &str) -> AttemptRef {
    let (attempt, _) = world
        .run
        .last_attempt(index(&world.dag, stage))
        .expect("an attempt");
    attempt
}

/// Claims, starts and ends the last attempt of a stage.
fn end(world: &mut World, stage: &str, ending: Ending, value: Option<f64>) {
    let attempt = last(world, stage);
    let end = AttemptEnd {
        ending,
        ended_at: world.now,
        ran_for: None,
        metrics: value.map(|value| (auc(), value)).into_iter().collect(),
    };
    let finished = Event::AttemptFinished { attempt, end };
    record(
        world,
        &[Event::AttemptClaimed(attempt), started(attempt), finished],
    );
}

fn exited(code: i32) -> Ending {
    Ending::Exited {
        code,
        out_of_memory: false,
    }
}

fn cancel() -> Event {
    Event::CancelRequested {
        by: CancelledBy::Actor("alice".to_owned()),
    }
}

/// How a stage ended, and why, as people read it.
fn ending_of(run: &Run, dag: &Dag, stage: &str) -> String {
    match &run.stages[index(dag, stage).0].state {
        StageState::Finished {
            outcome, reason, ..
        } => match reason {
            Some(reason) => format!("{outcome}: {reason}"),
            None => outcome.to_string(),
        },
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn check(world: &World, stage: &str, expected: &str) {
    assert_eq!(ending_of(&world.run, &world.dag, stage), expected);
}

fn on(stage: Stage, run_on: &[RunOn]) -> Stage {
    Stage {
        run_on: run_on.iter().copied().collect(),
        ..stage
    }
}

fn when(stage: Stage, condition: &str) -> Stage {
    Stage {
        condition: Some(Condition::parse(condition).expect("a condition")),
        ..stage
    }
}

fn measured(name: &str) -> Stage {
    let mut stage = named(name);
    let metrics = RelativePath::new("metrics.json").expect("a path");
    stage.program_mut().metrics = Some(metrics);
    stage
}

fn gated(name: &str) -> Stage {
    let mut stage = measured(name);
    stage.program_mut().gate = vec![GateRule {
        metric: auc(),
        min: Some(0.85),
        max: None,
    }];
    stage
}

#[test]
fn a_condition_sees_the_outcome_that_was_decided_just_before() {
    let report = when(
        after("report", &["train"]),
        "stages.train.metrics.auc > 0.9",
    );
    let mut world = world(vec![measured("train"), report]);
    end(&mut world, "train", exited(0), Some(0.95));
    assert_eq!(last(&world, "report").number, 1);
}

#[test]
fn a_condition_that_does_not_hold_skips_its_stage_and_all_after_it() {
    let report = when(
        after("report", &["train"]),
        "stages.train.metrics.auc > 0.9",
    );
    let mut world = world(vec![measured("train"), report, after("mail", &["report"])]);
    end(&mut world, "train", exited(0), Some(0.8));
    check(
        &world,
        "report",
        "skipped: its condition does not hold: stages.train.metrics.auc > 0.9",
    );
    check(&world, "mail", "skipped: report was skipped");
    assert_eq!(world.run.outcome(), Some(Outcome::Succeeded));
}

#[test]
fn a_condition_on_a_metric_that_was_not_reported_is_an_error_and_not_a_no() {
    let report = when(
        after("report", &["train"]),
        "stages.train.metrics.auc > 0.9",
    );
    let mut world = world(vec![measured("train"), report]);
    end(&mut world, "train", exited(0), None);
    check(
        &world,
        "report",
        "errored: `stages.train.metrics.auc > 0.9` cannot be evaluated: stage `train` did not report the metric `auc`",
    );
}

#[test]
fn a_failure_reaches_all_that_comes_after_it() {
    let mut world = world(vec![
        named("extract"),
        after("train", &["extract"]),
        after("serve", &["train"]),
        on(after("alarm", &["train"]), &[RunOn::Failed]),
        on(after("cleanup", &["serve"]), &[RunOn::Always]),
    ]);
    end(&mut world, "extract", exited(3), None);
    check(&world, "train", "upstream_failed: extract failed");
    check(&world, "serve", "upstream_failed: train upstream_failed");
    end(&mut world, "alarm", exited(0), None);
    end(&mut world, "cleanup", exited(0), None);
    assert_eq!(world.run.outcome(), Some(Outcome::Failed));
}

#[test]
fn a_refused_gate_is_not_tried_again_and_skips_what_comes_after() {
    let mut evaluate = gated("evaluate");
    evaluate.program_mut().retry.attempts = 5;
    let mut world = world(vec![evaluate, after("serve", &["evaluate"])]);
    end(&mut world, "evaluate", exited(0), Some(0.7));
    check(
        &world,
        "evaluate",
        "failed: gate refused: auc = 0.7 is below the minimum 0.85",
    );
    check(&world, "serve", "skipped: the gate of evaluate refused");
    assert_eq!(world.run.outcome(), Some(Outcome::Failed));
}

#[test]
fn an_image_a_secret_or_an_input_that_is_missing_is_not_retried_and_a_failed_pull_is() {
    let mut train = named("train");
    train.program_mut().retry.attempts = 2;
    for (code, expected) in [
        (ReasonCode::ImageNotFound, Some(Outcome::Errored)),
        (ReasonCode::MissingSecret, Some(Outcome::Errored)),
        (ReasonCode::MissingInput, Some(Outcome::Errored)),
        (ReasonCode::ImagePull, None),
    ] {
        let mut world = world(vec![train.clone()]);
        let errored = Ending::Errored(Reason::new(code, "no"));
        end(&mut world, "train", errored, None);
        assert_eq!(world.run.outcome(), expected, "{code}");
    }
}

#[test]
fn a_queued_run_that_is_cancelled_is_cancelled_even_if_nothing_was_left_to_do() {
    let dag = dag_of(vec![named("train")], |_| {});
    let mut earlier = World::new(Rc::new(dag.clone()), 41);
    earlier.settle(&[How::WELL], 9).expect("a fair end");
    let facts = run_of(&dag, 42).facts;
    let again = Run::again(
        &dag,
        facts,
        &earlier.to_retry(&Again::FromFailed),
        earlier.now,
    );
    let mut world = World::new(Rc::new(dag), 42);
    world.run = again;
    record(&mut world, &[cancel()]);
    assert_eq!(world.run.outcome(), Some(Outcome::Cancelled));
}

#[test]
fn a_cancel_that_cut_nothing_short_does_not_rename_the_end() {
    let mut slow = named("train");
    slow.program_mut().timeout = Some(Duration::from_secs(60));
    let cleanup = on(after("cleanup", &["train"]), &[RunOn::Always]);
    let mut world = world(vec![slow, cleanup]);
    let train = last(&world, "train");
    record(&mut world, &[Event::AttemptClaimed(train), started(train)]);
    world.now += Duration::from_secs(3_600);
    record(&mut world, &[]);
    assert_eq!(
        world
            .run
            .attempt(train)
            .and_then(|train| train.stop.clone()),
        None,
        "a clock that was set does not make time pass"
    );
    record(&mut world, &[Event::TimeoutPassed(train)]);
    let stopped = world.finished(train, &How::WELL);
    record(&mut world, &[stopped]);
    check(
        &world,
        "train",
        "timed_out: it ran longer than its timeout of 1m",
    );
    // Only the stage that runs always is left, and it is spared.
    record(&mut world, &[cancel()]);
    end(&mut world, "cleanup", exited(0), None);
    assert_eq!(world.run.outcome(), Some(Outcome::TimedOut));
}

#[test]
fn a_run_that_is_cancelled_cannot_start_any_more() {
    let dag = dag_of(
        vec![on(named("cleanup"), &[RunOn::Always]), named("train")],
        |_| {},
    );
    let mut world = World::new(Rc::new(dag), 42);
    record(&mut world, &[cancel()]);
    assert_eq!(world.run.outcome(), Some(Outcome::Cancelled));
    world
        .record(&[Event::RunStarted], &mut |recorded| {
            assert_eq!(recorded.refused.len(), 1);
            Ok(())
        })
        .expect("the planner decides by its rules");
}

#[test]
fn a_second_request_cancels_what_runs_always_too() {
    let cleanup = on(after("cleanup", &["train"]), &[RunOn::Always]);
    let mut world = world(vec![named("train"), cleanup]);
    record(&mut world, &[cancel()]);
    assert_eq!(last(&world, "cleanup").number, 1);
    record(&mut world, &[cancel()]);
    check(&world, "cleanup", "cancelled: cancelled by alice");
    assert_eq!(world.run.outcome(), Some(Outcome::Cancelled));
}

#[test]
fn a_second_newer_run_does_not_force() {
    let cleanup = on(after("cleanup", &["train"]), &[RunOn::Always]);
    let mut world = world(vec![named("train"), cleanup]);
    for newer in [43, 44] {
        let by = CancelledBy::Newer(RunId(newer));
        record(&mut world, &[Event::CancelRequested { by }]);
    }
    check(
        &world,
        "train",
        "cancelled: the newer run 43 needed its place (`overlap: cancel_running`)",
    );
    end(&mut world, "cleanup", exited(0), None);
    assert_eq!(world.run.outcome(), Some(Outcome::Cancelled));
}

#[test]
fn an_attempt_that_does_not_end_after_a_stop_may_be_abandoned_and_is_lost() {
    let mut slow = named("train");
    slow.program_mut().retry.lost = 2;
    let mut world = world(vec![slow]);
    let train = last(&world, "train");
    record(&mut world, &[Event::AttemptClaimed(train), started(train)]);
    let abandoning = abandoned(train, false);
    let refusal = |world: &World| {
        let mut run = world.run.clone();
        let refused = apply(&world.dag, &mut run, &abandoning, world.now);
        refused.expect_err("too early").to_string()
    };
    assert_eq!(
        refusal(&world),
        "stage train was not asked to stop, and a daemon supervises it"
    );
    record(&mut world, &[cancel()]);
    world.now += Duration::from_secs(59);
    assert_eq!(
        refusal(&world),
        "stage train was asked to stop 59s ago, and may still end by itself"
    );
    world.now += Duration::from_secs(65);
    record(&mut world, &[abandoning]);
    check(
        &world,
        "train",
        "lost: abandoned by alice: it had not ended 2m4s after it was asked to stop",
    );
    assert_eq!(world.run.outcome(), Some(Outcome::Lost));
}

#[test]
fn an_attempt_without_a_daemon_may_be_abandoned_at_once_and_is_retried() {
    let mut train = named("train");
    train.program_mut().retry.lost = 1;
    train.program_mut().retry.backoff = Duration::ZERO;
    let mut world = world(vec![train]);
    let first = last(&world, "train");
    record(&mut world, &[Event::AttemptClaimed(first), started(first)]);
    record(&mut world, &[abandoned(first, true)]);
    assert_eq!(last(&world, "train").number, 2);
    end(&mut world, "train", exited(0), None);
    assert_eq!(world.run.outcome(), Some(Outcome::Succeeded));
}

#[test]
fn a_lost_attempt_is_replaced_though_the_rule_allows_one_attempt_only() {
    let mut train = named("train");
    train.program_mut().retry.lost = 1;
    train.program_mut().retry.backoff = Duration::ZERO;
    let mut world = world(vec![train]);
    let lost = || Ending::Lost(Reason::new(ReasonCode::Unproved, "the container vanished"));
    end(&mut world, "train", lost(), None);
    assert_eq!(last(&world, "train").number, 2);
    end(&mut world, "train", lost(), None);
    check(&world, "train", "lost: the container vanished");
}

#[test]
fn a_program_that_ends_well_after_it_was_asked_to_stop_has_not_succeeded() {
    let mut world = world(vec![named("train")]);
    let train = last(&world, "train");
    record(&mut world, &[Event::AttemptClaimed(train), started(train)]);
    world.now += Duration::from_secs(9);
    record(&mut world, &[cancel()]);
    let end = world.finished(train, &How::WELL);
    record(&mut world, &[end]);
    check(&world, "train", "cancelled: cancelled by alice");
}

#[test]
fn a_program_that_had_ended_before_it_was_asked_to_stop_keeps_its_end() {
    let mut world = world(vec![named("train"), named("other")]);
    let train = last(&world, "train");
    record(&mut world, &[Event::AttemptClaimed(train), started(train)]);
    let end = world.finished(train, &How::WELL);
    world.now += Duration::from_secs(9);
    record(&mut world, &[cancel()]);
    record(&mut world, &[end]);
    check(&world, "train", "succeeded");
    check(&world, "other", "cancelled: cancelled by alice");
}

#[test]
fn an_end_that_is_recorded_late_is_dated_as_it_was() {
    let mut world = world(vec![
        named("train"),
        after("report", &["train"]),
        on(after("clean", &["train"]), &[RunOn::Failed]),
    ]);
    let attempt = last(&world, "train");
    record(
        &mut world,
        &[Event::AttemptClaimed(attempt), started(attempt)],
    );
    let began = world.now;
    world.now += Duration::from_secs(7_200);
    let end = AttemptEnd {
        ending: exited(1),
        ended_at: began,
        ran_for: Some(Duration::from_secs(60)),
        metrics: BTreeMap::new(),
    };
    record(&mut world, &[Event::AttemptFinished { attempt, end }]);
    let at = |world: &World, stage| match world.run.stages[index(&world.dag, stage).0].state {
        StageState::Finished { at, .. } => Some(at - began),
        _ => None,
    };
    let minute = Some(chrono::TimeDelta::minutes(1));
    assert_eq!(at(&world, "train"), minute);
    assert_eq!(at(&world, "report"), minute, "what follows from it, too");
    assert_eq!(at(&world, "clean"), None, "it can start only now");

    let attempt = last(&world, "clean");
    record(
        &mut world,
        &[Event::AttemptClaimed(attempt), started(attempt)],
    );
    let end = AttemptEnd {
        ending: exited(0),
        ended_at: world.now,
        ran_for: Some(Duration::from_secs(3_600)),
        metrics: BTreeMap::new(),
    };
    record(&mut world, &[Event::AttemptFinished { attempt, end }]);
    let hours = Some(chrono::TimeDelta::hours(2));
    assert_eq!(at(&world, "clean"), hours, "no end is in the future");
    let RunPhase::Finished { at, .. } = world.run.phase else {
        panic!("{:?}", world.run.phase);
    };
    assert_eq!(
        Some(at - began),
        hours,
        "a run ends with the last of its stages"
    );
}

#[test]
fn a_program_killed_for_its_memory_is_distinguished_from_one_that_survived_it() {
    let mut hungry = named("train");
    hungry.program_mut().resources.memory = Some(4 << 30);
    for (code, expected) in [
        (
            137,
            "failed: killed by the kernel: it used more than its memory limit of 4 GiB",
        ),
        (
            1,
            "failed: exit code 1, after the kernel killed a process in it that used more than its memory limit of 4 GiB",
        ),
        (0, "succeeded"),
    ] {
        let mut world = world(vec![hungry.clone()]);
        let ending = Ending::Exited {
            code,
            out_of_memory: true,
        };
        end(&mut world, "train", ending, None);
        check(&world, "train", expected);
    }
}

#[test]
fn a_retry_takes_over_what_succeeded_before_the_failure_and_nothing_after_it() {
    let stages = vec![
        named("extract"),
        after("train", &["extract"]),
        after("serve", &["train"]),
        named("lint"),
        on(after("cleanup", &["lint"]), &[RunOn::Always]),
    ];
    let mut earlier = world(stages);
    end(&mut earlier, "extract", exited(0), Some(0.5));
    end(&mut earlier, "lint", exited(0), None);
    end(&mut earlier, "cleanup", exited(0), None);
    end(&mut earlier, "train", exited(1), None);
    let dag = &earlier.dag;
    let again = |again: &Again| {
        let run = Run::again(
            dag,
            run_of(dag, 43).facts,
            &earlier.to_retry(again),
            earlier.now,
        );
        let reused: BTreeSet<String> = dag
            .indices()
            .filter(|index| run.stages[index.0].reused_from == Some(RunId(42)))
            .map(|index| dag.stage(index).name.to_string())
            .collect();
        reused.into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(again(&Again::All), "");
    assert_eq!(again(&Again::FromFailed), "extract lint");
    assert_eq!(
        again(&Again::From("extract".parse().expect("a name"))),
        "lint"
    );
    assert_eq!(
        again(&Again::From("lint".parse().expect("a name"))),
        "extract"
    );
}

#[test]
fn a_retry_from_a_stage_runs_all_that_comes_after_it_again() {
    let dag = Rc::new(dag_of(
        vec![
            named("extract"),
            after("train", &["extract"]),
            after("serve", &["train"]),
            named("lint"),
        ],
        |_| {},
    ));
    let mut earlier = World::new(Rc::clone(&dag), 42);
    earlier.settle(&[How::WELL], 9).expect("a fair end");
    let from = Again::From("train".parse().expect("a name"));
    let again = Run::again(
        &dag,
        run_of(&dag, 43).facts,
        &earlier.to_retry(&from),
        earlier.now,
    );
    let reruns = dag
        .indices()
        .filter(|index| again.stages[index.0].reused_from.is_none());
    assert_eq!(
        reruns.collect::<Vec<_>>(),
        [index(&dag, "train"), index(&dag, "serve")]
    );
}

#[test]
fn a_wait_beyond_the_end_of_time_is_one_for_ever() {
    let mut world = world(vec![named("train")]);
    world.now = trainyard_core::Timestamp::MAX_UTC - Duration::from_secs(1);
    let dag = dag_of(vec![named("train")], |draft| {
        draft.timeout = Some(trainyard_core::dag::LONGEST_DURATION);
    });
    let mut late = World::new(Rc::new(dag), 42);
    late.now = world.now;
    record(&mut late, &[Event::RunStarted]);
    assert_eq!(late.wake_at, Some(trainyard_core::Timestamp::MAX_UTC));
}

#[test]
fn one_plan_already_says_when_to_look_again() {
    let mut train = named("train");
    train.program_mut().retry.attempts = 2;
    let mut world = world(vec![train]);
    let attempt = last(&world, "train");
    let failed = AttemptEnd {
        ending: exited(1),
        ended_at: world.now,
        ran_for: None,
        metrics: BTreeMap::new(),
    };
    for event in [
        Event::AttemptClaimed(attempt),
        Event::AttemptFinished {
            attempt,
            end: failed,
        },
    ] {
        apply(&world.dag, &mut world.run, &event, world.now).expect("it fits");
    }
    let backs_off = world.planned();
    assert_eq!(backs_off.effects.len(), 1);
    assert_eq!(backs_off.wake_at, Some(world.now + Duration::from_secs(10)));
    record(&mut world, &[]);
    world.now -= Duration::from_secs(86_400);
    record(&mut world, &[]);
    assert_eq!(
        world.wake_at,
        Some(world.now + Duration::from_secs(10)),
        "a clock that goes back makes no stage wait for longer than the whole back-off"
    );
    assert_eq!(world.planned().effects, []);
    record(&mut world, &[cancel()]);
    assert_eq!(world.wake_at, None);
}

#[test]
fn events_about_stages_that_do_not_exist_are_refused() {
    let mut world = world(vec![named("train")]);
    let attempt = AttemptRef {
        stage: trainyard_core::stage::StageIndex(7),
        number: 1,
    };
    let end = world.finished(attempt, &How::WELL);
    world
        .record(&[Event::AttemptClaimed(attempt), end], &mut |recorded| {
            assert_eq!(recorded.refused.len(), 2);
            Ok(())
        })
        .expect("the planner decides by its rules");
}

#[test]
fn a_recorded_condition_that_is_not_an_expression_any_more_ends_its_stage_and_nothing_else() {
    let deploy = Stage {
        condition: Some(Condition::stored("cause.branch == 'main' and params.force")),
        ..after("deploy", &["train"])
    };
    let draft = crate::generate::draft::draft_of(vec![named("train"), deploy, named("lint")]);
    assert!(Dag::new(draft.clone()).is_err());
    let dag = Dag::stored(draft).expect("what was recorded stays readable");
    let mut world = World::new(Rc::new(dag), 42);
    record(&mut world, &[Event::RunStarted]);
    end(&mut world, "train", exited(0), None);
    check(
        &world,
        "deploy",
        "errored: `cause.branch == 'main' and params.force` cannot be evaluated: `and` is not an operator \
         here (write `&&`); fix it in the DAG file and push it again",
    );
    end(&mut world, "lint", exited(0), None);
    check(&world, "lint", "succeeded");
    assert_eq!(world.run.outcome(), Some(Outcome::Errored));
}

#[test]
fn what_a_condition_sees_of_a_run_is_no_more_than_what_it_asks_for() {
    let mut stages = vec![measured("first")];
    stages.extend((0..50).map(|n| after(&format!("s{n}"), &["first"])));
    let names: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut last = after("last", &names);
    let text = "${{ stages.s7.outcome }}";
    let template = trainyard_core::expression::Template::parse(text).expect("a template");
    last.program_mut()
        .env
        .insert("A".parse().expect("a name"), template);
    stages.push(last);
    let mut world = world(stages);
    end(&mut world, "first", exited(0), Some(0.5));
    for name in &names {
        end(&mut world, name, exited(0), None);
    }
    let facts = world
        .run
        .expression_facts_of(&world.dag, index(&world.dag, "last"));
    let seen: Vec<&str> = facts.stages.keys().map(|name| name.as_str()).collect();
    assert_eq!(seen, ["s7"]);
}
