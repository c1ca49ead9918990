//! `simulate`: runs histories for a time, or one of them again.
//!
//! Prints how many a second; a seed that breaks an invariant is printed with all that happened.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use trainyard_simulation::{Mutation, Settings, run};

/// Whole histories of Trainyard under faults, from a seed, in virtual time.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long to go on, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The first seed; each history takes the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run the history of this seed only, and print what happens in it.
    #[arg(long)]
    once: bool,
    /// Go on after a seed that broke an invariant, and print one line for each.
    #[arg(long)]
    keep_going: bool,
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
    let began = Instant::now();
    let (mut histories, mut programs, mut virtual_time) = (0_u64, 0, Duration::ZERO);
    let mut failed = 0_u64;
    while began.elapsed() < Duration::from_secs(arguments.seconds) {
        let seed = arguments.seed + histories;
        let history = run(seed, settings);
        histories += 1;
        programs += history.programs;
        virtual_time += history.took;
        if let Some(violation) = history.violations.first() {
            failed += 1;
            writeln!(out, "seed {seed}: {violation}")?;
            if !arguments.keep_going {
                return show(&mut out, seed, settings);
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    writeln!(
        out,
        "{histories} histories in {seconds:.1} s: {:.0} a second; {programs} programs, {:.1} days of virtual time, {failed} failed",
        histories as f64 / seconds,
        virtual_time.as_secs_f64() / 86_400.0,
    )?;
    Ok(ExitCode::from(u8::from(failed > 0)))
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
