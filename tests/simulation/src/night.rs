//! A night of histories: its progress in a file, so that an interruption costs little, and the seeds that broke an
//! invariant in a file next to it.
//!
//! Both belong to one build of the simulation, which contains the code under test: another build starts over, and the
//! files of the former are moved aside. The table of the fault programme reads the first of them
//! (`tests/rig/src/histories.rs`).

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::history::History;

/// The results of histories, over all starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The first one's seed; each takes the next.
    pub first: u64,
    pub histories: u64,
    /// In how many of them an invariant did not hold.
    pub failed: u64,
    /// How many programs were started in them.
    pub programs: u64,
    /// How long they took, in their own time.
    pub virtual_time: Duration,
    pub took: Duration,
}

impl Tally {
    /// Before the first history, which has this seed.
    #[must_use]
    pub const fn new(first: u64) -> Self {
        Self {
            first,
            histories: 0,
            failed: 0,
            programs: 0,
            virtual_time: Duration::ZERO,
            took: Duration::ZERO,
        }
    }

    /// Counts the next history.
    pub fn add(&mut self, history: &History) {
        self.histories += 1;
        self.failed += u64::from(!history.violations.is_empty());
        self.programs += history.programs;
        self.virtual_time += history.took;
    }

    fn write(&self, build: &str) -> String {
        format!(
            "build {build}\nfirst {}\nhistories {}\nfailed {}\nprograms {}\nvirtual_ms {}\ntook_ms {}\n",
            self.first,
            self.histories,
            self.failed,
            self.programs,
            self.virtual_time.as_millis(),
            self.took.as_millis(),
        )
    }

    fn read(values: &HashMap<&str, &str>) -> Option<Self> {
        let number = |name: &str| values.get(name)?.parse().ok();
        Some(Self {
            first: number("first")?,
            histories: number("histories")?,
            failed: number("failed")?,
            programs: number("programs")?,
            virtual_time: Duration::from_millis(number("virtual_ms")?),
            took: Duration::from_millis(number("took_ms")?),
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        write!(
            f,
            "{} histories in {seconds:.1} s: {:.0} a second; {} programs, {:.1} days of virtual time, {} failed",
            self.histories,
            self.histories as f64 / seconds,
            self.programs,
            self.virtual_time.as_secs_f64() / 86_400.0,
            self.failed,
        )
    }
}

/// The files of a night.
#[derive(Debug)]
pub struct Night {
    journal: PathBuf,
    build: String,
}

/// The file of an earlier start.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing: this is the first.
    Nothing,
    /// This far came the same build.
    Same(Tally),
    /// Another build's journal was moved to there.
    Another(PathBuf),
}

impl Night {
    /// Of the build with this name, which keeps how far it came in `journal`.
    #[must_use]
    pub const fn new(journal: PathBuf, build: String) -> Self {
        Self { journal, build }
    }

    /// Reads the files of an earlier start, and moves those of another build aside.
    ///
    /// # Errors
    /// They cannot be read or moved, or are not a valid journal.
    pub fn begin(&self) -> io::Result<Left> {
        let text = match fs::read_to_string(&self.journal) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Left::Nothing),
            Err(error) => return Err(error),
        };
        let values: HashMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect();
        if !values.contains_key("build") && !is_of_before_builds(&text) {
            let reported = format!(
                "{} is not a valid journal of histories: {text:?}",
                self.journal.display()
            );
            return Err(io::Error::other(reported));
        }
        let is_same = values.get("build") == Some(&self.build.as_str());
        match Tally::read(&values).filter(|_| is_same) {
            Some(tally) => Ok(Left::Same(tally)),
            None => self.move_aside().map(Left::Another),
        }
    }

    /// Keeps how far it came, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, tally: &Tally) -> io::Result<()> {
        let beside = self.journal.with_extension("new");
        fs::write(&beside, tally.write(&self.build))?;
        fs::rename(beside, &self.journal)
    }

    /// Keeps a seed that broke something, with all that it violated. One whose tally an interruption kept
    /// from being saved comes again, and is there twice.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note_red(&self, seed: u64, history: &History) -> io::Result<()> {
        let violations: Vec<String> = history.violations.iter().map(ToString::to_string).collect();
        let mut file = fs::File::options()
            .create(true)
            .append(true)
            .open(self.red())?;
        let violations = violations.join("; ").replace('\n', " ");
        writeln!(file, "{seed}\t{violations}")
    }

    /// Where red seeds are: a line each, the seed and what it violated.
    fn red(&self) -> PathBuf {
        self.journal.with_extension("red")
    }

    fn move_aside(&self) -> io::Result<PathBuf> {
        let red = self.red();
        if red.exists() {
            fs::rename(&red, self.place_aside(&red))?;
        }
        let aside = self.place_aside(&self.journal);
        fs::rename(&self.journal, &aside)?;
        Ok(aside)
    }

    /// A free name next to `path`: builds may alternate.
    fn place_aside(&self, path: &Path) -> PathBuf {
        let mut number = 1;
        loop {
            let mut name = OsString::from(path);
            name.push(format!(".before-{}", self.build));
            if number > 1 {
                name.push(format!("-{number}"));
            }
            let aside = PathBuf::from(name);
            if !aside.exists() {
                return aside;
            }
            number += 1;
        }
    }
}

