//! Things that never happen to a run, in whatever order facts come, how often, how late, and
//! however often the daemon dies.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use trainyard_core::event::{Effect, Event};
use trainyard_core::outcome::Outcome;
use trainyard_core::run::{Run, RunPhase, StageRun, StageState};
use trainyard_core::stage::RunOn;

use crate::world::{Recorded, cases, play, stories};

/// The stages whose first attempt was queued, each with the outcomes of what it needs at that point.
fn starts(recorded: &Recorded<'_>) -> Vec<(usize, Vec<Option<Outcome>>)> {
    let mut ends: Vec<Option<Outcome>> = recorded
        .before
        .stages
        .iter()
        .map(StageRun::outcome)
        .collect();
    let mut starts = Vec::new();
    for effect in &recorded.effects {
        match effect {
            Effect::FinishStage { stage, outcome, .. } => ends[stage.0] = Some(*outcome),
            Effect::QueueAttempt(attempt) if attempt.number == 1 => {
                let needs = recorded.world.dag.needs(attempt.stage);
                starts.push((
                    attempt.stage.0,
                    needs.iter().map(|need| ends[need.0]).collect(),
                ));
            }
            _ => {}
        }
    }
    starts
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn no_stage_starts_before_what_it_needs_has_ended(story in stories()) {
        play(story, |recorded| {
            for (stage, needs) in starts(recorded) {
                prop_assert!(needs.iter().all(Option::is_some), "stage #{} of {:?}", stage, needs);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_stage_that_runs_on_success_runs_only_after_success(story in stories()) {
        play(story, |recorded| {
            for (stage, needs) in starts(recorded) {
                let run_on = &recorded.world.dag.stages()[stage].run_on;
                let needs: Vec<Outcome> = needs.into_iter().flatten().collect();
                let failed = needs.iter().any(|need| need.is_failure());
                if *run_on == BTreeSet::from([RunOn::Success]) {
                    prop_assert!(needs.iter().all(|need| *need == Outcome::Succeeded), "{:?}", needs);
                }
                if *run_on == BTreeSet::from([RunOn::Failed]) {
                    prop_assert!(failed, "{:?}", needs);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn what_has_ended_stays_as_it_ended(story in stories()) {
        play(story, |recorded| {
            let (before, after) = (recorded.before, &recorded.world.run);
            if before.is_finished() {
                prop_assert_eq!(before, after);
            }
            for (before, after) in before.stages.iter().zip(&after.stages) {
                if before.outcome().is_some() {
                    prop_assert_eq!(before, after);
                }
                prop_assert!(before.attempts.len() <= after.attempts.len());
                for (before, after) in before.attempts.iter().zip(&after.attempts) {
                    if before.outcome().is_some() {
                        prop_assert_eq!(before, after);
                    }
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn attempts_never_exceed_the_retry_rule(story in stories()) {
        play(story, |recorded| {
            for (stage, run) in recorded.world.dag.stages().iter().zip(&recorded.world.run.stages) {
                let rule = &stage.program().retry;
                prop_assert!(run.attempts.len() <= rule.attempts_at_most() as usize);
                let ended = run.ended_attempts();
                let lost = ended.iter().filter(|outcome| **outcome == Outcome::Lost).count();
                prop_assert!(lost <= rule.lost as usize + 1, "{} were lost", lost);
                prop_assert!(ended.len() - lost <= rule.attempts as usize);
                // Each but the last ended in a way that is retried.
                for outcome in ended.iter().take(run.attempts.len().saturating_sub(1)) {
                    prop_assert!(*outcome == Outcome::Lost || rule.on.contains(outcome));
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn only_the_last_attempt_of_a_stage_is_live(story in stories()) {
        play(story, |recorded| {
            for run in &recorded.world.run.stages {
                let (last, before) = match run.attempts.split_last() {
                    Some((last, before)) => (Some(last), before),
                    None => (None, &[][..]),
                };
                prop_assert!(before.iter().all(|attempt| attempt.outcome().is_some()));
                let live = last.is_some_and(|last| last.outcome().is_none());
                prop_assert_eq!(live, run.state == StageState::Active);
            }
            Ok(())
        })?;
    }

    #[test]
    fn cancel_beats_retry(story in stories()) {
        play(story, |recorded| {
            let Some(cancel) = &recorded.world.run.cancel else { return Ok(()) };
            for effect in &recorded.effects {
                let stage = match effect {
                    Effect::QueueAttempt(attempt) => attempt.stage,
                    Effect::BackOff { stage, .. } => *stage,
                    _ => continue,
                };
                let always = recorded.world.dag.stage(stage).run_on.contains(&RunOn::Always);
                prop_assert!(always && !cancel.force, "{:?}", effect);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_cancel_reaches_every_stage_at_once_but_those_that_run_always(story in stories()) {
        play(story, |recorded| {
            let run = &recorded.world.run;
            let Some(cancel) = run.cancel.as_ref().filter(|_| !run.is_finished()) else {
                return Ok(());
            };
            for (stage, run) in recorded.world.dag.stages().iter().zip(&run.stages) {
                if cancel.force || !stage.run_on.contains(&RunOn::Always) {
                    let stopping = run.attempts.last().is_some_and(|last| {
                        last.is_held() && last.stop.is_some()
                    });
                    prop_assert!(run.outcome().is_some() || stopping, "{:?}", run);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_run_outlasts_its_timeout_unasked_to_stop(story in stories()) {
        play(story, |recorded| {
            let (world, run) = (recorded.world, &recorded.world.run);
            if let (RunPhase::Running { since }, Some(timeout)) =
                (&run.phase, world.dag.declared().timeout)
            {
                prop_assert!(run.cancel.is_some() || *since + timeout > world.now);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_second_plan_finds_nothing_to_do(story in stories()) {
        play(story, |recorded| {
            let again = recorded.world.planned();
            prop_assert_eq!(&again.effects, &[]);
            prop_assert_eq!(again.wake_at, recorded.world.wake_at);
            Ok(())
        })?;
    }

    #[test]
    fn a_run_that_only_time_can_move_on_says_when(story in stories()) {
        play(story, |recorded| {
            let (world, run) = (recorded.world, &recorded.world.run);
            prop_assert!(world.wake_at.is_none_or(|at| at > world.now));
            let RunPhase::Running { since } = &run.phase else {
                prop_assert_eq!(world.wake_at, None);
                return Ok(());
            };
            let mut due = Vec::new();
            if run.cancel.is_none() {
                due.extend(world.dag.declared().timeout.map(|timeout| *since + timeout));
            }
            let mut live = false;
            for run in &run.stages {
                if let StageState::BackingOff { until } = run.state {
                    due.push(until);
                }
                let Some(last) = run.attempts.last() else { continue };
                live |= last.outcome().is_none();
            }
            prop_assert_eq!(world.wake_at, due.iter().min().copied());
            prop_assert!(live || world.wake_at.is_some(), "nothing can move {:#?}", run);
            Ok(())
        })?;
    }

    #[test]
    fn facts_that_do_not_fit_change_nothing(story in stories()) {
        play(story, |recorded| {
            for (event, before, after) in &recorded.refused {
                prop_assert_eq!(before, after, "{:?}", event);
            }
            Ok(())
        })?;
    }

    #[test]
    fn an_end_is_recorded_once_however_often_it_is_reported(story in stories()) {
        let world = play(story, |_| Ok(()))?;
        let mut copy = world.clone();
        let recorded_ends = world.history.iter().filter(|(_, event)| {
            matches!(event, Event::AttemptFinished { .. })
        });
        for (_, end) in recorded_ends {
            copy.now += Duration::from_secs(1);
            let before = copy.run.clone();
            let again = std::slice::from_ref(end);
            copy.record(again, &mut |recorded| {
                prop_assert_eq!(&recorded.accepted, &[]);
                Ok(())
            })?;
            // Time has passed, so attempts may have been queued; none has ended.
            prop_assert_eq!(ends(&before), ends(&copy.run));
        }
    }

    #[test]
    fn an_attempt_is_asked_to_stop_at_most_once(story in stories()) {
        let world = play(story, |_| Ok(()))?;
        let mut asked = BTreeSet::new();
        for (_, event) in &world.history {
            if let Event::Planned(Effect::RequestStop { attempt, .. }) = event {
                prop_assert!(asked.insert(*attempt), "{} twice", attempt);
            }
        }
    }
}

/// How the attempts of a run ended, as far as they have.
fn ends(run: &Run) -> Vec<Vec<Outcome>> {
    run.stages.iter().map(StageRun::ended_attempts).collect()
}
