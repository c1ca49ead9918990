//! Environment variables that replace arguments.

use std::ffi::OsStr;

use clap::Command;
use clap::builder::Resettable;

/// Makes a command treat empty variables as not set, as users mean it with `VARIABLE= trainyard …`.
pub(crate) fn without_empty_variables(command: Command) -> Command {
    without_variables(command, &|name| {
        std::env::var_os(name).is_some_and(|value| value.is_empty())
    })
}

/// Makes a command ignore these variables.
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
