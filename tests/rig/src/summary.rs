//! The results of all trials of a fault: a row of the table.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::evidence;
use crate::histories::{self, HISTORIES};
use crate::journal::{Heading, Journal, Line};
use crate::trials::Trials;

/// The table's head, in Markdown.
pub const HEAD: &str = "| fault | trials | violations | recovery p50 | recovery p99 | target |
|---|---|---|---|---|---|";

/// The results of all trials of a fault. Displays as a row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub fault: String,
    /// How many trials there were, earlier starts included.
    pub trials: usize,
    /// How many the long programme has, or are asked for where that is more.
    pub planned: usize,
    /// How many violations in all of them.
    pub violations: usize,
    /// Recovery times, the shortest first.
    pub recoveries: Vec<Duration>,
    pub target: String,
    /// The build that was tried, by version and hash; `None` if that was not recorded.
    pub build: Option<String>,
    /// How to try what was red again, a line each.
    pub red: Vec<String>,
}

impl Summary {
    pub(crate) fn new(folder: &Path, heading: Heading, lines: &[Line]) -> Self {
        let red = lines.iter().filter(|line| line.violations > 0);
        let red = red.map(|line| again(folder, &heading, line)).collect();
        let mut recoveries: Vec<Duration> = lines.iter().filter_map(|line| line.recovery).collect();
        recoveries.sort_unstable();
        let build = heading.build().map(ToOwned::to_owned);
        Self {
            fault: heading.fault,
            trials: lines.len(),
            planned: heading.planned as usize,
            violations: lines.iter().map(|line| line.violations).sum(),
            recoveries,
            build,
            target: heading.target,
            red,
        }
    }

    /// Of every fault that was tried with results in `folder`: by the numbers of the faults, behind the
    /// histories of the simulation where they are there as well.
    #[must_use]
    pub fn all(folder: &Path) -> Vec<Self> {
        let mut rows: Vec<Self> = Journal::all(folder)
            .into_iter()
            .map(|(heading, lines)| Self::new(folder, heading, &lines))
            .collect();
        rows.extend(histories::row(folder));
        rows.sort_by_key(|row| (row.number(), row.fault.clone()));
        rows
    }

    /// Which builds these rows are of, in words: one for all, or each by itself where they differ. The
    /// simulation is a program of its own, so its histories are of another build in any case.
    #[must_use]
    pub fn builds(rows: &[Self]) -> String {
        let (histories, faults): (Vec<&Self>, Vec<&Self>) =
            rows.iter().partition(|row| row.fault == HISTORIES);
        let build = |row: &Self| row.build.clone().unwrap_or_else(|| "not noted".to_owned());
        let builds: BTreeSet<String> = faults.iter().map(|row| build(row)).collect();
        let mut lines: Vec<String> = match Vec::from_iter(&builds).as_slice() {
            [one] => vec![format!("all faults: build {one}")],
            _ => faults
                .iter()
                .map(|row| format!("{}: build {}", row.fault, build(row)))
                .collect(),
        };
        lines.extend(
            histories
                .iter()
                .map(|row| format!("{HISTORIES}: build {} of the simulation", build(row))),
        );
        lines.join("\n")
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
            "{self}\nwhat the red trials left is in {}; they are tried again, each alone, with\n{}",
            trials.folder.display(),
            self.red.join("\n")
        );
    }
}

/// How to try a red trial again.
fn again(folder: &Path, heading: &Heading, line: &Line) -> String {
    let (fault, Line { number, seed, .. }) = (&heading.fault, line);
    match evidence::command_in(&heading.evidence(folder, *number)) {
        Some(command) => format!("{fault}: trial {number}: {command}"),
        None => format!("{fault}: trial {number}, seed {seed}"),
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
    fn the_table_is_in_the_order_of_faults_and_shows_missing_trials() {
        let place = Place::new();
        for (fault, planned, recoveries) in
            [("F10 slow", 1, vec![30]), ("F2 killed", 3, vec![9, 4])]
        {
            let heading = Heading {
                fault: fault.to_owned(),
                target: "none".to_owned(),
                planned,
                origin: None,
            };
            let journal = Journal::open(place.path(), &heading).journal;
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
    fn row(fault: &str, build: Option<&str>) -> Summary {
        Summary {
            fault: fault.to_owned(),
            trials: 60,
            planned: 500,
            violations: 0,
            recoveries: Vec::new(),
            target: "none".to_owned(),
            build: build.map(ToOwned::to_owned),
            red: Vec::new(),
        }
    }

    #[test]
    fn a_row_says_how_far_it_is() {
        assert_eq!(
            row("F2 killed", None).to_string(),
            "| F2 killed | 60 of 500 | 0 | – | – | none |"
        );
    }

    #[test]
    fn equal_builds_are_named_once() {
        let mut rows = vec![
            row(HISTORIES, Some("00ff")),
            row("F2 killed", Some("1+a")),
            row("F10 slow", Some("1+a")),
        ];
        assert_eq!(
            Summary::builds(&rows),
            "all faults: build 1+a\nhistories: build 00ff of the simulation"
        );
        rows[2].build = None;
        assert_eq!(
            Summary::builds(&rows),
            "F2 killed: build 1+a\nF10 slow: build not noted\nhistories: build 00ff of the simulation"
        );
        assert_eq!(Summary::builds(&[]), "");
    }

    #[test]
    fn a_red_trial_is_reported_with_its_command() {
        let place = Place::new();
        let heading = Heading {
            fault: "F2 killed".to_owned(),
            target: "none".to_owned(),
            planned: 3,
            origin: None,
        };
        let lines = [(1, 0), (2, 1), (3, 2)].map(|(number, violations)| Line {
            number,
            seed: 9,
            violations,
            recovery: None,
        });
        place.write("F2-killed-2/again", "RIG_ONLY=9 cargo test\n");
        let summary = Summary::new(place.path(), heading, &lines);
        assert_eq!(
            summary.red,
            [
                "F2 killed: trial 2: RIG_ONLY=9 cargo test",
                "F2 killed: trial 3, seed 9"
            ]
        );
    }
}
