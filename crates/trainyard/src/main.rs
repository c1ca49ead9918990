//! `trainyard`: the one binary. Its commands are in [`commands`], one file per noun; pure functions in [`view`]
//! format their output; [`failure`] alone decides their exit codes.

mod cli;
mod clock;
mod commands;
mod connection;
mod failure;
mod input;
mod output;
mod time_arg;
mod variables;
mod view;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::call() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
