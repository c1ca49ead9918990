//! `simulate`: runs histories for a time, or one of them again.
//!
//! Prints how many a second; a seed that breaks an invariant is printed with all that happened.

use std::fmt;
use std::io::Write;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use trainyard_simulation::{History, Mutation, Settings, run};

/// Whole histories of Trainyard under faults, from a seed, in virtual time.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long to go on, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The first seed; each history takes the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many histories at a time, each on a thread of its own; by default as many as there are processors.
    #[arg(long, value_name = "COUNT")]
    jobs: Option<NonZero<usize>>,
    /// Run the history of this seed only, and print what happens in it.
    #[arg(long)]
    once: bool,
    /// Go on after a seed that broke an invariant, and print one line for each.
    #[arg(long)]
    keep_going: bool,
    /// Where to keep how far it came, and go on from there: `--seconds` counts over all starts.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Leave the start latch and the completion marker out of containers.
    #[arg(long)]
    no_latch: bool,
    /// Plant a mistake.
    #[arg(long, value_parser = Mutation::from_word)]
    mutation: Option<Mutation>,
}

fn main() -> std::io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let settings = Settings {
        latch: !arguments.no_latch,
        mutation: arguments.mutation,
        trace: false,
    };
    let mut out = std::io::stdout().lock();
    if arguments.once {
        return show(&mut out, arguments.seed, settings);
    }
    let mut tally = arguments
        .journal
        .as_deref()
        .map(Tally::load)
        .transpose()?
        .flatten()
        .unwrap_or_else(|| Tally::new(arguments.seed));
    let limit = Duration::from_secs(arguments.seconds);
    let jobs = arguments
        .jobs
        .or_else(|| thread::available_parallelism().ok())
        .map_or(1, NonZero::get);
    let mut noted = tally.took;
    while tally.took < limit {
        let first = tally.first + tally.histories;
        let began = Instant::now();
        let histories = side_by_side(first, jobs, settings);
        tally.took += began.elapsed();
        let mut broken = None;
        for (seed, history) in (first..).zip(&histories) {
            tally.add(history);
            if let Some(violation) = history.violations.first() {
                writeln!(out, "seed {seed}: {violation}")?;
                broken.get_or_insert(seed);
            }
        }
        if let Some(journal) = &arguments.journal
            && (broken.is_some() || tally.took >= limit || tally.took - noted > NOTE_EVERY)
        {
            tally.save(journal)?;
            noted = tally.took;
        }
        if let Some(seed) = broken
            && !arguments.keep_going
        {
            return show(&mut out, seed, settings);
        }
    }
    writeln!(out, "{tally}")?;
    Ok(ExitCode::from(u8::from(tally.failed > 0)))
}

/// How many histories a thread has at a time: some tenths of a second's.
const SHARE: u64 = 64;

/// Runs the histories from `first` on, a share on each thread. Returns them in the order of their seeds.
fn side_by_side(first: u64, jobs: usize, settings: Settings) -> Vec<History> {
    thread::scope(|scope| {
        let shares: Vec<_> = (first..)
            .step_by(SHARE as usize)
            .take(jobs)
            .map(|from| {
                scope.spawn(move || {
                    (from..from + SHARE)
                        .map(|seed| run(seed, settings))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let joined = shares.into_iter().map(|share| {
            share
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.flatten().collect()
    })
}

/// How much work an interruption may cost.
const NOTE_EVERY: Duration = Duration::from_secs(10);

/// What histories came to, over all starts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tally {
    /// The first one's seed; each takes the next.
    first: u64,
    histories: u64,
    failed: u64,
    programs: u64,
    virtual_time: Duration,
    took: Duration,
}

impl Tally {
    const fn new(first: u64) -> Self {
        Self {
            first,
            histories: 0,
            failed: 0,
            programs: 0,
            virtual_time: Duration::ZERO,
            took: Duration::ZERO,
        }
    }

    fn add(&mut self, history: &History) {
        self.histories += 1;
        self.failed += u64::from(!history.violations.is_empty());
        self.programs += history.programs;
        self.virtual_time += history.took;
    }

    /// What an earlier start left; `None` before the first.
    fn load(journal: &Path) -> std::io::Result<Option<Self>> {
        let text = match std::fs::read_to_string(journal) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let numbers: Vec<u64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let &[first, histories, failed, programs, virtual_time, took] = numbers.as_slice() else {
            let told = format!("{} is no journal of histories: {text:?}", journal.display());
            return Err(std::io::Error::other(told));
        };
        Ok(Some(Self {
            first,
            histories,
            failed,
            programs,
            virtual_time: Duration::from_millis(virtual_time),
            took: Duration::from_millis(took),
        }))
    }

    /// Writes it whole or not at all.
    fn save(&self, journal: &Path) -> std::io::Result<()> {
        let text = format!(
            "{} {} {} {} {} {}\n",
            self.first,
            self.histories,
            self.failed,
            self.programs,
            self.virtual_time.as_millis(),
            self.took.as_millis(),
        );
        let beside = journal.with_extension("new");
        std::fs::write(&beside, text)?;
        std::fs::rename(beside, journal)
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

/// Runs one history with its trace.
fn show(out: &mut impl Write, seed: u64, settings: Settings) -> std::io::Result<ExitCode> {
    let settings = Settings {
        trace: true,
        ..settings
    };
    let history = run(seed, settings);
    for line in &history.trace {
        writeln!(out, "{line}")?;
    }
    for violation in &history.violations {
        writeln!(out, "seed {seed} breaks {violation}")?;
    }
    if history.violations.is_empty() {
        writeln!(out, "seed {seed}: every invariant holds")?;
    }
    Ok(ExitCode::from(u8::from(!history.violations.is_empty())))
}
