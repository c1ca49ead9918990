//! Which events fit which states: the whole table, for reading.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use trainyard_core::dag::Dag;
use trainyard_core::event::{Effect, Event};
use trainyard_core::id::RunId;
use trainyard_core::outcome::{Outcome, Reason, ReasonCode};
use trainyard_core::run::{AttemptRef, CancelledBy, Run};
use trainyard_core::stage::StageIndex;
use trainyard_core::transition::apply;

use crate::generate::draft::{after, dag_of, named, noon, run_of};
use crate::world::{How, World, abandoned, started};

const TRAIN: StageIndex = StageIndex(0);
const SERVE: StageIndex = StageIndex(1);

fn attempt(stage: StageIndex, number: u32) -> AttemptRef {
    AttemptRef { stage, number }
}

fn reason() -> Reason {
    Reason::new(ReasonCode::CancelRequested, "cancelled by alice")
}

fn cancelled() -> Event {
    Event::CancelRequested {
        by: CancelledBy::Actor("alice".to_owned()),
    }
}

fn ended(dag: &Rc<Dag>, number: u32) -> Event {
    World::new(Rc::clone(dag), 42).finished(attempt(TRAIN, number), &How::WELL)
}

fn queue(stage: StageIndex, number: u32) -> Event {
    Event::Planned(Effect::QueueAttempt(attempt(stage, number)))
}

fn finish(stage: StageIndex) -> Event {
    Event::Planned(Effect::FinishStage {
        stage,
        outcome: Outcome::Succeeded,
        reason: None,
    })
}

fn back_off() -> Event {
    Event::Planned(Effect::BackOff {
        stage: TRAIN,
        until: noon() + Duration::from_secs(60),
    })
}

fn stop() -> Event {
    Event::Planned(Effect::RequestStop {
        attempt: attempt(TRAIN, 1),
        why: reason(),
    })
}

fn finish_run() -> Event {
    Event::Planned(Effect::FinishRun {
        outcome: Outcome::Succeeded,
        reason: None,
    })
}

/// Every event there is, by the name of its row. A new one does not compile until it has a row.
fn events(dag: &Rc<Dag>) -> Vec<(&'static str, Event)> {
    let first = attempt(TRAIN, 1);
    let all = vec![
        Event::RunStarted,
        Event::RunSkipped {
            because_of: RunId(41),
        },
        cancelled(),
        Event::AttemptClaimed(first),
        Event::AttemptReleased(first),
        started(first),
        Event::TimeoutPassed(first),
        ended(dag, 1),
        abandoned(first, false),
        abandoned(first, true),
        Event::Planned(Effect::TimeOutRun),
        queue(TRAIN, 1),
        queue(TRAIN, 2),
        queue(SERVE, 1),
        back_off(),
        stop(),
        Event::Planned(Effect::WithdrawAttempt {
            attempt: first,
            why: reason(),
        }),
        finish(TRAIN),
        finish_run(),
    ];
    let name = |event: &Event| match event {
        Event::RunStarted => "run started",
        Event::RunSkipped { .. } => "run skipped",
        Event::CancelRequested { .. } => "cancel requested",
        Event::AttemptClaimed(_) => "train 1 claimed",
        Event::AttemptReleased(_) => "train 1 released",
        Event::AttemptStarted { .. } => "train 1 started",
        Event::TimeoutPassed(_) => "train 1 has run for long",
        Event::AttemptFinished { .. } => "train 1 finished",
        Event::AttemptAbandoned {
            unattended: false, ..
        } => "train 1 abandoned",
        Event::AttemptAbandoned {
            unattended: true, ..
        } => "train 1 abandoned, unattended",
        Event::Planned(effect) => match effect {
            Effect::TimeOutRun => "planned: time out the run",
            Effect::QueueAttempt(to) if to.stage == SERVE => "planned: queue serve 1",
            Effect::QueueAttempt(to) if to.number == 1 => "planned: queue train 1",
            Effect::QueueAttempt(_) => "planned: queue train 2",
            Effect::BackOff { .. } => "planned: back train off",
            Effect::RequestStop { .. } => "planned: stop train 1",
            Effect::WithdrawAttempt { .. } => "planned: withdraw train 1",
            Effect::FinishStage { .. } => "planned: finish train",
            Effect::FinishRun { .. } => "planned: finish the run",
        },
    };
    all.into_iter().map(|event| (name(&event), event)).collect()
}

