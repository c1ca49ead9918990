//! The checks when a history is over. Most invariants are checked while it goes on, where they
//! can break: see [`crate::world::Invariant`].

use trainyard_core::outcome::Outcome;
use trainyard_core::run::StageRun;

use crate::chaos::Stage;
use crate::engine::short;
use crate::held;
use crate::store::AttemptRow;
use crate::witness::Program;
use crate::world::Invariant;

/// The line that the supervisor writes into a log that it could not read to its end.
const LEFT_OUT: &str = "left out";

impl Stage {
    /// Whether there is nothing left to happen.
    pub(crate) fn is_over(&self) -> bool {
        held(&self.store).all_ended() && self.engine.is_empty()
    }

    pub(crate) fn check(&self) {
        let world = &self.world;
        let store = held(&self.store);
        for (id, row) in &store.runs {
            world.demand(Invariant::EveryRunEnds, row.run.is_finished(), || {
                let open = |(index, stage): (usize, &StageRun)| {
                    stage
                        .outcome()
                        .is_none()
                        .then(|| format!("stage #{index}: {:?}", stage.state))
                };
                let open = row.run.stages.iter().enumerate().filter_map(open);
                format!(
                    "run {id} has not ended: {}",
                    open.collect::<Vec<_>>().join(", ")
                )
            });
        }
        for left in self.engine.leftovers() {
            world.violate(Invariant::NothingLeft, left);
        }
        let witness = held(&world.witness);
        for (id, row) in &store.attempts {
            let outcome = store.outcome_of(row);
            world.demand(
                Invariant::RecordedOnce,
                outcome.is_some() == row.is_finished(),
                || {
                    format!(
                        "{} is ended: {}, with outcome {outcome:?}",
                        short(*id),
                        row.is_finished()
                    )
                },
            );
            if outcome == Some(Outcome::Succeeded) {
                let unknown = Program::default();
                let program = witness.get(*id).unwrap_or(&unknown);
                world.demand(Invariant::ProvedSuccess, program.exit == Some(0), || {
                    format!(
                        "{} succeeded, and its program: {:?}",
                        short(*id),
                        program.exit
                    )
                });
                // If another claim had stopped it, only the clocks say what came first.
                let stopped = program.stopped_by == Some(row.fence);
                world.demand(Invariant::StoppedIsNoSuccess, !stopped, || {
                    format!("{} was asked to end, did, and succeeded", short(*id))
                });
                world.demand(Invariant::WholeLog, log_is_whole(row, program), || {
                    let (kept, printed) = (&row.log, &program.printed);
                    format!(
                        "{} printed {:?}, and its log has {:?}",
                        short(*id),
                        String::from_utf8_lossy(printed),
                        String::from_utf8_lossy(kept)
                    )
                });
            }
        }
    }
}

/// Whether a log has all that was printed, once, in order; or the beginning, and says so.
fn log_is_whole(row: &AttemptRow, program: &Program) -> bool {
    let log = String::from_utf8_lossy(&row.log);
    let mut kept = String::new();
    let mut says_cut = false;
    for record in log.lines() {
        let mut parts = record.splitn(3, ' ').skip(1);
        let (mark, text) = (parts.next(), parts.next().unwrap_or_default());
        match mark {
            Some("O") => {
                kept.push_str(text);
                kept.push('\n');
            }
            Some("o") => kept.push_str(text),
            _ => says_cut |= text.contains(LEFT_OUT),
        }
    }
    // The last line may have had no end; and a line that was read in two pieces by two supervisors,
    // the first of whom could not know that it goes on, is two lines.
    let plain = |text: &str| text.replace('\n', "");
    let printed = plain(&String::from_utf8_lossy(&program.printed));
    let kept = plain(&kept);
    kept == printed || (says_cut && printed.starts_with(&kept))
}
