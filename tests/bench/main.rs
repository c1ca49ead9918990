//! `make bench`: the overhead of Trainyard over the containers that it runs, each figure a ratio
//! measured in this run.
//!
//! | figure | against |
//! |---|---|
//! | a chain of 10 stages of `true` in Docker | the same 10 containers in a bare loop over the Docker API |
//! | 32 such stages side by side, 4 at a time | the bare loop, 4 at a time |
//! | a container of `true` under the init; one on a network of its repo | one without, by the bare loop |
//! | stages per second through Docker on Postgres, executor `fake` | the time of one commit of that Postgres |
//! | from a trigger to the start of a stage | the same container in the bare loop, to its end |
//! | idle memory and processor time, and the time from launch to healthy | nothing: they are sizes |
//!
//! Rounds alternate with the bare loop, which drifts with the machine; ratios are pair by pair, and the
//! median is printed. Build with `--release` on both sides.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

mod bare;
mod figures;
mod idle;
mod product;

use std::process::ExitCode;

use figures::{Figure, print};

/// Rounds of each pair: single rounds differ by a tenth and more, with what else the machine does.
const ROUNDS: usize = 11;

fn main() -> ExitCode {
    let mut figures: Vec<Figure> = Vec::new();
    figures.push(product::chain(ROUNDS));
    figures.push(product::wide(ROUNDS));
    figures.extend(product::promises(ROUNDS));
    figures.extend(product::fake(ROUNDS));
    figures.push(product::trigger(20));
    figures.extend(idle::measure());
    print(&figures);
    ExitCode::SUCCESS
}
