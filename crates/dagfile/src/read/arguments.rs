//! Texts that are too long for the kernel to pass to a program, as far as a file shows it: expressions
//! and secrets may add more.

use trainyard_core::expression::Template;
use trainyard_core::measure::in_units;
use trainyard_core::stage::{ARGUMENT_BESIDE, ARGUMENT_LARGEST, ARGUMENTS_LARGEST, Command};

use super::{Env, FileReader};
use crate::diagnostic::DiagnosticCode as Code;
use crate::tree::{Key, Node};

const HELP: &str = "put the value into a file of the repo, or into an output of an earlier stage";

impl FileReader<'_> {
    /// Checks one variable (with its name and `=` as `before`) or argument.
    pub(super) fn check_argument(
        &mut self,
        what: &str,
        before: usize,
        template: &Template,
        node: &Node,
    ) {
        let length = before + length(template);
        if length >= ARGUMENT_LARGEST {
            let message = format!(
                "{what} has {}, and the kernel passes at most {} to a program in one",
                in_units(length as u64),
                in_units(ARGUMENT_LARGEST as u64)
            );
            self.sink
                .error(Code::TooLarge, node.span.clone(), message)
                .help(HELP);
        }
    }

    /// Checks all variables and arguments of a stage together.
    pub(super) fn check_arguments(
        &mut self,
        what: &str,
        key: &Key,
        env: &Env,
        command: Option<&Command>,
    ) {
        let variables = env
            .iter()
            .map(|(name, value)| name.as_str().len() + 1 + length(value) + ARGUMENT_BESIDE);
        let arguments: usize = match command {
            Some(Command::Script(script)) => script.len(),
            Some(Command::Exec(items)) => {
                let items = items.iter();
                items.map(|item| length(item) + ARGUMENT_BESIDE).sum()
            }
            None => 0,
        };
        let all = variables.sum::<usize>() + arguments;
        if all > ARGUMENTS_LARGEST {
            let message = format!(
                "the variables and the command of {what} have {}, and the kernel passes at most {} of them to a program",
                in_units(all as u64),
                in_units(ARGUMENTS_LARGEST as u64)
            );
            self.sink
                .error(Code::TooLarge, key.span.clone(), message)
                .help(HELP);
        }
    }
}

/// How long a text is, as far as that is known.
fn length(template: &Template) -> usize {
    match template.is_literal() {
        true => template.source().len(),
        false => 0,
    }
}
