//! The harness of the end-to-end scenarios: a daemon, a git remote, a witness, and ways to wait.
//!
//! Scenarios see what a user sees: the binary, its exit codes and output, HTTP, and git. A [`witness::Witness`],
//! which stages call over the network, says what ran, and not Trainyard's own records. A part that is missing
//! (Docker, Postgres, the binary) fails the test with a sentence that says how to get it.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

pub mod cli;
pub mod daemon;
pub mod engine;
pub mod place;
pub mod remote;
pub mod scene;
pub mod shown;
pub mod small_disk;
pub mod viewers;
pub mod wait;
pub mod webhook;
pub mod witness;
