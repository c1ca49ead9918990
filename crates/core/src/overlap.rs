//! How many runs of one DAG may be active, and what happens to one too many.

use crate::event::Event;
use crate::expression::{Facts, Template};
use crate::id::RunId;
use crate::run::CancelledBy;
use crate::text::without_nul;

/// The concurrency rule of a DAG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concurrency {
    /// The most active runs, of each group where there are groups; `None` sets no limit.
    pub limit: Option<u32>,
    /// What happens to a run beyond the limit.
    pub overlap: Overlap,
    /// The key of the groups: runs with the same value are one group. `None` puts all runs into one group.
    pub group: Option<Template>,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            limit: None,
            overlap: Overlap::Queue,
            group: None,
        }
    }
}

impl Concurrency {
    /// The group that a run belongs to. Runs for which the expression has no value are one group.
    #[must_use]
    pub fn group_of(&self, facts: &Facts) -> Option<String> {
        let value = self.group.as_ref()?.render(facts).ok()?;
        Some(without_nul(value))
    }
}

/// What happens to a run that arrives while as many runs as permitted are active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Overlap {
    /// It waits its turn, first come first served.
    #[default]
    Queue,
    /// It ends at once as skipped.
    Skip,
    /// The oldest active run is cancelled for it; only the newest waiting one stays.
    CancelRunning,
}

impl Overlap {
    pub const ALL: [Self; 3] = [Self::Queue, Self::Skip, Self::CancelRunning];

    /// The word in DAG files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Skip => "skip",
            Self::CancelRunning => "cancel_running",
        }
    }
}

/// A verdict about one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start this waiting run.
    Start(RunId),
    /// End this waiting run as skipped; `active` is one that was in its way, or the newer one.
    Skip {
        run: RunId,
        /// The run that is the reason.
        because_of: RunId,
    },
    /// Cancel this active run to make room for `newer`.
    Cancel {
        run: RunId,
        /// The run that takes its place.
        newer: RunId,
    },
}

impl Verdict {
    /// The run that it is about, and the event that carries it out.
    #[must_use]
    pub fn event(self) -> (RunId, Event) {
        match self {
            Self::Start(run) => (run, Event::RunStarted),
            Self::Skip { run, because_of } => (run, Event::RunSkipped { because_of }),
            Self::Cancel { run, newer } => {
                let by = CancelledBy::Newer(newer);
                (run, Event::CancelRequested { by })
            }
        }
    }
}

/// Decides about the waiting runs of one DAG, or of one group of its runs.
///
/// `active` and `waiting` are in the order in which the runs were made, oldest first; `active`
/// includes runs that are being cancelled but have not ended, which `cancelling` lists as well.
/// Called again after its verdicts were carried out, it returns none.
#[must_use]
pub fn judge(
    rule: &Concurrency,
    active: &[RunId],
    cancelling: &[RunId],
    waiting: &[RunId],
) -> Vec<Verdict> {
    let Some(limit) = rule.limit.map(|limit| limit as usize) else {
        return waiting.iter().copied().map(Verdict::Start).collect();
    };
    let free = limit.saturating_sub(active.len());
    match rule.overlap {
        Overlap::Queue => waiting
            .iter()
            .take(free)
            .copied()
            .map(Verdict::Start)
            .collect(),
        Overlap::Skip => {
            let (start, skip) = waiting.split_at(free.min(waiting.len()));
            let blocker = start.first().or(active.first()).copied();
            let start_all = start.iter().copied().map(Verdict::Start);
            let skip_all = skip
                .iter()
                .copied()
                .filter_map(|run| blocker.map(|because_of| Verdict::Skip { run, because_of }));
            start_all.chain(skip_all).collect()
        }
        Overlap::CancelRunning => {
            let keep = waiting.len().saturating_sub(limit);
            let (outdated, newest) = waiting.split_at(keep);
            let mut verdicts = Vec::new();
            if let Some(because_of) = newest.last().copied() {
                verdicts.extend(outdated.iter().map(|run| Verdict::Skip {
                    run: *run,
                    because_of,
                }));
            }
            let (start, blocked) = newest.split_at(free.min(newest.len()));
            verdicts.extend(start.iter().copied().map(Verdict::Start));
            // A run that is being cancelled already makes room for the first of the blocked.
            let going = active.iter().filter(|run| !cancelling.contains(run));
            let newer = blocked.iter().skip(cancelling.len());
            verdicts.extend(going.zip(newer).map(|(run, newer)| Verdict::Cancel {
                run: *run,
                newer: *newer,
            }));
            verdicts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(overlap: Overlap) -> Concurrency {
        Concurrency {
            limit: Some(1),
            overlap,
            group: None,
        }
    }

    const A: RunId = RunId(1);
    const B: RunId = RunId(2);
    const C: RunId = RunId(3);

    #[test]
    fn without_a_limit_all_start() {
        let verdicts = judge(&Concurrency::default(), &[A], &[], &[B, C]);
        assert_eq!(verdicts, [Verdict::Start(B), Verdict::Start(C)]);
    }

    #[test]
    fn queue_starts_the_oldest_when_there_is_room() {
        assert_eq!(judge(&rule(Overlap::Queue), &[A], &[], &[B, C]), []);
        assert_eq!(
            judge(&rule(Overlap::Queue), &[], &[], &[B, C]),
            [Verdict::Start(B)]
        );
    }

    #[test]
    fn skip_ends_what_finds_another_active() {
        assert_eq!(
            judge(&rule(Overlap::Skip), &[A], &[], &[B]),
            [Verdict::Skip {
                run: B,
                because_of: A
            }]
        );
        assert_eq!(
            judge(&rule(Overlap::Skip), &[], &[], &[B, C]),
            [
                Verdict::Start(B),
                Verdict::Skip {
                    run: C,
                    because_of: B
                }
            ]
        );
    }

    #[test]
    fn cancel_running_makes_room_for_the_newest_and_skips_the_ones_between() {
        assert_eq!(
            judge(&rule(Overlap::CancelRunning), &[A], &[], &[B, C]),
            [
                Verdict::Skip {
                    run: B,
                    because_of: C
                },
                Verdict::Cancel { run: A, newer: C }
            ]
        );
        assert_eq!(judge(&rule(Overlap::CancelRunning), &[A], &[A], &[C]), []);
        assert_eq!(
            judge(&rule(Overlap::CancelRunning), &[], &[], &[C]),
            [Verdict::Start(C)]
        );
    }

    #[test]
    fn a_run_is_cancelled_for_the_one_that_no_other_makes_room_for() {
        let rule = Concurrency {
            limit: Some(2),
            overlap: Overlap::CancelRunning,
            group: None,
        };
        let d = RunId(4);
        assert_eq!(
            judge(&rule, &[A, B], &[A], &[C, d]),
            [Verdict::Cancel { run: B, newer: d }]
        );
    }
}
