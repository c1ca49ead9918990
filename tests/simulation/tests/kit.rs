//! What the tests share: how many histories they run, and the report of a seed that failed.

use trainyard_simulation::{History, Settings, run};

/// How many new histories are run, unless the environment asks for more: a count, so that a busy machine runs as many as
/// an idle one.
const HISTORIES: u64 = 2_000;

/// The environment's words for it, and for the first seed. A gate runs the same histories each time;
/// a long night begins where no night before began.
const COUNT: &str = "TRAINYARD_SIMULATION_HISTORIES";
const FIRST: &str = "TRAINYARD_SIMULATION_SEED";

pub(crate) fn count() -> u64 {
    let count = number(COUNT).unwrap_or(HISTORIES);
    assert!(count >= HISTORIES, "{COUNT} is less than {HISTORIES}");
    count
}

pub(crate) fn first_seed() -> u64 {
    number(FIRST).unwrap_or(1)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
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
