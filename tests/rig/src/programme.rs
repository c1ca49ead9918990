//! Which programme is run, and the arguments that say how much of it.
//!
//! The gate is what every change is held against, in minutes. The long programme has the counts that
//! make a statement of a figure: no failure in N trials bounds the rate of failures to 3/N with 95 %
//! confidence. Every figure of either is an argument, from the environment:
//!
//! - `RIG_LONG`: not empty, the long programme; without it, the gate.
//! - `RIG_TRIALS`: trials of every fault; `RIG_TRIALS_F2`: of fault F2.
//! - `RIG_SEED`: the first seed.
//! - `RIG_FOLDER`: where results go, and go on; without it each start begins anew in a folder below
//!   the temporary one.
//! - `RIG_NEXT`: a build of the next version, to be upgraded to; without it, this one is taken under another
//!   version's name.
//! - what a fault has of its own: its file says which.

use std::path::PathBuf;

/// An argument that has another value in the long programme than in the gate.
///
/// # Panics
/// When the environment gives one that is no number.
#[must_use]
pub fn argument(name: &str, gate: u64, long: u64) -> u64 {
    number(name).unwrap_or(if is_long() { long } else { gate })
}

/// Whether this is the long programme.
#[must_use]
pub fn is_long() -> bool {
    std::env::var_os("RIG_LONG").is_some_and(|value| !value.is_empty())
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
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}
