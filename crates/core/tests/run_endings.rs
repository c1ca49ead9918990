//! How runs end: all of them do, and their outcome says what happened.

use proptest::prelude::*;
use trainyard_core::event::{AttemptEnd, Effect, Ending, Event};
use trainyard_core::outcome::{Outcome, ReasonCode};
use trainyard_core::run::{
    Attempt, AttemptRef, AttemptState, CancelledBy, METRICS_OF_A_RUN, RunPhase, StageRun,
};
use trainyard_core::stage::StageIndex;
use trainyard_core::transition::apply;

use crate::generate::draft::{dag_of, named, noon, run_of};
use crate::world::{attempts_at_most, cases, hows, play, stories};

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn every_run_ends_once_events_are_fair(
        story in stories(),
        hows in prop::collection::vec(hows(), 1..20),
    ) {
        let mut world = play(story, |_| Ok(()))?;
        // Each attempt is claimed, ends, and is followed by at most one wait; and the run starts,
        // and may time out.
        let at_most = 3 * attempts_at_most(&world.dag) + 3;
        let rounds = world.settle(&hows, at_most)?;
        prop_assert!(rounds.is_some(), "still going after {} rounds: {:#?}", at_most, world.run);
        prop_assert!(world.run.stages.iter().all(|stage| stage.outcome().is_some()));
        prop_assert_eq!(&world.replayed(), &world.run);
    }

    #[test]
    fn a_run_of_which_nothing_fails_succeeds(story in stories()) {
        let (dag, _) = story;
        let mut world = play((dag, Vec::new()), |_| Ok(()))?;
        let at_most = 3 * attempts_at_most(&world.dag) + 3;
        world.settle(&[crate::world::How::WELL], at_most)?;
        let ends: Vec<Outcome> = world.run.stages.iter().filter_map(StageRun::outcome).collect();
        let errored = ends.contains(&Outcome::Errored);
        let timed_out = world.run.cancel.is_some();
        if !errored && !timed_out {
            let some = ends.contains(&Outcome::Succeeded);
            let expected = if some { Outcome::Succeeded } else { Outcome::Skipped };
            prop_assert_eq!(world.run.outcome(), Some(expected), "{:?}", ends);
        }
    }

    #[test]
    fn the_outcome_of_a_run_says_what_happened(story in stories(), hows in prop::collection::vec(hows(), 1..20)) {
        let mut world = play(story, |_| Ok(()))?;
        world.settle(&hows, 3 * attempts_at_most(&world.dag) + 3)?;
        let run = &world.run;
        let ends: Vec<Outcome> = run.stages.iter().filter_map(StageRun::outcome).collect();
        let outcome = run.outcome().unwrap_or(Outcome::Lost);
        match outcome {
            Outcome::Succeeded => prop_assert!(!ends.iter().any(|end| end.is_failure())),
            Outcome::Skipped => prop_assert!(ends.iter().all(|end| *end == Outcome::Skipped)),
            Outcome::Cancelled => {
                // Cancelled on request, or withdrawn by its executor.
                let asked = run.cancel.as_ref().is_some_and(|cancel| cancel.by != CancelledBy::Timeout);
                prop_assert!(asked || ends.contains(&Outcome::Cancelled));
            }
            Outcome::TimedOut => {
                let run_timed_out = run.cancel.as_ref().is_some_and(|cancel| cancel.by == CancelledBy::Timeout);
                prop_assert!(run_timed_out || ends.contains(&Outcome::TimedOut));
            }
            Outcome::Failed | Outcome::Errored | Outcome::Lost | Outcome::UpstreamFailed => {
                prop_assert!(ends.contains(&outcome), "{} of {:?}", outcome, ends);
            }
        }
        // Every bad end has a reason.
        for stage in &run.stages {
            if let trainyard_core::run::StageState::Finished { outcome, reason, .. } = &stage.state {
                prop_assert!(*outcome == Outcome::Succeeded || reason.is_some(), "{:?}", stage);
            }
        }
    }

    #[test]
    fn a_run_finishes_once_and_last(story in stories()) {
        let world = play(story, |_| Ok(()))?;
        let finishes = world.history.iter().enumerate().filter(|(_, (_, event))| {
            matches!(event, Event::Planned(Effect::FinishRun { .. }))
        });
        for (place, _) in finishes {
            prop_assert_eq!(place + 1, world.history.len());
        }
    }
}

#[test]
fn class_17_the_metrics_of_a_run_have_a_bound_and_the_attempt_beyond_it_fails() {
    let metrics = |count: usize| {
        let names = (0..count).map(|number| format!("m{number}").parse().unwrap());
        names.map(|name| (name, 1.0)).collect()
    };
    let dag = dag_of(vec![named("train"), named("other")], |_| {});
    let since = noon();
    let ended = |count: usize, code: i32| {
        let mut run = run_of(&dag, 42);
        run.phase = RunPhase::Running { since };
        run.stages[0].metrics = metrics(1_000);
        run.stages[0].attempts = vec![Attempt {
            state: AttemptState::Running { since },
            stop: None,
        }];
        run.stages[1].metrics = metrics(METRICS_OF_A_RUN - 10);
        let attempt = AttemptRef {
            stage: StageIndex(0),
            number: 1,
        };
        let end = AttemptEnd {
            ending: Ending::Exited {
                code,
                out_of_memory: false,
            },
            ended_at: since,
            ran_for: None,
            metrics: metrics(count),
        };
        apply(
            &dag,
            &mut run,
            &Event::AttemptFinished { attempt, end },
            since,
        )
        .unwrap();
        let AttemptState::Finished {
            outcome, reason, ..
        } = run.stages[0].attempts[0].state.clone()
        else {
            panic!("{run:?}");
        };
        let code = reason.map(|reason| reason.code);
        (outcome, code, run.stages[0].metrics.len())
    };
    // The metrics of an earlier attempt of the stage do not count.
    assert_eq!(ended(10, 0), (Outcome::Succeeded, None, 10));
    let refused = (Outcome::Failed, Some(ReasonCode::InvalidMetrics), 0);
    assert_eq!(ended(11, 0), refused);
    let failed = (Outcome::Failed, Some(ReasonCode::ExitCode), 0);
    assert_eq!(ended(11, 1), failed);
}
