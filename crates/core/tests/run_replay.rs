//! The history of a run is the run: a daemon that dies loses nothing that was written down.

use proptest::prelude::*;
use trainyard_core::event::Event;
use trainyard_core::transition::apply;

use crate::world::{cases, play, stories};

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn replay_gives_the_same_state(story in stories()) {
        play(story, |recorded| {
            prop_assert_eq!(&recorded.world.replayed(), &recorded.world.run);
            Ok(())
        })?;
    }

    /// A crash between a decision and its end does no harm: however many of the last decisions were carried out,
    /// planning again decides the rest.
    #[test]
    fn a_planner_that_dies_half_way_finishes_the_next_time(story in stories(), cut in any::<prop::sample::Index>()) {
        let whole = play(story, |_| Ok(()))?;
        let last = whole.history.last().map_or(whole.now, |(at, _)| *at);
        // The decisions that follow from the last fact, taken in the same moment.
        let decided = whole
            .history
            .iter()
            .rev()
            .take_while(|(at, event)| *at == last && matches!(event, Event::Planned(_)))
            .count();
        let kept = whole.history.len() - cut.index(decided + 1);
        let mut half = whole.clone();
        half.history.truncate(kept);
        half.run = half.replayed();
        half.now = last;
        half.record(&[], &mut |_| Ok(()))?;
        prop_assert_eq!(&half.run, &whole.replayed());
    }

    /// An event that was refused once is refused by the replayed run, too: nothing depends on memory alone.
    #[test]
    fn a_replayed_run_refuses_what_the_run_refused(story in stories()) {
        play(story, |recorded| {
            for (event, before, _) in &recorded.refused {
                let mut run = before.clone();
                prop_assert!(apply(&recorded.world.dag, &mut run, event, recorded.world.now).is_err());
            }
            Ok(())
        })?;
    }
}
