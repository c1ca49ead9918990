//! Environment variables that stand in for arguments.

use std::ffi::OsStr;

use clap::Command;
use clap::builder::Resettable;

/// A command that takes an empty variable for one that is not set, as `VARIABLE= trainyard …` means it.
pub(crate) fn without_empty_variables(command: Command) -> Command {
    without_variables(command, &|name| {
        std::env::var_os(name).is_some_and(|value| value.is_empty())
    })
}

/// A command whose arguments do not look at these variables.
pub(crate) fn without_variables(command: Command, which: &dyn Fn(&OsStr) -> bool) -> Command {
    command
        .mut_args(|argument| {
            if argument.get_env().is_some_and(which) {
                argument.env(Resettable::Reset)
            } else {
                argument
            }
        })
        .mut_subcommands(|command| without_variables(command, which))
}
