//! The one line that people read.

use std::fmt;

use crate::measure::counted;
use crate::outcome::Outcome;
use crate::text::shortened;
use crate::transition::TOLD_WITHIN;
use crate::why::{Holder, Moment, Need, NeedState, Wait};

/// The most names that one line lists.
const LISTED_AT_MOST: usize = 3;

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = if self.at.date_naive() == self.now.date_naive() {
            "%H:%M:%S UTC"
        } else {
            "%Y-%m-%d %H:%M:%S UTC"
        };
        self.at.format(format).fmt(f)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs {
                ahead,
                limit,
                group,
                replaces,
            } => {
                let one = ahead.len() == 1;
                let plural = if one { "run" } else { "runs" };
                let what = match (replaces, one) {
                    (false, true) => "has to end first",
                    (false, false) => "have to end first",
                    (true, true) => "is being cancelled for this run",
                    (true, false) => "are active, and the oldest is being cancelled for this run",
                };
                let runs = list(ahead);
                let group = group
                    .as_deref()
                    .map(|group| format!(" and group `{}`", shortened(group)))
                    .unwrap_or_default();
                write!(
                    f,
                    "{plural} {runs} of the same DAG{group} {what} (concurrency limit {limit})"
                )
            }
            Self::RunStart => f.write_str("the run is about to start"),
            Self::Stages(needs) => write!(f, "waits for {}", list(needs)),
            Self::Decision => f.write_str("waits for the planner"),
            Self::Slot { slots: 0, .. } => f.write_str("waits for a daemon: none is running"),
            Self::Slot { used, slots } => {
                write!(f, "waits for a free slot: {used} of {slots} in use")
            }
            Self::Repo { used, most } => write!(
                f,
                "waits for another stage of its repo to end: {used} of at most {most} run (stages_of_a_repo)"
            ),
            Self::Pool {
                pool,
                wanted,
                taken,
            } => {
                if *wanted == 1 {
                    write!(f, "waits for pool {pool}")?;
                } else {
                    write!(f, "waits for {wanted} slots of pool {pool}")?;
                }
                let used = taken.used();
                write!(f, ": {used} of {} slots taken", taken.slots)?;
                if taken.holders.is_empty() {
                    return Ok(());
                }
                write!(f, " by {}", list(&taken.holders))
            }
            Self::PoolTooSmall {
                pool,
                wanted,
                slots,
            } => {
                let wanted = counted(*wanted, "slot");
                write!(
                    f,
                    "waits for {wanted} of pool {pool}, which has only {slots}"
                )
            }
            Self::UnknownPool(pool) => write!(
                f,
                "waits for pool {pool}, which this daemon's configuration does not define"
            ),
            Self::Paused(paused) => {
                f.write_str("waits:")?;
                for (place, (what, since)) in paused.iter().enumerate() {
                    let comma = if place == 0 { "" } else { "," };
                    write!(f, "{comma} {what} since {since}")?;
                }
                Ok(())
            }
            Self::Turn => f.write_str("is about to be started"),
            Self::Preparing { attempt, since } => write!(
                f,
                "its container has been in preparation since {since}, attempt {attempt}"
            ),
            Self::Running { attempt, since } => {
                write!(f, "running since {since}, attempt {attempt}")
            }
            Self::Stopping {
                since,
                why,
                keeps_outputs,
            } => {
                write!(f, "has been stopping since {since}: {why}")?;
                if since.at + TOLD_WITHIN <= since.now {
                    if *keeps_outputs {
                        f.write_str(
                            "; its outputs with `keep: always` may still be copied, which a second \
                             `trainyard run cancel` ends",
                        )?;
                    }
                    f.write_str(
                        "; if Docker never reports its end, `trainyard run abandon` counts it as lost",
                    )?;
                }
                Ok(())
            }
            Self::Unattended { since, held } => write!(
                f,
                "{held}; its daemon has been gone since {since}, and no other daemon has adopted it"
            ),
            Self::BackOff {
                until,
                attempt,
                outcome,
                reason,
            } => {
                write!(f, "backs off until {until} after attempt {attempt} ")?;
                match outcome {
                    Outcome::Lost => f.write_str("was lost")?,
                    Outcome::TimedOut => f.write_str("timed out")?,
                    Outcome::Succeeded
                    | Outcome::Failed
                    | Outcome::Errored
                    | Outcome::Cancelled
                    | Outcome::Skipped
                    | Outcome::UpstreamFailed => outcome.fmt(f)?,
                }
                reason
                    .as_ref()
                    .map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::Ended {
                reused_from: Some(run),
                outcome,
                ..
            } => write!(f, "{outcome}: reused from run {run}"),
            Self::Ended {
                at,
                outcome,
                reason,
                attempts,
                reused_from: None,
            } => {
                match reason {
                    Some(reason) => write!(f, "{outcome}: {reason}")?,
                    None => write!(f, "{outcome} at {at}")?,
                }
                if *attempts > 1 {
                    write!(f, " ({attempts} attempts)")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.stage)?;
        match &self.state {
            NeedState::Waiting => f.write_str("waiting itself")?,
            NeedState::Queued => f.write_str("queued for capacity")?,
            NeedState::Preparing => f.write_str("being prepared")?,
            NeedState::Running(since, attempt) => {
                write!(f, "running since {since}, attempt {attempt}")?;
            }
            NeedState::BackingOff(until) => write!(f, "backs off until {until}")?,
            NeedState::Ending => f.write_str("waiting for the planner")?,
        }
        f.write_str(")")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} ({})", self.run, self.stage)
    }
}

/// The first few, and how many more there are.
fn list<T: fmt::Display>(items: &[T]) -> String {
    let mut text = items
        .iter()
        .take(LISTED_AT_MOST)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if items.len() > LISTED_AT_MOST {
        text.push_str(&format!(" and {} more", items.len() - LISTED_AT_MOST));
    }
    text
}
