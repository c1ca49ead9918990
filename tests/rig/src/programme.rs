//! Which programme is run, and the arguments that say how much of it.
//!
//! The gate checks every change, in minutes. The long programme has enough trials for a statement: no failure in N
//! trials bounds the rate of failures to 3/N with 95 % confidence. Every number of either is an argument, from the
//! environment:
//!
//! - `RIG_LONG`: not empty, the long programme; without it, the gate.
//! - `RIG_TRIALS`: trials of every fault; `RIG_TRIALS_F2`: of fault F2.
//! - `RIG_SEED`: the first seed; without it the time of day. Trials that continue keep their first seed.
//! - `RIG_ONLY`: the seed of a trial, which is tried alone, and is not counted; it has to be one of those that
//!   come from `RIG_SEED`. A red trial prints this command. The leftovers of earlier trials on a shared
//!   installation are missing.
//! - `RIG_FOLDER`: the folder of the results, which continue as long as the build is the same; without it each start
//!   begins in a new temporary folder.
//! - `RIG_NEXT`: a build of the next version, to be upgraded to; without it, this one is taken under another
//!   version's name.
//! - what a fault has of its own: its file says which.

use std::panic::Location;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An argument that has another value in the long programme than in the gate.
///
/// # Panics
/// When the value in the environment is not a number.
#[must_use]
pub fn argument(name: &str, gate: u64, long: u64) -> u64 {
    number(name).unwrap_or(if is_long() { long } else { gate })
}

/// Whether this is the long programme.
#[must_use]
pub fn is_long() -> bool {
    std::env::var_os("RIG_LONG").is_some_and(|value| !value.is_empty())
}

/// How long the gate waits for an event that is promised sooner.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// How long to wait for an event that is promised within `promised`.
///
/// The long programme, which has the machine for itself, measures the time. The gate shares the machine, and only
/// checks that the event happens.
#[must_use]
pub fn within(promised: Duration) -> Duration {
    if is_long() {
        promised
    } else {
        promised.max(LONGEST_WAIT)
    }
}

/// How often a fault is tried, by its name, whose first word is its identity: `F2 daemon killed`.
pub(crate) fn trials(fault: &str, gate: u32, long: u32) -> u32 {
    let identity = fault.split(' ').next().unwrap_or(fault);
    let count = number(&format!("RIG_TRIALS_{identity}"))
        .unwrap_or_else(|| argument("RIG_TRIALS", gate.into(), long.into()));
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(crate) fn seed() -> Option<u64> {
    number("RIG_SEED")
}

pub(crate) fn only() -> Option<u64> {
    number("RIG_ONLY")
}

/// The command that tries the trial of this seed alone, `first` being the first seed and `test` what the
/// runner of tests calls it: with all that the environment says about this programme.
pub(crate) fn again(first: u64, only: u64, test: &str) -> String {
    let set = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    command(set, first, only, test)
}

/// What the runner of tests calls the test of this thread. It gives a test's name to its thread, but
/// where it has one thread only: then those of the same file have to do.
pub(crate) fn name_of_test(caller: &Location<'_>) -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => {
            let file = Path::new(caller.file()).file_stem().unwrap_or_default();
            format!("{}::", file.display())
        }
    }
}

/// What a command says by itself, or what belongs to the results of all trials.
const NOT_PASSED_ON: [&str; 3] = ["RIG_SEED", "RIG_ONLY", "RIG_FOLDER"];

fn command(
    set: impl Iterator<Item = (String, String)>,
    first: u64,
    only: u64,
    test: &str,
) -> String {
    let passed_on = |name: &str| name.starts_with("RIG_") && !NOT_PASSED_ON.contains(&name);
    let mut words: Vec<String> = set
        .filter(|(name, _)| passed_on(name))
        .map(|(name, value)| format!("{name}={}", quoted(&value)))
        .collect();
    words.sort_unstable();
    words.push(format!("RIG_SEED={first} RIG_ONLY={only} cargo test"));
    if !cfg!(debug_assertions) {
        words.push("--release".to_owned());
    }
    words.push("--locked --package trainyard-rig --test faults -- --nocapture".to_owned());
    words.push(test.to_owned());
    words.join(" ")
}

/// As a shell takes it for one word.
fn quoted(value: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:,".contains(letter);
    if value.chars().all(is_plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', "'\\''"))
    }
}

pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os("RIG_FOLDER").map(PathBuf::from)
}

pub(crate) fn next_version() -> Option<PathBuf> {
    std::env::var_os("RIG_NEXT").map(PathBuf::from)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_the_arguments_of_the_programme() {
        let set = [
            ("RIG_TRIALS_F2", "3000"),
            ("RIG_NEXT", "/it's here"),
            ("RIG_SEED", "1"),
            ("RIG_FOLDER", "/results"),
            ("HOME", "/root"),
        ];
        let set = set.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let reported = command(set.into_iter(), 5, 77, "soak::all");
        let release = if cfg!(debug_assertions) {
            ""
        } else {
            " --release"
        };
        assert_eq!(
            reported,
            format!(
                "RIG_NEXT='/it'\\''s here' RIG_TRIALS_F2=3000 RIG_SEED=5 RIG_ONLY=77 cargo test{release} \
                 --locked --package trainyard-rig --test faults -- --nocapture soak::all"
            )
        );
    }
}
