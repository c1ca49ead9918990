//! Trials: one fault, many times, each with a seed of its own; counted, timed, and kept when red.
//!
//! No failure in N trials bounds the rate of failures to 3/N with 95 % confidence, so the number of trials matters,
//! and a night's work must survive an interruption: each trial that ended is a line in a file, and the next start
//! continues after it.
//!
//! [`programme`] says how many there are, and where results go.

use std::fs;
use std::panic::Location;
use std::path::PathBuf;

use crate::dice::Dice;
use crate::evidence::Evidence;
use crate::journal::{self, Heading, Journal, Line, Origin};
use crate::panics::caught;
use crate::summary::Summary;
use crate::turns::take_turn;
use crate::{moment, programme, versions};

pub use crate::trial::{Trial, Verdict};

/// A fault to be tried.
#[derive(Debug)]
pub struct Trials {
    /// Its name in the table: `F2 SIGKILL of the daemon`.
    pub fault: String,
    /// The promise, in words.
    pub target: String,
    pub count: u32,
    /// How many in the gate.
    gate: u32,
    /// How many in the long programme: what the table counts against, however many are asked for.
    planned: u32,
    /// Whether each has a state of its own.
    afresh: bool,
    /// Each trial's own comes from it.
    pub seed: u64,
    /// The seed of the one trial that is tried, where it is but one.
    only: Option<u64>,
    build: String,
    /// The name of this test in the test runner.
    test: String,
    /// Where results and evidence are.
    pub folder: PathBuf,
    /// The turn, if turns are taken, held as long as this exists: recovery times mean little while many faults are
    /// tried on the same machine at the same time.
    _turn: Option<fs::File>,
}

impl Trials {
    /// `count` trials, unless the environment says otherwise. Waits until few enough faults are tried
    /// on this machine.
    ///
    /// # Panics
    /// When a variable of the environment is not a number, the program was not built, or turns cannot be taken.
    #[must_use]
    #[track_caller]
    pub fn new(fault: &str, target: &str, count: u32) -> Self {
        let now = moment::now().timestamp_micros().unsigned_abs();
        let folder = programme::folder().unwrap_or_else(|| {
            std::env::temp_dir().join(format!("trainyard-rig-{now}-{}", std::process::id()))
        });
        let (build, only) = (versions::this().to_owned(), programme::only());
        let (asked, kept) = (programme::seed(), journal::origin_of(&folder, fault));
        let seed = journal::first_seed(asked, kept.as_ref(), &build, only.is_some()).unwrap_or(now);
        if asked.is_some_and(|asked| asked != seed) {
            report(&format!("{fault}: continues with its first seed {seed}"));
        }
        Self {
            fault: fault.to_owned(),
            target: target.to_owned(),
            count: programme::trials(fault, count, count),
            gate: count,
            planned: count,
            afresh: false,
            seed,
            only,
            build,
            test: programme::name_of_test(Location::caller()),
            folder,
            _turn: Some(take_turn()),
        }
    }

