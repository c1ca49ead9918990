//! `simulate`: runs histories for a time, or one of them again.
//!
//! Prints how many a second; a seed that breaks an invariant is printed with all that happened.

use std::io::Write;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use trainyard_simulation::{History, Left, Mutation, Night, Settings, Tally, run, this_build};

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
    /// File with the progress, from which the next start continues: `--seconds` counts over all starts. Seeds that
    /// broke an invariant are kept next to it, in FILE.red. Another build starts over.
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
    let night = match arguments.journal {
        Some(journal) => Some(Night::new(journal, this_build()?)),
        None => None,
    };
    let mut tally = begin(&mut out, night.as_ref(), arguments.seed)?;
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
                if let Some(night) = &night {
                    night.note_red(seed, history)?;
                }
                broken.get_or_insert(seed);
            }
        }
        if let Some(night) = &night
            && (broken.is_some() || tally.took >= limit || tally.took - noted > NOTE_EVERY)
        {
            night.save(&tally)?;
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

/// Continues where an earlier start of this build stopped; otherwise starts over, and says so if the file
/// is of another build.
fn begin(out: &mut impl Write, night: Option<&Night>, first: u64) -> std::io::Result<Tally> {
    match night.map_or(Ok(Left::Nothing), Night::begin)? {
        Left::Nothing => {}
        Left::Same(tally) => return Ok(tally),
        Left::Another(path) => writeln!(
            out,
            "starting over with another build of the simulation; the progress of the former is in {}",
            path.display()
        )?,
    }
    Ok(Tally::new(first))
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
