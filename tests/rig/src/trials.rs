//! Trials: one fault, many times, each with a seed of its own; counted, timed, and kept when red.
//!
//! No failure in N trials bounds the rate of failures to 3/N with 95 % confidence, so the number of
//! trials is the figure that matters, and a night's work must survive being interrupted: each trial
//! that ended is a line in a file, and the next start goes on behind it.
//!
//! How many, and where results go, is told by [`programme`].

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::dice::Dice;
use crate::journal::{Heading, Journal, Line};
use crate::summary::Summary;
use crate::{moment, programme};

/// A fault to be tried.
#[derive(Debug)]
pub struct Trials {
    /// What the table calls it: `F2 SIGKILL of the daemon`.
    pub fault: String,
    /// What is promised, in words.
    pub target: String,
    /// How many.
    pub count: u32,
    /// How many in the gate.
    gate: u32,
    /// Whether each has a state of its own.
    afresh: bool,
    /// Each trial's own comes from it.
    pub seed: u64,
    /// Where results and evidence are.
    pub folder: PathBuf,
    /// Held as long as it exists, where one is: recovery times mean little while many faults are
    /// tried beside each other on the same machine.
    _turn: Option<fs::File>,
}

/// One trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Its number, from 1.
    pub number: u32,
    /// Repeats it, as far as anything of real processes can be repeated.
    pub seed: u64,
    /// Whether none comes after it: what was left for later is looked at now.
    pub last: bool,
}

impl Trial {
    /// Its randomness.
    #[must_use]
    pub const fn dice(self) -> Dice {
        Dice::new(self.seed)
    }
}

/// What a trial found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was violated; empty is good.
    pub violations: Vec<String>,
    /// How long it took to be whole again.
    pub recovery: Option<Duration>,
}

impl Trials {
    /// `count` trials, unless the environment says otherwise. Waits until few enough faults are tried
    /// on this machine.
    ///
    /// # Panics
    /// When a variable of the environment is no number, or nobody may take turns.
    #[must_use]
    pub fn new(fault: &str, target: &str, count: u32) -> Self {
        let now = moment::now().timestamp_micros().unsigned_abs();
        let folder = programme::folder().unwrap_or_else(|| {
            std::env::temp_dir().join(format!("trainyard-rig-{now}-{}", std::process::id()))
        });
        Self {
            fault: fault.to_owned(),
            target: target.to_owned(),
            count: programme::trials(fault, count, count),
            gate: count,
            afresh: false,
            seed: programme::seed().unwrap_or(now),
            folder,
            _turn: Some(take_turn()),
        }
    }

    /// The same with `count` trials in the long programme, unless the environment says otherwise.
    #[must_use]
    pub fn long(mut self, count: u32) -> Self {
        self.count = programme::trials(&self.fault, self.gate, count);
        self
    }

    /// The same, where a trial leaves what the next cannot begin with: `prepare` makes each its own.
    #[must_use]
    pub const fn afresh(mut self) -> Self {
        self.afresh = true;
        self
    }

    /// Tries. `prepare` makes what is tried on, and again after a red trial; `attempt` breaks it and
    /// says what it found, where a panic is a violation as well; `testimony` is what is kept of a red
    /// trial, by file name.
    ///
    /// # Panics
    /// When results cannot be written.
    pub fn run<S>(
        &self,
        mut prepare: impl FnMut(Trial) -> S,
        mut attempt: impl FnMut(Trial, &mut S) -> Verdict,
        testimony: impl Fn(&S) -> Vec<(String, String)>,
    ) -> Summary {
        let heading = Heading {
            fault: self.fault.clone(),
            target: self.target.clone(),
            planned: self.count,
        };
        let (journal, mut results) = Journal::open(&self.folder, &heading);
        let mut dice = Dice::new(self.seed);
        let mut state = None;
        for number in 1..=self.count {
            let seed = dice.roll();
            if results.iter().any(|line| line.number == number) {
                continue;
            }
            let trial = Trial {
                number,
                seed,
                last: number == self.count,
            };
            let tried = state.get_or_insert_with(|| prepare(trial));
            let verdict =
                catch_unwind(AssertUnwindSafe(|| attempt(trial, tried))).unwrap_or_else(|panic| {
                    Verdict {
                        violations: vec![words_of(panic.as_ref())],
                        recovery: None,
                    }
                });
            let line = Line {
                number,
                seed,
                violations: verdict.violations.len(),
                recovery: verdict.recovery,
            };
            if !verdict.violations.is_empty() {
                let folder = self.folder.join(format!("{}-{number}", heading.slug()));
                keep(&folder, trial, &verdict, testimony(tried));
                state = None;
            }
            if self.afresh {
                state = None;
            }
            journal.append(&line);
            results.push(line);
        }
        Summary::new(heading, &results)
    }
}