    /// The same with `count` trials in the long programme, unless the environment says otherwise.
    #[must_use]
    pub fn long(mut self, count: u32) -> Self {
        self.count = programme::trials(&self.fault, self.gate, count);
        self.planned = count;
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
    /// When results cannot be written, or the one trial that is asked for is none of these.
    pub fn run<S>(
        &self,
        mut prepare: impl FnMut(Trial) -> S,
        mut attempt: impl FnMut(Trial, &mut S) -> Verdict,
        testimony: impl Fn(&S) -> Vec<(String, String)>,
    ) -> Summary {
        let heading = self.heading();
        let (journal, mut results) = self.open(&heading);
        let mut dice = Dice::new(self.seed);
        let mut state = None;
        for number in 1..=self.count {
            let seed = dice.roll();
            let is_other = self.only.is_some_and(|only| only != seed);
            if is_other || results.iter().any(|line| line.number == number) {
                continue;
            }
            let trial = Trial {
                number,
                seed,
                last: number == self.count || self.only.is_some(),
            };
            let tried = state.get_or_insert_with(|| prepare(trial));
            let verdict = caught(|| attempt(trial, tried)).unwrap_or_else(|said| Verdict {
                violations: vec![said],
                recovery: None,
            });
            let line = Line {
                number,
                seed,
                violations: verdict.violations.len(),
                recovery: verdict.recovery,
            };
            let is_red = !verdict.violations.is_empty();
            let evidence = is_red.then(|| self.keep(&heading, trial, &verdict));
            // What is noted of it does not hang on parts that may be down, and be long in saying so.
            if let Some(journal) = &journal {
                journal.append(&line);
            }
            results.push(line);
            if let Some(evidence) = evidence {
                evidence.add(|| testimony(tried));
            }
            if is_red || self.afresh {
                state = None;
            }
        }
        if let Some(only) = self.only.filter(|_| results.is_empty()) {
            panic!(
                "RIG_ONLY={only} is none of {} trials from RIG_SEED={}",
                self.count, self.seed
            );
        }
        Summary::new(&self.folder, heading, &results)
    }

    fn heading(&self) -> Heading {
        Heading {
            fault: self.fault.clone(),
            target: self.target.clone(),
            // More may be asked for than the long programme has.
            planned: self.planned.max(self.count),
            origin: Some(Origin {
                build: self.build.clone(),
                seed: self.seed,
            }),
        }
    }

    /// The file of the results, and its contents. A single trial that is repeated is not a result.
    fn open(&self, heading: &Heading) -> (Option<Journal>, Vec<Line>) {
        if self.only.is_some() {
            return (None, Vec::new());
        }
        let opened = Journal::open(&self.folder, heading);
        if let Some(former) = opened.former {
            let (fault, former) = (&self.fault, former.display());
            report(&format!(
                "{fault}: starts over with build {}; the results of the other build are in {former}",
                self.build
            ));
        }
        (Some(opened.journal), opened.lines)
    }

    /// Keeps the evidence of a red trial that needs no answer of a running part, and reports it.
    fn keep(&self, heading: &Heading, trial: Trial, verdict: &Verdict) -> Evidence {
        let mut folder = heading.evidence(&self.folder, trial.number);
        if self.only.is_some() {
            folder.as_mut_os_string().push("-again");
        }
        let again = programme::again(self.seed, trial.seed, &self.test);
        let violations = verdict.violations.join("\n");
        report(&format!(
            "{}: trial {} is red: {violations}\nalone: {again}",
            self.fault, trial.number
        ));
        let (first, build) = (self.seed, &self.build);
        let reported = format!("{trial:?}\nfirst seed {first}, build {build}\n{violations}\n");
        Evidence::keep(folder, &reported, &again)
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the long programme reports its progress on the standard output"
)]
fn report(what: &str) {
    println!("{what}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use trainyard_tests::place::Place;

    fn trials(place: &Place, count: u32) -> Trials {
        Trials {
            fault: "F0 nothing".to_owned(),
            target: "none".to_owned(),
            count,
            gate: count,
            planned: count,
            afresh: false,
            seed: 5,
            only: None,
            build: "1+a".to_owned(),
            test: "nothing::happens".to_owned(),
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
    fn a_red_trial_is_counted_and_keeps_its_evidence() {
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
        assert!(read("verdict").contains("first seed 5, build 1+a"));
        assert!(read("again").contains("RIG_SEED=5 RIG_ONLY="));
        assert_eq!(read("log"), "what was said");
    }

    #[test]
    fn a_red_trial_is_counted_though_its_parts_say_nothing() {
        let place = Place::new();
        let summary =
            trials(&place, 1).run(|_| (), |_, ()| panic!("seen"), |()| panic!("no answer"));
        assert_eq!((summary.trials, summary.violations), (1, 1));
        let reported = fs::read_to_string(place.join("F0-nothing-1/no-testimony")).unwrap();
        assert_eq!(reported, "no answer\n");
    }

    /// The seeds that are tried, by number.
    fn tried(trials: &Trials) -> Vec<(u32, u64)> {
        let seeds = std::cell::RefCell::new(Vec::new());
        trials.run(
            |_| (),
            |trial, ()| {
                seeds.borrow_mut().push((trial.number, trial.seed));
                Verdict::default()
            },
            |()| Vec::new(),
        );
        seeds.into_inner()
    }

    #[test]
    fn another_build_is_tried_from_the_start() {
        let place = Place::new();
        let mut trials = trials(&place, 2);
        let first = tried(&trials);
        assert_eq!(first.len(), 2);
        assert_eq!(tried(&trials), [], "all of this build was tried");
        trials.build = "1+b".to_owned();
        assert_eq!(tried(&trials), first);
        assert!(place.join("F0-nothing.tsv.before-1+b").exists());
    }

    #[test]
    fn a_red_trial_is_tried_again_by_its_seed() {
        let place = Place::new();
        let mut trials = trials(&place, 3);
        let fails = |trials: &Trials| {
            let last = std::cell::Cell::new(None);
            let summary = trials.run(
                |_| (),
                |trial, ()| {
                    last.set(Some((trial.number, trial.seed, trial.last)));
                    assert_ne!(trial.number, 2, "seen");
                    Verdict::default()
                },
                |()| vec![("log".to_owned(), "what was said".to_owned())],
            );
            (summary, last.get())
        };
        let (summary, _) = fails(&trials);
        let [again] = &summary.red[..] else {
            panic!("{:?}", summary.red);
        };
        let (_, only) = again.split_once("RIG_SEED=5 RIG_ONLY=").unwrap();
        assert!(again.ends_with(" nothing::happens"), "{again}");
        let (only, _) = only.split_once(' ').unwrap();
        let only: u64 = only.parse().unwrap();
        let journal = fs::read_to_string(place.join("F0-nothing.tsv")).unwrap();
        trials.only = Some(only);
        let (summary, last) = fails(&trials);
        assert_eq!((summary.trials, summary.violations), (1, 1));
        assert_eq!(last, Some((2, only, true)), "none comes after it");
        assert!(place.join("F0-nothing-2-again/log").exists());
        let after = fs::read_to_string(place.join("F0-nothing.tsv")).unwrap();
        assert_eq!(journal, after, "it counts for nothing");
    }

    #[test]
    fn a_seed_that_no_trial_has_is_refused() {
        let place = Place::new();
        let mut trials = trials(&place, 3);
        trials.only = Some(1);
        let refused = caught(|| tried(&trials)).unwrap_err();
        assert!(refused.contains("none of 3 trials"), "{refused}");
    }

    #[test]
    fn a_table_counts_against_the_long_programme() {
        let place = Place::new();
        let mut trials = trials(&place, 2);
        trials.planned = 500;
        assert_eq!(trials.heading().planned, 500);
        trials.count = 600;
        assert_eq!(trials.heading().planned, 600, "more may be asked for");
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
