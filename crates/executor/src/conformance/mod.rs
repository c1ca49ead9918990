//! One suite for all executors: the contract's promises, as tests that a caller would notice.
//!
//! An executor takes part by implementing [`Candidate`] and calling [`conformance_tests!`](crate::conformance_tests) for
//! each part of the contract that it implements, which makes one test for each promise of that part. Each test makes a subject of its own, and so has containers of its own;
//! they are removed at its end, also when it fails.

mod kit;
pub mod promises;

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt;
use trainyard_core::id::InstanceId;
use trainyard_core::render::RenderedCommand;

pub use self::kit::{Kit, Printed};
use crate::contract::{Containers, Stream};

/// An executor under test.
pub trait Candidate: Sync {
    type Executor: Containers;

    /// The executor as a daemon makes it when it starts, with the containers of earlier ones.
    fn make(&self) -> impl Future<Output = Self::Executor> + Send;

    /// The installation that its attempts belong to.
    fn instance(&self) -> InstanceId;

    /// An image that programs run in.
    fn image(&self) -> &str;

    /// How a program is written for this executor.
    fn program(&self, program: &Program<'_>) -> RenderedCommand;

    /// How it reports a program that does not exist.
    fn missing_program(&self) -> MissingProgram;
}

/// The programs of the suite.
#[derive(Debug, Clone, Copy)]
pub enum Program<'a> {
    /// Ends at once with a code.
    Exit(i32),
    /// Prints lines, then ends with code 0.
    Print(&'a [(Stream, &'a str)]),
    /// Prints a line, runs for a second, prints another line, ends with code 0.
    TakeASecond(&'a str, &'a str),
    /// Prints `up` and runs until it is stopped; ends on SIGTERM.
    Hang,
    /// Prints `up` and runs until it is killed; ignores SIGTERM.
    Stubborn,
    /// Writes files below the outputs: paths and content.
    Write(&'a [(&'a str, &'a str)]),
    /// Prints an input that is a file.
    PrintInput(&'a str),
    /// Prints `NAME=value` of variables.
    PrintVariables(&'a [&'a str]),
    Missing,
}

/// How an executor reports a program that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingProgram {
    /// `start` fails with `Start`.
    StartFails,
    /// It ends with exit code 127.
    Exit127,
}

/// The programs of the suite as scripts for `sh -eu`, for executors that run real ones.
#[must_use]
pub fn shell_program(program: &Program<'_>) -> RenderedCommand {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    RenderedCommand::Script(match program {
        Program::Exit(code) => format!("exit {code}"),
        Program::Print(lines) => lines
            .iter()
            .map(|(stream, line)| {
                let to = match stream {
                    Stream::Stdout => "",
                    Stream::Stderr => " >&2",
                };
                format!("printf '%s\\n' {}{to}\n", quoted(line))
            })
            .collect(),
        Program::TakeASecond(before, after) => {
            format!("echo {}\nsleep 1\necho {}\n", quoted(before), quoted(after))
        }
        Program::Hang => "echo up\nwhile true; do sleep 0.05; done".to_owned(),
        Program::Stubborn => "trap '' TERM\necho up\nwhile true; do sleep 0.05; done".to_owned(),
        Program::Write(files) => files
            .iter()
            .map(|(path, text)| {
                let path = quoted(path);
                format!(
                    "mkdir -p \"$OUTPUTS\"/\"$(dirname {path})\"\n\
                     printf %s {} >\"$OUTPUTS\"/{path}\n",
                    quoted(text)
                )
            })
            .collect(),
        Program::PrintInput(name) => format!("cat \"$INPUTS\"/{name}"),
        Program::PrintVariables(names) => names
            .iter()
            .map(|name| format!("echo \"{name}=${name}\"\n"))
            .collect(),
        Program::Missing => return RenderedCommand::Exec(vec!["no-such-program".to_owned()]),
    })
}

/// Runs one promise, and removes all its containers.
pub async fn check<S, P, F>(subject: S, promise: P)
where
    S: Candidate,
    P: FnOnce(Kit<S>) -> F,
    F: Future<Output = Kit<S>>,
{
    let leftovers = subject.make().await;
    let result = AssertUnwindSafe(promise(Kit::new(subject)))
        .catch_unwind()
        .await;
    for container in leftovers.list().await.unwrap_or_default() {
        // They are stopped first, as the contract demands.
        let _ = leftovers
            .stop(&container.handle, std::time::Duration::ZERO)
            .await;
        let _ = leftovers.remove(&container.handle).await;
    }
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

/// Makes a test of each promise of one part of the contract, `Containers` or `Attempts`, for a subject; the expression
/// is evaluated for each of them, and may await.
#[macro_export]
macro_rules! conformance_tests {
    (Containers, $subject:expr) => {
        $crate::conformance_tests!($subject;
            an_exit_code_is_reported,
            creating_again_adopts,
            another_spec_for_the_same_attempt_is_refused,
            starting_again_runs_nothing,
            an_attempt_is_taken_over_before_its_start,
            an_attempt_is_taken_over_while_it_runs,
            a_log_goes_on_after_any_of_its_frames,
            a_log_can_be_followed_and_ends_with_its_program,
            what_was_never_started_has_no_log,
            inputs_and_variables_reach_the_program,
            stopping_what_never_started_removes_it,
            stopping_ends_a_program_by_sigterm,
            stopping_kills_what_ignores_sigterm,
            stopping_what_ended_leaves_it_alone,
            what_never_was_is_gone,
            removing_is_final_and_can_be_repeated,
            a_listing_shows_every_state,
            a_ping_is_answered,
            a_missing_program_is_reported,
            dropping_a_wait_leaves_the_program_alone,
        );
    };
    (Attempts, $subject:expr) => {
        $crate::conformance_tests!($subject;
            an_attempt_is_taken_over_after_its_end,
            an_end_is_proved,
            a_file_and_a_folder_come_back_as_they_were,
            a_missing_output_is_none,
            an_output_beyond_the_limit_is_refused,
        );
    };
    ($subject:expr; $($promise:ident,)*) => {$(
        #[tokio::test]
        async fn $promise() {
            $crate::conformance::check($subject, $crate::conformance::promises::$promise).await;
        }
    )*};
}