/// The states, each made by the events that lead to it; `serve` needs `train`.
fn states(dag: &Rc<Dag>) -> Vec<(&'static str, Run)> {
    let first = attempt(TRAIN, 1);
    let start = vec![Event::RunStarted];
    let with = |before: &[Event], more: &[Event]| [before, more].concat();
    let queued = with(&start, &[queue(TRAIN, 1)]);
    let claimed = with(&queued, &[Event::AttemptClaimed(first)]);
    let running = with(&claimed, &[started(first)]);
    let finished = with(&running, &[ended(dag, 1)]);
    let backing_off = with(&finished, &[back_off()]);
    let again = with(&backing_off, &[queue(TRAIN, 2)]);
    let train_ended = with(&finished, &[finish(TRAIN)]);
    let serve_queued = with(&train_ended, &[queue(SERVE, 1)]);
    let all_ended = with(&train_ended, &[finish(SERVE)]);
    let over = with(&all_ended, &[finish_run()]);
    let ways = vec![
        ("queued", vec![]),
        ("queued, cancelled", vec![cancelled()]),
        ("running", start.clone()),
        ("running, cancelled", with(&start, &[cancelled()])),
        ("train 1 queued", queued.clone()),
        ("train 1 queued, cancelled", with(&queued, &[cancelled()])),
        ("train 1 claimed", claimed.clone()),
        ("train 1 claimed, stopping", with(&claimed, &[stop()])),
        ("train 1 running", running.clone()),
        ("train 1 running, stopping", with(&running, &[stop()])),
        ("train 1 ended", finished),
        ("train backs off", backing_off),
        ("train 2 queued", again),
        ("train ended", train_ended),
        ("serve 1 queued", serve_queued),
        ("all stages ended", all_ended),
        ("run ended", over),
    ];
    ways.into_iter()
        .map(|(name, events)| {
            let mut run = run_of(dag, 42);
            for event in &events {
                apply(dag, &mut run, event, noon())
                    .unwrap_or_else(|illegal| panic!("no way to {name}: {illegal}"));
            }
            (name, run)
        })
        .collect()
}

