//! What all trials of a fault came to: a row of the table.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::journal::{Heading, Journal, Line};
use crate::trials::Trials;

/// The table's head, in Markdown.
pub const HEAD: &str = "| fault | trials | violations | recovery p50 | recovery p99 | target |
|---|---|---|---|---|---|";

/// What all trials of a fault came to. Displays as a row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The fault.
    pub fault: String,
    /// How many trials there were, earlier starts included.
    pub trials: usize,
    /// How many there are to be.
    pub planned: usize,
    /// How many violations in all of them.
    pub violations: usize,
    /// Recovery times, the shortest first.
    pub recoveries: Vec<Duration>,
    /// What is promised.
    pub target: String,
}

impl Summary {
    pub(crate) fn new(heading: Heading, lines: &[Line]) -> Self {
        let mut recoveries: Vec<Duration> = lines.iter().filter_map(|line| line.recovery).collect();
        recoveries.sort_unstable();
        Self {
            fault: heading.fault,
            trials: lines.len(),
            planned: heading.planned as usize,
            violations: lines.iter().map(|line| line.violations).sum(),
            recoveries,
            target: heading.target,
        }
    }

    /// Of every fault that was tried with results in `folder`: by the numbers of the faults.
    #[must_use]
    pub fn all(folder: &Path) -> Vec<Self> {
        let mut rows: Vec<Self> = Journal::all(folder)
            .into_iter()
            .map(|(heading, lines)| Self::new(heading, &lines))
            .collect();
        rows.sort_by_key(|row| (row.number(), row.fault.clone()));
        rows
    }

    /// The number in the fault's identity: 2 of `F2 daemon killed`.
    fn number(&self) -> Option<u32> {
        let (identity, _) = self.fault.split_once(' ')?;
        identity.strip_prefix('F')?.parse().ok()
    }

    /// The recovery time that `percent` of all trials keep, if any was measured.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let last = self.recoveries.len().checked_sub(1)?;
        let rank = (self.recoveries.len() * percent).div_ceil(100);
        Some(self.recoveries[rank.saturating_sub(1).min(last)])
    }

    /// Prints it, and asserts that there was no violation.
    ///
    /// # Panics
    /// When there was one: with where its evidence is.
    #[track_caller]
    #[expect(
        clippy::print_stdout,
        reason = "the table is what the programme is run for"
    )]
    pub fn assert_clean(&self, trials: &Trials) {
        println!("{self}");
        assert_eq!(
            self.violations,
            0,
            "{self}\nwhat the red trials left is in {}",
            trials.folder.display()
        );
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |time: Option<Duration>| {
            time.map_or_else(
                || "–".to_owned(),
                |time| format!("{:.2} s", time.as_secs_f64()),
            )
        };
        write!(f, "| {} | {}", self.fault, self.trials)?;
        if self.trials < self.planned {
            write!(f, " of {}", self.planned)?;
        }
        write!(
            f,
            " | {} | {} | {} | {} |",
            self.violations,
            shown(self.percentile(50)),
            shown(self.percentile(99)),
            self.target
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_tests::place::Place;

    #[test]
    fn the_table_is_in_the_order_of_faults_and_says_what_is_missing() {
        let place = Place::new();
        for (fault, planned, recoveries) in
            [("F10 slow", 1, vec![30]), ("F2 killed", 3, vec![9, 4])]
        {
            let heading = Heading {
                fault: fault.to_owned(),
                target: "none".to_owned(),
                planned,
            };
            let (journal, _) = Journal::open(place.path(), &heading);
            for (number, millis) in (1..).zip(recoveries) {
                journal.append(&Line {
                    number,
                    seed: 1,
                    violations: 0,
                    recovery: Some(Duration::from_millis(millis)),
                });
            }
        }
        let rows = Summary::all(place.path());
        let shown: Vec<String> = rows.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "| F2 killed | 2 of 3 | 0 | 0.00 s | 0.01 s | none |",
                "| F10 slow | 1 | 0 | 0.03 s | 0.03 s | none |"
            ]
        );
        assert_eq!(rows[0].percentile(50), Some(Duration::from_millis(4)));
        assert_eq!(rows[0].percentile(99), Some(Duration::from_millis(9)));
    }
}
