//! The failures of a command, and their exit codes. No other module knows exit codes.
//!
//! 0 success, 1 the run failed, 2 wrong usage or an invalid file, 3 the daemon, or something that a daemon needs, is
//! unreachable or refused, 4 the daemon answers and has no such thing.

use std::io;
use std::process::ExitCode;

use owo_colors::OwoColorize;
use trainyard_api::ClientError;
use trainyard_core::dag::nearest;

use crate::output;
use crate::view::plain;

/// The result of a command.
pub(crate) type Done = Result<(), Failure>;

/// The failure of a command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A run did not succeed. The command has printed why.
    Run,
    /// Files have faults. The command has printed them.
    Faults,
    /// The arguments are invalid, or name a file that cannot be used.
    Usage(Problem),
    /// The daemon, or something that it needs, is unreachable or refused.
    Refused(Problem),
    /// The daemon answered before, and does not any more.
    Lost(Problem),
    /// The daemon answers, and has no run, DAG, repo or other thing of that name.
    NotFound(Problem),
    /// Ctrl-C ended the command. It has printed what continues without it.
    Interrupted,
    /// The output could not be written.
    Output(io::Error),
    /// The command line is invalid, or asks for help.
    CommandLine(clap::Error),
}

/// A problem: what happened, where, and what to do.
#[derive(Debug)]
pub(crate) struct Problem {
    message: String,
    help: Option<String>,
}

impl Problem {
    /// What happened, and where.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    /// Adds what to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(Problem::new(message))
    }

    /// Something that the command needs is not available.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused(Problem::new(message))
    }

    /// A file or folder of this machine that cannot be used. `what` is the failed action, such as `read`.
    pub(crate) fn file(path: &std::path::Path, what: &str, error: &io::Error) -> Self {
        Self::usage(format!("{} cannot be {what}: {error}", path.display()))
    }

    /// Prints the error to standard error. Returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (problem, code) = match self {
            Self::Run => return ExitCode::from(1),
            Self::Faults => return ExitCode::from(2),
            Self::Usage(problem) => (problem, 2),
            Self::Refused(problem) | Self::Lost(problem) => (problem, 3),
            Self::NotFound(problem) => (problem, 4),
            // The code that shells use for a program that SIGINT ended.
            Self::Interrupted => return ExitCode::from(130),
            // The reader has closed the pipe, as `head` does: not an error.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Self::Output(error) => (Problem::new(format!("cannot write: {error}")), 2),
            Self::CommandLine(error) => {
                // If standard error fails as well, there is no way left to report it.
                let _ = error.print();
                return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            }
        };
        // The message may quote a server, a file or a name from outside.
        let message = harmless(&problem.message);
        output::complain(&format!("{} {message}", "error:".red().bold()));
        if let Some(help) = problem.help {
            output::complain(&format!("{} {}", "help:".cyan().bold(), harmless(&help)));
        }
        ExitCode::from(code)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        let help = match error {
            ClientError::InvalidUrl { meant, .. } => {
                let help = meant.map(|meant| format!("did you mean `{meant}`?"));
                return Self::Usage(Problem { message, help });
            }
            ClientError::Refused { body, .. } if body.code == "not_found" => {
                let help = body.help;
                return Self::NotFound(Problem { message, help });
            }
            // Unlike clap, the daemon knows which names and values are valid.
            ClientError::Refused { body, .. } if body.code == "invalid" => {
                let help = body.help;
                return Self::Usage(Problem { message, help });
            }
            ClientError::Unreachable { .. } => Some(
                "start one with `trainyard dev`, or give its address with --url or TRAINYARD_URL"
                    .to_owned(),
            ),
            // The daemon's help is for programs that speak HTTP.
            ClientError::Refused { body, .. } if body.code == "unauthorized" => Some(
                "give a valid token in TRAINYARD_TOKEN or with --token, or name the data folder of the daemon with \
                 --data-dir; `trainyard token create` makes a token"
                    .to_owned(),
            ),
            ClientError::Refused { body, .. } => body.help,
            ClientError::Lost(_) => return Self::Lost(Problem::new(message)),
            ClientError::NotUnderstood { .. } => {
                Some("use the same version of `trainyard` as the daemon's".to_owned())
            }
            ClientError::InvalidToken => {
                Some("check TRAINYARD_TOKEN; `trainyard token create` creates a token".to_owned())
            }
        };
        Self::Refused(Problem { message, help })
    }
}

/// Help for an unknown name, given the known ones.
pub(crate) fn suggestion(written: &str, names: &[String]) -> String {
    match nearest(written, names.iter().map(String::as_str)) {
        Some(name) => format!("did you mean `{name}`?"),
        None if names.is_empty() => "it has none".to_owned(),
        None => format!("it has {}", names.join(", ")),
    }
}

/// Text of several lines, without control sequences for a terminal.
fn harmless(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(plain).collect();
    lines.join("\n")
}

/// An error with its chain of causes, each text once.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(&format!(": {more}"));
        }
        source = error.source();
    }
    text
}
