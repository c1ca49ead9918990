//! The promises of the contract. Each takes a [`Kit`](super::Kit) and returns it when it holds.

mod lifecycle;
mod logs;
mod results;
mod stopping;

use std::time::Duration;

use super::Program;
use crate::contract::Stream;

pub use self::lifecycle::*;
pub use self::logs::*;
pub use self::results::*;
pub use self::stopping::*;

/// More than any output of the suite.
const PLENTY: u64 = 1 << 20;

/// Much longer than a program takes to end on SIGTERM, much shorter than a test may take.
const GRACE: Duration = Duration::from_secs(30);

/// The lines that a program of the suite prints when it runs.
const WITNESS: Program<'_> = Program::Print(&[(Stream::Stdout, "ran")]);