#[test]
fn every_event_is_taken_or_refused_in_every_state_as_this_table_says() {
    let mut train = named("train");
    train.program_mut().timeout = Some(Duration::from_secs(60));
    let dag = Rc::new(dag_of(vec![train, after("serve", &["train"])], |_| {}));
    let mut table = String::new();
    for (row, event) in events(&dag) {
        let mut taken = Vec::new();
        let mut refused: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (state, run) in states(&dag) {
            let mut after = run.clone();
            match apply(&dag, &mut after, &event, noon()) {
                Ok(()) => taken.push(state),
                Err(illegal) => {
                    assert_eq!(run, after, "{row} was refused, but changed {state}");
                    refused.entry(illegal.why).or_default().push(state);
                }
            }
        }
        if taken.is_empty() {
            taken.push("nowhere");
        }
        let _ = writeln!(table, "{row}\n  fits: {}", taken.join("; "));
        for (why, states) in refused {
            let _ = writeln!(table, "  {why}: {}", states.join("; "));
        }
    }
    insta::assert_snapshot!(table, @r#"
    run started
      fits: queued
      but it is being cancelled: queued, cancelled
      but it was not queued: running; running, cancelled; train 1 queued; train 1 queued, cancelled; train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
    run skipped
      fits: queued; queued, cancelled
      but it was not queued: running; running, cancelled; train 1 queued; train 1 queued, cancelled; train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
    cancel requested
      fits: queued; queued, cancelled; running; running, cancelled; train 1 queued; train 1 queued, cancelled; train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
    train 1 claimed
      fits: train 1 queued; train 1 queued, cancelled
      but it was not queued: train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
      is not known to the run: queued; queued, cancelled; running; running, cancelled
    train 1 released
      fits: train 1 claimed; train 1 claimed, stopping
      but it was not claimed: train 1 queued; train 1 queued, cancelled; train 1 running; train 1 running, stopping; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
      is not known to the run: queued; queued, cancelled; running; running, cancelled
    train 1 started
      fits: train 1 claimed; train 1 claimed, stopping
      but it was not claimed: train 1 queued; train 1 queued, cancelled; train 1 running; train 1 running, stopping; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
      is not known to the run: queued; queued, cancelled; running; running, cancelled
    train 1 has run for long
      fits: train 1 running
      but it does not run, or is stopping: train 1 queued; train 1 queued, cancelled; train 1 claimed; train 1 claimed, stopping; train 1 running, stopping; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
      is not known to the run: queued; queued, cancelled; running; running, cancelled
    train 1 finished
      fits: train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping
      but no daemon held it: train 1 queued; train 1 queued, cancelled; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
      is not known to the run: queued; queued, cancelled; running; running, cancelled
    train 1 abandoned
      fits: nowhere
      and may still end by itself: train 1 claimed, stopping; train 1 running, stopping
      but no daemon held it: train 1 queued; train 1 queued, cancelled; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
      is not known to the run: queued; queued, cancelled; running; running, cancelled
      was not asked to stop, and a daemon supervises it: train 1 claimed; train 1 running
    train 1 abandoned, unattended
      fits: train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping
      but no daemon held it: train 1 queued; train 1 queued, cancelled; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
      is not known to the run: queued; queued, cancelled; running; running, cancelled
    planned: time out the run
      fits: running; train 1 queued; train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
      but the run is being cancelled: running, cancelled; train 1 queued, cancelled
      but the run is not running: queued; queued, cancelled
    planned: queue train 1
      fits: running
      but it is not the next one: train 1 queued; train 1 queued, cancelled; train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping; train 1 ended; train backs off; train 2 queued
      but its stage has finished: train ended; serve 1 queued; all stages ended
      but its stage is being cancelled: running, cancelled
      but the run has finished: run ended
      but the run is not running: queued; queued, cancelled
    planned: queue train 2
      fits: train 1 ended; train backs off
      but it is not the next one: running; running, cancelled; train 2 queued
      but its stage has finished: train ended; serve 1 queued; all stages ended
      but the one before it is live: train 1 queued; train 1 queued, cancelled; train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping
      but the run has finished: run ended
      but the run is not running: queued; queued, cancelled
    planned: queue serve 1
      fits: train ended
      but it is not the next one: serve 1 queued
      but its stage has finished: all stages ended
      but its stage is being cancelled: running, cancelled; train 1 queued, cancelled
      but the run has finished: run ended
      but the run is not running: queued; queued, cancelled
      but what its stage needs has not ended: running; train 1 queued; train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping; train 1 ended; train backs off; train 2 queued
    planned: back train off
      fits: train 1 ended
      but its last attempt is live: train 1 queued; train 1 queued, cancelled; train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping; train 2 queued
      but its stage is not active: queued; queued, cancelled; running; running, cancelled; train backs off; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
    planned: stop train 1
      fits: train 1 claimed; train 1 running
      but the attempt is not held, or is stopping: train 1 queued; train 1 queued, cancelled; train 1 claimed, stopping; train 1 running, stopping; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
      is not known to the run: queued; queued, cancelled; running; running, cancelled
    planned: withdraw train 1
      fits: train 1 queued; train 1 queued, cancelled
      but it was not queued: train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued; all stages ended
      but the run has finished: run ended
      is not known to the run: queued; queued, cancelled; running; running, cancelled
    planned: finish train
      fits: queued; queued, cancelled; running; running, cancelled; train 1 ended; train backs off
      but it had finished before: train ended; serve 1 queued; all stages ended
      but its last attempt is live: train 1 queued; train 1 queued, cancelled; train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping; train 2 queued
      but the run has finished: run ended
    planned: finish the run
      fits: all stages ended
      but not all of its stages have: queued; queued, cancelled; running; running, cancelled; train 1 queued; train 1 queued, cancelled; train 1 claimed; train 1 claimed, stopping; train 1 running; train 1 running, stopping; train 1 ended; train backs off; train 2 queued; train ended; serve 1 queued
      but the run has finished: run ended
    "#);
}
