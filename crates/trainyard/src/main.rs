//! `trainyard`: the one binary. Its commands are in [`commands`], one file a noun; what they print is
//! made by pure functions in [`view`]; how they end is decided by [`failure`] alone.

mod cli;
mod clock;
mod commands;
mod connection;
mod failure;
mod input;
mod output;
mod variables;
mod view;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::call() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
