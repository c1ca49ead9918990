//! Shared by the tests: a budget of time, and the report of a seed that failed.

use std::time::{Duration, Instant};

use trainyard_simulation::{History, Settings, run};

/// How long new histories are looked for, in seconds, unless the environment says otherwise.
const SECONDS: u64 = 20;

/// The environment's names for it, and for the first seed. A gate tries the same histories each time; a long night
/// begins where no night before began.
const BUDGET: &str = "TRAINYARD_SIMULATION_SECONDS";
const FIRST: &str = "TRAINYARD_SIMULATION_SEED";

pub(crate) fn budget() -> Duration {
    Duration::from_secs(number(BUDGET).unwrap_or(SECONDS))
}

pub(crate) fn first_seed() -> u64 {
    number(FIRST).unwrap_or(1)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// Runs the histories of seeds from `first` on, for as long as the budget and `enough` permit.
pub(crate) fn histories(
    first: u64,
    settings: Settings,
    budget: Duration,
    mut enough: impl FnMut(u64, &History) -> bool,
) -> u64 {
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < budget {
        let seed = first + count;
        count += 1;
        if enough(seed, &run(seed, settings)) {
            break;
        }
    }
    count
}

/// The report of a failing history: the violation, the last events, and how to see all of them.
pub(crate) fn report(seed: u64, history: &History, settings: Settings) -> String {
    let reported = run(
        seed,
        Settings {
            trace: true,
            ..settings
        },
    );
    let from = reported.trace.len().saturating_sub(60);
    let violations: Vec<String> = history.violations.iter().map(ToString::to_string).collect();
    format!(
        "seed {seed} breaks\n  {}\nwhat happened last:\n{}\nsee all of it: simulate --seed {seed} --once",
        violations.join("\n  "),
        reported.trace[from..].join("\n")
    )
}