/// How many faults are tried at the same time on a machine: most of the time something is waited for. In
/// the long programme, whose figures are published, each has the machine for itself.
const AT_ONCE: u32 = 2;

/// The time between two looks for a turn.
const LOOK: Duration = Duration::from_millis(100);

/// Waits for the turn of this process and thread. The kernel gives it back, however they end.
fn take_turn() -> fs::File {
    let places = if programme::is_long() { 1 } else { AT_ONCE };
    loop {
        for place in 0..places {
            let path = std::env::temp_dir().join(format!("trainyard-rig-{place}.lock"));
            let file = fs::File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
                .unwrap();
            if file.try_lock().is_ok() {
                return file;
            }
        }
        std::thread::sleep(LOOK);
    }
}

fn keep(folder: &Path, trial: Trial, verdict: &Verdict, testimony: Vec<(String, String)>) {
    fs::create_dir_all(folder).unwrap();
    let told = format!("{trial:?}\n{}\n", verdict.violations.join("\n"));
    fs::write(folder.join("verdict"), told).unwrap();
    for (name, text) in testimony {
        fs::write(folder.join(name), text).unwrap();
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "it panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_tests::place::Place;

    fn trials(place: &Place, count: u32) -> Trials {
        Trials {
            fault: "F0 nothing".to_owned(),
            target: "none".to_owned(),
            count,
            gate: count,
            afresh: false,
            seed: 5,
            folder: place.path().to_owned(),
            _turn: None,
        }
    }

    #[test]
    fn an_interrupted_programme_goes_on_where_it_was() {
        let place = Place::new();
        let seeds = std::cell::RefCell::new(Vec::new());
        let run = |count| {
            trials(&place, count).run(
                |_| (),
                |trial, ()| {
                    seeds.borrow_mut().push((trial.number, trial.seed));
                    Verdict {
                        recovery: Some(Duration::from_millis(u64::from(trial.number))),
                        ..Verdict::default()
                    }
                },
                |()| Vec::new(),
            )
        };
        run(2);
        // As a kill in the middle of a write leaves it.
        let file = place.join("F0-nothing.tsv");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}3\t77")).unwrap();
        let summary = run(4);
        let numbers: Vec<u32> = seeds.borrow().iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert_eq!(summary.trials, 4);
        assert_eq!(
            summary.to_string(),
            "| F0 nothing | 4 | 0 | 0.00 s | 0.00 s | none |"
        );
        let again: Vec<(u32, u64)> = seeds.borrow().clone();
        seeds.borrow_mut().clear();
        fs::remove_file(&file).unwrap();
        run(4);
        assert_eq!(*seeds.borrow(), again, "the same seeds again");
    }

    #[test]
    fn a_red_trial_is_counted_and_keeps_what_it_left() {
        let place = Place::new();
        let prepared = std::cell::Cell::new(0);
        let summary = trials(&place, 3).run(
            |_| prepared.set(prepared.get() + 1),
            |trial, ()| {
                assert_ne!(trial.number, 2, "seen");
                Verdict::default()
            },
            |()| vec![("log".to_owned(), "what was said".to_owned())],
        );
        assert_eq!((summary.trials, summary.violations), (3, 1));
        assert_eq!(
            prepared.get(),
            2,
            "a red trial's remains are not used again"
        );
        let read = |name: &str| fs::read_to_string(place.join("F0-nothing-2").join(name)).unwrap();
        assert!(read("verdict").contains("seen"), "{}", read("verdict"));
        assert_eq!(read("log"), "what was said");
    }

    #[test]
    fn trials_share_a_state_unless_each_is_to_have_its_own() {
        let prepared = |trials: &Trials| {
            let count = std::cell::Cell::new(0);
            let summary = trials.run(
                |_| count.set(count.get() + 1),
                |_, ()| Verdict::default(),
                |()| Vec::new(),
            );
            assert_eq!(summary.trials, 3);
            count.get()
        };
        let (shared, own) = (Place::new(), Place::new());
        assert_eq!(prepared(&trials(&shared, 3)), 1);
        assert_eq!(prepared(&trials(&own, 3).afresh()), 3);
    }
}