/// Whether this is a journal from before builds were noted: six numbers.
fn is_of_before_builds(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.len() == 6 && words.iter().all(|word| word.parse::<u64>().is_ok())
}

/// What the running program is called as a build: a hash of it. It is compared with what the same program
/// said before, so it need not be the same in every version of Rust.
///
/// # Errors
/// It cannot be read.
pub fn this_build() -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(std::env::current_exe()?)?);
    Ok(format!("{:016x}", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Invariant, Violation};

    fn tally() -> Tally {
        Tally {
            first: 7,
            histories: 640,
            failed: 1,
            programs: 900,
            virtual_time: Duration::from_secs(3_600),
            took: Duration::from_millis(1_500),
        }
    }

    fn red() -> History {
        let violation = |what: &str| Violation {
            invariant: Invariant::StartedOnce,
            at: Duration::from_secs(2),
            what: what.to_owned(),
        };
        History {
            violations: vec![violation("one"), violation("two")],
            trace: Vec::new(),
            runs: 1,
            programs: 3,
            took: Duration::from_secs(9),
        }
    }

    #[test]
    fn the_same_build_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let night = Night::new(folder.path().join("histories"), "00ff".to_owned());
        assert_eq!(night.begin().unwrap(), Left::Nothing);
        night.save(&tally()).unwrap();
        assert_eq!(night.begin().unwrap(), Left::Same(tally()));
    }

    #[test]
    fn another_build_starts_over_and_keeps_the_former_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let night = |build: &str| Night::new(path("histories"), build.to_owned());
        night("a").save(&tally()).unwrap();
        night("a").note_red(9, &red()).unwrap();
        let aside = path("histories.before-b");
        assert_eq!(night("b").begin().unwrap(), Left::Another(aside));
        assert!(path("histories.red.before-b").exists());
        assert_eq!(night("b").begin().unwrap(), Left::Nothing);
        // Back and forth again.
        night("a").save(&tally()).unwrap();
        let aside = path("histories.before-b-2");
        assert_eq!(night("b").begin().unwrap(), Left::Another(aside));
    }

    #[test]
    fn a_journal_that_names_no_build_is_another_builds() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("histories");
        let night = Night::new(journal.clone(), "00ff".to_owned());
        fs::write(&journal, "7 640 1 900 3600000 1500\n").unwrap();
        assert!(matches!(night.begin().unwrap(), Left::Another(_)));
        fs::write(&journal, "a letter\n").unwrap();
        assert!(night.begin().is_err());
    }

    #[test]
    fn red_seeds_stay_with_what_they_violated() {
        let folder = tempfile::tempdir().unwrap();
        let night = Night::new(folder.path().join("histories"), "00ff".to_owned());
        night.note_red(9, &red()).unwrap();
        night.note_red(12, &red()).unwrap();
        let text = fs::read_to_string(folder.path().join("histories.red")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "9\tStartedOnce at +2.000s: one; StartedOnce at +2.000s: two"
        );
        assert!(lines[1].starts_with("12\t"), "{text}");
    }
}
